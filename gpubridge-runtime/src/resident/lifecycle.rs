//! Initialize and Shutdown: a grain's session on its device's ring.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Command, Error, ErrorKind, InitializeMessage, InitializeResponse, Opcode, PAYLOAD_WORDS, ShutdownMessage,
    ShutdownResponse,
};

use super::ResidentMemory;
use super::allocate::give_back;
use super::refusal::Refusal;
use super::session::{Phase, SessionId};
use crate::park::wait;

/// Looks at a closing session's last answer before somebody is asked to watch it: a few microseconds.
const LOOKS: u32 = 256;

impl ResidentMemory {
    /// Names a new session, which takes requests once it is initialized. `hash` spreads sessions over the lanes: the same
    /// grain goes through the same lane.
    ///
    /// # Behavior
    /// - **closed**: A session that was only named refuses every request.
    ///
    /// Blocking: never, but for the guard. Allocates: when the lane's table grows.
    pub fn session(&self, hash: u64) -> SessionId {
        let index = self.lane_of(hash);
        let (session, epoch) = self.lanes[index as usize].lock().sessions.name();
        SessionId { lane: index, index: session, epoch }
    }

    /// Opens a session.
    ///
    /// # Behavior
    /// - **granted**: The response says what was really granted, whatever was asked for.
    /// - **once**: A session is opened once: a second time is refused and changes nothing.
    /// - **quota**: `max_pool_size_bytes` bounds this session and no other.
    ///
    /// # Errors
    /// `InvalidState` when it is open already or was shut down; `Unsupported` when another device is asked for.
    pub fn initialize(&self, session: SessionId, message: &InitializeMessage) -> Result<InitializeResponse, Error> {
        const OPERATION: &str = "initialize";
        let own = self.device_index;
        if let Some(other) = message.device_index.filter(|index| *index != own) {
            let why = format!("this is device {own}, not {other}: choose the resident memory of that device");
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        let pool_bytes = message.max_pool_size_bytes.min(self.config.memory_budget_bytes);
        // The cache is the device's, whatever a session asks for.
        let kernels = self.kernels.capacity() as u32;
        let mut lane = self.lane(session).lock();
        lane.sessions.open(session, pool_bytes).map_err(|refusal| refusal.into_error(OPERATION))?;
        lane.count_host_answered();
        let envelope = self.clock.envelope(Instant::now());
        Ok(InitializeResponse::new(envelope, message.envelope.request_id, own, pool_bytes, kernels))
    }

    /// Takes a session over: its former name is refused from now on, requests under way finish, and whoever has the new
    /// name goes on with the same allocations. This is how a grain is saved between two turns.
    ///
    /// # Errors
    /// `InvalidState` without a session; `Full` while an operation in pieces has the turn: try again.
    ///
    /// Blocking: never, but for the guard. Allocates: no. Ordering: after every request that entered the lane under the
    /// former name, before every one under the new.
    pub fn seal(&self, session: SessionId) -> Result<SessionId, Error> {
        self.lane(session).lock().sessions.seal(session).map_err(|refusal| refusal.into_error("seal"))
    }

    /// [`ResidentMemory::seal`] that waits, at most `deadline`, while an operation in pieces has the turn.
    ///
    /// # Errors
    /// As [`ResidentMemory::seal`].
    pub async fn seal_in_turn(&self, session: SessionId, deadline: Duration) -> Result<SessionId, Error> {
        let started = Instant::now();
        let seal = |context: &mut Context<'_>| {
            let lane = self.lane(session);
            // Before the look, so that a turn given up after it wakes this task.
            lane.waiters.register_blocked(context.waker());
            let sealed = lane.lock().sessions.seal(session);
            if sealed == Err(Refusal::Busy) && started.elapsed() < deadline {
                self.driver.notify();
                return Poll::Pending;
            }
            Poll::Ready(sealed.map_err(|refusal| refusal.into_error("seal")))
        };
        match self.seal(session) {
            Err(error) if error.kind() == ErrorKind::Full => poll_fn(seal).await,
            sealed => sealed,
        }
    }

