//! Command buffers, each recorded once, and the memory that they read and write: one set for each batch under way.

use std::sync::Arc;

use ash::vk;
use gpubridge_abstractions::{Error, RingConfig};
use gpubridge_kernels::vulkan::{
    ANSWER_BYTES, AnswerRecord, GRID_GROUPS_MAX, OPERATION_WORDS, Operation, PARTIALS_BYTES, only,
};

use super::memory::{Allocation, Use};
use super::pipelines::{PUSH_WORDS, Pipelines, Program};
use super::{Gpu, failed};

/// The most operations of a batch.
const OPERATIONS_MAX: usize = 4096;
/// Bytes that a batch copies in, and as many out: at least one staging area, however it is aligned.
const STAGED_BYTES: usize = RingConfig::STAGING_BYTES_MAX as usize + 4096;
const OPERATION_BYTES: usize = OPERATION_WORDS * 4;

// Where things lie in the arguments.
const WALK_GROUPS: usize = 0;
const GRID_GROUPS: usize = 16;
const LISTS: usize = 256;
const OPERATIONS: usize = LISTS + OPERATIONS_MAX * 8;
const STAGED_IN: usize = OPERATIONS + OPERATIONS_MAX * OPERATION_BYTES;
const ARGUMENTS_BYTES: usize = STAGED_IN + STAGED_BYTES;
// Where things lie in the results.
const STAGED_OUT: usize = OPERATIONS_MAX * ANSWER_BYTES;
const RESULTS_BYTES: usize = STAGED_OUT + STAGED_BYTES;
/// Command buffers of a slot for which there is room without taking memory.
const RECORDED: usize = 64;

/// All command buffers of a device.
#[derive(Debug)]
pub(crate) struct Buffers {
    pipelines: Arc<Pipelines>,
    pool: vk::CommandPool,
}

/// What one batch under way needs.
#[derive(Debug)]
pub(crate) struct Slot {
    arguments: Allocation,
    results: Allocation,
    // Recorded when they are first used.
    recorded: Vec<(Program, vk::CommandBuffer)>,
    // The one that is recorded for each use.
    fill: vk::CommandBuffer,
    // Of a grid from phase to phase: all slots have the same, as one batch follows the other.
    partials: Arc<Allocation>,
    // Ends behind the slot: command buffers end with their pool.
    buffers: Arc<Buffers>,
}

impl Buffers {
    pub(crate) fn new(pipelines: Arc<Pipelines>, operation: &'static str) -> Result<Arc<Self>, Error> {
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(pipelines.gpu().family())
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: the device is alive and has the family.
        let pool = unsafe { pipelines.gpu().functions().create_command_pool(&info, None) }
            .map_err(|result| failed(operation, "a command pool could not be made", result))?;
        Ok(Arc::new(Self { pipelines, pool }))
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        self.pipelines.gpu()
    }

    /// So many slots, for which nothing is recorded yet.
    pub(crate) fn slots(self: &Arc<Self>, count: usize, operation: &'static str) -> Result<Vec<Slot>, Error> {
        let bytes = u64::from(GRID_GROUPS_MAX) * PARTIALS_BYTES;
        let partials = Arc::new(Allocation::new(self.gpu(), bytes, Use::Device, operation)?);
        (0..count).map(|_| self.slot(&partials, operation)).collect()
    }

    fn slot(self: &Arc<Self>, partials: &Arc<Allocation>, operation: &'static str) -> Result<Slot, Error> {
        let fail = |result| failed(operation, "a command buffer could not be made", result);
        let arguments = Allocation::new(self.gpu(), ARGUMENTS_BYTES as u64, Use::Arguments, operation)?;
        let results = Allocation::new(self.gpu(), RESULTS_BYTES as u64, Use::Results, operation)?;
        let fill = self.commands().map_err(fail)?;
        let recorded = Vec::with_capacity(RECORDED);
        let (partials, buffers) = (Arc::clone(partials), Arc::clone(self));
        Ok(Slot { arguments, results, recorded, fill, partials, buffers })
    }

    /// The pipelines that the command buffers bind.
    pub(crate) fn pipelines(&self) -> &Arc<Pipelines> {
        &self.pipelines
    }

