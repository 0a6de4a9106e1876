//! Executes one command of a lane: looks up what it names, checks it again, and does it or hands it to the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use gpubridge_abstractions::{
    Bind, BufferUse, CallShape, Command, Completion, Compute, DeviceSlot, Opcode, PAYLOAD_BYTES, Scalars, Status,
    Transfer,
};
use gpubridge_kernels::{Answer, Elements, Invocation};

use crate::kernels::{Compiled, KernelCopy};
use crate::memory::{Chunk, Heap, Range};

/// The most bytes that the ring thread zeroes itself: about a microsecond's work.
const ZERO_IN_RING_BYTES: usize = 64 << 10;

/// Work for the worker thread. It owns what it touches, so nothing is freed under it.
#[derive(Debug)]
pub(crate) enum Task {
    Zero { range: Range, size_bytes: usize },
    Kernel { kernel: Arc<Compiled>, buffers: [Option<Range>; 3], count: usize, scalars: Scalars },
}

impl Task {
    /// Does the work.
    pub(crate) fn run(&self) -> Completion {
        match self {
            Task::Zero { range, size_bytes } => {
                range.zero(*size_bytes);
                Completion::of(Status::Ok)
            }
            Task::Kernel { kernel, buffers, count, scalars } => {
                let mut answer = Completion::of(Status::Ok);
                let buffers = buffers.each_ref().map(Option::as_ref);
                // A kernel that panics is a fault of its own command.
                let run = AssertUnwindSafe(|| run_kernel(kernel, buffers, *count, *scalars, &mut answer));
                if catch_unwind(run).is_err() { Completion::of(Status::KernelFault) } else { answer }
            }
        }
    }
}

/// What a slot of the allocation table is bound to.
#[derive(Debug, Default)]
struct Bound {
    range: Option<Range>,
    generation: u32,
    owner: u32,
}

/// A lane's allocation table and the rules of its commands.
#[derive(Debug)]
pub(crate) struct Executor {
    heap: Arc<Heap>,
    table: Vec<Bound>,
    allocations: usize,
    last_chunk: Weak<Chunk>,
}

impl Executor {
    pub(crate) fn new(heap: Arc<Heap>, allocations: u32) -> Self {
        Self { heap, table: Vec::new(), allocations: allocations as usize, last_chunk: Weak::new() }
    }

