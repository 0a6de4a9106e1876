//! Many computations in flight from one thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use gpubridge_abstractions::{ComputeMessage, ComputeResponse, Envelope, Error, Status, Taken, Ticket};

use super::ResidentMemory;
use super::operations::Compute;
use super::refusal::Refusal;
use super::session::SessionId;

/// Submissions that share one reading of the clock.
const PER_CLOCK_READING: u32 = 32;
/// Looks at an answer between two looks at the deadline.
const SPINS_PER_LOOK: u32 = 1 << 12;
/// One answer in this many has its latency recorded.
const SAMPLE: u64 = 64;

/// A pipeline of computations: each [`Batch::compute`] submits one and, once `depth` are in flight, answers the oldest.
/// Answers come in the order of submission.
///
/// Dropping it gives up the answers that were not taken; the device finishes what was submitted.
#[derive(Debug)]
pub struct Batch {
    memory: Arc<ResidentMemory>,
    in_flight: VecDeque<Flight>,
    depth: usize,
    now: Instant,
    readings: u32,
}

#[derive(Debug)]
struct Flight {
    session: SessionId,
    ticket: Ticket,
    operation: Compute,
    submitted: Instant,
    token: u64,
}

/// What a batch answers with: the caller's token and the response.
pub type Answered = (u64, Result<ComputeResponse, Error>);

impl Batch {
    pub(crate) fn new(memory: Arc<ResidentMemory>, depth: NonZeroUsize) -> Self {
        // Half of a lane's slots: the device never waits for work, and others find room.
        let depth = depth.get().min(memory.config().ring.slots as usize / 2);
        Self { memory, in_flight: VecDeque::with_capacity(depth + 1), depth, now: Instant::now(), readings: 0 }
    }

    /// The envelope of the next message. Messages of a batch share clock readings: the timestamp is that of one in 32.
    #[inline]
    pub fn envelope(&mut self) -> Envelope {
        if self.readings.is_multiple_of(PER_CLOCK_READING) {
            self.now = Instant::now();
        }
        self.readings = self.readings.wrapping_add(1);
        self.memory.clock().envelope(self.now)
    }

    /// Submits a computation; `token` comes back with its answer. Returns the oldest answer when the pipeline is full.
    ///
    /// # Errors
    /// What is refused before it is submitted, as an error; the pipeline goes on without it.
    ///
    /// Blocking: while the pipeline or the lane is full. Allocates: no. Ordering: in the order of calls, per session.
    #[inline]
    pub fn compute(
        &mut self,
        session: SessionId,
        message: &ComputeMessage,
        token: u64,
    ) -> Result<Option<Answered>, Error> {
        let mut operation = Compute::new(message);
        let started = self.now;
        loop {
            match self.memory.submit(session, &mut operation, 1) {
                Ok((ticket, _)) => {
                    let sampled = ticket.sequence().is_multiple_of(SAMPLE);
                    let submitted = if sampled { Instant::now() } else { started };
                    self.in_flight.push_back(Flight { session, ticket, operation, submitted, token });
                    return Ok(if self.in_flight.len() > self.depth { self.next() } else { None });
                }
                Err(Refusal::Uncompiled(spec)) => self.memory.compile(&spec)?,
                Err(refusal) if refusal.is_back_pressure() => {
                    if started.elapsed() > self.memory.config().call_deadline {
                        return Err(Refusal::Timeout.into_error("compute"));
                    }
                    std::thread::yield_now();
                }
                Err(refusal) => return Err(refusal.into_error("compute")),
            }
        }
    }

    /// Computations in flight.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Waits for the oldest answer; `None` when nothing is in flight.
    ///
    /// Blocking: until the answer or its deadline. Allocates: no.
    #[expect(clippy::should_implement_trait, reason = "waiting for answers is not iterating over what is there")]
    #[inline]
    pub fn next(&mut self) -> Option<Answered> {
        let mut flight = self.in_flight.pop_front()?;
        let lane = self.memory.lane(flight.session);
        let mut looks = 0_u32;
        loop {
            match lane.completions.take(&mut flight.ticket, &mut []) {
                Taken::Ready(completion) => {
                    if flight.ticket.sequence().is_multiple_of(SAMPLE) {
                        lane.latency.record(flight.submitted.elapsed().as_nanos() as u64);
                    }
                    lane.waiters.room();
                    let response = if completion.status == Status::Ok {
                        Ok(flight.operation.response(&self.memory, self.now, &completion))
                    } else {
                        Err(Refusal::Device(completion.status).into_error("compute"))
                    };
                    return Some((flight.token, response));
                }
                Taken::Gone => return Some((flight.token, Err(Refusal::Cancelled.into_error("compute")))),
                Taken::Pending => {}
            }
            looks += 1;
            if !self.memory.may_spin() || looks.is_multiple_of(SPINS_PER_LOOK) {
                if flight.submitted.elapsed() > self.memory.config().call_deadline {
                    lane.completions.abandon(&mut flight.ticket);
                    return Some((flight.token, Err(Refusal::Timeout.into_error("compute"))));
                }
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for flight in &mut self.in_flight {
            self.memory.lane(flight.session).completions.abandon(&mut flight.ticket);
        }
    }
}
