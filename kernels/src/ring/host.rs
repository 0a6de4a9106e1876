//! The host half of a lane: submit on one side, take answers on the other.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use gpubridge_abstractions::{
    Command, Completion, Completions, Opcode, PAYLOAD_WORDS, Status, SubmitError, Submitter, Taken, Ticket,
};

use super::layout::{self, CONSUMED, LaneLayout, PARKED, SLOT_WORDS};
use super::slot;
use super::word::{Word, Words};

/// Wakes a device that sleeps between commands. A device that never sleeps needs none.
pub trait Wake: Send + Sync + Debug {
    /// Wakes it; does nothing when it is awake.
    fn wake(&self);
}

/// What the host knows of a slot: the sequence number last submitted to it, the answer bit that was asked for, and
/// how the answer stands. A word of zeros is a slot that was never used.
#[derive(Clone, Copy)]
struct Flight(u64);

const STATE_MASK: u64 = 3;
const UNUSED: u64 = 0;
const AWAITED: u64 = 1;
const ABANDONED: u64 = 2;
const TAKEN: u64 = 3;

impl Flight {
    fn new(sequence: u64, answer_bit: bool, state: u64) -> Self {
        Self(sequence << 3 | u64::from(answer_bit) << 2 | state)
    }

    fn sequence(self) -> u64 {
        self.0 >> 3
    }

    fn answer_bit(self) -> bool {
        self.0 >> 2 & 1 == 1
    }

    fn state(self) -> u64 {
        self.0 & STATE_MASK
    }

    fn with_state(self, state: u64) -> u64 {
        self.0 & !STATE_MASK | state
    }
}

#[derive(Debug)]
struct Shared<M: Words> {
    memory: M,
    layout: LaneLayout,
    flights: Box<[M::Word]>,
    // Each leaves 0 once, in any order: no more submissions; the device will answer nothing more, and what is not answered
    // reads as the status of this number.
    refusing: M::Word,
    ended: M::Word,
}

/// One lane's host half, before it is split into its two sides.
#[derive(Debug)]
pub struct HostLane<M: Words> {
    shared: Arc<Shared<M>>,
    wake: Option<Arc<dyn Wake>>,
}

impl<M: Words> HostLane<M> {
    /// The host half over `memory`, which is zero and holds [`LaneLayout::words`] words. `wake` is for devices that
    /// sleep.
    ///
    /// # Panics
    /// When `memory` is too small.
    pub fn new(memory: M, layout: LaneLayout, wake: Option<Arc<dyn Wake>>) -> Self {
        assert!(memory.words().len() >= layout.words(), "lane memory is smaller than its layout");
        let room = memory.posted().is_none_or(|posted| posted.len() >= layout.completion(0));
        assert!(room, "the memory that commands are posted to is smaller than their slots");
        let flights = (0..layout.slots()).map(|_| M::Word::new(0)).collect();
        let shared = Shared { memory, layout, flights, refusing: M::Word::new(0), ended: M::Word::new(0) };
        Self { shared: Arc::new(shared), wake }
    }

    /// The completion side.
    pub fn completions(&self) -> HostCompletions<M> {
        HostCompletions { shared: Arc::clone(&self.shared) }
    }

    /// The submission side, of which there is one.
    pub fn into_submitter(self) -> HostSubmitter<M> {
        HostSubmitter { shared: self.shared, wake: self.wake, next: 0, consumed: 0, answered: 0 }
    }
}

/// The submission side of a lane.
#[derive(Debug)]
pub struct HostSubmitter<M: Words> {
    shared: Arc<Shared<M>>,
    wake: Option<Arc<dyn Wake>>,
    next: u64,
    // The device's consumed count when last looked at: never more than the true one.
    consumed: u64,
    answered: u64,
}

impl<M: Words> HostSubmitter<M> {
    /// Whether the command slot of `sequence` has been read by the device.
    #[inline]
    fn has_room(&mut self, sequence: u64) -> bool {
        let slots = self.shared.layout.slots();
        if sequence - self.consumed < slots {
            return true;
        }
        // Acquire: pairs with the Release store in `DeviceLane::publish_consumed`.
        self.consumed = self.shared.control(CONSUMED).load(Acquire);
        sequence - self.consumed < slots
    }

