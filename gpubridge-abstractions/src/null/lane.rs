//! A lane without a ring: a bounded table of commands, answered where they are submitted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use super::memory::{Executor, Heap};
use crate::{Command, Completion, Completions, Opcode, RingConfig, Status, SubmitError, Submitter, Taken, Ticket};

/// Where a lane is in its life. A launched lane is inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Inactive,
    Active,
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No command, or its answer was taken or given up.
    Free,
    /// Submitted while the lane was inactive.
    Queued,
    /// The same, and its answer was given up.
    Abandoned,
    /// Answered and not taken.
    Answered(Completion),
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    command: Command,
    state: State,
    staging: Vec<u8>,
}

impl Slot {
    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Queued | State::Abandoned)
    }
}

/// One lane. Everything is allocated here at launch, but for what [`Executor`] binds.
#[derive(Debug)]
pub(super) struct NullLane {
    phase: Phase,
    slots: Vec<Slot>,
    executor: Executor,
    next: u64,
    answered: u64,
}

impl NullLane {
    pub(super) fn new(config: &RingConfig, heap: Arc<Heap>) -> Self {
        let command = Command::new(Opcode::Skip, 0, [0; 7]);
        let staging = || vec![0; config.staging_bytes as usize];
        let slots = (0..config.slots).map(|_| Slot { sequence: 0, command, state: State::Free, staging: staging() });
        let executor = Executor { heap, allocations: config.allocations, table: HashMap::new() };
        Self { phase: Phase::Inactive, slots: slots.collect(), executor, next: 0, answered: 0 }
    }

    /// Follows the ring into `phase`; false when the lane is terminated and cannot.
    pub(super) fn move_to(&mut self, phase: Phase) -> bool {
        if self.phase == Phase::Terminated {
            return phase == Phase::Terminated;
        }
        self.phase = phase;
        if phase != Phase::Inactive {
            let mut waiting: Vec<u64> =
                self.slots.iter().filter(|slot| slot.is_waiting()).map(|slot| slot.sequence).collect();
            waiting.sort_unstable();
            waiting.into_iter().for_each(|sequence| self.answer(sequence));
        }
        true
    }

    fn answer(&mut self, sequence: u64) {
        let index = self.index(sequence);
        let slot = &mut self.slots[index];
        let completion = match self.phase {
            Phase::Terminated => Completion::of(Status::Cancelled),
            _ => self.executor.execute(&slot.command, &mut slot.staging),
        };
        slot.state = if slot.state == State::Abandoned { State::Free } else { State::Answered(completion) };
    }

    fn index(&self, sequence: u64) -> usize {
        (sequence % self.slots.len() as u64) as usize
    }

    /// The slot of a command that is submitted and not taken.
    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = self.index(sequence);
        Some(&mut self.slots[index]).filter(|slot| slot.sequence == sequence && slot.state != State::Free)
    }

    fn is_complete(&mut self, sequence: u64) -> bool {
        sequence < self.next && !self.slot(sequence).is_some_and(|slot| slot.is_waiting())
    }
}

/// Both halves of a lane.
#[derive(Clone, Debug)]
pub(super) struct NullHalf(pub(super) Arc<Mutex<NullLane>>);

impl Submitter for NullHalf {
    fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let lane = &mut *lock(&self.0);
        if staged.len() > lane.slots[0].staging.len() {
            return Err(SubmitError::TooLarge);
        }
        if lane.phase == Phase::Terminated {
            return Err(SubmitError::Stopped);
        }
        // Slots that are not free are passed over, and their sequence numbers with them.
        let sequence = (lane.next..lane.next + lane.slots.len() as u64)
            .find(|&sequence| lane.slots[lane.index(sequence)].state == State::Free)
            .ok_or(SubmitError::Full)?;
        let index = lane.index(sequence);
        let slot = &mut lane.slots[index];
        (slot.sequence, slot.command, slot.state) = (sequence, *command, State::Queued);
        slot.staging[..staged.len()].copy_from_slice(staged);
        lane.next = sequence + 1;
        if lane.phase == Phase::Active {
            lane.answer(sequence);
        }
        Ok(Ticket::new(sequence))
    }

    fn doorbell(&mut self) {
        // Nothing sleeps here: what was submitted is answered, or waits for the ring's activation.
    }

    fn next_sequence(&self) -> u64 {
        lock(&self.0).next
    }

    fn completed_below(&mut self) -> u64 {
        let lane = &mut *lock(&self.0);
        while lane.is_complete(lane.answered) {
            lane.answered += 1;
        }
        lane.answered
    }

    fn pending(&self) -> u32 {
        lock(&self.0).slots.iter().filter(|slot| slot.is_waiting()).count() as u32
    }
}

impl Completions for NullHalf {
    fn take(&self, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let mut lane = lock(&self.0);
        let Some(slot) = lane.slot(ticket.sequence()) else { return Taken::Gone };
        match slot.state {
            State::Queued => Taken::Pending,
            State::Free | State::Abandoned => Taken::Gone,
            State::Answered(completion) => {
                if completion.status == Status::Ok && slot.command.opcode == Opcode::Read as u8 {
                    let size = staged.len().min(slot.staging.len());
                    staged[..size].copy_from_slice(&slot.staging[..size]);
                }
                slot.state = State::Free;
                Taken::Ready(completion)
            }
        }
    }

    fn is_complete(&self, sequence: u64) -> bool {
        lock(&self.0).is_complete(sequence)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        if let Some(slot) = lock(&self.0).slot(ticket.sequence()) {
            slot.state = if slot.is_waiting() { State::Abandoned } else { State::Free };
        }
    }
}
