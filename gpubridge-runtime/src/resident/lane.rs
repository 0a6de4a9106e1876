//! A lane as the runtime keeps it: the guard, and what lies under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{
    AllocationId, Bind, Capabilities, Command, Completions, ComputeMessage, Device, DeviceBuffer, DeviceSlot, Error,
    ErrorKind, Lane, MemoryType, Opcode, PAYLOAD_WORDS, RingConfig, Ticket,
};

use super::operation::Operation;
use super::operations::{compute_command, count_compute};
use super::producer::Producer;
use super::refusal::Refusal;
use super::session::{SessionId, Sessions, Turn};
use super::wait::Waiters;
use crate::kernel_cache::{LaneKernels, LaneProgress};
use crate::pool::{ChunkSource, Pool, PoolConfig};
use crate::sync::{Mutex, MutexGuard};

/// One lane. Whoever holds the guard is its producer; guard order is turn order.
#[derive(Debug)]
pub(crate) struct LaneHost {
    guard: Mutex<LaneState>,
    pub(crate) completions: Arc<dyn Completions>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) latency: Latency,
    /// Sessions that were shut down without draining: a call that sees it change looks whether it was its own.
    pub(crate) cancellations: AtomicU64,
}

impl LaneHost {
    pub(crate) fn new(state: LaneState, waiters: Arc<Waiters>) -> Self {
        let completions = Arc::clone(&state.completions);
        Self {
            guard: Mutex::new(state),
            completions,
            waiters,
            latency: Latency::default(),
            cancellations: AtomicU64::new(0),
        }
    }

    /// Takes the guard: one atomic when nobody holds it, a bounded spin and then a park when somebody does.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.guard.lock()
    }

    /// Whether the session was shut down without draining since the lane's count of cancellations was `before`.
    #[inline]
    pub(crate) fn is_cancelled(&self, session: SessionId, before: u64) -> bool {
        // Relaxed: the guard orders the look at the session. Who registered a waker before and is not woken by the
        // shutdown came behind its wake-up, and by the waker's own ordering sees the count that was raised before it.
        self.cancellations.load(Ordering::Relaxed) != before && self.lock().sessions.is_cancelled(session)
    }

    pub(crate) fn progress(&self) -> LaneProgress {
        let mut lane = self.lock();
        LaneProgress { next: lane.producer.next_sequence(), completed: lane.producer.completed_below() }
    }
}

/// The guards of several lanes, for a submission that goes to all of them. Letting them go rings the doorbells.
#[derive(Debug)]
pub(crate) struct LaneGuards<'m> {
    guards: [Option<MutexGuard<'m, LaneState>>; RingConfig::LANES_MAX as usize],
    // One bit per lane that is held.
    held: u64,
}

impl<'m> LaneGuards<'m> {
    /// Takes the guards of the lanes with these numbers. Whoever takes several takes them in the order of the lanes, so
    /// that no two wait for each other.
    #[inline]
    pub(crate) fn lock(lanes: &'m [LaneHost], wanted: impl Iterator<Item = usize>) -> Self {
        let mut guards = [const { None }; RingConfig::LANES_MAX as usize];
        let held = wanted.fold(0_u64, |held, lane| held | 1 << lane);
        for lane in bits(held) {
            guards[lane] = Some(lanes[lane].lock());
        }
        Self { guards, held }
    }

    /// A lane that is held.
    #[inline]
    pub(crate) fn of(&mut self, lane: usize) -> &mut LaneState {
        self.guards[lane].as_mut().expect("the guards of all lanes in use were taken")
    }
}

impl Drop for LaneGuards<'_> {
    fn drop(&mut self) {
        for lane in bits(self.held) {
            self.of(lane).producer.doorbell();
        }
    }
}

/// The numbers of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        lowest
    })
}

/// Sampled latencies of a lane.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    sum_ns: AtomicU64,
    count: AtomicU64,
}

