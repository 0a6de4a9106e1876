//! What a command is to the device, once it was looked up.

use std::sync::mpsc::SyncSender;

use ash::vk;
use gpubridge_abstractions::{Command, Status, Transfer};
use gpubridge_kernels::device::{Action, Part, Run};
use gpubridge_kernels::ring::Reply;
use gpubridge_kernels::vulkan::{GRID_GROUPS_MAX, Operation, THREADS};

use crate::heap::Range;
use crate::kernels::{self, Code};

/// The most bytes that are zeroed by one workgroup.
const ZERO_IN_RING_BYTES: u64 = 64 << 10;
/// Elements that a thread of a grid works on, unless there are too many.
const GRID_ELEMENTS: u64 = 32;
/// The most turns of one thread's loops in a list. Mesa's llvmpipe ends loops at 65,535 turns in all of a dispatch, without a
/// word. It is the estimate of work as well by which a batch ends.
pub(crate) const TURNS_MAX: u32 = 60_000;
/// The most turns of an operation that is no kernel, beside those for what it copies: the shader's loops are all entered once.
const TURNS_OF_NO_KERNEL: u32 = 72;
/// A shader's indices are signed numbers of 32 bits.
const ELEMENTS_MAX: u64 = 1 << 31;

/// Whom work is for.
#[derive(Debug)]
pub(crate) enum Whose {
    /// A command of a ring's lane.
    Command { ring: usize, lane: usize, reply: Reply },
    /// Who reserved memory.
    Reservation(SyncSender<()>),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing: the answer is known.
    Nothing(Status),
    /// To answer with a payload.
    Echo([u64; 7]),
    /// To copy from the payload, or the staging area, to an address.
    CopyIn { to: u64, size_bytes: usize, inline: Option<[u64; 4]> },
    /// To copy from an address to the answer or the staging area.
    CopyOut { from: u64, size_bytes: usize, is_inline: bool },
    /// To run this, which answers if `answers`.
    Run { operation: Operation, answers: bool },
}

/// Work for many workgroups: a batch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// A kernel, in phases.
    Kernel { phases: u32, groups: u32 },
    /// Zeroing, by the driver's own means; the operation is for the last bytes, which are less than a word.
    Fill { buffer: vk::Buffer, offset: u64, size_bytes: u64 },
}

/// One command's work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) whose: Whose,
    pub(crate) kind: Kind,
    pub(crate) grid: Option<Grid>,
    /// The most turns of one thread's loops.
    pub(crate) turns: u32,
    /// What it touches.
    pub(crate) blocks: [Option<Range>; 3],
    /// Whether the blocks may have been another grain's before.
    pub(crate) binds: bool,
}

impl Work {
    /// The work of a command that asks for `action`.
    pub(crate) fn of(command: &Command, action: Result<Action<'_, Range, Code>, Status>, whose: Whose) -> Self {
        let mut work = Self::nothing(whose);
        match action {
            Err(status) => work.kind = Kind::Nothing(status),
            Ok(Action::Unbound) => {}
            Ok(Action::Echo) => {
                (work.kind, work.turns) = (Kind::Echo(command.payload), TURNS_OF_NO_KERNEL);
            }
            Ok(Action::Zero(block, size_bytes)) => work.zero(block, size_bytes as u64),
            Ok(Action::Write(part)) => {
                let Part { offset_bytes, size_bytes, is_inline, .. } = part;
                let inline = is_inline.then(|| std::array::from_fn(|i| command.payload[Transfer::HEADER_WORDS + i]));
                let to = part.block.address + offset_bytes as u64;
                work.copies(part.block, Kind::CopyIn { to, size_bytes, inline }, size_bytes);
            }
            Ok(Action::Read(part)) => {
                let Part { offset_bytes, size_bytes, is_inline, .. } = part;
                let from = part.block.address + offset_bytes as u64;
                work.copies(part.block, Kind::CopyOut { from, size_bytes, is_inline }, size_bytes);
            }
            Ok(Action::Run(run)) => work.run(&run),
        }
        work
    }

