//! Many computations in flight from one thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{ComputeMessage, ComputeResponse, Envelope, Error, Status, Taken, Ticket};

use super::ResidentMemory;
use super::operations::Compute;
use super::refusal::Refusal;
use super::session::{SessionId, Turn};

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
    // Answers that were taken to make room; older than those in flight.
    answered: VecDeque<Answered>,
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
    // The lane's count of cancellations when it was submitted.
    cancellations: u64,
}

/// What a batch answers with: the caller's token and the response.
pub type Answered = (u64, Result<ComputeResponse, Error>);

impl Batch {
    pub(crate) fn new(memory: Arc<ResidentMemory>, depth: NonZeroUsize) -> Self {
        // Half of a lane's slots: the device never waits for work, and others find room.
        let depth = depth.get().min(memory.config().ring.slots as usize / 2);
        Self {
            memory,
            in_flight: VecDeque::with_capacity(depth + 1),
            answered: VecDeque::with_capacity(depth + 1),
            depth,
            now: Instant::now(),
            readings: 0,
        }
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
    /// What is refused before it is submitted, as an error; the pipeline goes on without it and loses no answer.
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
        let cancellations = self.memory.lane(session).cancellations.load(Ordering::Relaxed);
        let mut blocked_since = None;
        let ticket = loop {
            let turn = Turn { id: 1, held: false, started: self.now, deadline: Duration::ZERO };
            match self.memory.submit(session, &mut operation, turn) {
                Ok((ticket, _)) => break ticket,
                Err(refusal) => self.wait_for_room(refusal, &mut blocked_since)?,
            }
        };
        let sampled = ticket.sequence().is_multiple_of(SAMPLE);
        let submitted = if sampled { Instant::now() } else { self.now };
        self.in_flight.push_back(Flight { session, ticket, operation, submitted, token, cancellations });
        Ok(if self.len() > self.depth { self.next() } else { None })
    }

    /// Does what a submission that was refused needs before it is tried again.
    #[cold]
    fn wait_for_room(&mut self, refusal: Refusal, since: &mut Option<Instant>) -> Result<(), Error> {
        match refusal {
            Refusal::Uncompiled(spec) => self.memory.compile(&spec)?,
            // The slots may be full of answers that this very batch has not taken.
            Refusal::Full => match self.take_oldest() {
                Some(answered) => self.answered.push_back(answered),
                None => std::thread::yield_now(),
            },
            Refusal::Busy => std::thread::yield_now(),
            refusal => return Err(refusal.into_error("compute")),
        }
        if since.get_or_insert_with(Instant::now).elapsed() > self.memory.config().call_deadline {
            return Err(Refusal::Timeout.into_error("compute"));
        }
        Ok(())
    }

    /// Computations in flight, and answers that were not handed out yet.
    pub fn len(&self) -> usize {
        self.in_flight.len() + self.answered.len()
    }

    /// Whether [`Batch::next`] has nothing to answer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the oldest answer; `None` when nothing is in flight.
    ///
    /// Blocking: until the answer, or the configured deadline of a call from now. Allocates: no.
    #[expect(clippy::should_implement_trait, reason = "waiting for answers is not iterating over what is there")]
    #[inline]
    pub fn next(&mut self) -> Option<Answered> {
        if !self.answered.is_empty() {
            return self.answered.pop_front();
        }
        self.take_oldest()
    }

    #[inline]
    fn take_oldest(&mut self) -> Option<Answered> {
        let mut flight = self.in_flight.pop_front()?;
        let lane = self.memory.lane(flight.session);
        let mut looks = 0_u32;
        // Counted from the first look at the clock: the flight's own time may be that of an earlier one.
        let mut waiting_since = None;
        let answer = loop {
            match lane.completions.take(&mut flight.ticket, &mut []) {
                Taken::Ready(completion) => break Ok(completion),
                Taken::Gone => break Err(Refusal::Cancelled),
                Taken::Pending => {}
            }
            looks += 1;
            if !self.memory.may_spin() || looks.is_multiple_of(SPINS_PER_LOOK) {
                if waiting_since.get_or_insert_with(Instant::now).elapsed() > self.memory.config().call_deadline {
                    lane.completions.abandon(&mut flight.ticket);
                    break Err(Refusal::Timeout);
                }
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        };
        if answer.is_ok() && flight.ticket.sequence().is_multiple_of(SAMPLE) {
            lane.latency.record(flight.submitted.elapsed().as_nanos() as u64);
        }
        lane.waiters.room();
        let is_cancelled = lane.is_cancelled(flight.session, flight.cancellations);
        let response = match answer {
            Ok(_) if is_cancelled => Err(Refusal::Cancelled),
            Ok(completion) if completion.status != Status::Ok => Err(Refusal::Device(completion.status)),
            Ok(completion) => Ok(flight.operation.response(&self.memory, self.now, &completion)),
            Err(refusal) => Err(refusal),
        };
        Some((flight.token, response.map_err(|refusal| refusal.into_error("compute"))))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for flight in &mut self.in_flight {
            self.memory.lane(flight.session).completions.abandon(&mut flight.ticket);
        }
    }
}
