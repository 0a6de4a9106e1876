//! A call: one operation on its way through the ring.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{BulkStaging, Completion, Error, Status, Taken, Ticket};

use super::ResidentMemory;
use super::operation::{Operation, Timing};
use super::refusal::Refusal;
use super::session::{SessionId, Turn};
use crate::park::thread_waker;

/// Looks at the answer between two looks at the clock.
const SPINS_PER_LOOK: u32 = 64;
/// How long [`Call::wait`] spins before it parks.
const SPIN: Duration = Duration::from_micros(20);
/// One call in this many has its latency recorded.
const SAMPLE: u64 = 16;

/// How far a call is.
enum Progress {
    Done(Result<Completion, Refusal>),
    /// Submitted, not answered.
    Flying,
    /// Not submitted: the lane is full or the grain's turn is taken.
    Blocked,
    /// The answer to a piece came: the next one follows.
    Piece,
    /// An error of the control plane.
    Failed(Error),
}

/// One operation, not submitted before it is first polled, waited for or posted. Dropping it gives its answer up; the
/// device finishes what was submitted, and nobody else waits for it.
///
/// # Behavior
/// - **any-runtime**: It can be awaited on any runtime, of many threads...
/// - **one-thread**: ...or of one, without timers.
/// - **lazy**: It does nothing before it is polled, waited for or posted.
/// - **drop**: Dropped after a poll it gives its answer up and holds nobody back.
/// - **drop-under-way**: Dropping does not wait for the device, which finishes what was submitted under memory that is
///   still there.
/// - **drop-in-pieces**: Dropped between two pieces it gives its turn to the next call of its session at once.
/// - **leak**: Leaked it keeps one slot, and holds nobody back.
/// - **leak-in-pieces**: Leaked between two pieces it holds its session until its deadline.
///
/// Neither submitting nor waiting allocates; a refusal does, for its message.
#[must_use = "a call does nothing until it is awaited, waited for or posted"]
#[derive(Debug)]
pub struct Call<'m, O: Operation> {
    memory: &'m ResidentMemory,
    session: SessionId,
    operation: O,
    started: Instant,
    deadline: Duration,
    ticket: Option<Ticket>,
    /// Names the operation while it has the grain's turn.
    turn: u64,
    has_turn: bool,
    submitted_whole: bool,
    registered: bool,
    /// The lane's count of cancellations when the call was made.
    cancellations: u64,
}

impl<'m, O: Operation> Call<'m, O> {
    #[inline]
    pub(crate) fn new(
        memory: &'m ResidentMemory,
        session: SessionId,
        turn: u128,
        started: Instant,
        operation: O,
    ) -> Self {
        let deadline = memory.config().call_deadline;
        // Never 0, which stands for no turn.
        let turn = turn as u64 | 1 << 63;
        let cancellations = memory.lane(session).cancellations.load(Ordering::Relaxed);
        Self {
            cancellations,
            memory,
            session,
            operation,
            started,
            deadline,
            ticket: None,
            turn,
            has_turn: false,
            submitted_whole: false,
            registered: false,
        }
    }

    /// The same with another deadline than the configured one. It counts from when the call was made.
    ///
    /// # Behavior
    /// - **timeout**: When it passes the call ends with `Timeout`; the device keeps the staging, a slot's or a chunk, until it
    ///   has answered.
    /// - **wakes**: It wakes whoever waits: a parked thread, a task, a call before a full lane.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Waits for the answer on this thread: spins for some microseconds, then parks.
    ///
    /// # Errors
    /// As the operation says.
    ///
    /// Blocking: until the answer or the deadline. Allocates: no. Ordering: the grain's turn is the moment the command
    /// enters the lane.
    pub fn wait(mut self) -> Result<O::Response, Error> {
        self.wait_here()
    }

    /// [`Call::wait`] for a call that may be submitted again, to another session, when this one was refused.
    ///
    /// # Errors
    /// As [`Call::wait`].
    #[inline]
    pub fn wait_here(&mut self) -> Result<O::Response, Error> {
        match self.spin() {
            Poll::Ready(response) => response,
            Poll::Pending => self.park(),
        }
    }

    /// Turns a call that its session refused to another session. It begins anew; its deadline does not.
    pub fn retarget(&mut self, session: SessionId) {
        self.give_up();
        self.session = session;
        self.cancellations = self.memory.lane(session).cancellations.load(Ordering::Relaxed);
        self.submitted_whole = false;
        self.operation.restart();
    }