impl Latency {
    pub(crate) fn record(&self, ns: u64) {
        // Relaxed: statistics order nothing.
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Sum in nanoseconds, and count.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sum_ns.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed))
    }
}

/// Exact counts of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Requests that are in the lane as a whole, or were. A request in pieces counts once.
    pub(crate) submitted: u64,
    /// Requests that the host answers itself: allocate, release, metrics, initialize, shutdown.
    pub(crate) host_answered: u64,
    pub(crate) kernel_hits: u64,
    pub(crate) kernel_misses: u64,
}

/// What lies under a lane's guard.
#[derive(Debug)]
pub struct LaneState {
    pub(crate) producer: Producer,
    pub(crate) completions: Arc<dyn Completions>,
    pub(crate) sessions: Sessions,
    pub(crate) kernels: LaneKernels,
    pub(crate) slots: DeviceSlots,
    pub(crate) counters: Counters,
    pub(super) pools: [Option<Box<Pool>>; MemoryType::ALL.len()],
    source: Chunks,
    // By slot: the last command of the request that used it last, and its session.
    flights: Box<[(u64, u32)]>,
    honoured: Capabilities,
    /// Bytes of a slot's staging area.
    pub(crate) staging_bytes: usize,
    pub(super) generation: u64,
    generation_step: u64,
}

impl LaneState {
    pub(crate) fn new(
        lane: Lane,
        kernels: LaneKernels,
        source: Chunks,
        slots: DeviceSlots,
        slot_count: usize,
        staging_bytes: usize,
        generations: Generations,
    ) -> Self {
        Self {
            producer: Producer::new(lane.submitter, Arc::clone(&lane.completions), slot_count),
            completions: lane.completions,
            sessions: Sessions::default(),
            kernels,
            slots,
            counters: Counters::default(),
            pools: Default::default(),
            honoured: source.device.info().capabilities,
            source,
            flights: vec![(u64::MAX, 0); slot_count].into_boxed_slice(),
            staging_bytes,
            generation: generations.first,
            generation_step: generations.step,
        }
    }

    /// Submits a command and wakes the device.
    #[inline]
    pub(crate) fn submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, Refusal> {
        let ticket = self.producer.try_submit(command, staged)?;
        self.producer.doorbell();
        Ok(ticket)
    }

    /// Submits the next command of an operation, as one turn of its session. Returns its ticket and whether it was the
    /// last. The caller rings the doorbell.
    #[inline]
    pub(crate) fn submit_turn<O: Operation>(
        &mut self,
        id: SessionId,
        operation: &mut O,
        turn: Turn,
    ) -> Result<(Ticket, bool), Refusal> {
        let session = self.sessions.find(id)?;
        if turn.held || session.turn != 0 {
            session.claim(turn)?;
        }
        let mut command = Command::new(Opcode::Skip, id.index, [0; PAYLOAD_WORDS]);
        operation.command(&session.allocations, &mut self.kernels, self.staging_bytes, &mut command)?;
        let ticket = self.producer.try_submit(&command, operation.staged())?;
        let last = operation.submitted(session, &mut self.counters);
        if last {
            session.turn = 0;
            self.note_request(&ticket, id.index);
        } else {
            session.turn = turn.id;
            session.turn_until = turn.until();
        }
        Ok((ticket, last))
    }

    /// Writes the command of a computation, which is a whole turn of its session.
    #[inline]
    pub(crate) fn prepare_compute(
        &mut self,
        id: SessionId,
        message: &ComputeMessage,
        command: &mut Command,
    ) -> Result<(), Refusal> {
        let session = self.sessions.find(id)?;
        if session.turn != 0 && !session.turn_is_free() {
            return Err(Refusal::Busy);
        }
        command.grain = id.index;
        compute_command(message, &session.allocations, &mut self.kernels, command)
    }

