//! Allocate, release, restore: answered by the host's pool, with a command in the lane ahead of a block's first use.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpubridge_abstractions::{
    AllocateMessage, AllocateResponse, AllocationId, Bind, DeviceSlot, Envelope, Error, ErrorKind, GpuMemoryHandle,
    GpuMemoryInfo, MemoryType, ReleaseMessage, ReleaseResponse,
};

use super::ResidentMemory;
use super::lane::LaneState;
use super::lifecycle::Wait;
use super::refusal::Refusal;
use super::session::{Allocation, Session, SessionId};
use crate::park::now_or_wait;
use crate::pool::{Allocation as Block, BlockId};

/// No released block is larger for a request of up to half of this.
const SMALL_BYTES: u64 = 4096;

/// How long an allocation waits for commands under way, before it is refused memory that they may still touch: enough to
/// zero gigabytes.
const RELIEF: Duration = Duration::from_secs(5);

/// An allocation to be put back under the id that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredAllocation {
    /// Its id.
    pub id: AllocationId,
    /// Its size.
    pub size_bytes: u64,
    /// The kind of memory.
    pub memory_type: MemoryType,
    /// When it was allocated first.
    pub allocated_at: SystemTime,
    /// Whether its contents are gone: it is refused with `ContentsLost` until it is written as a whole.
    pub contents_lost: bool,
}

