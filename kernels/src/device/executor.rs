//! The rules of commands: looks up what a command names, checks it again, and does it or hands it on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gpubridge_abstractions::{
    Bind, BufferUse, CallShape, Command, Completion, Compute, DeviceSlot, Opcode, PAYLOAD_BYTES, Scalars, Status,
    Transfer,
};

use super::kernels::{Compiled, KernelCopy};
use super::memory::{BLOCK_ALIGNMENT, Block, DeviceMemory};
use crate::{Answer, Invocation};

/// The most bytes that are zeroed in the ring: about a microsecond's work.
const ZERO_IN_RING_BYTES: usize = 64 << 10;

/// Work that would hold up a ring: it is done beside it, and the grain's later commands wait. It owns what it touches.
#[derive(Debug)]
pub enum Task<B> {
    /// Zeroing a large block. It always ends.
    Zero(Zeroing<B>),
    /// A kernel beside the ring.
    Kernel(Call<B>),
}

/// A block that is to be zeroed.
#[derive(Debug)]
pub struct Zeroing<B> {
    block: B,
    size_bytes: usize,
}

/// A kernel's call whose checks have passed.
#[derive(Debug)]
pub struct Call<B> {
    kernel: Arc<Compiled>,
    buffers: [Option<B>; 3],
    // Where the same buffer stands first.
    first: [usize; 3],
    count: usize,
    scalars: Scalars,
}

impl<B: Block> Task<B> {
    /// Does the work. A kernel that panics is a [`Status::KernelFault`] of its own command.
    pub fn run(&self) -> Completion {
        match self {
            Task::Zero(Zeroing { block, size_bytes }) => {
                zero(block, *size_bytes);
                Completion::of(Status::Ok)
            }
            Task::Kernel(Call { kernel, buffers, first, count, scalars }) => {
                let mut answer = Completion::of(Status::Ok);
                let buffers = first.map(|i| buffers[i].as_ref());
                let run = AssertUnwindSafe(|| run_kernel(kernel, buffers, *count, *scalars, &mut answer));
                if catch_unwind(run).is_err() { Completion::of(Status::KernelFault) } else { answer }
            }
        }
    }
}

/// What a slot of the allocation table is bound to.
#[derive(Debug)]
struct Bound<B> {
    block: Option<B>,
    generation: u32,
    owner: u32,
}

/// A lane's allocation table and the rules of its commands.
#[derive(Debug)]
pub struct Executor<M: DeviceMemory> {
    memory: M,
    table: Vec<Bound<M::Block>>,
    allocations: usize,
}

impl<M: DeviceMemory> Executor<M> {
    /// An executor over `memory` without bound slots, for a lane of so many allocations.
    pub fn new(memory: M, allocations: u32) -> Self {
        Self { memory, table: Vec::new(), allocations: allocations as usize }
    }

