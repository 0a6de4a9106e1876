//! Resident memory: sessions on a device's ring, addressed by the sixteen messages.
//!
//! A grain has one *session*. Its allocations live in device memory; allocate and release are answered by the host's
//! pool, write, read and compute travel through a lane of the device's ring as commands. There is no task, no channel
//! and no heap allocation per call: whoever calls takes the lane's guard, writes the command, and polls its own answer.
//!
//! - **Order.** The requests of a session take effect in the order in which they entered the lane. An operation that
//!   takes several commands is still one turn.
//! - **Waiting.** A call is a future; whoever polls wakes those whose answers have come, and a driver thread per device
//!   does when nobody polls. A call that is dropped or never polled again holds back nobody else.
//! - **Counts are exact, times are sampled.** Device times are taken for one command in 64 and for all work beside the
//!   ring, latencies for one call in 16 and for one of a batch in 64; a time that was not taken is `None`.

mod allocate;
mod batch;
mod bulk;
mod call;
mod lane;
mod lifecycle;
#[cfg(test)]
mod model;
mod operation;
mod operations;
mod producer;
mod refusal;
mod report;
mod session;
mod transfers;
mod wait;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    AllocationId, BulkStaging, Chunk, ComputeMessage, Device, DeviceIndex, Envelope, Error, ErrorKind, KernelSpec,
    MemoryType, ReadMessage, Ring, RingConfig, Ticket, WriteMessage,
};

pub use allocate::RestoredAllocation;
pub use batch::{Answered, Batch, BatchCall};
pub use call::Call;
use lane::{Budget, Chunks, DeviceSlots, Generations, LaneGuards, LaneHost, LaneState};
pub use operation::Operation;
pub use operations::Compute;
use refusal::Refusal;
pub use session::SessionId;
use session::Turn;
pub use transfers::{Read, Write, WriteChunk};
use wait::{Driver, Waiters};

use crate::clock::Clock;
use crate::kernel_cache::{KernelCache, LaneKernels, LaneProgress};

/// How resident memory uses its device. Every bound is here or in the ring's own configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentMemoryConfig {
    /// The ring.
    pub ring: RingConfig,
    /// The most memory reserved from the device, for all sessions.
    pub memory_budget_bytes: u64,
    /// The most compiled kernels.
    pub kernel_cache_capacity: NonZeroUsize,
    /// The deadline of a call that names none.
    pub call_deadline: Duration,
    /// The deadline of each step of the ring's lifecycle.
    pub lifecycle_deadline: Duration,
    /// The upper part of every generation issued: a number that was never used with this storage before.
    pub epoch: u64,
}

impl Default for ResidentMemoryConfig {
    /// The default ring, 1 GiB, 100 kernels, 30 s per call, 10 s per lifecycle step, epoch 0.
    fn default() -> Self {
        Self {
            ring: RingConfig::default(),
            memory_budget_bytes: 1 << 30,
            kernel_cache_capacity: NonZeroUsize::new(100).expect("100 is not 0"),
            call_deadline: Duration::from_secs(30),
            lifecycle_deadline: Duration::from_secs(10),
            epoch: 0,
        }
    }
}

/// The resident memory of one device. See the module's documentation for its guarantees.
///
/// Dropping it terminates the ring; close the sessions first to keep what they hold.
///
/// # Behavior
/// - **as-if-alone**: Whatever its sessions do, in any order and with any number of calls in flight, each of them finds
///   its bytes, its refusals and its counts as if it were alone and its calls came one after the other.
/// - **answered**: Each request is answered by its own response, which names it.
/// - **correlation**: A reply goes to who asked, never to the next in line.
/// - **turns**: The operations of one session take turns, each whole, whichever threads make them.
/// - **shared-lane**: Any number of threads may share a lane.
/// - **slow-session**: A slow command holds back its own session and no other in its lane.
/// - **back-pressure**: Who finds a lane full waits, at most until its deadline; other lanes do not notice.
/// - **full-and-empty**: A lane that was full is empty again once its answers are taken, at every lap.
/// - **room-wakes**: Who waits for room is woken when there is some, task or thread.
/// - **no-lost-wake-up**: No wake-up is lost when a slot changes hands.
/// - **tasks-wait**: No awaited operation blocks its thread while the lane is full.
#[derive(Debug)]
pub struct ResidentMemory {
    // Dropped in this order: the driver looks at lanes, lanes hold memory that the ring uses.
    driver: Driver,
    ring: Box<dyn Ring>,
    bulk: Option<Arc<dyn BulkStaging>>,
    lanes: Box<[LaneHost]>,
    kernels: Arc<KernelCache>,
    budget: Arc<Budget>,
    device: Arc<dyn Device>,
    device_index: DeviceIndex,
    config: ResidentMemoryConfig,
    clock: Clock,
    may_spin: bool,
}