    fn commands(&self) -> Result<vk::CommandBuffer, vk::Result> {
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(self.pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        // SAFETY: the pool is the device's; who makes the slots has ended when the owner thread begins, which alone calls this then.
        let made = unsafe { self.gpu().functions().allocate_command_buffers(&info) }?;
        Ok(made[0])
    }

    fn pipeline(&self, program: Program) -> Result<vk::Pipeline, vk::Result> {
        // It is there: it was made when the kernel was compiled, or when the device was opened.
        self.pipelines.find(program).ok_or(vk::Result::ERROR_INITIALIZATION_FAILED)
    }

    /// A barrier between what came before and what follows.
    fn barrier(&self, commands: vk::CommandBuffer, from: (Stage, Access), to: (Stage, Access)) {
        let barriers = [vk::MemoryBarrier::default().src_access_mask(from.1).dst_access_mask(to.1)];
        let none = vk::DependencyFlags::empty();
        // SAFETY: the command buffer is being recorded.
        unsafe { self.gpu().functions().cmd_pipeline_barrier(commands, from.0, to.0, none, &barriers, &[], &[]) };
    }

    fn begin(&self, commands: vk::CommandBuffer, pipeline: vk::Pipeline) -> Result<(), vk::Result> {
        let functions = self.gpu().functions();
        // SAFETY: the command buffer is not under way.
        unsafe { functions.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default()) }?;
        // Behind the batch before, and what the host has written.
        let from = (Stage::COMPUTE_SHADER | Stage::HOST, Access::SHADER_WRITE | Access::HOST_WRITE);
        let to = Access::SHADER_READ | Access::SHADER_WRITE | Access::INDIRECT_COMMAND_READ;
        self.barrier(commands, from, (Stage::COMPUTE_SHADER | Stage::DRAW_INDIRECT, to));
        // SAFETY: the command buffer is being recorded, the pipeline is the device's.
        unsafe { functions.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, pipeline) };
        Ok(())
    }

    /// Zeroes part of a buffer.
    fn fill(&self, commands: vk::CommandBuffer, buffer: vk::Buffer, offset: u64, size_bytes: u64) {
        let transfer = (Stage::TRANSFER, Access::TRANSFER_WRITE);
        self.barrier(commands, (Stage::COMPUTE_SHADER, Access::SHADER_READ | Access::SHADER_WRITE), transfer);
        // SAFETY: the command buffer is being recorded; the range lies in the buffer, in whole words.
        unsafe { self.gpu().functions().cmd_fill_buffer(commands, buffer, offset, size_bytes, 0) };
        let to = (Stage::COMPUTE_SHADER, Access::SHADER_READ | Access::SHADER_WRITE);
        self.barrier(commands, transfer, to);
    }

    fn push(&self, commands: vk::CommandBuffer, given: [u32; PUSH_WORDS]) {
        let mut bytes = [0; PUSH_WORDS * 4];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(given) {
            *to = word.to_ne_bytes();
        }
        let (functions, layout) = (self.gpu().functions(), self.pipelines.layout());
        // SAFETY: the command buffer is being recorded; the layout has as many bytes.
        unsafe { functions.cmd_push_constants(commands, layout, vk::ShaderStageFlags::COMPUTE, 0, &bytes) };
    }

    fn dispatch(&self, commands: vk::CommandBuffer, arguments: &Allocation, offset: usize) {
        let (functions, buffer) = (self.gpu().functions(), arguments.buffer());
        // SAFETY: the command buffer is being recorded; there are three words at the offset.
        unsafe { functions.cmd_dispatch_indirect(commands, buffer, offset as u64) };
    }

    fn end(&self, commands: vk::CommandBuffer) -> Result<(), vk::Result> {
        // Ahead of the batch that follows, and of what the host reads.
        let to = Access::SHADER_READ | Access::SHADER_WRITE | Access::HOST_READ;
        let from = (Stage::COMPUTE_SHADER, Access::SHADER_WRITE);
        self.barrier(commands, from, (Stage::COMPUTE_SHADER | Stage::HOST, to));
        // SAFETY: the command buffer is being recorded.
        unsafe { self.gpu().functions().end_command_buffer(commands) }
    }
}

type Stage = vk::PipelineStageFlags;
type Access = vk::AccessFlags;

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.gpu().is_abandoned() {
            // SAFETY: slots keep their buffers, so none is under way.
            unsafe { self.gpu().functions().destroy_command_pool(self.pool, None) };
        }
    }
}

impl Slot {
    pub(crate) const OPERATIONS_MAX: usize = OPERATIONS_MAX;
    pub(crate) const STAGED_BYTES: usize = STAGED_BYTES;

    fn record_walk(&self, commands: vk::CommandBuffer, program: Program) -> Result<(), vk::Result> {
        let buffers = &*self.buffers;
        buffers.begin(commands, buffers.pipeline(program)?)?;
        let [lists, operations] = [LISTS, OPERATIONS].map(|at| words(self.arguments.address() + at as u64));
        let answers = words(self.results.address());
        let ([a, b], [c, d], [e, f]) = (lists, operations, answers);
        buffers.push(commands, [a, b, c, d, e, f, 0]);
        buffers.dispatch(commands, &self.arguments, WALK_GROUPS);
        buffers.end(commands)
    }

    fn record_grid(&self, commands: vk::CommandBuffer, program: Program, phases: u32) -> Result<(), vk::Result> {
        let buffers = &*self.buffers;
        buffers.begin(commands, buffers.pipeline(program)?)?;
        let operation = words(self.arguments.address() + OPERATIONS as u64);
        let [answers, partials] = [words(self.results.address()), words(self.partials.address())];
        for phase in 0..phases {
            if phase > 0 {
                let writes = Access::SHADER_WRITE;
                let to = (Stage::COMPUTE_SHADER, Access::SHADER_READ | writes);
                buffers.barrier(commands, (Stage::COMPUTE_SHADER, writes), to);
            }
            let ([a, b], [c, d], [e, f]) = (operation, answers, partials);
            buffers.push(commands, [a, b, c, d, e, f, phase]);
            buffers.dispatch(commands, &self.arguments, GRID_GROUPS);
        }
        buffers.end(commands)
    }