    /// Executes a command whose staging area is `staging`, and writes how it went to `answer`. Returns what is too much
    /// for the ring: somebody else does it, the grain waits, and `answer` is void. `before_work` is told how many
    /// elements the command is about to work on here, if that may take a while. What panics in a kernel or in what its
    /// declaration brings along is a [`Status::KernelFault`] of this command.
    // The answer is written in place: one that is moved on is read before its parts have left the store buffer.
    #[inline]
    pub fn execute(
        &mut self,
        command: &Command,
        kernels: &KernelCopy,
        staging: &[AtomicU64],
        answer: &mut Completion,
        before_work: impl FnOnce(u64),
    ) -> Option<Box<Task<M::Block>>> {
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
            Some(Opcode::WriteBulk | Opcode::ReadBulk) | None => Err(Status::UnknownOpcode),
        };
        done.unwrap_or_else(|status| {
            *answer = Completion::of(status);
            None
        })
    }

    fn bind(&mut self, command: &Command, before_work: impl FnOnce(u64)) -> Executed<M::Block> {
        let bind = Bind::from_payload(&command.payload);
        let index = bind.slot.index as usize;
        if index >= self.allocations {
            return Err(Status::OutOfBounds);
        }
        if self.table.len() <= index {
            let size = (index + 1).next_power_of_two().min(self.allocations);
            self.table.resize_with(size, || Bound { block: None, generation: 0, owner: 0 });
        }
        if bind.size_bytes == 0 {
            self.find(bind.slot, command.grain)?;
            self.table[index].block = None;
            return Ok(None);
        }
        if !bind.address.is_multiple_of(BLOCK_ALIGNMENT) {
            return Err(Status::InvalidArgument);
        }
        let block =
            self.memory.block(bind.address, bind.size_bytes.max(bind.zero_bytes)).ok_or(Status::InvalidArgument)?;
        let zero_bytes = bind.zero_bytes as usize;
        let zeroed_later = (zero_bytes > ZERO_IN_RING_BYTES).then(|| block.clone());
        if zeroed_later.is_none() {
            before_work(bind.zero_bytes / 4);
            zero(&block, zero_bytes);
        }
        let block = block.cut(bind.size_bytes as usize);
        self.table[index] = Bound { block: Some(block), generation: bind.slot.generation, owner: command.grain };
        Ok(zeroed_later.map(|block| Box::new(Task::Zero(Zeroing { block, size_bytes: zero_bytes }))))
    }

    #[inline]
    fn find(&self, slot: DeviceSlot, grain: u32) -> Result<&M::Block, Status> {
        let bound = self.table.get(slot.index as usize).ok_or(Status::UnknownAllocation)?;
        let block = bound.block.as_ref().ok_or(Status::UnknownAllocation)?;
        if bound.generation != slot.generation {
            return Err(Status::UnknownAllocation);
        }
        if bound.owner != grain {
            return Err(Status::NotOwner);
        }
        Ok(block)
    }

    /// The allocation, first byte and length of a transfer of at most `limit_bytes`.
    fn transfer(&self, command: &Command, limit_bytes: usize) -> Result<(&M::Block, usize, usize), Status> {
        let transfer = Transfer::from_payload(&command.payload);
        let block = self.find(transfer.slot, command.grain)?;
        let size = transfer.size_bytes as usize;
        if size > limit_bytes {
            return Err(Status::InvalidArgument);
        }
        let offset = usize::try_from(transfer.offset_bytes).map_err(|_| Status::OutOfBounds)?;
        match offset.checked_add(size) {
            Some(end) if end <= block.size_bytes() => Ok((block, offset, size)),
            _ => Err(Status::OutOfBounds),
        }
    }

    fn write(&self, command: &Command, staging: &[AtomicU64]) -> Executed<M::Block> {
        let (block, offset, size) = self.transfer(command, staging.len() * 8)?;
        copy_in(block, offset, size, staging);
        Ok(None)
    }

    fn write_inline(&self, command: &Command) -> Executed<M::Block> {
        let (block, offset, size) = self.transfer(command, Transfer::INLINE_WRITE_BYTES)?;
        let words: [AtomicU64; 4] =
            std::array::from_fn(|i| AtomicU64::new(command.payload[Transfer::HEADER_WORDS + i]));
        copy_in(block, offset, size, &words);
        Ok(None)
    }

    fn read(&self, command: &Command, staging: &[AtomicU64]) -> Executed<M::Block> {
        let (block, offset, size) = self.transfer(command, staging.len() * 8)?;
        copy_out(block, offset, size, staging);
        Ok(None)
    }

    fn read_inline(&self, command: &Command, answer: &mut Completion) -> Executed<M::Block> {
        let (block, offset, size) = self.transfer(command, PAYLOAD_BYTES)?;
        let words: [AtomicU64; 7] = std::array::from_fn(|_| AtomicU64::new(0));
        copy_out(block, offset, size, &words);
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
    ) -> Executed<M::Block> {
        let kernel = kernels.find(command.kernel).ok_or(Status::UnknownKernel)?;
        let call = Compute::from_payload(&command.payload);
        let mut buffers = [None; 3];
        let mut elements = [0; 3];
        let slots = [call.input, call.operand, call.output];
        for (i, slot) in slots.into_iter().enumerate() {
            if slot.is_none() != (kernel.declaration.buffers[i] == BufferUse::None) {
                return Err(Status::InvalidArgument);
            }
            if !slot.is_none() {
                let block = self.find(slot, command.grain)?;
                elements[i] = block.size_bytes() as u64 / 4;
                buffers[i] = Some(block);
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
        let first = [0, 1, 2].map(|i| (0..i).find(|earlier| same(slots[*earlier], slots[i])).unwrap_or(i));
        let (kernel, buffers) = (Arc::clone(kernel), buffers.map(|block| block.cloned()));
        Ok(Some(Box::new(Task::Kernel(Call { kernel, buffers, first, count, scalars }))))
    }
}

/// What is left to do beside the ring, or why the command failed.
type Executed<B> = Result<Option<Box<Task<B>>>, Status>;

#[inline]
fn run_kernel<B: Block>(
    kernel: &Compiled,
    buffers: [Option<&B>; 3],
    count: usize,
    scalars: Scalars,
    completion: &mut Completion,
) {
    B::with_elements(buffers, |input, operand, output| {
        let mut answer = Answer::new(&mut completion.payload);
        (kernel.run)(&Invocation { input, operand, output, count, scalars }, &mut answer);
        completion.result_bytes = answer.len_bytes();
    });
}

fn zero(block: &impl Block, size_bytes: usize) {
    block.lend(0, size_bytes, |bytes| bytes.fill(0));
}

/// Copies from words, in which bytes lie in little-endian order, to `offset_bytes` on.
fn copy_in(block: &impl Block, offset_bytes: usize, size_bytes: usize, words: &[AtomicU64]) {
    block.lend(offset_bytes, size_bytes, |target| {
        let (whole, rest) = target.as_chunks_mut::<8>();
        for (bytes, word) in whole.iter_mut().zip(words) {
            // Relaxed: the command's header was read with Acquire before.
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        if !rest.is_empty() {
            let last = words[whole.len()].load(Relaxed).to_le_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    });
}

/// Copies from `offset_bytes` on to words; a last partial word is filled up with zeros.
fn copy_out(block: &impl Block, offset_bytes: usize, size_bytes: usize, words: &[AtomicU64]) {
    block.lend(offset_bytes, size_bytes, |source| {
        let (whole, rest) = source.as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(words) {
            // Relaxed: the completion's header is stored with Release afterwards.
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            words[whole.len()].store(u64::from_le_bytes(last), Relaxed);
        }
    });
}
