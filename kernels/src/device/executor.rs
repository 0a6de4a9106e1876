//! Executes commands on the host, or hands them on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gpubridge_abstractions::{Command, Completion, PAYLOAD_BYTES, Scalars, Status, Transfer};

use super::kernels::{Compiled, KernelCopy};
use super::memory::{Block, DeviceMemory};
use super::rules::{Action, Part, Rules, Run};
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

impl<B: Clone> Call<B> {
    fn of(run: &Run<'_, B>) -> Self {
        let (kernel, buffers) = (Arc::clone(run.kernel), run.buffers.map(Option::<&B>::cloned));
        Self { kernel, buffers, first: run.first, count: run.count, scalars: run.scalars }
    }
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

/// The rules of one lane's commands, and its allocation table.
#[derive(Debug)]
pub struct Executor<M: DeviceMemory<Block: Block>> {
    rules: Rules<M>,
}

impl<M: DeviceMemory<Block: Block>> Executor<M> {
    /// An executor over `memory` without bound slots, for a lane of so many allocations.
    pub fn new(memory: M, allocations: u32) -> Self {
        Self { rules: Rules::new(memory, allocations) }
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
        match self.rules.look_up(command, kernels, staging.len() * 8) {
            Err(status) => *answer = Completion::of(status),
            Ok(Action::Run(run)) => {
                if !run.kernel.declaration.placement.in_ring(run.work) {
                    return Some(Box::new(Task::Kernel(Call::of(&run))));
                }
                before_work(run.work);
                let Run { kernel, buffers, count, scalars, .. } = run;
                let run = AssertUnwindSafe(|| run_kernel(kernel, buffers, count, scalars, answer));
                if catch_unwind(run).is_err() {
                    *answer = Completion::of(Status::KernelFault);
                }
            }
            Ok(Action::Echo) => {
                answer.payload = command.payload;
                answer.result_bytes = PAYLOAD_BYTES as u8;
            }
            Ok(Action::Unbound) => {}
            Ok(Action::Zero(block, size_bytes)) if size_bytes > ZERO_IN_RING_BYTES => {
                return Some(Box::new(Task::Zero(Zeroing { block, size_bytes })));
            }
            Ok(Action::Zero(block, size_bytes)) => {
                before_work(size_bytes as u64 / 4);
                zero(&block, size_bytes);
            }
            Ok(Action::Write(part)) if part.is_inline => {
                let words: [AtomicU64; 4] =
                    std::array::from_fn(|i| AtomicU64::new(command.payload[Transfer::HEADER_WORDS + i]));
                copy_in(&part, &words);
            }
            Ok(Action::Write(part)) => copy_in(&part, staging),
            Ok(Action::Read(part)) if part.is_inline => {
                let words: [AtomicU64; 7] = std::array::from_fn(|_| AtomicU64::new(0));
                copy_out(&part, &words);
                answer.payload = words.map(AtomicU64::into_inner);
                answer.result_bytes = part.size_bytes as u8;
            }
            Ok(Action::Read(part)) => copy_out(&part, staging),
        }
        None
    }
}

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

/// Copies from words, in which bytes lie in little-endian order.
fn copy_in(part: &Part<'_, impl Block>, words: &[AtomicU64]) {
    part.block.lend(part.offset_bytes, part.size_bytes, |target| {
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

/// Copies to words; a last partial word is filled up with zeros.
fn copy_out(part: &Part<'_, impl Block>, words: &[AtomicU64]) {
    part.block.lend(part.offset_bytes, part.size_bytes, |source| {
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
