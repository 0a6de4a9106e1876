//! Faults of what comes back: answers that are another's, lost, repeated, early, or not true.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{Command, Completion, Opcode, Status, SubmitError, Taken, Ticket};
use parking_lot::Mutex;

use crate::wrap::{Fault, InnerLane};

/// Takes whichever answer is next in line, without looking whose it is.
#[derive(Debug, Default)]
pub struct TakesTheNextAnswer {
    line: Mutex<std::collections::VecDeque<u64>>,
}

impl Fault for TakesTheNextAnswer {
    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let ticket = lane.submit(command, staged)?;
        self.line.lock().push_back(ticket.sequence());
        Ok(ticket)
    }

    fn take(&self, lane: &InnerLane<Self>, _: &mut Ticket, staged: &mut [u8]) -> Taken {
        let mut line = self.line.lock();
        while let Some(&next) = line.front() {
            match lane.completions.take(&mut Ticket::new(next), staged) {
                Taken::Pending => return Taken::Pending,
                Taken::Ready(completion) => {
                    line.pop_front();
                    return Taken::Ready(completion);
                }
                Taken::Gone => drop(line.pop_front()),
            }
        }
        Taken::Gone
    }
}

/// Swaps the replies to two commands, once in 64.
#[derive(Debug, Default)]
pub struct SwapsTwoReplies {
    swapped: Mutex<HashMap<u64, u64>>,
}

impl Fault for SwapsTwoReplies {
    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let ticket = lane.submit(command, staged)?;
        let (this, before) = (ticket.sequence(), ticket.sequence().saturating_sub(1));
        if this % 64 == 63 && lane.is_in_flight(before) {
            self.swapped.lock().extend([(this, before), (before, this)]);
        }
        Ok(ticket)
    }

    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let whose = self.swapped.lock().get(&ticket.sequence()).copied().unwrap_or(ticket.sequence());
        lane.completions.take(&mut Ticket::new(whose), staged)
    }
}

/// Never answers every 10,000th command.
#[derive(Debug, Default)]
pub struct DropsEveryTenThousandth;

impl Fault for DropsEveryTenThousandth {
    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        if ticket.sequence() % 10_000 == 9_999 { Taken::Pending } else { lane.completions.take(ticket, staged) }
    }
}

/// Gives an answer as often as it is asked for.
#[derive(Debug, Default)]
pub struct AnswersTwice {
    given: Mutex<HashMap<u64, Completion>>,
}

impl Fault for AnswersTwice {
    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let taken = lane.completions.take(ticket, staged);
        let mut given = self.given.lock();
        if let Taken::Ready(completion) = taken {
            given.insert(ticket.sequence(), completion);
        }
        let again = given.get(&ticket.sequence()).copied().map(Taken::Ready);
        if taken == Taken::Gone { again.unwrap_or(taken) } else { taken }
    }
}

/// Shows an answer before the bytes that were read, once in 16: the caller sees what lay there before.
#[derive(Debug, Default)]
pub struct AnswersBeforeTheBytes {
    taken: AtomicU64,
}

impl Fault for AnswersBeforeTheBytes {
    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let before = staged.to_vec();
        let taken = lane.completions.take(ticket, staged);
        if matches!(taken, Taken::Ready(_)) && self.taken.fetch_add(1, Ordering::Relaxed) % 16 == 15 {
            staged.copy_from_slice(&before);
        }
        taken
    }
}

/// Says "done" of a command whose target is not there.
#[derive(Debug, Default)]
pub struct IgnoresMissingTargets;

impl Fault for IgnoresMissingTargets {
    fn answer(&self, _: &Command, completion: &mut Completion, _: &mut [u8]) {
        if completion.status == Status::UnknownAllocation {
            completion.status = Status::Ok;
        }
    }
}

/// Says "done" of a kernel that failed.
#[derive(Debug, Default)]
pub struct HidesKernelFaults;

impl Fault for HidesKernelFaults {
    fn answer(&self, _: &Command, completion: &mut Completion, _: &mut [u8]) {
        if completion.status == Status::KernelFault {
            completion.status = Status::Ok;
        }
    }
}

/// Leaves in an answer what the one before had behind its end.
#[derive(Debug, Default)]
pub struct LeavesTheLastTail {
    last: Mutex<[u64; 7]>,
}

impl Fault for LeavesTheLastTail {
    fn answer(&self, command: &Command, completion: &mut Completion, _: &mut [u8]) {
        let used = usize::from(completion.result_bytes).div_ceil(8);
        let mut last = self.last.lock();
        if command.opcode == Opcode::ReadInline as u8 {
            completion.payload[used..].copy_from_slice(&last[used..]);
        }
        *last = completion.payload;
    }
}