    /// Passes over slots whose commands are still at work, up to the next free one, and returns its flight.
    #[cold]
    fn pass_over(&mut self) -> Result<Flight, SubmitError> {
        let free = (self.next..self.next + self.shared.layout.slots())
            .find(|&sequence| self.shared.is_free(self.shared.flight(sequence)))
            .ok_or(SubmitError::Full)?;
        if !self.has_room(free) {
            return Err(SubmitError::Full);
        }
        while self.next < free {
            self.publish(&layout::encode_skip(self.shared.layout.lap(self.next)));
        }
        Ok(self.shared.flight(free))
    }

    // Inlined wherever it is used: the stores of several commands wait for the device's copies of their lines side by
    // side, as long as few others, such as those of a call, lie between them in the store buffer.
    #[inline(always)]
    fn submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let layout = self.shared.layout;
        if staged.len() > layout.staging_bytes() {
            return Err(SubmitError::TooLarge);
        }
        // Relaxed: a submission that races with the end is answered by `HostCompletions::take`.
        if self.shared.refusing.load(Relaxed) != 0 {
            return Err(SubmitError::Stopped);
        }
        if !self.has_room(self.next) {
            return Err(SubmitError::Full);
        }
        let mut flight = self.shared.flight(self.next);
        if !self.shared.is_free(flight) {
            flight = self.pass_over()?;
        }
        let sequence = self.next;
        let slot = layout.slot(sequence);
        let answer_bit = !flight.answer_bit();
        // Release: pairs with the Acquire load in `Shared::flight`, where a later sequence number proves that the
        // slot's earlier command was answered.
        self.shared.flights[slot].store(Flight::new(sequence, answer_bit, AWAITED).0, Release);
        if !staged.is_empty() {
            slot::stage(&self.shared.memory.words()[layout.staging(slot)], staged);
            self.shared.memory.fence();
        }
        self.publish(&layout::encode_command(command, layout.lap(sequence), answer_bit));
        Ok(Ticket::new(sequence))
    }

    /// Has what a run of commands stands on come before it, and the run leave the host.
    #[inline(always)]
    fn between_fences<R>(&mut self, submit: impl FnOnce(&mut Self) -> R) -> R {
        self.shared.memory.fence();
        let submitted = submit(self);
        self.shared.memory.fence();
        submitted
    }

    #[inline(always)]
    fn publish(&mut self, encoded: &[u64; SLOT_WORDS]) {
        let layout = self.shared.layout;
        let first = layout.command(layout.slot(self.next));
        slot::write(slot::at(self.shared.memory.words(), first), encoded);
        if let Some(posted) = self.shared.memory.posted() {
            slot::write(slot::at(posted, first), encoded);
        }
        self.next += 1;
    }
}

impl<M: Words> Submitter for HostSubmitter<M> {
    #[inline]
    fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        self.between_fences(|host| host.submit(command, staged))
    }

    fn try_submit_run(&mut self, commands: &[Command], tickets: &mut Vec<Ticket>) -> Result<(), SubmitError> {
        self.between_fences(|host| {
            for command in commands {
                tickets.push(host.submit(command, &[])?);
            }
            Ok(())
        })
    }

    #[inline]
    fn doorbell(&mut self) {
        if let Some(wake) = &self.wake {
            // AcqRel: see `DeviceLane::announce_sleep`.
            if self.shared.control(PARKED).swap(0, AcqRel) != 0 {
                wake.wake();
            }
        }
    }

    fn next_sequence(&self) -> u64 {
        self.next
    }

    fn completed_below(&mut self) -> u64 {
        while self.answered < self.next {
            let flight = self.shared.flight(self.answered);
            // A slot that knows only of an earlier command was passed over under this number.
            if flight.sequence() >= self.answered && !self.shared.is_answered(flight, self.answered) {
                break;
            }
            self.answered += 1;
        }
        self.answered
    }

    fn pending(&self) -> u32 {
        let is_pending = |word: &&M::Word| {
            let flight = Flight(word.load(Acquire));
            matches!(flight.state(), AWAITED | ABANDONED) && !self.shared.has_answer(flight)
        };
        self.shared.flights.iter().filter(is_pending).count() as u32
    }
}

