//! The device half of a lane, for devices that run Rust: dequeue and complete.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use gpubridge_abstractions::{Command, Completion, Opcode};

use super::layout::{self, CONSUMED, LaneLayout, PARKED};
use super::slot;
use super::word::{Word, Words};

/// The device half of a lane. One per lane: it is the only reader of commands and writer of completions.
#[derive(Debug)]
pub struct DeviceLane<M> {
    memory: M,
    layout: LaneLayout,
    next: u64,
}

/// Where the answer to a consumed command belongs. Not `Clone`: each command is answered once.
#[derive(Debug)]
pub struct Reply {
    slot: usize,
    answer_bit: bool,
}

impl<M: Words> DeviceLane<M> {
    /// The device half over `memory`, which is zero and holds [`LaneLayout::words`] words.
    ///
    /// # Panics
    /// When `memory` is too small.
    pub fn new(memory: M, layout: LaneLayout) -> Self {
        assert!(memory.words().len() >= layout.words(), "lane memory is smaller than its layout");
        Self { memory, layout, next: 0 }
    }

    /// Whether something of the next command has arrived: what [`DeviceLane::poll`] asks first, for a loop that waits.
    #[inline]
    pub fn has_news(&self) -> bool {
        let first = self.layout.command(self.layout.slot(self.next));
        // Relaxed: `poll` looks again.
        layout::tagged(self.memory.words()[first].load(Relaxed), self.layout.lap(self.next))
    }

    /// Reads the next command into `command`, if it has arrived whole, and returns where its answer belongs. Passes over
    /// [`Opcode::Skip`].
    ///
    /// The slot may be overwritten only after [`DeviceLane::publish_consumed`].
    // Into the caller's place: a command that is moved on is read before its parts have left the store buffer.
    #[inline]
    pub fn poll(&mut self, command: &mut Command) -> Option<Reply> {
        loop {
            let slot = self.layout.slot(self.next);
            let first = self.layout.command(slot);
            let words = slot::read(slot::at(self.memory.words(), first), self.layout.lap(self.next))?;
            self.next += 1;
            let answer_bit = layout::decode_command(&words, command);
            if command.opcode != Opcode::Skip as u8 {
                return Some(Reply { slot, answer_bit });
            }
        }
    }

    /// [`DeviceLane::poll`] with the command by value.
    #[cfg(test)]
    pub(super) fn poll_command(&mut self) -> Option<(Command, Reply)> {
        let mut command = Command::new(Opcode::Skip, 0, [0; 7]);
        self.poll(&mut command).map(|reply| (command, reply))
    }

    /// Tells the host that the slots of all polled commands may be overwritten. Once per batch is enough, but before
    /// the device waits: the host may need a slot to go on.
    #[inline]
    pub fn publish_consumed(&mut self) {
        // Release: pairs with the Acquire load in `HostSubmitter::has_room`; the slots were read before.
        self.control(CONSUMED).store(self.next, Release);
    }

    /// Answers a command. Staged bytes of a read are written before, by [`DeviceLane::staging`].
    #[inline]
    pub fn complete(&self, reply: Reply, completion: &Completion) {
        let encoded = layout::encode_completion(completion, reply.answer_bit);
        let first = self.layout.completion(reply.slot);
        slot::write(slot::at(self.memory.words(), first), &encoded);
    }

    /// The words of the command's staging area.
    #[inline]
    pub fn staging(&self, reply: &Reply) -> &[M::Word] {
        &self.memory.words()[self.layout.staging(reply.slot)]
    }

    /// Announces that the device is about to sleep. It must poll once more before it does.
    pub fn announce_sleep(&self) {
        // AcqRel: either this swap sees the host's swap in `HostSubmitter::doorbell`, and with it the command published
        // before, or the host's swap sees this one and wakes the device.
        self.control(PARKED).swap(1, AcqRel);
    }

    /// Takes the announcement back: the device found something to do.
    pub fn retract_sleep(&self) {
        // Relaxed: a wake-up that comes all the same does no harm. A swap, not a store, so that `announce_sleep` still
        // reads on from the host's swaps.
        self.control(PARKED).swap(0, Relaxed);
    }

    fn control(&self, word: usize) -> &M::Word {
        &self.memory.words()[self.layout.control(word)]
    }
}