    /// Executes a command whose staging area is `staging`, and writes how it went to `answer`. Returns what is too much
    /// for the ring thread: the worker does it, the grain waits, and `answer` is void. `before_work` is told how many
    /// elements the command is about to work on here, if that may take a while.
    // The answer is written in place: one that is moved on is read before its parts have left the store buffer.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        command: &Command,
        kernels: &KernelCopy,
        staging: &[AtomicU64],
        answer: &mut Completion,
        before_work: impl FnOnce(u64),
    ) -> Option<Box<Task>> {
        *answer = Completion::of(Status::Ok);
        let done = match Opcode::from_number(command.opcode) {
            Some(Opcode::Compute) => self.compute(command, kernels, answer, before_work),
            Some(Opcode::Bind) => self.bind(command, before_work),
            Some(Opcode::Echo | Opcode::Skip) => {
                answer.payload = command.payload;
                answer.result_bytes = PAYLOAD_BYTES as u8;
                Ok(None)
            }
            Some(Opcode::Write) => self.write(command, staging),
            Some(Opcode::WriteInline) => self.write_inline(command),
            Some(Opcode::Read) => self.read(command, staging),
            Some(Opcode::ReadInline) => self.read_inline(command, answer),
            None => Err(Status::UnknownOpcode),
        };
        done.unwrap_or_else(|status| {
            *answer = Completion::of(status);
            None
        })
    }

    fn bind(&mut self, command: &Command, before_work: impl FnOnce(u64)) -> Executed {
        let bind = Bind::from_payload(&command.payload);
        let index = bind.slot.index as usize;
        if index >= self.allocations {
            return Err(Status::OutOfBounds);
        }
        if self.table.len() <= index {
            self.table.resize_with((index + 1).next_power_of_two().min(self.allocations), Bound::default);
        }
        if bind.size_bytes == 0 {
            self.find(bind.slot, command.grain)?;
            self.table[index].range = None;
            return Ok(None);
        }
        let block = self
            .heap
            .range(bind.address, bind.size_bytes.max(bind.zero_bytes), &mut self.last_chunk)
            .ok_or(Status::InvalidArgument)?;
        let zero_bytes = bind.zero_bytes as usize;
        let zeroed_later = (zero_bytes > ZERO_IN_RING_BYTES).then(|| block.clone());
        if zeroed_later.is_none() {
            before_work(bind.zero_bytes / 4);
            block.zero(zero_bytes);
        }
        let range = block.cut(bind.size_bytes as usize);
        self.table[index] = Bound { range: Some(range), generation: bind.slot.generation, owner: command.grain };
        Ok(zeroed_later.map(|range| Box::new(Task::Zero { range, size_bytes: zero_bytes })))
    }

    #[inline]
    fn find(&self, slot: DeviceSlot, grain: u32) -> Result<&Range, Status> {
        let bound = self.table.get(slot.index as usize).ok_or(Status::UnknownAllocation)?;
        let range = bound.range.as_ref().ok_or(Status::UnknownAllocation)?;
        if bound.generation != slot.generation {
            return Err(Status::UnknownAllocation);
        }
        if bound.owner != grain {
            return Err(Status::NotOwner);
        }
        Ok(range)
    }

    /// The allocation, first byte and length of a transfer of at most `limit_bytes`.
    fn transfer(&self, command: &Command, limit_bytes: usize) -> Result<(&Range, usize, usize), Status> {
        let transfer = Transfer::from_payload(&command.payload);
        let range = self.find(transfer.slot, command.grain)?;
        let size = transfer.size_bytes as usize;
        if size > limit_bytes {
            return Err(Status::InvalidArgument);
        }
        let offset = usize::try_from(transfer.offset_bytes).map_err(|_| Status::OutOfBounds)?;
        match offset.checked_add(size) {
            Some(end) if end <= range.size_bytes() => Ok((range, offset, size)),
            _ => Err(Status::OutOfBounds),
        }
    }

    fn write(&self, command: &Command, staging: &[AtomicU64]) -> Executed {
        let (range, offset, size) = self.transfer(command, staging.len() * 8)?;
        range.copy_in(offset, size, staging);
        Ok(None)
    }

    fn write_inline(&self, command: &Command) -> Executed {
        let (range, offset, size) = self.transfer(command, Transfer::INLINE_WRITE_BYTES)?;
        let words: [AtomicU64; 4] =
            std::array::from_fn(|i| AtomicU64::new(command.payload[Transfer::HEADER_WORDS + i]));
        range.copy_in(offset, size, &words);
        Ok(None)
    }

    fn read(&self, command: &Command, staging: &[AtomicU64]) -> Executed {
        let (range, offset, size) = self.transfer(command, staging.len() * 8)?;
        range.copy_out(offset, size, staging);
        Ok(None)
    }

    fn read_inline(&self, command: &Command, answer: &mut Completion) -> Executed {
        let (range, offset, size) = self.transfer(command, PAYLOAD_BYTES)?;
        let words: [AtomicU64; 7] = std::array::from_fn(|_| AtomicU64::new(0));
        range.copy_out(offset, size, &words);
        answer.payload = words.map(AtomicU64::into_inner);
        answer.result_bytes = size as u8;
        Ok(None)
    }

    #[inline]
    fn compute(
        &self,
        command: &Command,
        kernels: &KernelCopy,
        answer: &mut Completion,
        before_work: impl FnOnce(u64),
    ) -> Executed {
        let kernel = kernels.find(command.kernel).ok_or(Status::UnknownKernel)?;
        let call = Compute::from_payload(&command.payload);
        let mut buffers = [None; 3];
        let mut elements = [0; 3];
        for (i, slot) in [call.input, call.operand, call.output].into_iter().enumerate() {
            if slot.is_none() != (kernel.declaration.buffers[i] == BufferUse::None) {
                return Err(Status::InvalidArgument);
            }
            if !slot.is_none() {
                let range = self.find(slot, command.grain)?;
                elements[i] = range.size_bytes() as u64 / 4;
                buffers[i] = Some(range);
            }
        }
        let same = |a: DeviceSlot, b: DeviceSlot| !a.is_none() && a.index == b.index;
        let aliased =
            same(call.input, call.operand) || same(call.input, call.output) || same(call.operand, call.output);
        if aliased && !kernel.declaration.in_place {
            return Err(Status::InvalidArgument);
        }
        let whole = if call.input.is_none() { elements[2] } else { elements[0] };
        let count = if call.count == 0 { whole } else { u64::from(call.count) };
        let scalars = Scalars(call.scalars);
        let shape = CallShape { elements, count, scalars, constants: kernel.constants };
        let count = count as usize;
        // What the declaration brings along is a user's code like the kernel itself: whichever panics is a fault of this
        // command, and the lane goes on.
        let run = AssertUnwindSafe(|| {
            (kernel.declaration.check)(&shape).map_err(|_| Status::InvalidArgument)?;
            let work = (kernel.declaration.work)(&shape);
            let in_ring = kernel.declaration.placement.in_ring(work);
            if in_ring {
                before_work(work);
                run_kernel(kernel, buffers, count, scalars, answer);
            }
            Ok(in_ring)
        });
        if catch_unwind(run).unwrap_or(Err(Status::KernelFault))? {
            return Ok(None);
        }
        let buffers = buffers.map(|range| range.cloned());
        Ok(Some(Box::new(Task::Kernel { kernel: Arc::clone(kernel), buffers, count, scalars })))
    }
}

/// What is left to do beside the ring, or why the command failed.
type Executed = Result<Option<Box<Task>>, Status>;

#[inline]
fn run_kernel(
    kernel: &Compiled,
    buffers: [Option<&Range>; 3],
    count: usize,
    scalars: Scalars,
    completion: &mut Completion,
) {
    // Each for itself: an array of them is moved on before it has left the store buffer.
    let elements = |buffer: usize| Elements::new(buffers[buffer].map_or(&[], Range::elements));
    let call = Invocation { input: elements(0), operand: elements(1), output: elements(2), count, scalars };
    let mut answer = Answer::new(&mut completion.payload);
    (kernel.run)(&call, &mut answer);
    completion.result_bytes = answer.len_bytes();
}
