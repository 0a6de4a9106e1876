//! A lane's one producer: every command goes through it, and ahead of it the blocks that the device was not told of.
//!
//! A block's `Bind`, which also zeroes it for a new owner, has to be in the lane ahead of the first command that names its
//! slot; nothing else waits for it. So it is kept here until the lane's next command, of whatever session, and goes in
//! just ahead of that: an allocation touches no line that the device reads, and rings no bell. A block that is released
//! before such a command came was never bound, and nothing in the lane names it.

use std::sync::Arc;

use gpubridge_abstractions::{Bind, Command, Completions, DeviceSlot, Opcode, SubmitError, Submitter, Ticket};

/// The most blocks that wait; a lane of fewer slots has no more than those. Bounds what the command behind them costs.
const MOST: usize = 64;

/// The producer side of a lane.
#[derive(Debug)]
pub(crate) struct Producer {
    submitter: Box<dyn Submitter>,
    completions: Arc<dyn Completions>,
    // The `Bind`s that are not in the lane yet, each with its session's index.
    binds: Vec<(u32, Bind)>,
}

impl Producer {
    pub(crate) fn new(submitter: Box<dyn Submitter>, completions: Arc<dyn Completions>, lane_slots: usize) -> Self {
        Self { submitter, completions, binds: Vec::with_capacity(lane_slots.min(MOST)) }
    }

    /// Whether a `Bind` can be kept without putting others into the lane.
    #[inline]
    pub(crate) fn may_bind(&self) -> bool {
        self.binds.len() < self.binds.capacity()
    }

    /// Has a slot bound ahead of every later command, putting what waits for that into the lane if it is too much.
    #[inline]
    pub(crate) fn bind(&mut self, session: u32, bind: Bind) -> Result<(), SubmitError> {
        if !self.may_bind() {
            self.publish_binds()?;
            self.doorbell();
        }
        self.keep(session, bind);
        Ok(())
    }

    /// [`Producer::bind`] when [`Producer::may_bind`] says so.
    #[inline]
    pub(crate) fn keep(&mut self, session: u32, bind: Bind) {
        debug_assert!(self.may_bind(), "the caller looks first");
        self.binds.push((session, bind));
    }

    /// Takes the slot's `Bind` back, if it is not in the lane.
    #[inline]
    pub(crate) fn withdraw(&mut self, slot: DeviceSlot) -> Option<Bind> {
        // The newest are the likeliest to be released unused. Blocks are disjoint, so their order does not matter.
        let at = self.binds.iter().rposition(|(_, bind)| bind.slot == slot)?;
        Some(self.binds.swap_remove(at).1)
    }

    /// [`Submitter::try_submit`] behind the `Bind`s.
    #[inline]
    pub(crate) fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        if self.binds.is_empty() {
            return self.submitter.try_submit(command, staged);
        }
        self.publish_binds()?;
        // A command that finds no room waits until the device has done with the `Bind`s.
        self.submitter.try_submit(command, staged).inspect_err(|_| self.submitter.doorbell())
    }

    /// [`Submitter::try_submit_run`] behind the `Bind`s.
    #[inline]
    pub(crate) fn try_submit_run(
        &mut self,
        commands: &[Command],
        tickets: &mut Vec<Ticket>,
    ) -> Result<(), SubmitError> {
        if !self.binds.is_empty() {
            self.publish_binds()?;
        }
        self.submitter.try_submit_run(commands, tickets)
    }

    /// [`Submitter::doorbell`].
    #[inline]
    pub(crate) fn doorbell(&mut self) {
        self.submitter.doorbell();
    }

    /// [`Submitter::next_sequence`].
    #[inline]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.submitter.next_sequence()
    }

    /// [`Submitter::completed_below`].
    #[inline]
    pub(crate) fn completed_below(&mut self) -> u64 {
        self.submitter.completed_below()
    }

    /// Puts all `Bind`s into the lane; wakes the device if there is an error. What finds no room is kept.
    #[inline(never)]
    fn publish_binds(&mut self) -> Result<(), SubmitError> {
        let Self { submitter, completions, binds } = self;
        let mut entered = 0;
        let outcome = binds.iter().try_for_each(|(session, bind)| {
            let mut ticket = submitter.try_submit(&Command::new(Opcode::Bind, *session, bind.to_payload()), &[])?;
            // Nobody waits for it: a failure shows when the slot is used.
            completions.abandon(&mut ticket);
            entered += 1;
            Ok(())
        });
        binds.drain(..entered);
        outcome.inspect_err(|_| submitter.doorbell())
    }
}
