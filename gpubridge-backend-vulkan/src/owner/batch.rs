//! A batch: what is submitted at once, and whom it is for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ash::vk;
use gpubridge_abstractions::{Completion, Status};
use gpubridge_kernels::vulkan::{AnswerRecord, Operation, only};
use rustc_hash::FxBuildHasher;

use super::work::{Grid, Kind, TURNS_MAX, Whose, Work};
use crate::gpu::{Gpu, Program, Slot};
use crate::heap::Chunk;

/// Whose commands are executed in order: a grain of a lane of a ring.
pub(crate) type GrainKey = (usize, usize, u32);

/// How a command is answered once its batch has landed.
#[derive(Debug)]
enum Outcome {
    Known(Status),
    /// What the device answers.
    Answer(u32),
    /// So many bytes of what the device copies to the answer.
    Inline(u32, usize),
    /// Bytes that the device copies to staging.
    Staged(usize, usize),
}

#[derive(Debug)]
struct Entry {
    whose: Whose,
    outcome: Outcome,
}

/// The commands of one grain, for one workgroup.
#[derive(Debug)]
struct List {
    count: u32,
    turns: u32,
}

/// What the commands of a list touch.
#[derive(Debug)]
struct Touched {
    start: u64,
    end: u64,
    list: u32,
}

/// A batch, empty or not, with the memory that the device reads it from. It allocates nothing once it is made.
#[derive(Debug)]
pub(crate) struct Batch {
    slot: Slot,
    entries: Vec<Entry>,
    operations: Vec<(u32, Operation)>,
    lists: Vec<List>,
    by_grain: HashMap<GrainKey, u32, FxBuildHasher>,
    touched: Vec<Touched>,
    kept: Vec<Arc<Chunk>>,
    staged: [usize; 2],
    answers: u32,
    grid: Option<Grid>,
    // Which kernel is called, or that several are.
    only: u32,
    mixes: bool,
    has_filled: bool,
    /// Whether it runs for the first time what it runs, which drivers may compile then.
    pub(crate) is_first: bool,
    /// When its first command came; since when it is under way, once it is.
    pub(crate) since: Instant,
    /// The timeline's value when it has landed.
    pub(crate) value: u64,
}