    /// Whether the session takes requests under this name.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.lane(session).lock().sessions.find(session).is_ok()
    }

    /// The lane of sessions with this hash.
    pub fn lane_of(&self, hash: u64) -> u32 {
        (hash % self.lanes.len() as u64) as u32
    }

    /// The greatest generation that the session's lane has issued.
    pub fn issued_up_to(&self, session: SessionId) -> u64 {
        self.lane(session).lock().issued_up_to()
    }

    /// Closes a session: takes no more requests, lets those under way finish (or answers them "cancelled"), and gives
    /// its memory back to the pool. An operation in pieces is under way until its last piece is answered.
    ///
    /// # Behavior
    /// - **closed**: Every later request under the name is refused, also when another session has taken the place.
    /// - **drain**: Draining finishes what is queued: every call that was submitted is answered with its work done.
    /// - **drain-whole**: An operation in pieces that has begun is finished as a whole; one that has not is refused.
    /// - **cancel**: Without draining every pending request is answered `Cancelled` at once, though its kernel still
    ///   runs.
    /// - **cancelled-for-good**: A call that was counted as cancelled is answered so, however late it is asked.
    /// - **deadline**: Behind a kernel that does not end it returns `Timeout` at its deadline.
    ///
    /// # Errors
    /// `InvalidState` without a session; `Timeout` when what is under way does not finish in time: the session keeps its
    /// memory then, and may be shut down again.
    ///
    /// Blocking: until the session's last command has finished, at most `deadline`.
    pub fn shutdown(
        &self,
        session: SessionId,
        message: &ShutdownMessage,
        deadline: Duration,
    ) -> Result<ShutdownResponse, Error> {
        wait(self.shutdown_async(session, message, deadline))
    }

    /// [`ResidentMemory::shutdown`] for a task, which blocks no thread.
    ///
    /// # Errors
    /// As [`ResidentMemory::shutdown`].
    pub async fn shutdown_async(
        &self,
        session: SessionId,
        message: &ShutdownMessage,
        deadline: Duration,
    ) -> Result<ShutdownResponse, Error> {
        let drain = message.drain_pending_messages;
        let until = Wait { started: Instant::now(), deadline };
        let answer = async {
            let pending = self.begin_shutdown(session, drain, until).await?;
            if !drain {
                let lane = self.lane(session);
                lane.cancellations.fetch_add(1, Ordering::Release);
                lane.waiters.wake_all();
            }
            self.barrier(session, until).await?;
            self.vacate(session)?;
            Ok(pending)
        };
        let pending = answer.await.map_err(|refusal: Refusal| refusal.into_error("shutdown"))?;
        let (drained, cancelled) = if drain { (pending, 0) } else { (0, pending) };
        let envelope = self.clock.envelope(Instant::now());
        Ok(ShutdownResponse::new(envelope, message.envelope.request_id, drained, cancelled))
    }

    /// Closes the session to requests, between two turns if it is to be drained. Returns the requests under way.
    async fn begin_shutdown(&self, id: SessionId, drain: bool, until: Wait) -> Result<u64, Refusal> {
        loop {
            let begun = self.try_begin_shutdown(id, drain)?;
            match begun {
                Some(pending) => return Ok(pending),
                None => self.a_moment(id, until).await?,
            }
        }
    }

    /// The same, if the session is between two turns.
    fn try_begin_shutdown(&self, id: SessionId, drain: bool) -> Result<Option<u64>, Refusal> {
        let mut lane = self.lane(id).lock();
        let session = lane.sessions.find_any(id).ok_or(Refusal::NoSession)?;
        if session.phase == Phase::Named {
            return Err(Refusal::NoSession);
        }
        if drain && !session.turn_is_free() {
            return Ok(None);
        }
        session.phase = Phase::Closing;
        if !drain {
            session.cancel();
        }
        Ok(Some(lane.unanswered(Some(id.index))))
    }

    /// Waits until every command of the session is answered: a grain's commands run in order, so it sends one more.
    async fn barrier(&self, id: SessionId, until: Wait) -> Result<(), Refusal> {
        let lane = self.lane(id);
        let last = loop {
            let echo = Command::new(Opcode::Echo, id.index, [0; PAYLOAD_WORDS]);
            let submitted = lane.lock().submit(&echo, &[]);
            match submitted {
                Ok(mut ticket) => {
                    lane.completions.abandon(&mut ticket);
                    break ticket.sequence();
                }
                Err(refusal) if refusal.is_back_pressure() => self.a_moment(id, until).await?,
                // A stopped ring has answered everything.
                Err(_) => return Ok(()),
            }
        };
        // Mostly nothing is under way: then the answer comes sooner than a waker does.
        let looks = if self.may_spin { LOOKS } else { 1 };
        let mut is_answered = (0..looks).any(|_| {
            std::hint::spin_loop();
            lane.completions.is_complete(last)
        });
        while !is_answered {
            self.a_moment(id, until).await?;
            is_answered = lane.completions.is_complete(last);
        }
        Ok(())
    }

    fn vacate(&self, id: SessionId) -> Result<(), Refusal> {
        let mut lane = self.lane(id).lock();
        // Another shutdown of the same session may have been faster.
        let session = lane.sessions.find_any(id).ok_or(Refusal::NoSession)?;
        let owner = session.owner;
        let blocks: Vec<_> = session.allocations.iter().map(|(_, allocation)| *allocation).collect();
        blocks.iter().for_each(|allocation| give_back(&mut lane, owner, allocation, true));
        lane.sessions.close(id);
        lane.count_host_answered();
        Ok(())
    }

    /// Terminates the ring.
    ///
    /// # Behavior
    /// - **answers-queued**: What is not started is answered "cancelled".
    /// - **deadline**: Behind a kernel that does not end it returns `Timeout` in time.
    ///
    /// # Errors
    /// `Timeout` when a kernel does not end in time.
    ///
    /// Blocking: at most `deadline`.
    pub fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        // First, because an allocation does not ask the ring.
        self.lanes.iter().for_each(|lane| lane.lock().producer.stop());
        let ended = self.ring.terminate(deadline);
        self.lanes.iter().for_each(|lane| lane.waiters.wake_all());
        ended
    }
}

/// A wait with an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) started: Instant,
    pub(super) deadline: Duration,
}

impl ResidentMemory {
    /// Lets others run until somebody has looked at the lane, unless the deadline has passed.
    pub(super) async fn a_moment(&self, id: SessionId, until: Wait) -> Result<(), Refusal> {
        if until.started.elapsed() >= until.deadline {
            return Err(Refusal::Timeout);
        }
        let mut waited = false;
        poll_fn(|context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            self.lane(id).waiters.register_blocked(context.waker());
            self.driver.notify();
            Poll::Pending
        })
        .await;
        Ok(())
    }
}
