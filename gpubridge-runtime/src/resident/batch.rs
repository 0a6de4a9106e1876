//! Many computations in flight from one thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use gpubridge_abstractions::{
    Command, Completion, Completions, ComputeMessage, ComputeResponse, Envelope, Error, Opcode, PAYLOAD_WORDS,
    RequestId, Status, Ticket,
};

use super::ResidentMemory;
use super::operations::computed;
use super::refusal::Refusal;
use super::session::SessionId;

/// Messages that share one reading of the clock.
const PER_CLOCK_READING: u32 = 32;
/// Looks at an answer between two looks at the deadline.
const SPINS_PER_LOOK: u32 = 1 << 12;
/// One answer in this many has its latency recorded.
const SAMPLE: u64 = 64;

/// One computation for a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub struct BatchCall {
    /// The session it goes to.
    pub session: SessionId,
    /// What to compute.
    pub message: ComputeMessage,
    /// Comes back with the answer.
    pub token: u64,
}

/// What a batch answers with: the caller's token and the response.
pub type Answered = (u64, Result<ComputeResponse, Error>);

/// A pipeline of computations. [`Batch::submit`] puts several into it at once, [`Batch::next`] answers the oldest.
/// Answers come in the order of submission.
///
/// # Behavior
/// - **takes-no-memory**: Neither a call nor its answer allocates on the host.
/// - **full-lane**: Batches that fill a lane together go on, each by taking its own answers, and lose none.
/// - **compiles**: A call whose kernel had to be compiled is a miss, also when it found no room afterwards.
/// - **deadline**: An answer that does not come in time is given up; those behind it are answered.
/// - **cancelled**: A session that is shut down without draining cancels what the batch has in flight there, and nothing
///   else.
/// - **dropped**: Dropping it gives up the answers that were not taken; the device finishes what was submitted, and the
///   slots are free for others.
#[derive(Debug)]
pub struct Batch {
    memory: Arc<ResidentMemory>,
    in_flight: VecDeque<Flight>,
    lanes: Box<[Answers]>,
    // Calls that were refused: their place among those in flight, and what they are answered with.
    refused: VecDeque<(u64, Answered)>,
    // Of the calls whose latency is recorded: the place, and when it was submitted.
    sampled: VecDeque<(u64, Instant)>,
    // Places given and answered so far.
    entered: u64,
    answered: u64,
    depth: usize,
    // The commands of a submission.
    commands: Box<[Command; Batch::AT_ONCE]>,
    tickets: Vec<Ticket>,
    // The call whose kernel was compiled for it, until it is submitted.
    missed: Option<RequestId>,
    now: Instant,
    now_us: u64,
    readings: u32,
}

/// A call that was submitted.
#[derive(Debug)]
struct Flight {
    request: RequestId,
    session: SessionId,
    is_cache_hit: bool,
    token: u64,
    // The lane's count of cancellations when it was submitted.
    cancellations: u64,
}

const _: () = assert!(size_of::<Flight>() <= 64, "a flight is a cache line");

/// What is to come from one lane, in order.
#[derive(Debug)]
struct Answers {
    tickets: VecDeque<Ticket>,
    // Answers that were taken, of which `unread` were not handed on: they belong to calls before those of `tickets`.
    taken: [Completion; Batch::AT_ONCE],
    unread: Range<usize>,
}

impl Answers {
    fn new(depth: usize) -> Self {
        let taken = std::array::from_fn(|_| Completion::of(Status::Ok));
        Self { tickets: VecDeque::with_capacity(depth), taken, unread: 0..0 }
    }

    /// Where the next answer is, if it has come. Takes those behind it, too: so the misses of their lines overlap.
    #[inline]
    fn next(&mut self, completions: &dyn Completions) -> Option<usize> {
        if self.unread.is_empty() {
            let (tickets, _) = self.tickets.as_mut_slices();
            let taken = completions.take_ready(tickets, &mut self.taken);
            self.tickets.drain(..taken);
            self.unread = 0..taken;
        }
        self.unread.next()
    }