impl ResidentMemory {
    /// Launches and activates a ring on `device`.
    ///
    /// # Errors
    /// Those of the device; `InvalidArgument` for an epoch of more than 24 bits.
    pub fn open(device: Arc<dyn Device>, config: ResidentMemoryConfig) -> Result<Self, Error> {
        if config.epoch >> (64 - AllocationId::COUNTER_BITS) != 0 {
            let why = format!("epoch {} has more than 24 bits: start a new storage", config.epoch);
            return Err(Error::new(ErrorKind::InvalidArgument, "resident_memory.open", why));
        }
        let ring = device.launch(config.ring)?;
        let config = ResidentMemoryConfig { ring: ring.config(), ..config };
        let kernels = Arc::new(KernelCache::new(Arc::clone(&device), config.kernel_cache_capacity));
        let budget = Arc::new(Budget::new(config.memory_budget_bytes));
        let lanes: Box<[LaneHost]> = (0..config.ring.lanes)
            .map(|index| {
                let lane = ring.take_lane(index).ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidState,
                        "resident_memory.open",
                        format!("lane {index} is not to be had"),
                    )
                })?;
                let waiters = Arc::new(Waiters::new(Arc::clone(&lane.completions), config.ring.slots as usize));
                let source = Chunks {
                    device: Arc::clone(&device),
                    budget: Arc::clone(&budget),
                    memory_type: MemoryType::Default,
                };
                // Lane i issues i + n, i + 2n, …: no two lanes issue the same.
                let first = config.epoch << AllocationId::COUNTER_BITS | u64::from(index);
                let state = LaneState::new(
                    lane,
                    LaneKernels::new(Arc::clone(&kernels)),
                    source,
                    DeviceSlots::new(config.ring.allocations),
                    config.ring.slots as usize,
                    config.ring.staging_bytes as usize,
                    Generations { first, step: u64::from(config.ring.lanes) },
                );
                Ok(LaneHost::new(state, waiters))
            })
            .collect::<Result<_, Error>>()?;
        let driver = Driver::start(lanes.iter().map(|lane| Arc::clone(&lane.waiters)).collect()).map_err(|error| {
            Error::new(ErrorKind::Io, "resident_memory.open", "the driver thread could not be started")
                .with_source(error)
        })?;
        ring.activate(config.lifecycle_deadline)?;
        let may_spin = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let device_index = device.info().index;
        let bulk = ring.bulk_staging();
        Ok(Self {
            driver,
            ring,
            bulk,
            lanes,
            kernels,
            budget,
            device,
            device_index,
            config,
            clock: Clock::new(),
            may_spin,
        })
    }

    /// What was granted.
    pub fn config(&self) -> &ResidentMemoryConfig {
        &self.config
    }

    /// The device's index within its backend.
    pub fn device_index(&self) -> DeviceIndex {
        self.device_index
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The envelope of a message made now. One clock reading; does not block or allocate.
    pub fn envelope(&self) -> Envelope {
        self.envelope_at(Instant::now())
    }

    /// The envelope of a message made at `made`, for a caller that has read the clock. Does not block or allocate.
    #[inline]
    pub fn envelope_at(&self, made: Instant) -> Envelope {
        self.clock.envelope(made)
    }

    /// Now, in microseconds since the Unix epoch, as it stands in envelopes. One clock reading; does not block or allocate.
    pub fn timestamp_us(&self) -> u64 {
        self.clock.timestamp_us(Instant::now())
    }

    /// Writes a range of `staging` into an allocation.
    ///
    /// # Behavior
    /// - **any-range**: Any number of bytes goes from any offset of the staging to any offset of the allocation, aligned or
    ///   not; the bytes beside stay.
    /// - **bounds**: A range beyond the end of the allocation is refused and changes nothing, also for reads.
    /// - **staged-range**: A staged range beyond the staging that is handed over is refused.
    /// - **nothing**: 0 bytes may be written and read, also at the very end.
    /// - **any-data**: Any plain data travels bit by bit.
    /// - **one-turn**: A transfer is one turn of its session, up to 64 MiB and beyond: others see all of it or nothing.
    /// - **others-go-on**: While a long transfer waits, other sessions of its lane go on.
    /// - **owner**: A handle works for its own session only.
    /// - **takes-no-memory**: Nothing is allocated on the host, by the caller or the device.
    /// - **either-route**: A transfer of 64 KiB or more goes by the ring's bulk staging, where it has any, and every other by
    ///   the slots' staging; the same bytes arrive, in the same order with whatever else its session does.
    /// - **no-chunk**: One that finds all chunks in use goes on by slots: nobody waits for a chunk, so a call that is kept and
    ///   not polled keeps those it has and holds nobody back.
    ///
    /// # Errors
    /// `InvalidState` without a session; `NotFound` for an allocation that is not live in it; `InvalidArgument` for
    /// bytes beyond the allocation or the staging; `Timeout`, `Cancelled`, `DeviceLost`.
    ///
    /// Blocking: never, before it is waited for; in bulk a poll copies some pieces of up to 2 MiB between the caller's memory
    /// and chunks. Allocates: no. Ordering: one turn of the session, taken when it is first polled, waited for or posted.
    pub fn write<'m, 'd: 'm>(
        &'m self,
        session: SessionId,
        message: &WriteMessage,
        staging: &'d [u8],
    ) -> Call<'m, Write<'d>> {
        self.write_at(Instant::now(), session, message, staging)
    }

    /// [`ResidentMemory::write`] for a call made at `made`, for a caller that has read the clock.
    #[inline]
    pub fn write_at<'m, 'd: 'm>(
        &'m self,
        made: Instant,
        session: SessionId,
        message: &WriteMessage,
        staging: &'d [u8],
    ) -> Call<'m, Write<'d>> {
        Call::new(self, session, message.envelope.request_id.0, made, Write::new(message, staging))
    }

    /// A free chunk of the ring's bulk staging, to be filled in place for [`ResidentMemory::write_chunk`]; `None` when all are
    /// in use, or the ring has none.
    ///
    /// Blocking: never. Allocates: no.
    pub fn chunk(&self) -> Option<Chunk> {
        Arc::clone(self.bulk.as_ref()?).take()
    }

    /// Writes the first bytes of a chunk into an allocation: [`ResidentMemory::write`] without a copy on the host. The message's
    /// staged range begins at 0.
    ///
    /// # Behavior
    /// - **in-place**: What its holder put into the chunk arrives, in turn with all else that the session does.
    /// - **of-this-ring**: A chunk of another memory's ring is refused.
    ///
    /// # Errors
    /// As [`ResidentMemory::write`].
    ///
    /// Blocking, allocating and ordering: as [`ResidentMemory::write`], without copying.
    pub fn write_chunk(&self, session: SessionId, message: &WriteMessage, chunk: Chunk) -> Call<'_, WriteChunk> {
        let operation = WriteChunk::new(message, chunk, self.bulk.as_ref());
        Call::new(self, session, message.envelope.request_id.0, Instant::now(), operation)
    }

    /// Reads from an allocation into a range of `staging`.
    ///
    /// # Behavior
    /// - **any-range**: As [`ResidentMemory::write`], the other way: the staging beside the range stays.
    ///
    /// # Errors
    /// As [`ResidentMemory::write`]; `ContentsLost` when an unclean stop lost what was in the allocation.
    ///
    /// Blocking, allocating and ordering: as [`ResidentMemory::write`].
    pub fn read<'m, 'd: 'm>(
        &'m self,
        session: SessionId,
        message: &ReadMessage,
        staging: &'d mut [u8],
    ) -> Call<'m, Read<'d>> {
        self.read_at(Instant::now(), session, message, staging)
    }

    /// [`ResidentMemory::read`] for a call made at `made`, for a caller that has read the clock.
    #[inline]
    pub fn read_at<'m, 'd: 'm>(
        &'m self,
        made: Instant,
        session: SessionId,
        message: &ReadMessage,
        staging: &'d mut [u8],
    ) -> Call<'m, Read<'d>> {
        Call::new(self, session, message.envelope.request_id.0, made, Read::new(message, staging))
    }

    /// Runs a kernel. A kernel's first call compiles it, which blocks.
    ///
    /// A call that is refused or fails is a response with `success: false`; see [`Call::or_error`].
    ///
    /// # Behavior
    /// - **answered**: Kernel results and failures are both answers: `success` says which, `error` why.
    /// - **computes**: The answer is that of the kernel, run over the contents of the allocations.
    /// - **timed-beside**: `kernel_time_us` is there for all work beside the ring.
    /// - **unknown-kernel**: An unknown kernel is no success.
    /// - **buffers**: A missing or surplus buffer is no success, and says which.
    /// - **unknown-allocation**: An allocation that is not live is no success.
    /// - **element-type**: A kernel that does not come in the type names those that it comes in.
    /// - **panic**: A kernel that panics fails its own call and nothing else.
    /// - **compiled-once**: A kernel is compiled once, however many ask for it at once.
    /// - **cache-hit**: Every later call hits while all kernels fit.
    /// - **popular-stay**: With more kernels than slots the popular ones stay.
    /// - **recently-used**: A kernel that was used since the last eviction goes after all that were not: least recently
    ///   used, as nearly as a hit can tell that takes no lock.
    /// - **failure-not-cached**: A compile failure keeps its text and is tried again next time.
    /// - **evicted-in-flight**: What is in flight runs with the kernel that it was submitted with, though that is
    ///   evicted.
    /// - **evicted-bound**: Evicted kernels at work are bounded, and the bound is a typed error.
    /// - **own-kernel**: Threads that evict each other's kernels get their own.
    /// - **takes-no-memory**: A kernel in the cache is run without allocating on the host.
    ///
    /// # Errors
    /// `InvalidState` without a session; `KernelBuild` with the compiler's text; `Timeout`, `Cancelled`.
    ///
    /// Blocking, allocating and ordering: as [`ResidentMemory::write`].
    pub fn compute(&self, session: SessionId, message: &ComputeMessage) -> Call<'_, Compute> {
        self.compute_at(Instant::now(), session, message)
    }

    /// [`ResidentMemory::compute`] for a call made at `made`, for a caller that has read the clock.
    #[inline]
    pub fn compute_at(&self, made: Instant, session: SessionId, message: &ComputeMessage) -> Call<'_, Compute> {
        Call::new(self, session, message.envelope.request_id.0, made, Compute::new(message))
    }

    /// Keeps up to `depth` computations in flight from this thread. Blocking: never. Allocates: the pipeline.
    pub fn batch(self: &Arc<Self>, depth: NonZeroUsize) -> Batch {
        Batch::new(Arc::clone(self), depth)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether spinning can help: on one core it only keeps the device from running.
    #[inline]
    pub(crate) fn may_spin(&self) -> bool {
        self.may_spin
    }

    #[inline]
    fn lane(&self, session: SessionId) -> &LaneHost {
        &self.lanes[self.lane_index(session)]
    }

    #[inline]
    fn lane_index(&self, session: SessionId) -> usize {
        // A forged name may find somebody else's session, whatever its parts: names are handed out, not guarded.
        let index = session.lane as usize;
        if index < self.lanes.len() { index } else { 0 }
    }

    /// Takes the guards of the lanes that these sessions use.
    #[inline]
    fn lock_lanes(&self, sessions: impl Iterator<Item = SessionId>) -> LaneGuards<'_> {
        LaneGuards::lock(&self.lanes, sessions.map(|session| self.lane_index(session)))
    }

    /// Submits the next command of an operation, as one turn. Returns its ticket and whether it was the last.
    #[inline]
    fn submit<O: Operation>(&self, id: SessionId, operation: &mut O, turn: Turn) -> Result<(Ticket, bool), Refusal> {
        let mut lane = self.lane(id).lock();
        let submitted = lane.submit_turn(id, operation, turn)?;
        lane.producer.doorbell();
        Ok(submitted)
    }

    /// Whether another operation in pieces has the session's turn.
    fn is_busy(&self, id: SessionId) -> bool {
        self.lane(id).lock().sessions.find(id).is_ok_and(|session| !session.turn_is_free())
    }

    /// Gives the turn of an operation in pieces to whoever is next.
    fn give_turn(&self, id: SessionId, turn: u64) {
        let lane = self.lane(id);
        if let Some(session) = lane.lock().sessions.find_any(id)
            && session.turn == turn
        {
            session.turn = 0;
        }
        lane.waiters.room();
    }

    fn compile(&self, spec: &KernelSpec) -> Result<(), Error> {
        self.kernels.compile(spec, || self.lanes.iter().map(LaneHost::progress).collect::<Vec<LaneProgress>>())
    }
}