    /// Zeroing what was reserved.
    pub(crate) fn reservation(block: Range, done: SyncSender<()>) -> Self {
        let mut work = Self::nothing(Whose::Reservation(done));
        let size_bytes = block.size_bytes;
        work.zero(block, size_bytes);
        work
    }

    fn nothing(whose: Whose) -> Self {
        let kind = Kind::Nothing(Status::Ok);
        Self { whose, kind, grid: None, turns: 0, blocks: [const { None }; 3], binds: false }
    }

    fn zero(&mut self, block: Range, size_bytes: u64) {
        if size_bytes > ZERO_IN_RING_BYTES {
            let (buffer, offset) = block.chunk.place(block.address);
            let rest = size_bytes % 4;
            self.grid = Some(Grid::Fill { buffer, offset, size_bytes: size_bytes - rest });
            let operation = Operation::zero(block.address + size_bytes - rest, rest);
            self.kind = Kind::Run { operation, answers: false };
        } else if size_bytes > 0 {
            let operation = Operation::zero(block.address, size_bytes);
            self.kind = Kind::Run { operation, answers: false };
            self.turns = turns(TURNS_OF_NO_KERNEL, size_bytes / 128);
        }
        self.blocks[0] = Some(block);
        self.binds = true;
    }

    fn copies(&mut self, block: &Range, kind: Kind, size_bytes: usize) {
        if size_bytes > 0 {
            self.kind = kind;
            self.turns = turns(TURNS_OF_NO_KERNEL, size_bytes as u64 / 128);
            self.blocks[0] = Some(block.clone());
        }
    }

    fn run(&mut self, run: &Run<'_, Range, Code>) {
        let code = run.kernel.run;
        let sizes = run.buffers.iter().flatten().map(|block| block.size_bytes / 4);
        if sizes.chain([run.count as u64]).any(|elements| elements >= ELEMENTS_MAX) {
            self.kind = Kind::Nothing(Status::Unsupported);
            return;
        }
        let mut operation = Operation::new(code.what, run.count as u32)
            .with_constant(run.kernel.constants[0])
            .with_scalars(run.scalars.0);
        for (which, block) in run.buffers.iter().enumerate() {
            if let Some(block) = block {
                operation = operation.with_buffer(which, block.address, (block.size_bytes / 4) as u32);
                self.blocks[which] = Some((*block).clone());
            }
        }
        self.turns = turns(code.turns, run.work / code.turns_share);
        if !run.kernel.declaration.placement.in_ring(run.work) {
            let groups = groups(run.work);
            self.grid = Some(Grid::Kernel { phases: code.phases, groups });
            self.turns = kernels::grid_turns(run.kernel.declaration.id, run.scalars, groups);
        }
        self.kind = Kind::Run { operation, answers: true };
    }

    /// Refuses what a grid cannot do on a device that bounds the turns of its loops.
    pub(crate) fn refuse_unbounded(&mut self) {
        if self.grid.is_some() && self.turns > TURNS_MAX {
            (self.kind, self.grid) = (Kind::Nothing(Status::Unsupported), None);
        }
    }

    /// The kernel that it calls.
    pub(crate) fn kernel(&self) -> Option<u32> {
        match self.kind {
            Kind::Run { operation, answers: true } => Some(operation.0[0]),
            _ => None,
        }
    }

    /// How many bytes it copies in and out, by way of staging.
    pub(crate) fn staged_bytes(&self) -> [usize; 2] {
        match self.kind {
            Kind::CopyIn { size_bytes, .. } => [size_bytes, 0],
            Kind::CopyOut { size_bytes, is_inline: false, .. } => [0, size_bytes],
            _ => [0, 0],
        }
    }
}

/// The most turns that a thread's loops take in a list: a fixed number, and what grows with the work.
fn turns(fixed: u32, grown: u64) -> u32 {
    u32::try_from(grown).unwrap_or(u32::MAX).saturating_add(fixed)
}

/// Workgroups for so many element operations.
fn groups(work: u64) -> u32 {
    work.div_ceil(u64::from(THREADS) * GRID_ELEMENTS).clamp(1, u64::from(GRID_GROUPS_MAX)) as u32
}
