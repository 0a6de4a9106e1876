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

/// How a command ends or goes on.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is done.
    Done(Completion),
    /// It is too much for the ring thread: the worker does it, and the grain waits.
    Beside(Task),
}

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
                run_kernel(kernel, buffers.each_ref().map(Option::as_ref), *count, *scalars)
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
    // `Heap::given_back` when the table was last swept.
    swept_at: u64,
}

impl Executor {
    pub(crate) fn new(heap: Arc<Heap>, allocations: u32) -> Self {
        Self { heap, table: Vec::new(), allocations: allocations as usize, last_chunk: Weak::new(), swept_at: 0 }
    }

    /// Lets go of memory whose buffer was dropped: slots of released allocations stay bound until they are bound again,
    /// and must not keep it.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        let given_back = self.heap.given_back();
        if given_back != self.swept_at {
            self.sweep();
            self.swept_at = given_back;
        }
    }

    #[cold]
    fn sweep(&mut self) {
        for bound in &mut self.table {
            if bound.range.as_ref().is_some_and(Range::is_given_back) {
                bound.range = None;
            }
        }
    }

    /// Executes a command; `staging` is its staging area.
    pub(crate) fn execute(&mut self, command: &Command, kernels: &KernelCopy, staging: &[AtomicU64]) -> Step {
        let done = match Opcode::from_number(command.opcode) {
            // The kernel's own checks run here, too: one that panics is a fault of its command alone.
            Some(Opcode::Compute) => {
                let step = catch_unwind(AssertUnwindSafe(|| self.compute(command, kernels)));
                return step.unwrap_or(Err(Status::KernelFault)).unwrap_or_else(failed);
            }
            Some(Opcode::Bind) => return self.bind(command).unwrap_or_else(failed),
            Some(Opcode::Echo | Opcode::Skip) => Ok(answer(command.payload, PAYLOAD_BYTES)),
            Some(Opcode::Write) => self.write(command, staging),
            Some(Opcode::WriteInline) => self.write_inline(command),
            Some(Opcode::Read) => self.read(command, staging),
            Some(Opcode::ReadInline) => self.read_inline(command),
            None => Err(Status::UnknownOpcode),
        };
        done.map_or_else(failed, Step::Done)
    }

    fn bind(&mut self, command: &Command) -> Result<Step, Status> {
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
            return Ok(Step::Done(Completion::of(Status::Ok)));
        }
        let block = self
            .heap
            .range(bind.address, bind.size_bytes.max(bind.zero_bytes), &mut self.last_chunk)
            .ok_or(Status::InvalidArgument)?;
        let zero_bytes = bind.zero_bytes as usize;
        let zeroed_later = (zero_bytes > ZERO_IN_RING_BYTES).then(|| block.clone());
        if zeroed_later.is_none() {
            block.zero(zero_bytes);
        }
        let range = block.cut(bind.size_bytes as usize);
        self.table[index] = Bound { range: Some(range), generation: bind.slot.generation, owner: command.grain };
        Ok(match zeroed_later {
            Some(range) => Step::Beside(Task::Zero { range, size_bytes: zero_bytes }),
            None => Step::Done(Completion::of(Status::Ok)),
        })
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

    fn write(&self, command: &Command, staging: &[AtomicU64]) -> Result<Completion, Status> {
        let (range, offset, size) = self.transfer(command, staging.len() * 8)?;
        range.copy_in(offset, size, staging);
        Ok(Completion::of(Status::Ok))
    }

    fn write_inline(&self, command: &Command) -> Result<Completion, Status> {
        let (range, offset, size) = self.transfer(command, Transfer::INLINE_WRITE_BYTES)?;
        let words: [AtomicU64; 4] =
            std::array::from_fn(|i| AtomicU64::new(command.payload[Transfer::HEADER_WORDS + i]));
        range.copy_in(offset, size, &words);
        Ok(Completion::of(Status::Ok))
    }

    fn read(&self, command: &Command, staging: &[AtomicU64]) -> Result<Completion, Status> {
        let (range, offset, size) = self.transfer(command, staging.len() * 8)?;
        range.copy_out(offset, size, staging);
        Ok(Completion::of(Status::Ok))
    }

    fn read_inline(&self, command: &Command) -> Result<Completion, Status> {
        let (range, offset, size) = self.transfer(command, PAYLOAD_BYTES)?;
        let words: [AtomicU64; 7] = std::array::from_fn(|_| AtomicU64::new(0));
        range.copy_out(offset, size, &words);
        Ok(answer(words.map(AtomicU64::into_inner), size))
    }

    fn compute(&self, command: &Command, kernels: &KernelCopy) -> Result<Step, Status> {
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
        (kernel.declaration.check)(&shape).map_err(|_| Status::InvalidArgument)?;
        let count = count as usize;
        if kernel.declaration.placement.in_ring((kernel.declaration.work)(&shape)) {
            return Ok(Step::Done(run_kernel(kernel, buffers, count, scalars)));
        }
        let buffers = buffers.map(|range| range.cloned());
        Ok(Step::Beside(Task::Kernel { kernel: Arc::clone(kernel), buffers, count, scalars }))
    }
}

fn run_kernel(kernel: &Compiled, buffers: [Option<&Range>; 3], count: usize, scalars: Scalars) -> Completion {
    let [input, operand, output] = buffers.map(|range| Elements::new(range.map_or(&[], Range::elements)));
    let mut result = Answer::default();
    let call = Invocation { input, operand, output, count, scalars };
    // A kernel that panics is a fault of its own command; the lane goes on.
    match catch_unwind(AssertUnwindSafe(|| (kernel.run)(&call, &mut result))) {
        Ok(()) => answer(result.words(), usize::from(result.len_bytes())),
        Err(_) => Completion::of(Status::KernelFault),
    }
}