impl Batch {
    /// An empty batch; one that `mixes` may hold calls of several kernels.
    pub(crate) fn new(slot: Slot, mixes: bool) -> Self {
        let most = Slot::OPERATIONS_MAX;
        Self {
            slot,
            entries: Vec::with_capacity(most),
            operations: Vec::with_capacity(most),
            lists: Vec::with_capacity(most),
            by_grain: HashMap::with_capacity_and_hasher(most, FxBuildHasher),
            touched: Vec::with_capacity(3 * most),
            kept: Vec::with_capacity(3 * most),
            staged: [0; 2],
            answers: 0,
            grid: None,
            only: only::NONE,
            mixes,
            has_filled: false,
            is_first: false,
            since: Instant::now(),
            value: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the device has anything to do for it.
    pub(crate) fn has_work(&self) -> bool {
        !self.operations.is_empty()
    }

    /// Takes work on, or gives it back if it has to be in a later batch. `staging` is its command's staging area.
    pub(crate) fn admit(&mut self, work: Work, grain: GrainKey, staging: &[AtomicU64]) -> Option<Work> {
        let staged = work.staged_bytes();
        let fits = |kind: usize| self.staged[kind] + padded(staged[kind]) <= Slot::STAGED_BYTES;
        let crowded = self.grid.is_some() || work.grid.is_some() && self.has_work();
        if crowded || self.entries.len() == Slot::OPERATIONS_MAX || !fits(0) || !fits(1) {
            return Some(work);
        }
        let only = match (work.kernel(), self.only) {
            (None, only) => only,
            (Some(kernel), only::NONE) => kernel,
            (Some(kernel), only) if kernel == only => kernel,
            (Some(_), _) if self.mixes => only::ALL,
            (Some(_), _) => return Some(work),
        };
        let list = self.by_grain.get(&grain).copied();
        let taken = list.map_or(0, |list| self.lists[list as usize].turns);
        if work.grid.is_none() && taken > 0 && taken.saturating_add(work.turns) > TURNS_MAX {
            return Some(work);
        }
        // What another grain touches in this batch may be at work side by side.
        let is_others = |touched: &Touched| {
            let overlaps = work.blocks.iter().flatten().any(|block| block.overlaps(touched.start, touched.end));
            Some(touched.list) != list && overlaps
        };
        if work.binds && self.touched.iter().any(is_others) {
            return Some(work);
        }
        if self.is_empty() {
            self.since = Instant::now();
        }
        if let Kind::Nothing(status) = work.kind {
            self.entries.push(Entry { whose: work.whose, outcome: Outcome::Known(status) });
            return None;
        }
        let list = list.unwrap_or_else(|| {
            self.lists.push(List { count: 0, turns: 0 });
            let list = self.lists.len() as u32 - 1;
            self.by_grain.insert(grain, list);
            list
        });
        self.keep(&work, list);
        let (operation, outcome) = self.encode(&work, staging);
        self.operations.push((list, operation));
        self.lists[list as usize].count += 1;
        self.lists[list as usize].turns += work.turns.min(TURNS_MAX);
        (self.grid, self.only) = (work.grid, only);
        self.entries.push(Entry { whose: work.whose, outcome });
        None
    }

    /// Keeps what the work touches until the batch has landed.
    fn keep(&mut self, work: &Work, list: u32) {
        for block in work.blocks.iter().flatten() {
            let (start, end) = (block.address, block.address + block.size_bytes);
            let is_known =
                self.touched.last().is_some_and(|last| (last.start, last.end, last.list) == (start, end, list));
            if !is_known {
                self.touched.push(Touched { start, end, list });
            }
            if !self.kept.last().is_some_and(|last| Arc::ptr_eq(last, &block.chunk)) {
                self.kept.push(Arc::clone(&block.chunk));
            }
        }
    }

    fn encode(&mut self, work: &Work, staging: &[AtomicU64]) -> (Operation, Outcome) {
        match work.kind {
            Kind::Nothing(_) => unreachable!("it has no operation"),
            Kind::Echo(payload) => {
                let answer = self.next_answer();
                (Operation::echo(payload, answer), Outcome::Answer(answer))
            }
            Kind::Run { operation, answers: false } => (operation, Outcome::Known(Status::Ok)),
            Kind::Run { operation, answers: true } => {
                let answer = self.next_answer();
                (operation.with_answer(answer), Outcome::Answer(answer))
            }
            Kind::CopyIn { to, size_bytes, inline } => {
                let offset = self.staged[0];
                self.staged[0] += padded(size_bytes);
                match inline {
                    Some(words) => self.stage_in(offset, size_bytes, words.into_iter()),
                    // Relaxed: the command's header was read with Acquire before.
                    None => {
                        self.stage_in(offset, size_bytes, staging.iter().map(|word| word.load(Ordering::Relaxed)));
                    }
                }
                let operation = Operation::copy(self.slot.staged_in_address(offset), to, size_bytes as u32);
                (operation, Outcome::Known(Status::Ok))
            }
            Kind::CopyOut { from, size_bytes, is_inline: true } => {
                let answer = self.next_answer();
                let operation = Operation::copy(from, self.slot.answer_address(answer), size_bytes as u32);
                (operation, Outcome::Inline(answer, size_bytes))
            }
            Kind::CopyOut { from, size_bytes, is_inline: false } => {
                let offset = self.staged[1];
                self.staged[1] += padded(size_bytes);
                let operation = Operation::copy(from, self.slot.staged_out_address(offset), size_bytes as u32);
                (operation, Outcome::Staged(offset, size_bytes))
            }
        }
    }

    fn next_answer(&mut self) -> u32 {
        let answer = self.answers;
        self.slot.clear_answer(answer);
        self.answers += 1;
        answer
    }

    fn stage_in(&mut self, offset: usize, size_bytes: usize, words: impl Iterator<Item = u64>) {
        for (at, word) in (offset..).step_by(8).zip(words).take(size_bytes.div_ceil(8)) {
            self.slot.stage_in(at, &word.to_le_bytes());
        }
    }

    /// Submits it; the timeline has `value` when it has landed.
    pub(crate) fn submit(&mut self, gpu: &Gpu, value: u64) -> Result<(), vk::Result> {
        (self.value, self.since) = (value, Instant::now());
        let (commands, is_first) = match self.grid {
            None => {
                self.write_lists();
                self.slot.commands(Program::Walk(self.only), 1)?
            }
            Some(grid) => {
                self.slot.set_operation(0, &self.operations[0].1);
                match grid {
                    Grid::Kernel { phases, groups } => {
                        self.slot.set_grid_groups(groups);
                        self.slot.commands(Program::Grid(self.only), phases)?
                    }
                    Grid::Fill { buffer, offset, size_bytes } => {
                        self.slot.set_grid_groups(1);
                        (self.slot.record_fill(buffer, offset, size_bytes)?, !self.has_filled)
                    }
                }
            }
        };
        self.is_first = is_first;
        self.has_filled |= matches!(self.grid, Some(Grid::Fill { .. }));
        self.slot.flush(self.staged[0], self.answers)?;
        gpu.submit(commands, value)
    }

    /// Writes the operations, each list's in a row and in order.
    fn write_lists(&mut self) {
        let mut first = 0;
        for (index, list) in self.lists.iter_mut().enumerate() {
            self.slot.set_list(index, first, list.count);
            // From here on where the next operation goes.
            first += std::mem::replace(&mut list.count, first);
        }
        for (list, operation) in &self.operations {
            let next = &mut self.lists[*list as usize].count;
            self.slot.set_operation(*next as usize, operation);
            *next += 1;
        }
        self.slot.set_walk_groups(self.lists.len() as u32);
    }

    /// Hands out every command with its answer and what it has read, in order, and empties the batch, which has landed.
    pub(crate) fn land(&mut self, mut answer: impl FnMut(Whose, &Completion, Staged<'_>)) -> Result<(), vk::Result> {
        self.slot.invalidate(self.staged[1])?;
        for Entry { whose, outcome } in self.entries.drain(..) {
            let mut completion = Completion::of(Status::Ok);
            let mut read = (0, 0);
            match outcome {
                Outcome::Known(status) => completion.status = status,
                Outcome::Answer(index) => {
                    let AnswerRecord { payload, result_bytes, is_known } = self.slot.answer(index);
                    if is_known {
                        (completion.payload, completion.result_bytes) = (payload, result_bytes);
                    } else {
                        completion.status = Status::KernelFault;
                    }
                }
                Outcome::Inline(index, size_bytes) => {
                    completion.result_bytes = size_bytes as u8;
                    completion.payload = self.slot.answer(index).payload;
                }
                Outcome::Staged(offset, size_bytes) => read = (offset, size_bytes),
            }
            answer(whose, &completion, Staged { slot: &mut self.slot, offset: read.0, size_bytes: read.1 });
        }
        self.clear();
        Ok(())
    }

    /// Empties it. Who has reserved memory is told by the end of its channel, commands by whoever calls.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.operations.clear();
        self.lists.clear();
        self.by_grain.clear();
        self.touched.clear();
        self.kept.clear();
        (self.staged, self.answers, self.grid, self.only) = ([0; 2], 0, None, only::NONE);
    }
}

/// Bytes that the device has read for a command.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    slot: &'a mut Slot,
    offset: usize,
    size_bytes: usize,
}

impl Staged<'_> {
    /// Copies them to words; a last partial word is filled up with zeros.
    pub(crate) fn copy_to(self, words: &[AtomicU64]) {
        for (word, at) in words.iter().zip((0..self.size_bytes).step_by(8)) {
            let mut bytes = [0; 8];
            let count = (self.size_bytes - at).min(8);
            self.slot.stage_out(self.offset + at, &mut bytes[..count]);
            // Relaxed: the completion's header is stored with Release afterwards.
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }
}

/// Staged bytes begin at multiples of 16.
fn padded(size_bytes: usize) -> usize {
    size_bytes.next_multiple_of(16)
}
