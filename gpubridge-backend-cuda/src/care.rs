//! What tells that a device does not do what it should: a heart that does not beat, a command that does not end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Completions, Error, ErrorKind, Opcode};

use crate::backend::CudaConfig;
use crate::kernels::KernelSlots;
use crate::parameters::{AT_WORK, AtWork, COPY_IN, COPY_OUT, EXECUTORS_MAX, HEARTBEAT, Request, ZERO_BYTES};
use crate::results::RESTART;
use crate::ring::Core;

/// The most that the time between two looks counts: whoever did not look, because the process was stopped, has seen nothing.
const LONGEST_GAP: Duration = Duration::from_millis(100);

/// Looks after a ring, look by look.
pub(crate) struct Care {
    core: Arc<Core>,
    kernels: Arc<KernelSlots>,
    looked: Instant,
    heartbeats: Vec<u64>,
    silent: Duration,
    /// By block, then by executor.
    executors: Vec<Stay>,
    /// By stream.
    beside: Vec<Beside>,
}

/// What a word says, and for how long it has said so.
#[derive(Clone, Copy, Default)]
struct Stay {
    word: u64,
    lasted: Duration,
}

/// The commands that were launched on a stream, in order, and for how long the first of them has been the first.
#[derive(Default)]
struct Beside {
    commands: VecDeque<Launched>,
    lasted: Duration,
}

#[derive(Clone, Copy)]
struct Launched {
    sequence: u64,
    what: What,
}

/// A command as the device knows it.
#[derive(Clone, Copy)]
struct What {
    opcode: u8,
    kernel: u16,
    /// Unless its place was passed over already.
    grain: Option<u32>,
    lane: u32,
}

impl Care {
    pub(crate) fn new(core: Arc<Core>, kernels: Arc<KernelSlots>) -> Self {
        let blocks = core.shape.blocks as usize;
        let beside = core.gpu.sides.iter().map(|_| Beside::default()).collect();
        let executors = vec![Stay::default(); blocks * EXECUTORS_MAX];
        let (looked, heartbeats) = (Instant::now(), vec![0; blocks]);
        Self { core, kernels, looked, heartbeats, silent: Duration::ZERO, executors, beside }
    }

    /// Looks at everything, some time after the last look.
    ///
    /// # Errors
    /// `DeviceLost` when a heart has not beaten, or a command has been at work, for as long as the configuration allows.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        let passed = self.looked.elapsed().min(LONGEST_GAP);
        self.looked = Instant::now();
        self.feel_pulse(passed)?;
        self.look_at_executors(passed)?;
        self.look_beside(passed)
    }

    fn feel_pulse(&mut self, passed: Duration) -> Result<(), Error> {
        let now = || self.core.control_words(HEARTBEAT);
        // A block that has left has no heart to beat.
        let alive = now().zip(&self.heartbeats).zip(self.core.left()).all(|((now, last), left)| now != *last || left);
        if alive {
            // Of all of them since one look: they do not beat at once.
            self.heartbeats.iter_mut().zip(now()).for_each(|(last, now)| *last = now);
            self.silent = Duration::ZERO;
            return Ok(());
        }
        self.silent = self.silent.saturating_add(passed);
        // A kernel that is launched again may have to wait until work beside the rings leaves it room.
        let begins = now().any(|beats| beats == 0) && !self.core.gpu.is_drained()?;
        let CudaConfig { heartbeat_limit, command_limit, .. } = self.core.cuda;
        if self.silent < if begins { heartbeat_limit.max(command_limit) } else { heartbeat_limit } {
            return Ok(());
        }
        Err(lost(format!("the ring's kernel has given no sign of life for {:.1?}", self.silent)))
    }

    fn look_at_executors(&mut self, passed: Duration) -> Result<(), Error> {
        for executor in 0..EXECUTORS_MAX {
            let words = self.core.control_words(AT_WORK + executor).zip(self.core.left());
            for (block, (word, left)) in words.enumerate() {
                let stay = &mut self.executors[block * EXECUTORS_MAX + executor];
                // What a block said last that has left is not so any more.
                let at_work = if left { None } else { AtWork::from_word(word) };
                let Some(at_work) = at_work.filter(|_| stay.word == word) else {
                    *stay = Stay { word, lasted: Duration::ZERO };
                    continue;
                };
                stay.lasted = stay.lasted.saturating_add(passed);
                if stay.lasted >= self.core.cuda.command_limit {
                    let AtWork { opcode, kernel, grain, lane } = at_work;
                    let what = What { opcode, kernel, grain: Some(grain), lane };
                    return Err(too_long(&what.name(&self.kernels), "in the ring", stay.lasted));
                }
            }
        }
        Ok(())
    }

    /// Watches over a command that is about to be launched on this stream.
    pub(crate) fn watch_beside(&mut self, stream: usize, request: Request) {
        let Request { lane, slot, variant, .. } = request;
        let Some((sequence, command)) = self.core.completions[lane as usize].unanswered(slot as usize) else { return };
        let opcode = match variant {
            ZERO_BYTES => Opcode::Bind,
            COPY_IN => Opcode::WriteBulk,
            COPY_OUT => Opcode::ReadBulk,
            _ => Opcode::Compute,
        };
        let grain = command.map(|command| command.grain);
        let what = What { opcode: opcode as u8, kernel: variant as u16, grain, lane };
        self.beside[stream].commands.push_back(Launched { sequence, what });
    }

    /// Whether a command was launched beside the ring that is not answered, as of the last look.
    pub(crate) fn has_beside(&self) -> bool {
        self.beside.iter().any(|beside| !beside.commands.is_empty())
    }

    fn look_beside(&mut self, passed: Duration) -> Result<(), Error> {
        for Beside { commands, lasted } in &mut self.beside {
            let is_answered =
                |launched: &Launched| self.core.completions[launched.what.lane as usize].is_complete(launched.sequence);
            // A stream works in order, so what is before an answered one is done, if not answered.
            if let Some(last) = commands.iter().rposition(is_answered) {
                commands.drain(..=last);
                *lasted = Duration::ZERO;
            }
            let Some(first) = commands.front() else { continue };
            *lasted = lasted.saturating_add(passed);
            if *lasted >= self.core.cuda.command_limit {
                return Err(too_long(&first.what.name(&self.kernels), "beside the ring", *lasted));
            }
        }
        Ok(())
    }
}

impl What {
    /// The command as its user knows it.
    fn name(self, kernels: &KernelSlots) -> String {
        let Self { opcode, kernel, grain, lane } = self;
        let what = match Opcode::from_number(opcode) {
            Some(Opcode::Compute) => match kernels.name_of(kernel) {
                Some(name) => format!("kernel `{name}`"),
                None => format!("kernel {kernel}"),
            },
            Some(opcode) => format!("{opcode:?}"),
            None => format!("opcode {opcode}"),
        };
        grain
            .map_or_else(|| format!("{what} in lane {lane}"), |grain| format!("{what} of grain {grain} in lane {lane}"))
    }
}

fn too_long(what: &str, place: &str, lasted: Duration) -> Error {
    lost(format!("{what} has been at work {place} for {lasted:.1?}, longer than the limit"))
}

fn lost(why: String) -> Error {
    Error::new(ErrorKind::DeviceLost, "cuda.ring", format!("{why}: {RESTART}"))
}