    /// The session that the call goes to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Submits the operation, waiting for room in the lane and in its staging if there is none, and returns without
    /// waiting for the answer. The caller's data is captured then; what is returned may be awaited, waited for, or
    /// dropped.
    ///
    /// # Behavior
    /// - **captured**: The data is captured: the caller's buffer is free when the call returns.
    /// - **dropped**: What was posted takes effect in order, its answer taken or not.
    /// - **refused**: What is refused is an error here, also for a computation, and is not tried again.
    ///
    /// # Errors
    /// What is refused before it is submitted; failures of the device show in the answer only.
    ///
    /// Blocking: while the lane is full. Allocates: no. Ordering: as [`Call::wait`].
    pub fn post(mut self) -> Result<Self, Error> {
        self.post_here()?;
        Ok(self)
    }

    /// [`Call::post`] for a call that may be submitted again, to another session, when this one was refused.
    ///
    /// # Errors
    /// As [`Call::post`].
    pub fn post_here(&mut self) -> Result<(), Error> {
        let mut looks = 0_u32;
        while !self.submitted_whole {
            match self.submit_next() {
                Progress::Done(answer) => {
                    let refusal = answer.err();
                    self.respond(answer)?;
                    // A response that says so is no posted call either.
                    return refusal.map_or(Ok(()), |refusal| Err(refusal.into_error("post")));
                }
                Progress::Failed(error) => return Err(error),
                Progress::Piece => {}
                Progress::Flying | Progress::Blocked => {
                    looks += 1;
                    if looks.is_multiple_of(SPINS_PER_LOOK) {
                        self.check_deadline()?;
                        thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn operation_mut(&mut self) -> &mut O {
        &mut self.operation
    }

    /// Submits until the operation is submitted as a whole, taking the answers of its pieces but not its last one.
    fn submit_next(&mut self) -> Progress {
        if self.ticket.is_none() { self.submit().unwrap_or(Progress::Flying) } else { self.take() }
    }

    /// One step: submits what can be submitted and takes the answer that is there.
    #[inline]
    fn advance(&mut self) -> Progress {
        loop {
            if self.ticket.is_none()
                && let Some(stopped) = self.submit()
            {
                return stopped;
            }
            match self.take() {
                // A piece in bulk is a large copy of this thread's: a poll is not to make one after the other.
                Progress::Piece if self.bulk().is_none() => {}
                progress => return progress,
            }
        }
    }

    /// What the operation takes bulk staging from, if it does.
    #[inline]
    fn bulk(&self) -> Option<&'m Arc<dyn BulkStaging>> {
        self.memory.bulk.as_ref().filter(|_| self.operation.is_bulk())
    }

    /// Submits the next command, compiling its kernel first if need be; otherwise says why not.
    #[inline]
    fn submit(&mut self) -> Option<Progress> {
        let bulk = self.bulk();
        // Nothing is staged by who cannot have the turn yet: its chunks would be of use to nobody.
        if bulk.is_some() && !self.has_turn && self.memory.is_busy(self.session) {
            return Some(Progress::Blocked);
        }
        loop {
            if let Some(bulk) = bulk {
                self.operation.stage(bulk);
            }
            let turn = Turn { id: self.turn, held: self.has_turn, started: self.started, deadline: self.deadline };
            match self.memory.submit(self.session, &mut self.operation, turn) {
                Ok((ticket, last)) => {
                    self.ticket = Some(ticket);
                    self.has_turn = !last;
                    self.submitted_whole = last;
                    // While the device is at work.
                    if let Some(bulk) = bulk {
                        self.operation.stage(bulk);
                    }
                    return None;
                }
                Err(Refusal::Uncompiled(spec)) => {
                    if let Err(error) = self.memory.compile(&spec) {
                        return Some(Progress::Failed(error));
                    }
                    // Others may evict it before it is used, again and again.
                    if self.is_late() {
                        return Some(self.fail(Refusal::Timeout));
                    }
                }
                Err(refusal) if refusal.is_back_pressure() => return Some(Progress::Blocked),
                Err(Refusal::NoSession) if self.is_cancelled() => return Some(self.fail(Refusal::Cancelled)),
                Err(refusal) => return Some(self.fail(refusal)),
            }
        }
    }

    /// Takes the answer to the command under way.
    #[inline]
    fn take(&mut self) -> Progress {
        let Some(ticket) = &mut self.ticket else { return Progress::Piece };
        let lane = self.memory.lane(self.session);
        let sequence = ticket.sequence();
        if self.registered {
            // Before the answer is taken: from then on the slot, and its place among the waiters with it, may be another
            // call's, whose waker must stay.
            if !lane.completions.is_complete(sequence) {
                return Progress::Flying;
            }
            lane.waiters.unregister(sequence);
            self.registered = false;
        }
        let completion = match lane.completions.take(ticket, self.operation.landing()) {
            Taken::Pending => return Progress::Flying,
            Taken::Gone => return self.fail(Refusal::Cancelled),
            Taken::Ready(completion) => completion,
        };
        self.ticket = None;
        if sequence.is_multiple_of(SAMPLE) {
            lane.latency.record(self.started.elapsed().as_nanos() as u64);
        }
        lane.waiters.room();
        if self.is_cancelled() {
            return self.fail(Refusal::Cancelled);
        }
        if completion.status != Status::Ok {
            return self.fail(Refusal::Device(completion.status));
        }
        if self.operation.answered(&completion) { Progress::Done(Ok(completion)) } else { Progress::Piece }
    }

    /// Ends the call without an answer. Its turn and its chunks are given up here, not when the call is dropped: whoever
    /// keeps a call that has failed holds nobody up.
    #[cold]
    fn fail(&mut self, refusal: Refusal) -> Progress {
        self.give_up();
        self.operation.restart();
        Progress::Done(Err(refusal))
    }

    /// Whether the session was shut down without draining since the call was made.
    #[inline]
    fn is_cancelled(&self) -> bool {
        self.memory.lane(self.session).is_cancelled(self.session, self.cancellations)
    }

    fn is_late(&self) -> bool {
        self.started.elapsed() >= self.deadline
    }

    #[inline]
    fn respond(&mut self, answer: Result<Completion, Refusal>) -> Result<O::Response, Error> {
        let timing = Timing { started: self.started, ended: Instant::now() };
        self.operation.respond(self.memory, timing, answer)
    }

    /// Advances for some microseconds.
    #[inline]
    fn spin(&mut self) -> Poll<Result<O::Response, Error>> {
        loop {
            for _ in 0..SPINS_PER_LOOK {
                match self.advance() {
                    Progress::Done(answer) => return Poll::Ready(self.respond(answer)),
                    Progress::Failed(error) => return Poll::Ready(Err(error)),
                    Progress::Flying if !self.memory.may_spin() => return Poll::Pending,
                    Progress::Flying => std::hint::spin_loop(),
                    Progress::Blocked | Progress::Piece => thread::yield_now(),
                }
            }
            if self.started.elapsed() > SPIN {
                return Poll::Pending;
            }
        }
    }

    fn park(&mut self) -> Result<O::Response, Error> {
        let waker = thread_waker();
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(response) = Pin::new(&mut *self).poll(&mut context) {
                return response;
            }
            thread::park_timeout(self.deadline.saturating_sub(self.started.elapsed()));
        }
    }

    /// Refuses when the deadline has passed or the session was shut down without draining.
    fn check_deadline(&mut self) -> Result<(), Error> {
        let refusal = if self.is_late() {
            Refusal::Timeout
        } else if self.is_cancelled() {
            Refusal::Cancelled
        } else {
            return Ok(());
        };
        // The answer of a refusal is an error, except where the response itself carries the failure.
        self.give_up();
        self.operation.restart();
        Err(refusal.into_error("call"))
    }

    /// Leaves the answer to the device and the turn to others.
    fn give_up(&mut self) {
        let lane = self.memory.lane(self.session);
        if let Some(mut ticket) = self.ticket.take() {
            if self.registered {
                lane.waiters.unregister(ticket.sequence());
                self.registered = false;
            }
            lane.completions.abandon(&mut ticket);
        }
        if self.has_turn {
            self.memory.give_turn(self.session, self.turn);
            self.has_turn = false;
        }
    }
}

impl<O: Operation> Future for Call<'_, O> {
    type Output = Result<O::Response, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        // A lane that is not deep answers sooner than a waker does.
        let spins = if call.registered || !call.memory.may_spin() { 1 } else { SPINS_PER_LOOK };
        for _ in 0..spins {
            match call.advance() {
                Progress::Done(answer) => return Poll::Ready(call.respond(answer)),
                Progress::Failed(error) => return Poll::Ready(Err(error)),
                Progress::Flying => std::hint::spin_loop(),
                Progress::Blocked | Progress::Piece => break,
            }
        }
        if let Err(error) = call.check_deadline() {
            return Poll::Ready(Err(error));
        }
        let lane = call.memory.lane(call.session);
        let waits_for_room = call.ticket.is_none();
        match &call.ticket {
            Some(ticket) => {
                let deadline_ns = call.memory.driver.deadline_ns(call.started, call.deadline);
                lane.waiters.register(ticket.sequence(), deadline_ns, context.waker());
                call.registered = true;
            }
            None => lane.waiters.register_blocked(context.waker()),
        }
        call.memory.driver.notify();
        // Once more: the answer, or the end of the session, may have come before anybody knew of the waiter.
        match call.advance() {
            Progress::Done(answer) => Poll::Ready(call.respond(answer)),
            Progress::Failed(error) => Poll::Ready(Err(error)),
            Progress::Flying if call.registered && !call.is_cancelled() => Poll::Pending,
            Progress::Blocked if waits_for_room => Poll::Pending,
            // It came further than what was registered: a piece was answered, what was blocked is submitted, or the session
            // is closed.
            Progress::Flying | Progress::Blocked | Progress::Piece => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<O: Operation> Drop for Call<'_, O> {
    fn drop(&mut self) {
        self.give_up();
    }
}
