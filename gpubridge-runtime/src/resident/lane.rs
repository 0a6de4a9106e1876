//! A lane as the runtime keeps it: the guard, and what lies under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{
    Bind, Capabilities, Command, Completions, Device, DeviceBuffer, DeviceSlot, Error, ErrorKind, Lane, MemoryType,
    Opcode, SubmitError, Submitter, Ticket,
};
use parking_lot::{Mutex, MutexGuard};

use super::refusal::Refusal;
use super::session::{SessionId, Sessions};
use super::wait::Waiters;
use crate::kernel_cache::{LaneKernels, LaneProgress};
use crate::pool::{ChunkSource, Pool, PoolConfig};

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

    pub(crate) fn progress(&self) -> LaneProgress {
        let mut lane = self.lock();
        LaneProgress { next: lane.submitter.next_sequence(), completed: lane.submitter.completed_below() }
    }
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
    /// Commands submitted.
    pub(crate) submitted: u64,
    /// Requests that the host answers itself: allocate, release, metrics, initialize, shutdown.
    pub(crate) host_answered: u64,
    pub(crate) kernel_hits: u64,
    pub(crate) kernel_misses: u64,
}

/// What lies under a lane's guard.
#[derive(Debug)]
pub struct LaneState {
    pub(crate) submitter: Box<dyn Submitter>,
    pub(crate) completions: Arc<dyn Completions>,
    pub(crate) sessions: Sessions,
    pub(crate) kernels: LaneKernels,
    pub(crate) slots: DeviceSlots,
    pub(crate) counters: Counters,
    pools: [Option<Box<Pool>>; MemoryType::ALL.len()],
    source: Chunks,
    // By slot: the command of an operation that used it last, and its session.
    flights: Box<[(u64, u32)]>,
    honoured: Capabilities,
    /// Bytes of a slot's staging area.
    pub(crate) staging_bytes: usize,
    generation: u64,
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
            submitter: lane.submitter,
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
        let ticket = self.submitter.try_submit(command, staged).map_err(|error| match error {
            SubmitError::Full => Refusal::Full,
            SubmitError::Stopped => Refusal::Stopped,
            SubmitError::TooLarge => Refusal::Call("a piece exceeds the staging area"),
        })?;
        self.counters.submitted += 1;
        self.submitter.doorbell();
        Ok(ticket)
    }

    /// Notes whose operation a command belongs to.
    #[inline]
    pub(crate) fn note_flight(&mut self, ticket: &Ticket, session: u32) {
        let slot = ticket.sequence() as usize % self.flights.len();
        self.flights[slot] = (ticket.sequence(), session);
    }

    /// Commands of a session's operations that are not answered.
    pub(crate) fn unanswered(&self, session: u32) -> u64 {
        let pending = |(sequence, of): &&(u64, u32)| {
            *of == session && *sequence != u64::MAX && !self.completions.is_complete(*sequence)
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

    /// Gives the driver back what no block needs.
    pub(crate) fn trim(&mut self) {
        let completed = self.submitter.completed_below();
        self.pools.iter_mut().flatten().for_each(|pool| {
            pool.trim(completed);
        });
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
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generation += self.generation_step;
        self.generation
    }

    /// Binds a device slot to a block, zeroing `zero_bytes` of it, ahead of every later command of the lane.
    pub(crate) fn bind(&mut self, session: SessionId, bind: &Bind) -> Result<(), Refusal> {
        let mut ticket = self.submit(&Command::new(Opcode::Bind, session.index, bind.to_payload()), &[])?;
        // Nobody waits for it: a failure shows when the slot is used.
        self.completions.abandon(&mut ticket);
        Ok(())
    }
}

/// The generations that a lane issues: `first + step`, `first + 2 · step`, …
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generations {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

/// The free slots of a lane's allocation table on the device.
#[derive(Debug)]
pub(crate) struct DeviceSlots {
    free: Vec<DeviceSlot>,
    used: u32,
    limit: u32,
}

impl DeviceSlots {
    pub(crate) fn new(limit: u32) -> Self {
        Self { free: Vec::new(), used: 0, limit }
    }

    /// A free slot, under a generation that it never had.
    pub(crate) fn take(&mut self) -> Result<DeviceSlot, Refusal> {
        if let Some(slot) = self.free.pop() {
            return Ok(DeviceSlot { generation: slot.generation.wrapping_add(1), ..slot });
        }
        if self.used == self.limit {
            return Err(Refusal::AllocationsFull { limit: self.limit });
        }
        self.used += 1;
        Ok(DeviceSlot { index: self.used - 1, generation: 1 })
    }

    pub(crate) fn give(&mut self, slot: DeviceSlot) {
        self.free.push(slot);
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
            Ok(buffer) => Ok(Box::new(Budgeted { buffer, budget: Arc::clone(&self.budget) })),
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
        self.budget.reserved_bytes.fetch_sub(self.buffer.size_bytes(), Ordering::Relaxed);
    }
}
