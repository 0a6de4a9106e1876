//! Blocks that a lane's device was not told of yet.
//!
//! A block's `Bind`, which also zeroes it for a new owner, has to be in the lane ahead of the first command that names its
//! slot; nothing else waits for it. So it is kept here until the lane's next command, of whatever session, and goes in
//! just ahead of that: an allocation touches no line that the device reads, and rings no bell. A block that is released
//! before such a command came was never bound, and nothing in the lane names it.

use gpubridge_abstractions::{Bind, Command, Completions, DeviceSlot, Opcode, SubmitError, Submitter, Ticket};

/// The most blocks that wait; a lane of fewer slots has no more than those. Bounds what the command behind them costs.
const MOST: usize = 64;

/// The `Bind`s of a lane that are not in it yet, each with its session's index.
#[derive(Debug)]
pub(crate) struct Binds {
    pending: Vec<(u32, Bind)>,
}

impl Binds {
    pub(crate) fn new(lane_slots: usize) -> Self {
        Self { pending: Vec::with_capacity(lane_slots.min(MOST)) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() == self.pending.capacity()
    }

    /// Keeps one; there must be room.
    #[inline]
    pub(crate) fn push(&mut self, session: u32, bind: Bind) {
        debug_assert!(!self.is_full(), "published before it overflows");
        self.pending.push((session, bind));
    }

    /// Takes the slot's `Bind` back, if it is not in the lane.
    #[inline]
    pub(crate) fn withdraw(&mut self, slot: DeviceSlot) -> Option<Bind> {
        // The newest are the likeliest to be released unused. Blocks are disjoint, so their order does not matter.
        let at = self.pending.iter().rposition(|(_, bind)| bind.slot == slot)?;
        Some(self.pending.swap_remove(at).1)
    }

    /// Submits a command behind the `Bind`s that wait for one. Every command of the lane goes this way; the bell is the
    /// caller's, unless there is an error.
    #[inline]
    pub(crate) fn submit_behind(
        &mut self,
        submitter: &mut dyn Submitter,
        completions: &dyn Completions,
        command: &Command,
        staged: &[u8],
    ) -> Result<Ticket, SubmitError> {
        if self.is_empty() {
            return submitter.try_submit(command, staged);
        }
        self.enter(submitter, completions)?;
        // A command that finds no room waits until the device has done with the `Bind`s.
        submitter.try_submit(command, staged).inspect_err(|_| submitter.doorbell())
    }

    /// Puts all into the lane and wakes the device. What finds no room is kept.
    pub(crate) fn publish(
        &mut self,
        submitter: &mut dyn Submitter,
        completions: &dyn Completions,
    ) -> Result<(), SubmitError> {
        self.enter(submitter, completions)?;
        submitter.doorbell();
        Ok(())
    }

    /// Puts all into the lane; wakes the device if there is an error. What finds no room is kept.
    #[inline(never)]
    fn enter(&mut self, submitter: &mut dyn Submitter, completions: &dyn Completions) -> Result<(), SubmitError> {
        let mut entered = 0;
        let outcome = self.pending.iter().try_for_each(|(session, bind)| {
            let mut ticket = submitter.try_submit(&Command::new(Opcode::Bind, *session, bind.to_payload()), &[])?;
            // Nobody waits for it: a failure shows when the slot is used.
            completions.abandon(&mut ticket);
            entered += 1;
            Ok(())
        });
        self.pending.drain(..entered);
        outcome.inspect_err(|_| submitter.doorbell())
    }
}