    /// Waits for the next answer; gives it up when the deadline passes.
    fn wait(&mut self, memory: &ResidentMemory, completions: &dyn Completions) -> Result<&Completion, Refusal> {
        let mut looks = 0_u32;
        let mut waiting_since = None;
        loop {
            if let Some(place) = self.next(completions) {
                return Ok(&self.taken[place]);
            }
            looks += 1;
            if !memory.may_spin() || looks.is_multiple_of(SPINS_PER_LOOK) {
                if waiting_since.get_or_insert_with(Instant::now).elapsed() > memory.config().call_deadline {
                    if let Some(mut ticket) = self.tickets.pop_front() {
                        completions.abandon(&mut ticket);
                    }
                    return Err(Refusal::Timeout);
                }
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

impl Batch {
    /// The most calls that one submission takes: beyond this nothing is gained by taking more at once.
    pub const AT_ONCE: usize = 16;

    pub(crate) fn new(memory: Arc<ResidentMemory>, depth: NonZeroUsize) -> Self {
        // Half of a lane's slots: the device never waits for work, and others find room.
        let depth = depth.get().min(memory.config().ring.slots as usize / 2);
        let now = Instant::now();
        let now_us = memory.clock().timestamp_us(now);
        Self {
            in_flight: VecDeque::with_capacity(depth),
            lanes: (0..memory.lanes.len()).map(|_| Answers::new(depth)).collect(),
            memory,
            refused: VecDeque::new(),
            sampled: VecDeque::with_capacity(depth.div_ceil(SAMPLE as usize)),
            entered: 0,
            answered: 0,
            depth,
            commands: Box::new([Command::new(Opcode::Skip, 0, [0; PAYLOAD_WORDS]); Self::AT_ONCE]),
            tickets: Vec::with_capacity(Self::AT_ONCE),
            missed: None,
            now,
            now_us,
            readings: 0,
        }
    }

    /// The envelope of the next message. Messages of a batch share clock readings: the timestamp is that of one in 32.
    #[inline]
    pub fn envelope(&mut self) -> Envelope {
        if self.readings.is_multiple_of(PER_CLOCK_READING) {
            self.now = Instant::now();
            self.now_us = self.memory.clock().timestamp_us(self.now);
        }
        self.readings = self.readings.wrapping_add(1);
        Envelope::at(self.now_us)
    }

    /// Submits the first of `calls`, in order, and says how many: as many as there is room for, at most
    /// [`Batch::AT_ONCE`]. The others are the caller's to submit again. 0 when there are none, or when the pipeline or a
    /// lane is full of answers that [`Batch::next`] must take first.
    ///
    /// All calls of one submission share one taking of their lanes' guards and one doorbell: submit several at once.
    ///
    /// # Errors
    /// Why the first call is refused; no call was submitted then. See [`Batch::refuse`].
    ///
    /// Blocking: while nothing is in flight and another caller has the turn of the first call's session, or others have
    /// filled its lane; while a kernel is compiled. Allocates: no, but for a compilation. Ordering: in the order of calls,
    /// per session.
    #[must_use = "it says how many of the calls were submitted"]
    #[inline]
    pub fn submit(&mut self, calls: &[BatchCall]) -> Result<usize, Error> {
        let calls = &calls[..calls.len().min(self.room()).min(Self::AT_ONCE)];
        let (submitted, refusal) = self.submit_some(calls);
        match refusal {
            Some(refusal) if submitted == 0 => self.submit_refused(calls, refusal),
            // What refused the next call is seen when it is the first.
            _ => Ok(submitted),
        }
    }

    /// [`Batch::submit`] after a first attempt whose first call was refused.
    #[cold]
    fn submit_refused(&mut self, calls: &[BatchCall], mut refusal: Refusal) -> Result<usize, Error> {
        let since = Instant::now();
        loop {
            match refusal {
                // The answers that are here take room, and others may need it to go on.
                Refusal::Full | Refusal::Busy if !self.is_empty() => return Ok(0),
                Refusal::Full | Refusal::Busy => std::thread::yield_now(),
                Refusal::Uncompiled(spec) => {
                    self.missed = calls.first().map(|call| call.message.envelope.request_id);
                    self.memory.compile(&spec)?;
                }
                refusal => return Err(refusal.into_error("compute")),
            }
            if since.elapsed() > self.memory.config().call_deadline {
                return Err(Refusal::Timeout.into_error("compute"));
            }
            match self.submit_some(calls) {
                (0, Some(again)) => refusal = again,
                (submitted, _) => return Ok(submitted),
            }
        }
    }

    /// Submits calls up to the first that is refused, and says why that was.
    #[inline]
    fn submit_some(&mut self, calls: &[BatchCall]) -> (usize, Option<Refusal>) {
        let memory = &*self.memory;
        let mut lanes = memory.lock_lanes(calls.iter().map(|call| call.session));
        // All commands are prepared before the first is published. Once a line that the device looks at is being
        // written, whatever waits for a store of this thread waits for the device's copy of that line, too.
        // Nor is any before all sessions were looked at: with many of them few are in the cache, and so their lines come
        // side by side.
        let is_open = |call: &&BatchCall| lanes.of(memory.lane_index(call.session)).sessions.find(call.session).is_ok();
        let open = calls.iter().take_while(is_open).count();
        let mut refused = (open < calls.len()).then_some(Refusal::NoSession);
        let mut prepared = 0;
        for (call, command) in calls[..open].iter().zip(self.commands.iter_mut()) {
            let lane = lanes.of(memory.lane_index(call.session));
            if let Err(refusal) = lane.prepare_compute(call.session, &call.message, command) {
                refused = Some(refusal);
                break;
            }
            prepared += 1;
        }
        let commands = &self.commands[..prepared];
        self.tickets.clear();
        let same_lane = |a: &BatchCall, b: &BatchCall| a.session.lane == b.session.lane;
        for run in calls[..prepared].chunk_by(same_lane) {
            let first = self.tickets.len();
            let lane = lanes.of(memory.lane_index(run[0].session));
            if let Err(refusal) = lane.producer.try_submit_run(&commands[first..first + run.len()], &mut self.tickets) {
                refused = Some(refusal.into());
                break;
            }
        }
        let submitted = self.tickets.len();
        for (call, ticket) in calls.iter().zip(self.tickets.drain(..)) {
            let lane = memory.lane_index(call.session);
            let request = call.message.envelope.request_id;
            // Only the first can have missed: no other is submitted before its kernel is compiled.
            let is_cache_hit = self.missed.take() != Some(request);
            lanes.of(lane).account_compute(call.session, &ticket, is_cache_hit);
            self.lanes[lane].tickets.push_back(ticket);
            if self.entered.is_multiple_of(SAMPLE) {
                self.sampled.push_back((self.entered, Instant::now()));
            }
            self.entered += 1;
            self.in_flight.push_back(Flight {
                request,
                session: call.session,
                is_cache_hit,
                token: call.token,
                // Relaxed: the guard, which is held, orders it.
                cancellations: memory.lanes[lane].cancellations.load(Ordering::Relaxed),
            });
        }
        (submitted, refused)
    }

    /// Puts the refusal of a call into the pipeline, as the answer to it that [`Batch::next`] gives in its turn. It has
    /// room there even beyond the depth.
    ///
    /// Blocking: never. Allocates: for the first refusals. Ordering: behind what was submitted before.
    pub fn refuse(&mut self, token: u64, why: Error) {
        self.refused.push_back((self.entered, (token, Err(why))));
        self.entered += 1;
    }

    /// The most calls that may be in flight.
    #[inline]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Calls that the pipeline takes before an answer must be taken.
    #[inline]
    pub fn room(&self) -> usize {
        self.depth.saturating_sub(self.len())
    }

    /// Calls that were not answered yet.
    #[inline]
    pub fn len(&self) -> usize {
        (self.entered - self.answered) as usize
    }

    /// Whether [`Batch::next`] has nothing to answer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entered == self.answered
    }

    /// Waits for the oldest answer; `None` when nothing is in flight.
    ///
    /// Blocking: until the answer, or the configured deadline of a call from now. Allocates: no.
    #[expect(clippy::should_implement_trait, reason = "waiting for answers is not iterating over what is there")]
    #[inline]
    pub fn next(&mut self) -> Option<Answered> {
        let place = self.answered;
        if self.refused.front().is_some_and(|(refused, _)| *refused == place) {
            self.answered += 1;
            return self.refused.pop_front().map(|(_, answered)| answered);
        }
        let flight = self.in_flight.pop_front()?;
        self.answered += 1;
        let index = self.memory.lane_index(flight.session);
        let lane = &self.memory.lanes[index];
        let answers = &mut self.lanes[index];
        let answer = match answers.next(&*lane.completions) {
            Some(place) => Ok(&answers.taken[place]),
            None => answers.wait(&self.memory, &*lane.completions),
        };
        if self.sampled.front().is_some_and(|(sampled, _)| *sampled == place)
            && let Some((_, submitted)) = self.sampled.pop_front()
            && answer.is_ok()
        {
            lane.latency.record(submitted.elapsed().as_nanos() as u64);
        }
        lane.waiters.room();
        let is_cancelled = lane.is_cancelled(flight.session, flight.cancellations);
        let refusal = match answer {
            Ok(completion) if completion.status == Status::Ok && !is_cancelled => {
                let envelope = Envelope::at(self.now_us);
                return Some((flight.token, Ok(computed(envelope, flight.request, flight.is_cache_hit, completion))));
            }
            Ok(completion) if !is_cancelled => Refusal::Device(completion.status),
            Err(refusal) if !is_cancelled => refusal,
            _ => Refusal::Cancelled,
        };
        Some((flight.token, Err(refusal.into_error("compute"))))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for (answers, lane) in self.lanes.iter_mut().zip(&self.memory.lanes) {
            answers.tickets.iter_mut().for_each(|ticket| lane.completions.abandon(ticket));
        }
    }
}