    /// Counts a computation that was prepared and submitted under this guard.
    #[inline]
    pub(crate) fn account_compute(&mut self, id: SessionId, ticket: &Ticket, is_cache_hit: bool) {
        if let Ok(session) = self.sessions.find(id) {
            count_compute(session, &mut self.counters, is_cache_hit);
        }
        self.note_request(ticket, id.index);
    }

    /// Counts a request, by the last command of it.
    #[inline]
    pub(crate) fn note_request(&mut self, ticket: &Ticket, session: u32) {
        self.counters.submitted += 1;
        // Slots are a power of two.
        let slot = ticket.sequence() as usize & (self.flights.len() - 1);
        self.flights[slot] = (ticket.sequence(), session);
    }

    /// Requests in the lane that are not answered: those of a session, or all. Looks at every slot.
    pub(crate) fn unanswered(&self, session: Option<u32>) -> u64 {
        let pending = |(sequence, of): &&(u64, u32)| {
            session.is_none_or(|session| session == *of)
                && *sequence != u64::MAX
                && !self.completions.is_complete(*sequence)
        };
        self.flights.iter().filter(pending).count() as u64
    }

    /// Whether the device has this kind of memory.
    pub(crate) fn honours(&self, memory_type: MemoryType) -> bool {
        self.honoured.supports_memory(memory_type)
    }

    /// The pool for this memory type, made at its first use.
    pub(crate) fn pool(&mut self, memory_type: MemoryType) -> &mut Pool {
        self.pools[memory_type as usize].get_or_insert_with(|| {
            let config = PoolConfig { budget_bytes: self.source.budget.limit_bytes, ..PoolConfig::default() };
            Box::new(Pool::new(config, Box::new(Chunks { memory_type, ..self.source.clone() })))
        })
    }

    /// The pools there are.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (MemoryType, &Pool)> {
        MemoryType::ALL
            .into_iter()
            .zip(&self.pools)
            .filter_map(|(memory_type, pool)| Some((memory_type, pool.as_deref()?)))
    }

    /// Gives the driver back what no block needs. Returns the number of the next command if something that idles still
    /// waits for earlier ones.
    pub(crate) fn trim(&mut self) -> Option<u64> {
        let completed = self.producer.completed_below();
        let mut waits = false;
        for pool in self.pools.iter_mut().flatten() {
            pool.trim(completed);
            waits |= pool.stats().idle_bytes > 0;
        }
        waits.then(|| self.producer.next_sequence())
    }

    /// A request that the host answered itself.
    pub(crate) fn count_host_answered(&mut self) {
        self.counters.host_answered += 1;
    }

    /// The greatest generation issued so far.
    pub(crate) fn issued_up_to(&self) -> u64 {
        self.generation
    }

    /// A generation that was never issued.
    pub(crate) fn next_generation(&mut self) -> Result<u64, Refusal> {
        self.generation = self.upcoming_generation()?;
        Ok(self.generation)
    }

    /// The generation that is issued next.
    #[inline]
    pub(crate) fn upcoming_generation(&self) -> Result<u64, Refusal> {
        let next = self.generation + self.generation_step;
        // The upper bits are the epoch: beyond this lie the generations of the next run.
        if next >> AllocationId::COUNTER_BITS != self.generation >> AllocationId::COUNTER_BITS {
            return Err(Refusal::EpochExhausted);
        }
        Ok(next)
    }

    /// Binds a device slot to a block, zeroing what the `Bind` says, ahead of every later command of the lane.
    pub(crate) fn bind(&mut self, session: SessionId, bind: Bind) -> Result<(), Refusal> {
        Ok(self.producer.bind(session.index, bind)?)
    }
}