    /// Records the command buffer that zeroes part of a buffer, in whole words, and executes one operation behind it.
    pub(crate) fn record_fill(
        &self,
        buffer: vk::Buffer,
        offset: u64,
        size_bytes: u64,
    ) -> Result<vk::CommandBuffer, vk::Result> {
        let (buffers, commands) = (&*self.buffers, self.fill);
        buffers.begin(commands, buffers.pipeline(Program::Grid(only::NONE))?)?;
        buffers.fill(commands, buffer, offset, size_bytes);
        let operation = words(self.arguments.address() + OPERATIONS as u64);
        let answers = words(self.results.address());
        let ([a, b], [c, d]) = (operation, answers);
        buffers.push(commands, [a, b, c, d, 0, 0, 0]);
        buffers.dispatch(commands, &self.arguments, GRID_GROUPS);
        buffers.end(commands)?;
        Ok(commands)
    }

    /// The command buffer of `program`, and whether it is its first use; of one that a grid runs, in so many phases, which are
    /// always the same for it.
    pub(crate) fn commands(&mut self, program: Program, phases: u32) -> Result<(vk::CommandBuffer, bool), vk::Result> {
        if let Some((_, commands)) = self.recorded.iter().find(|(known, _)| *known == program) {
            return Ok((*commands, false));
        }
        let commands = self.buffers.commands()?;
        match program {
            Program::Walk(_) => self.record_walk(commands, program)?,
            Program::Grid(_) => self.record_grid(commands, program, phases)?,
        }
        self.recorded.push((program, commands));
        Ok((commands, true))
    }

    pub(crate) fn set_walk_groups(&mut self, groups: u32) {
        self.set_groups(WALK_GROUPS, groups);
    }

    pub(crate) fn set_grid_groups(&mut self, groups: u32) {
        self.set_groups(GRID_GROUPS, groups);
    }

    fn set_groups(&mut self, at: usize, groups: u32) {
        for (word, count) in [groups, 1, 1].into_iter().enumerate() {
            self.arguments.write(at + 4 * word, &count.to_ne_bytes());
        }
    }

    /// Writes which operations a workgroup walks.
    pub(crate) fn set_list(&mut self, list: usize, first: u32, count: u32) {
        self.arguments.write(LISTS + 8 * list, &first.to_ne_bytes());
        self.arguments.write(LISTS + 8 * list + 4, &count.to_ne_bytes());
    }

    pub(crate) fn set_operation(&mut self, place: usize, operation: &Operation) {
        let mut bytes = [0; OPERATION_BYTES];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(operation.0) {
            *to = word.to_ne_bytes();
        }
        self.arguments.write(OPERATIONS + place * OPERATION_BYTES, &bytes);
    }

    /// Writes bytes that are copied in, from `offset` of what is staged.
    pub(crate) fn stage_in(&mut self, offset: usize, bytes: &[u8]) {
        self.arguments.write(STAGED_IN + offset, bytes);
    }

    pub(crate) fn staged_in_address(&self, offset: usize) -> u64 {
        self.arguments.address() + (STAGED_IN + offset) as u64
    }

    pub(crate) fn staged_out_address(&self, offset: usize) -> u64 {
        self.results.address() + (STAGED_OUT + offset) as u64
    }

    pub(crate) fn stage_out(&mut self, offset: usize, bytes: &mut [u8]) {
        self.results.read(STAGED_OUT + offset, bytes);
    }

    pub(crate) fn answer_address(&self, index: u32) -> u64 {
        self.results.address() + u64::from(index) * ANSWER_BYTES as u64
    }

    pub(crate) fn clear_answer(&mut self, index: u32) {
        self.results.write(index as usize * ANSWER_BYTES, &[0; ANSWER_BYTES]);
    }

    pub(crate) fn answer(&mut self, index: u32) -> AnswerRecord {
        let mut bytes = [0; ANSWER_BYTES];
        self.results.read(index as usize * ANSWER_BYTES, &mut bytes);
        AnswerRecord::from_bytes(&bytes)
    }

    /// Has the device see what was written, and what of the results was cleared.
    pub(crate) fn flush(&self, staged_in: usize, answers: u32) -> Result<(), vk::Result> {
        self.arguments.flush(STAGED_IN + staged_in)?;
        self.results.flush(answers as usize * ANSWER_BYTES)
    }

    /// Has the host see what the device has written.
    pub(crate) fn invalidate(&self, staged_out: usize) -> Result<(), vk::Result> {
        self.results.invalidate(STAGED_OUT + staged_out)
    }
}

fn words(address: u64) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}