fn answer(payload: [u64; 7], result_bytes: usize) -> Completion {
    Completion { payload, result_bytes: result_bytes as u8, ..Completion::of(Status::Ok) }
}

fn failed(status: Status) -> Step {
    Step::Done(Completion::of(status))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use gpubridge_abstractions::{DeviceBuffer, MemoryType};
    use gpubridge_kernels::KernelLibrary;

    use super::*;
    use crate::kernels::KernelTable;

    const SLOT: DeviceSlot = DeviceSlot { index: 3, generation: 1 };

    fn status(step: Step) -> Status {
        match step {
            Step::Done(completion) => completion.status,
            Step::Beside(task) => task.run().status,
        }
    }

    fn device() -> (Arc<Heap>, Executor, KernelCopy) {
        let heap = Arc::new(Heap::default());
        let table = Arc::new(KernelTable::new(Arc::new(KernelLibrary::empty())));
        (Arc::clone(&heap), Executor::new(heap, 8), KernelCopy::new(table))
    }

    fn bind(buffer: &dyn DeviceBuffer, grain: u32, bind: Bind) -> Command {
        let address = buffer.address().wrapping_add(bind.address);
        Command::new(Opcode::Bind, grain, Bind { address, ..bind }.to_payload())
    }

    #[test]
    fn a_slot_that_is_still_bound_does_not_keep_memory_that_was_given_back() {
        let (heap, mut executor, kernels) = device();
        let buffer = heap.reserve(1 << 20, MemoryType::Default).expect("there is memory");
        let other = heap.reserve(4096, MemoryType::Default).expect("there is memory");
        let whole = Bind { slot: SLOT, address: 0, size_bytes: 4096, zero_bytes: 0 };
        let kept = Bind { slot: DeviceSlot { index: 4, generation: 1 }, ..whole };
        assert_eq!(status(executor.execute(&bind(&*buffer, 1, whole), &kernels, &[])), Status::Ok);
        let chunk = Weak::clone(&executor.last_chunk);
        assert_eq!(status(executor.execute(&bind(&*other, 1, kept), &kernels, &[])), Status::Ok);
        drop(buffer);
        executor.refresh();
        assert_eq!(chunk.strong_count(), 0);
        let transfer = |slot| Transfer { slot, offset_bytes: 0, size_bytes: 8 }.to_payload([0; 4]);
        let read = |slot| Command::new(Opcode::ReadInline, 1, transfer(slot));
        assert_eq!(status(executor.execute(&read(SLOT), &kernels, &[])), Status::UnknownAllocation);
        assert_eq!(status(executor.execute(&read(kept.slot), &kernels, &[])), Status::Ok);
    }

    #[test]
    fn commands_that_cannot_be_are_refused() {
        let (heap, mut executor, kernels) = device();
        let buffer = heap.reserve(4096, MemoryType::Default).expect("there is memory");
        let good = Bind { slot: SLOT, address: 0, size_bytes: 100, zero_bytes: 128 };
        let mut run = |command: &Command, staging: &[AtomicU64]| status(executor.execute(command, &kernels, staging));
        let bad = [
            (Bind { slot: DeviceSlot { index: 8, generation: 1 }, ..good }, Status::OutOfBounds),
            (Bind { address: 1, ..good }, Status::InvalidArgument),
            (Bind { address: u64::MAX, ..good }, Status::InvalidArgument),
            (Bind { address: 4096, ..good }, Status::InvalidArgument),
            (Bind { size_bytes: 4097, ..good }, Status::InvalidArgument),
            (Bind { size_bytes: u64::MAX, ..good }, Status::InvalidArgument),
            (Bind { zero_bytes: u64::MAX, ..good }, Status::InvalidArgument),
            (Bind { size_bytes: 0, ..good }, Status::UnknownAllocation),
        ];
        for (bad, why) in bad {
            assert_eq!(run(&bind(&*buffer, 1, bad), &[]), why, "{bad:?}");
        }
        assert_eq!(run(&bind(&*buffer, 1, good), &[]), Status::Ok);
        let word = AtomicU64::new(0);
        let staging = slice::from_ref(&word);
        let transfer = |grain, slot, offset_bytes, size_bytes, opcode| {
            Command::new(opcode, grain, Transfer { slot, offset_bytes, size_bytes }.to_payload([0; 4]))
        };
        for opcode in [Opcode::Write, Opcode::Read, Opcode::WriteInline, Opcode::ReadInline] {
            assert_eq!(run(&transfer(1, SLOT, 92, 8, opcode), staging), Status::Ok);
            assert_eq!(run(&transfer(1, SLOT, 93, 8, opcode), staging), Status::OutOfBounds);
            assert_eq!(run(&transfer(1, SLOT, u64::MAX, 1, opcode), staging), Status::OutOfBounds);
            assert_eq!(run(&transfer(1, SLOT, 0, 57, opcode), staging), Status::InvalidArgument);
            assert_eq!(run(&transfer(2, SLOT, 0, 8, opcode), staging), Status::NotOwner);
            let stale = DeviceSlot { generation: 2, ..SLOT };
            assert_eq!(run(&transfer(1, stale, 0, 8, opcode), staging), Status::UnknownAllocation);
        }
        assert_eq!(run(&Command::new(Opcode::Compute, 1, [0; 7]), &[]), Status::UnknownKernel);
        let unknown = Command { opcode: 99, ..Command::new(Opcode::Echo, 1, [0; 7]) };
        assert_eq!(run(&unknown, &[]), Status::UnknownOpcode);
    }
}