/// The generations that a lane issues: `first + step`, `first + 2 · step`, …
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generations {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

/// The free slots of a lane's allocation table on the device.
///
/// Commands of other sessions may overtake those that wait for work beside the ring, so a slot goes to another
/// allocation only when the commands that name it have completed: the oldest first.
#[derive(Debug)]
pub(crate) struct DeviceSlots {
    // Each with the fence of its release, which never falls from one to the next.
    free: VecDeque<(DeviceSlot, u64)>,
    used: u32,
    limit: u32,
}

impl DeviceSlots {
    pub(crate) fn new(limit: u32) -> Self {
        Self { free: VecDeque::new(), used: 0, limit }
    }

    /// A free slot, under a generation that it never had. All commands below `completed` are answered.
    pub(crate) fn take(&mut self, completed: u64) -> Result<DeviceSlot, Refusal> {
        if let Some(&(slot, fence)) = self.free.front()
            && fence <= completed
        {
            self.free.pop_front();
            return Ok(DeviceSlot { generation: slot.generation.wrapping_add(1), ..slot });
        }
        if self.used < self.limit {
            self.used += 1;
            return Ok(DeviceSlot { index: self.used - 1, generation: 1 });
        }
        Err(if self.free.is_empty() { Refusal::AllocationsFull { limit: self.limit } } else { Refusal::Full })
    }

    /// Takes a slot back that was not bound after all: no command names it.
    pub(crate) fn give_unused(&mut self, slot: DeviceSlot) {
        self.free.push_front((slot, 0));
    }

    /// Takes a slot back; commands below `fence` may name it.
    pub(crate) fn give(&mut self, slot: DeviceSlot, fence: u64) {
        self.free.push_back((slot, fence));
    }
}

/// The device's memory budget, shared by all lanes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: u64,
    reserved_bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, reserved_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes.load(Ordering::Relaxed)
    }
}

/// Where a lane's pools get their chunks: the device, within the shared budget.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) memory_type: MemoryType,
}

impl ChunkSource for Chunks {
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        let Budget { limit_bytes, reserved_bytes } = &*self.budget;
        // Relaxed: the sum alone must be right.
        let within = |reserved: u64| reserved.checked_add(size_bytes).filter(|sum| sum <= limit_bytes);
        if let Err(reserved) = reserved_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                "pool.reserve",
                format!("{size_bytes} bytes were requested and {} are available", limit_bytes - reserved),
            ));
        }
        match self.device.reserve(size_bytes, self.memory_type) {
            Ok(buffer) => Ok(Box::new(Budgeted { buffer, budget: Arc::clone(&self.budget), share_bytes: size_bytes })),
            Err(error) => {
                reserved_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

/// A chunk that gives its share of the budget back when it is dropped.
#[derive(Debug)]
struct Budgeted {
    buffer: Box<dyn DeviceBuffer>,
    budget: Arc<Budget>,
    // What was asked for: the device may have given more.
    share_bytes: u64,
}

impl DeviceBuffer for Budgeted {
    fn address(&self) -> u64 {
        self.buffer.address()
    }

    fn size_bytes(&self) -> u64 {
        self.buffer.size_bytes()
    }

    fn memory_type(&self) -> MemoryType {
        self.buffer.memory_type()
    }
}

impl Drop for Budgeted {
    fn drop(&mut self) {
        self.budget.reserved_bytes.fetch_sub(self.share_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_slot_is_used_again_when_its_commands_have_completed() {
        let mut slots = DeviceSlots::new(2);
        let first = slots.take(0).expect("two are free");
        slots.give(first, 7);
        // A command below 7 may still name it, and wait for others of its grain.
        let second = slots.take(6).expect("one is free");
        assert_ne!(second.index, first.index);
        assert_eq!(slots.take(6), Err(Refusal::Full));
        let again = slots.take(7).expect("its commands are done");
        assert_eq!((again.index, again.generation), (first.index, first.generation + 1));
        assert_eq!(slots.take(7), Err(Refusal::AllocationsFull { limit: 2 }));
        // One that was not bound is free at once.
        slots.give_unused(again);
        assert_eq!(slots.take(0).expect("nothing names it").index, first.index);
    }
}
