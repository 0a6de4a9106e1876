//! Allocate, release, restore: answered by the host's pool, with a command in the lane ahead of a block's first use.

use std::thread;
use std::time::{Instant, SystemTime};

use gpubridge_abstractions::{
    AllocateMessage, AllocateResponse, AllocationId, Bind, Error, ErrorKind, GpuMemoryHandle, GpuMemoryInfo,
    MemoryType, ReleaseMessage, ReleaseResponse,
};

use super::ResidentMemory;
use super::lane::LaneState;
use super::refusal::Refusal;
use super::session::{Allocation, SessionId};

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
    /// # Errors
    /// `InvalidState` without a session; `InvalidArgument` for 0 bytes; `Unsupported` for a memory type that the device
    /// does not honour, or another device; `OutOfMemory` with the bytes requested and available, when quota, budget or
    /// device are used up and nothing idle is left to evict; `Timeout`.
    ///
    /// Blocking: while the lane is full, or the driver reserves a chunk. Allocates: no on a hit, once the session's
    /// table has room. Ordering: zeroing is ahead of every later request of the session.
    pub fn allocate(&self, session: SessionId, message: &AllocateMessage) -> Result<AllocateResponse, Error> {
        const OPERATION: &str = "allocate";
        let now = Instant::now();
        let own = self.device_index;
        if let Some(other) = message.device_index.filter(|index| *index != own) {
            let why = format!("the session is on device {own}, not {other}: initialize one there");
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        let allocated_at = self.clock.system_time(now);
        let mut relieved = false;
        let (id, is_pool_hit) = loop {
            let mut lane = self.lane(session).lock();
            match allocate(&mut lane, session, message.size_bytes, message.memory_type, allocated_at) {
                Ok(done) => break done,
                Err(Failure::Refused(Refusal::Full)) => {
                    drop(lane);
                    self.yield_until(now, OPERATION)?;
                }
                Err(Failure::Pool(error)) if error.kind() == ErrorKind::OutOfMemory && !relieved => {
                    // What idles in other lanes is as good as free.
                    drop(lane);
                    self.lanes.iter().for_each(|lane| lane.lock().trim());
                    relieved = true;
                }
                Err(Failure::Pool(error)) => return Err(error),
                Err(Failure::Refused(refusal)) => return Err(refusal.into_error(OPERATION)),
            }
        };
        let handle = GpuMemoryHandle {
            id,
            size_bytes: message.size_bytes,
            memory_type: message.memory_type,
            device_index: own,
            allocated_at,
        };
        Ok(AllocateResponse::new(self.clock.envelope(now), message.envelope.request_id, handle, is_pool_hit))
    }

    /// Releases an allocation. An id that is not live changes nothing: the response says 0 bytes freed.
    ///
    /// # Errors
    /// `InvalidState` without a session.
    ///
    /// Blocking: never, but for the guard. Allocates: no. Ordering: commands under way finish with the block; later
    /// requests are refused.
    pub fn release(&self, session: SessionId, message: &ReleaseMessage) -> Result<ReleaseResponse, Error> {
        let freed = self.release_block(session, message).map_err(|refusal| refusal.into_error("release"))?;
        let (bytes_freed, returned) = freed.map_or((0, false), |bytes| (bytes, message.return_to_pool));
        let envelope = self.clock.envelope(Instant::now());
        Ok(ReleaseResponse::new(envelope, message.envelope.request_id, bytes_freed, returned))
    }

    fn release_block(&self, id: SessionId, message: &ReleaseMessage) -> Result<Option<u64>, Refusal> {
        let mut lane = self.lane(id).lock();
        lane.count_host_answered();
        let session = lane.sessions.find(id)?;
        let owner = session.owner;
        let Some(allocation) = session.allocations.remove(message.allocation) else { return Ok(None) };
        session.live_bytes -= allocation.size_bytes;
        session.tracker.record_release(allocation.size_bytes, message.return_to_pool);
        give_back(&mut lane, owner, &allocation, message.return_to_pool);
        Ok(Some(allocation.size_bytes))
    }

    /// Puts an allocation back under the id that it had, with zeroed bytes.
    ///
    /// # Errors
    /// As [`ResidentMemory::allocate`]; `InvalidState` when the id's slot is live.
    pub fn restore(&self, session: SessionId, restored: &RestoredAllocation) -> Result<(), Error> {
        const OPERATION: &str = "restore";
        let now = Instant::now();
        loop {
            let mut lane = self.lane(session).lock();
            match restore(&mut lane, session, restored) {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(Refusal::Full)) => {
                    drop(lane);
                    self.yield_until(now, OPERATION)?;
                }
                Err(Failure::Pool(error)) => return Err(error),
                Err(Failure::Refused(refusal)) => return Err(refusal.into_error(OPERATION)),
            }
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

    /// Lets others run while a lane is full.
    fn yield_until(&self, started: Instant, operation: &'static str) -> Result<(), Error> {
        if started.elapsed() > self.config.call_deadline {
            return Err(Refusal::Timeout.into_error(operation));
        }
        thread::yield_now();
        Ok(())
    }
}

fn allocate(
    lane: &mut LaneState,
    id: SessionId,
    size_bytes: u64,
    memory_type: MemoryType,
    allocated_at: SystemTime,
) -> Result<(AllocationId, bool), Failure> {
    let (allocation, is_pool_hit) = bound(lane, id, size_bytes, memory_type, allocated_at)?;
    let generation = lane.next_generation();
    lane.count_host_answered();
    let session = lane.sessions.find(id)?;
    session.live_bytes += size_bytes;
    session.tracker.record_allocation(size_bytes, is_pool_hit);
    Ok((session.allocations.insert(generation, allocation), is_pool_hit))
}

fn restore(lane: &mut LaneState, id: SessionId, restored: &RestoredAllocation) -> Result<(), Failure> {
    let RestoredAllocation { size_bytes, memory_type, allocated_at, contents_lost, .. } = *restored;
    let (allocation, _) = bound(lane, id, size_bytes, memory_type, allocated_at)?;
    let session = lane.sessions.find(id)?;
    let owner = session.owner;
    match session.allocations.restore(restored.id, Allocation { contents_lost, ..allocation }) {
        Ok(()) => {
            session.live_bytes += size_bytes;
            Ok(())
        }
        Err(refusal) => {
            give_back(lane, owner, &allocation, true);
            Err(refusal.into())
        }
    }
}

/// A block that is bound to a device slot for the session, and whether a released one was used again.
fn bound(
    lane: &mut LaneState,
    id: SessionId,
    size_bytes: u64,
    memory_type: MemoryType,
    allocated_at: SystemTime,
) -> Result<(Allocation, bool), Failure> {
    let session = lane.sessions.find(id)?;
    let (owner, live_bytes, quota_bytes) = (session.owner, session.live_bytes, session.quota_bytes);
    if live_bytes.checked_add(size_bytes).is_none_or(|sum| sum > quota_bytes) {
        return Err(Refusal::Quota { size_bytes, live_bytes, quota_bytes }.into());
    }
    if !lane.honours(memory_type) {
        return Err(Refusal::MemoryType(memory_type).into());
    }
    let completed = lane.submitter.completed_below();
    let block = lane.pool(memory_type).allocate(size_bytes, owner, completed).map_err(Failure::Pool)?;
    let bind = |slot| Bind {
        slot,
        address: block.address,
        size_bytes,
        zero_bytes: if block.same_owner { 0 } else { block.block_bytes },
    };
    let device_slot = lane.slots.take().and_then(|slot| match lane.bind(id, &bind(slot)) {
        Ok(()) => Ok(slot),
        Err(refusal) => {
            lane.slots.give(slot);
            Err(refusal)
        }
    });
    match device_slot {
        Ok(device_slot) => {
            let allocation = Allocation {
                size_bytes,
                memory_type,
                contents_lost: false,
                device_slot,
                block: block.block,
                allocated_at,
            };
            Ok((allocation, block.is_pool_hit()))
        }
        Err(refusal) => {
            let fence = lane.submitter.next_sequence();
            // The bytes are as the last owner left them, so they must not count as this owner's.
            let kept = lane.pool(memory_type).release(block.block, owner, fence, false);
            debug_assert!(kept.is_ok(), "the block was live and the owner's");
            Err(refusal.into())
        }
    }
}

/// Gives a block back to its pool; what is under way in the lane finishes with it first.
pub(super) fn give_back(lane: &mut LaneState, owner: u64, allocation: &Allocation, return_to_pool: bool) {
    let fence = lane.submitter.next_sequence();
    lane.slots.give(allocation.device_slot);
    let kept = lane.pool(allocation.memory_type).release(allocation.block, owner, fence, return_to_pool);
    debug_assert!(kept.is_ok(), "a live allocation has a live block of its owner");
}