impl<M: Words> Shared<M> {
    fn control(&self, word: usize) -> &M::Word {
        &self.memory.words()[self.layout.control(word)]
    }

    /// What the host knows of the slot of `sequence`.
    #[inline]
    fn flight(&self, sequence: u64) -> Flight {
        // Acquire: pairs with the Release stores in `HostCompletions::settle` and `HostSubmitter::try_submit`: the
        // slot's earlier answers were read before.
        Flight(self.flights[self.layout.slot(sequence)].load(Acquire))
    }

    /// Whether the slot of this flight may carry another command.
    #[inline]
    fn is_free(&self, flight: Flight) -> bool {
        // Of an abandoned command the answer itself, not the device's end: until the answer bit has flipped, the next
        // command of this slot would ask for the bit that an old answer still shows.
        let state = flight.state();
        state == TAKEN || state == UNUSED || state == ABANDONED && self.read(flight).is_some()
    }

    /// Whether the command with this sequence number was answered, by the flight of its slot.
    fn is_answered(&self, flight: Flight, sequence: u64) -> bool {
        match flight.sequence().cmp(&sequence) {
            // The slot was used again, which takes an answer.
            Greater => true,
            Equal => flight.state() == TAKEN || flight.state() != UNUSED && self.has_answer(flight),
            Less => false,
        }
    }

    fn has_answer(&self, flight: Flight) -> bool {
        self.read(flight).is_some() || self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.unanswered().is_some()
    }

    /// What a command reads as that will not be answered any more; `None` as long as the device may answer.
    fn unanswered(&self) -> Option<Status> {
        // Acquire: pairs with the Release store in `HostCompletions::end`.
        match self.ended.load(Acquire) {
            0 => None,
            status => Status::from_number(status as u8),
        }
    }

    /// The answer of a flight, if it has arrived whole.
    #[inline]
    fn read(&self, flight: Flight) -> Option<[u64; SLOT_WORDS]> {
        let first = self.layout.completion(self.layout.slot(flight.sequence()));
        slot::read(slot::at(self.memory.words(), first), flight.answer_bit())
    }
}

/// The completion side of a lane.
#[derive(Debug)]
pub struct HostCompletions<M: Words> {
    shared: Arc<Shared<M>>,
}

/// What a look at an answer found.
enum Found {
    Pending,
    Taken,
    Gone,
}

impl<M: Words> HostCompletions<M> {
    /// The slot and flight of a ticket that was neither taken nor abandoned.
    #[inline]
    fn awaited(&self, ticket: &Ticket) -> Option<(usize, Flight)> {
        let slot = self.shared.layout.slot(ticket.sequence());
        // Relaxed: the ticket came here by means that order this after its submission.
        let flight = Flight(self.shared.flights[slot].load(Relaxed));
        (flight.sequence() == ticket.sequence() && flight.state() == AWAITED).then_some((slot, flight))
    }

    /// Settles a flight that was awaited. Only the holder of its ticket does, so nobody else writes the word meanwhile.
    #[inline]
    fn settle(&self, slot: usize, flight: Flight, state: u64) {
        // Release: pairs with the Acquire load in `Shared::flight`; the answer and its staging were read before.
        self.shared.flights[slot].store(flight.with_state(state), Release);
    }