/// Why an allocation failed: as on the data plane, or as the pool says.
enum Failure {
    Refused(Refusal),
    Pool(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ResidentMemory {
    /// Allocates device memory for a session. Its bytes are zero, unless the block was the session's own before: then
    /// they are unspecified.
    ///
    /// # Behavior
    /// - **pool-hit**: Released blocks serve later allocations of their size class, and the response says so.
    /// - **own-block**: Allocations made at once by many threads have a block each.
    /// - **hit-rate**: At steady turnover of mixed sizes nine in ten allocations hit, at no more than twice the peak of
    ///   live bytes.
    /// - **no-more-hits**: There are no more hits than blocks were released.
    /// - **large**: One allocation may be nearly as large as the budget.
    /// - **memory-type**: Each memory type has blocks of its own.
    /// - **unsupported-type**: A memory type that the device lacks is an error, never a substitute.
    /// - **live-blocks-stay**: Live blocks are never evicted.
    /// - **evicts-idle**: Idle blocks make room for other sizes and other lanes.
    /// - **waits-for-idle**: A full budget waits for memory that commands under way are about to leave, before it
    ///   refuses.
    /// - **zeroed**: What another session left in a block is zero.
    /// - **zeroed-tail**: So is what lies behind the end of the allocation in its block.
    /// - **takes-no-memory**: A hit, and its release, allocate nothing on the host.
    /// - **device-index**: An allocation on another device than the session's is refused.
    ///
    /// # Errors
    /// `InvalidState` without a session; `InvalidArgument` for 0 bytes; `Unsupported` for a memory type that the device
    /// does not honour, or another device; `OutOfMemory` with the bytes requested and available, when quota, budget or
    /// device are used up and nothing idle is left to evict; `Timeout`.
    ///
    /// Blocking: while the lane is full, the driver reserves a chunk, or commands under way (at most 5 s) hold the last
    /// memory that there is. Allocates: no on a hit, once the session's
    /// table has room. Ordering: zeroing is ahead of every later request of the session.
    pub fn allocate(&self, session: SessionId, message: &AllocateMessage) -> Result<AllocateResponse, Error> {
        match self.allocate_idle(session, message, self.timestamp_us()) {
            Some(response) => Ok(response),
            None => now_or_wait(self.allocate_async(session, message)),
        }
    }

    /// [`ResidentMemory::allocate`] where a released block serves and there is nothing to wait for or to refuse: the most
    /// frequent case, without a future. `None` otherwise; nothing has changed then. `now_us` is a reading of
    /// [`ResidentMemory::timestamp_us`].
    ///
    /// Blocking: never, but for the guard. Allocates: no, once the session's table has room. Ordering: as
    /// [`ResidentMemory::allocate`].
    #[inline]
    pub fn allocate_idle(
        &self,
        session: SessionId,
        message: &AllocateMessage,
        now_us: u64,
    ) -> Option<AllocateResponse> {
        let AllocateMessage { size_bytes, memory_type, .. } = *message;
        let own = self.device_index;
        if message.device_index.is_some_and(|index| index != own) {
            return None;
        }
        let allocated_at = UNIX_EPOCH + Duration::from_micros(now_us);
        let request = Request { size_bytes, memory_type, allocated_at, contents_lost: false };
        let id = self.lane(session).lock().allocate_idle(session, &request)?;
        let handle = GpuMemoryHandle { id, size_bytes, memory_type, device_index: own, allocated_at };
        Some(AllocateResponse::new(Envelope::at(now_us), message.envelope.request_id, handle, true))
    }

    /// [`ResidentMemory::allocate`] for a task, which blocks a thread only while the driver reserves a chunk.
    ///
    /// # Errors
    /// As [`ResidentMemory::allocate`].
    pub async fn allocate_async(
        &self,
        session: SessionId,
        message: &AllocateMessage,
    ) -> Result<AllocateResponse, Error> {
        const OPERATION: &str = "allocate";
        let now = Instant::now();
        let own = self.device_index;
        if let Some(other) = message.device_index.filter(|index| *index != own) {
            let why = format!("the session is on device {own}, not {other}: initialize one there");
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        let request = Request {
            size_bytes: message.size_bytes,
            memory_type: message.memory_type,
            allocated_at: self.clock.system_time(now),
            contents_lost: false,
        };
        let (id, is_pool_hit) = self.place(session, &request, now, OPERATION, insert).await?;
        let handle = GpuMemoryHandle {
            id,
            size_bytes: message.size_bytes,
            memory_type: message.memory_type,
            device_index: own,
            allocated_at: request.allocated_at,
        };
        Ok(AllocateResponse::new(self.clock.envelope(now), message.envelope.request_id, handle, is_pool_hit))
    }

    /// Releases an allocation. An id that is not live changes nothing: the response says 0 bytes freed.
    ///
    /// # Behavior
    /// - **quota**: What is released counts against the quota no more.
    /// - **not-returned**: With `return_to_pool = false` the block serves no later allocation as a hit.
    /// - **under-way**: Commands under way finish with the block, whatever others are given meanwhile.
    /// - **stale-handle**: The handle is refused by every operation, also once its slot and block are another's.
    ///
    /// # Errors
    /// `InvalidState` without a session.
    ///
    /// Blocking: never, but for the guard. Allocates: no. Ordering: commands under way finish with the block; later
    /// requests are refused.
    pub fn release(&self, session: SessionId, message: &ReleaseMessage) -> Result<ReleaseResponse, Error> {
        self.release_at(session, message, self.timestamp_us()).ok_or_else(|| Refusal::NoSession.into_error("release"))
    }

    /// [`ResidentMemory::release`] for a caller that has read the clock: `now_us` is a reading of
    /// [`ResidentMemory::timestamp_us`]. `None` without a session.
    #[inline]
    pub fn release_at(&self, session: SessionId, message: &ReleaseMessage, now_us: u64) -> Option<ReleaseResponse> {
        let freed = self.release_block(session, message).ok()?;
        let (bytes_freed, returned) = freed.map_or((0, false), |bytes| (bytes, message.return_to_pool));
        Some(ReleaseResponse::new(Envelope::at(now_us), message.envelope.request_id, bytes_freed, returned))
    }

    fn release_block(&self, id: SessionId, message: &ReleaseMessage) -> Result<Option<u64>, Refusal> {
        let mut guard = self.lane(id).lock();
        let lane = &mut *guard;
        let session = lane.sessions.find(id)?;
        lane.counters.host_answered += 1;
        let owner = session.owner;
        let Some(allocation) = session.allocations.remove(message.allocation) else { return Ok(None) };
        session.live_bytes -= allocation.size_bytes;
        session.tracker.record_release(allocation.size_bytes, message.return_to_pool);
        give_back(lane, owner, &allocation, message.return_to_pool);
        Ok(Some(allocation.size_bytes))
    }

    /// Puts an allocation back under the id that it had, with zeroed bytes.
    ///
    /// # Errors
    /// As [`ResidentMemory::allocate`]; `InvalidState` when the id's slot is live; `InvalidArgument` for a slot beyond the
    /// ring's allocations.
    ///
    /// Blocking, allocating and ordering: as [`ResidentMemory::allocate`].
    pub fn restore(&self, session: SessionId, restored: &RestoredAllocation) -> Result<(), Error> {
        now_or_wait(self.restore_async(session, restored))
    }

    /// [`ResidentMemory::restore`] for a task, as [`ResidentMemory::allocate_async`].
    ///
    /// # Errors
    /// As [`ResidentMemory::restore`].
    pub async fn restore_async(&self, session: SessionId, restored: &RestoredAllocation) -> Result<(), Error> {
        const OPERATION: &str = "restore";
        let (id, limit) = (restored.id, self.config.ring.allocations);
        if id.slot >= limit {
            return Err(Refusal::BeyondTable { id, limit }.into_error(OPERATION));
        }
        let request = Request {
            size_bytes: restored.size_bytes,
            memory_type: restored.memory_type,
            allocated_at: restored.allocated_at,
            contents_lost: restored.contents_lost,
        };
        self.place(session, &request, Instant::now(), OPERATION, |lane, session, placed| {
            let session = lane.sessions.find(session)?;
            session.allocations.restore(id, placed.allocation)?;
            session.tracker.record_allocation(placed.allocation.size_bytes, placed.is_pool_hit);
            Ok(())
        })
        .await
    }

    /// Takes a block for a session, binds it, and puts it into the session's table by `put`.
    async fn place<R>(
        &self,
        id: SessionId,
        request: &Request,
        started: Instant,
        operation: &'static str,
        put: impl Fn(&mut LaneState, SessionId, &Placed) -> Result<R, Refusal>,
    ) -> Result<R, Error> {
        let until = Wait { started, deadline: self.config.call_deadline };
        let mut reserved = None;
        let mut relieved = false;
        let error = loop {
            match self.try_place(id, request, &mut reserved, &put) {
                Ok(put) => return Ok(put),
                Err(Failure::Refused(Refusal::Full)) => {
                    if let Err(refusal) = self.a_moment(id, until).await {
                        break refusal.into_error(operation);
                    }
                }
                Err(Failure::Pool(error)) if error.kind() == ErrorKind::OutOfMemory && !relieved => {
                    self.relieve(id).await;
                    relieved = true;
                }
                Err(Failure::Pool(error)) => break error,
                Err(Failure::Refused(refusal)) => break refusal.into_error(operation),
            }
        };
        if let Some(reserved) = reserved {
            give_up(&mut self.lane(id).lock(), id, request, &reserved);
        }
        Err(error)
    }

    /// The same, if there is room in the lane and in memory now.
    #[inline]
    fn try_place<R>(
        &self,
        id: SessionId,
        request: &Request,
        reserved: &mut Option<Reserved>,
        put: impl Fn(&mut LaneState, SessionId, &Placed) -> Result<R, Refusal>,
    ) -> Result<R, Failure> {
        let mut lane = self.lane(id).lock();
        let placed = place(&mut lane, id, request, reserved)?;
        let put = put(&mut lane, id, &placed);
        if put.is_err() {
            undo(&mut lane, id, &placed);
        }
        put.map_err(Failure::Refused)
    }

    /// Makes room in all lanes: what idles there is as good as free once the commands under way have done with it. Most
    /// take microseconds, so it is worth waiting for them before memory is refused.
    async fn relieve(&self, id: SessionId) {
        let until = Wait { started: Instant::now(), deadline: RELIEF };
        for lane in &self.lanes {
            let fence = lane.lock().trim();
            while fence.is_some_and(|fence| lane.lock().producer.completed_below() < fence)
                && self.a_moment(id, until).await.is_ok()
            {}
            lane.lock().trim();
        }
    }

    /// The live allocations of a session, with whether their contents are lost.
    ///
    /// # Errors
    /// `InvalidState` without a session.
    pub fn allocations(&self, session: SessionId) -> Result<Vec<RestoredAllocation>, Error> {
        let mut lane = self.lane(session).lock();
        let session = lane.sessions.find(session).map_err(|refusal| refusal.into_error("allocations"))?;
        let listed = session.allocations.iter().map(|(id, allocation)| RestoredAllocation {
            id,
            size_bytes: allocation.size_bytes,
            memory_type: allocation.memory_type,
            allocated_at: allocation.allocated_at,
            contents_lost: allocation.contents_lost,
        });
        Ok(listed.collect())
    }

    /// The state of the device's memory.
    pub fn memory_info(&self) -> GpuMemoryInfo {
        let info = self.device.info();
        let (mut live, mut idle, mut free, mut largest) = (0, 0, 0, 0);
        for lane in &self.lanes {
            for (_, pool) in lane.lock().pools() {
                let report = pool.report();
                live += report.stats.live_block_bytes;
                idle += report.stats.idle_bytes;
                free += report.stats.arena_free_bytes;
                largest = largest.max(report.largest_free_bytes);
            }
        }
        let total_bytes = self.budget.limit_bytes();
        let ring = &self.config.ring;
        let slots = u64::from(ring.lanes) * u64::from(ring.slots);
        GpuMemoryInfo {
            total_bytes,
            allocated_bytes: live + idle,
            free_bytes: total_bytes.saturating_sub(live + idle),
            reserved_bytes: self.budget.reserved_bytes(),
            ring_kernel_bytes: slots * 128 + u64::from(ring.lanes) * 256,
            buffer_bytes: slots * u64::from(ring.staging_bytes),
            fragmentation: if free == 0 { 0.0 } else { 1.0 - largest as f64 / free as f64 },
            utilization: if total_bytes == 0 { 0.0 } else { live as f64 / total_bytes as f64 },
            device_index: info.index,
            device_name: info.name,
            timestamp: self.clock.system_time(Instant::now()),
        }
    }
}

impl LaneState {
    /// Gives a session a released block, if one serves and everything else has room.
    fn allocate_idle(&mut self, id: SessionId, request: &Request) -> Option<AllocationId> {
        let Request { size_bytes, memory_type, .. } = *request;
        // A block is at most twice what is asked for, or the smallest.
        if !self.producer.may_keep(size_bytes.saturating_mul(2).max(SMALL_BYTES)) {
            return None;
        }
        let generation = self.upcoming_generation().ok()?;
        let Self { sessions, slots, producer, .. } = self;
        let session = sessions.find(id).ok()?;
        let owner = session.owner;
        let live_bytes = session.live_bytes.checked_add(size_bytes).filter(|sum| *sum <= session.quota_bytes)?;
        let completed = producer.completed_below();
        let slot = slots.take(completed).ok()?;
        let pool = self.pools[memory_type as usize].as_deref_mut();
        let Some(block) = pool.and_then(|pool| pool.allocate_idle(size_bytes, owner, completed)) else {
            slots.give_unused(slot);
            return None;
        };
        let zero_bytes = if block.same_owner { 0 } else { block.block_bytes };
        producer.keep(id.index, Bind { slot, address: block.address, size_bytes, zero_bytes });
        self.generation = generation;
        self.counters.host_answered += 1;
        session.live_bytes = live_bytes;
        session.tracker.record_allocation(size_bytes, true);
        Some(session.allocations.insert(generation, request.on(slot, block.block)))
    }
}

/// What is to be allocated.
struct Request {
    size_bytes: u64,
    memory_type: MemoryType,
    allocated_at: SystemTime,
    contents_lost: bool,
}

impl Request {
    fn on(&self, device_slot: DeviceSlot, block: BlockId) -> Allocation {
        let Self { size_bytes, memory_type, allocated_at, contents_lost } = *self;
        Allocation { size_bytes, memory_type, contents_lost, device_slot, block, allocated_at }
    }
}

/// A block that counts against a session's quota and is not bound yet. It is kept while the lane is full, so that a
/// call that has to wait takes one block from the pool, not one for every look.
struct Reserved {
    block: Block,
    owner: u64,
}

/// An allocation that is bound and in no table yet.
struct Placed {
    allocation: Allocation,
    is_pool_hit: bool,
    owner: u64,
}

/// Puts a new allocation into its session's table.
fn insert(lane: &mut LaneState, id: SessionId, placed: &Placed) -> Result<(AllocationId, bool), Refusal> {
    let generation = lane.next_generation()?;
    lane.count_host_answered();
    let session = lane.sessions.find(id)?;
    session.tracker.record_allocation(placed.allocation.size_bytes, placed.is_pool_hit);
    Ok((session.allocations.insert(generation, placed.allocation), placed.is_pool_hit))
}

/// A block from the pool, within the session's quota.
fn reserve(lane: &mut LaneState, id: SessionId, request: &Request, completed: u64) -> Result<Reserved, Failure> {
    let Request { size_bytes, memory_type, .. } = *request;
    let session = lane.sessions.find(id)?;
    let Session { owner, live_bytes, quota_bytes, .. } = *session;
    let within = live_bytes.checked_add(size_bytes).filter(|sum| *sum <= quota_bytes);
    let Some(sum_bytes) = within else { return Err(Refusal::Quota { size_bytes, live_bytes, quota_bytes }.into()) };
    if !lane.honours(memory_type) {
        return Err(Refusal::MemoryType(memory_type).into());
    }
    let block = lane.pool(memory_type).allocate(size_bytes, owner, completed).map_err(Failure::Pool)?;
    lane.sessions.find(id)?.live_bytes = sum_bytes;
    Ok(Reserved { block, owner })
}

/// A block that is bound to a device slot for the session. `Full` leaves the block in `reserved`.
fn place(
    lane: &mut LaneState,
    id: SessionId,
    request: &Request,
    reserved: &mut Option<Reserved>,
) -> Result<Placed, Failure> {
    lane.sessions.find(id)?;
    let completed = lane.producer.completed_below();
    let Reserved { block, owner } = match reserved {
        Some(reserved) => reserved,
        None => reserved.insert(reserve(lane, id, request, completed)?),
    };
    let slot = lane.slots.take(completed)?;
    let zero_bytes = if block.same_owner { 0 } else { block.block_bytes };
    let bind = Bind { slot, address: block.address, size_bytes: request.size_bytes, zero_bytes };
    if let Err(refusal) = lane.bind(id, bind) {
        // No command names it under this generation.
        lane.slots.give_unused(slot);
        return Err(refusal.into());
    }
    let allocation = request.on(slot, block.block);
    let placed = Placed { allocation, is_pool_hit: block.is_pool_hit(), owner: *owner };
    *reserved = None;
    Ok(placed)
}

/// Gives back a block that was never bound.
fn give_up(lane: &mut LaneState, id: SessionId, request: &Request, reserved: &Reserved) {
    let fence = lane.producer.next_sequence();
    // The bytes are as their last owner left them, so they must not count as this owner's: not to its bin.
    let kept = lane.pool(request.memory_type).release(reserved.block.block, reserved.owner, fence, false);
    debug_assert!(kept.is_ok(), "the block was live and the owner's");
    if let Some(session) = lane.sessions.owned(id, reserved.owner) {
        session.live_bytes -= request.size_bytes;
    }
}

/// Gives back an allocation that found no place in its session's table.
fn undo(lane: &mut LaneState, id: SessionId, placed: &Placed) {
    give_back(lane, placed.owner, &placed.allocation, true);
    if let Some(session) = lane.sessions.owned(id, placed.owner) {
        session.live_bytes -= placed.allocation.size_bytes;
    }
}

/// Gives a block back to its pool; what is under way in the lane finishes with it first.
pub(super) fn give_back(lane: &mut LaneState, owner: u64, allocation: &Allocation, return_to_pool: bool) {
    let mut fence = lane.producer.next_sequence();
    let withdrawn = lane.producer.withdraw(allocation.device_slot);
    if withdrawn.is_some() {
        // No command named it: what held for the block and the slot before is all that holds.
        fence = 0;
        lane.slots.give_unused(allocation.device_slot);
    } else {
        lane.slots.give(allocation.device_slot, fence);
    }
    let pool = lane.pool(allocation.memory_type);
    let kept = pool.release(allocation.block, owner, fence, return_to_pool);
    debug_assert!(kept.is_ok(), "a live allocation has a live block of its owner");
    if withdrawn.is_some_and(|bind| bind.zero_bytes > 0) {
        // The bytes are as their last owner left them.
        pool.disown(allocation.block);
    }
}
