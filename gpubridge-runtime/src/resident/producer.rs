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
/// The most bytes to be zeroed that wait, for the same reason. A block of more is zeroed at once.
const MOST_ZERO_BYTES: u64 = 256 << 10;

/// The producer side of a lane.
#[derive(Debug)]
pub(crate) struct Producer {
    submitter: Box<dyn Submitter>,
    completions: Arc<dyn Completions>,
    // The `Bind`s that are not in the lane yet, each with its session's index, and what they zero.
    binds: Vec<(u32, Bind)>,
    zero_bytes: u64,
    // The ring takes nothing more: an allocation, which does not ask it, must not succeed either.
    stopped: bool,
}

impl Producer {
    pub(crate) fn new(submitter: Box<dyn Submitter>, completions: Arc<dyn Completions>, lane_slots: usize) -> Self {
        let binds = Vec::with_capacity(lane_slots.min(MOST));
        Self { submitter, completions, binds, zero_bytes: 0, stopped: false }
    }

    /// The ring was terminated: nothing more is bound.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether this `Bind` can be kept without putting any into the lane.
    #[inline]
    pub(crate) fn may_keep(&self, zero_bytes: u64) -> bool {
        !self.stopped
            && self.binds.len() < self.binds.capacity()
            && zero_bytes <= MOST_ZERO_BYTES.saturating_sub(self.zero_bytes)
    }

    /// Keeps a `Bind` that [`Producer::may_keep`].
    #[inline]
    pub(crate) fn keep(&mut self, session: u32, bind: Bind) {
        debug_assert!(self.may_keep(bind.zero_bytes), "the caller looks first");
        self.zero_bytes += bind.zero_bytes;
        self.binds.push((session, bind));
    }

    /// Has a slot bound ahead of every later command, at once if too much waits already.
    pub(crate) fn bind(&mut self, session: u32, bind: Bind) -> Result<(), SubmitError> {
        if self.stopped {
            return Err(SubmitError::Stopped);
        }
        if self.may_keep(bind.zero_bytes) {
            self.keep(session, bind);
            return Ok(());
        }
        self.publish_binds()?;
        let outcome = self.enter(session, &bind);
        self.doorbell();
        outcome
    }

    /// Takes the slot's `Bind` back, if it is not in the lane.
    #[inline]
    pub(crate) fn withdraw(&mut self, slot: DeviceSlot) -> Option<Bind> {
        // The newest are the likeliest to be released unused. Blocks are disjoint, so their order does not matter.
        let at = self.binds.iter().rposition(|(_, bind)| bind.slot == slot)?;
        let (_, bind) = self.binds.swap_remove(at);
        self.zero_bytes -= bind.zero_bytes;
        Some(bind)
    }

    /// [`Submitter::try_submit`] behind the `Bind`s.
    #[inline]
    pub(crate) fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let any = !self.binds.is_empty();
        if any {
            self.publish_binds()?;
        }
        self.submitter.try_submit(command, staged).map_err(|error| self.refused(error, any))
    }

    /// [`Submitter::try_submit_run`] behind the `Bind`s. The doorbell is the caller's, whatever comes of it.
    #[inline]
    pub(crate) fn try_submit_run(
        &mut self,
        commands: &[Command],
        tickets: &mut Vec<Ticket>,
    ) -> Result<(), SubmitError> {
        if !self.binds.is_empty() {
            self.publish_binds()?;
        }
        self.submitter.try_submit_run(commands, tickets).map_err(|error| self.refused(error, false))
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

    /// Puts all `Bind`s into the lane. What finds no room is kept.
    #[inline(never)]
    fn publish_binds(&mut self) -> Result<(), SubmitError> {
        while let Some((session, bind)) = self.binds.pop() {
            if let Err(error) = self.enter(session, &bind) {
                self.binds.push((session, bind));
                return Err(error);
            }
            self.zero_bytes -= bind.zero_bytes;
        }
        Ok(())
    }

    fn enter(&mut self, session: u32, bind: &Bind) -> Result<(), SubmitError> {
        let command = Command::new(Opcode::Bind, session, bind.to_payload());
        let mut ticket = self.submitter.try_submit(&command, &[]).map_err(|error| self.refused(error, true))?;
        // Nobody waits for it: a failure shows when the slot is used.
        self.completions.abandon(&mut ticket);
        Ok(())
    }

    /// What a refusal of the ring means for later calls. `binds_entered` says whether the device was left `Bind`s.
    #[cold]
    fn refused(&mut self, error: SubmitError, binds_entered: bool) -> SubmitError {
        self.stopped |= error == SubmitError::Stopped;
        if binds_entered {
            // What found no room waits until the device has done with them.
            self.submitter.doorbell();
        }
        error
    }
}