    /// [`Completions::take`], with the answer written in place.
    #[inline]
    fn take_into(&self, ticket: &mut Ticket, staged: &mut [u8], answer: &mut Completion) -> Found {
        let shared = &*self.shared;
        let Some((slot, flight)) = self.awaited(ticket) else {
            return Found::Gone;
        };
        let words = match shared.read(flight) {
            Some(words) => words,
            None => {
                let Some(unanswered) = shared.unanswered() else {
                    return Found::Pending;
                };
                // The device may have answered between the two looks.
                let Some(words) = shared.read(flight) else {
                    // Given up, not taken: the slot was never answered, so it must not carry another command.
                    self.settle(slot, flight, ABANDONED);
                    *answer = Completion::of(unanswered);
                    return Found::Taken;
                };
                words
            }
        };
        layout::decode_completion(&words, answer);
        if answer.status == Status::Ok {
            slot::unstage(&shared.memory.words()[shared.layout.staging(slot)], staged);
        }
        self.settle(slot, flight, TAKEN);
        Found::Taken
    }

    /// The command that was last submitted to this slot, if the device has not answered it: its sequence number, and itself
    /// unless its place was passed over since, as happens while it is at work for long. For who looks after the device.
    ///
    /// # Panics
    /// When the lane has no such slot.
    pub fn unanswered(&self, slot: usize) -> Option<(u64, Option<Command>)> {
        let shared = &*self.shared;
        let flight = shared.flight(slot as u64);
        let is_unanswered = matches!(flight.state(), AWAITED | ABANDONED) && !shared.has_answer(flight);
        is_unanswered.then(|| {
            let place = slot::at(shared.memory.words(), shared.layout.command(slot));
            let mut command = Command::new(Opcode::Skip, 0, [0; PAYLOAD_WORDS]);
            let is_whole = slot::read(place, shared.layout.lap(flight.sequence()))
                .is_some_and(|words| layout::decode_command(&words, &mut command) == flight.answer_bit());
            (flight.sequence(), (is_whole && command.opcode != Opcode::Skip as u8).then_some(command))
        })
    }

    /// Whether there is a command that the device has not read. For who starts a device when there is something to do.
    pub fn has_unread(&self) -> bool {
        let shared = &*self.shared;
        // Acquire: pairs with the Release store in `DeviceLane::publish_consumed`.
        let next = shared.control(CONSUMED).load(Acquire);
        let place = slot::at(shared.memory.words(), shared.layout.command(shared.layout.slot(next)));
        slot::read(place, shared.layout.lap(next)).is_some()
    }

    /// Refuses submissions from now on. One that is under way may still be accepted.
    pub fn refuse_submissions(&self) {
        // Relaxed: orders nothing.
        self.shared.refusing.store(1, Relaxed);
    }

    /// States that the device has ended: what it has not answered reads as [`Status::Cancelled`], and submissions are
    /// refused.
    pub fn device_ended(&self) {
        self.end(Status::Cancelled);
    }

    /// States that the device stopped answering: as [`HostCompletions::device_ended`], with [`Status::DeviceLost`].
    pub fn device_lost(&self) {
        self.end(Status::DeviceLost);
    }

    fn end(&self, unanswered: Status) {
        self.refuse_submissions();
        // Release: pairs with the Acquire load in `Shared::unanswered`; the caller saw the device write its last
        // answers.
        self.shared.ended.store(unanswered as u64, Release);
    }
}

impl<M: Words> Completions for HostCompletions<M> {
    #[inline]
    fn take(&self, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let mut answer = Completion::of(Status::Cancelled);
        match self.take_into(ticket, staged, &mut answer) {
            Found::Pending => Taken::Pending,
            Found::Gone => Taken::Gone,
            Found::Taken => Taken::Ready(answer),
        }
    }

    #[inline]
    fn take_ready(&self, tickets: &mut [Ticket], answers: &mut [Completion]) -> usize {
        let mut taken = 0;
        for (ticket, answer) in tickets.iter_mut().zip(answers) {
            if !matches!(self.take_into(ticket, &mut [], answer), Found::Taken) {
                break;
            }
            taken += 1;
        }
        taken
    }

    fn is_complete(&self, sequence: u64) -> bool {
        self.shared.is_answered(self.shared.flight(sequence), sequence)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        if let Some((slot, flight)) = self.awaited(ticket) {
            self.settle(slot, flight, ABANDONED);
        }
    }
}
