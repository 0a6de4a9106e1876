//! A grain whose every call is counted outside of it.

use std::collections::BTreeMap;
use std::time::Instant;

use bytemuck::Pod;
use gpubridge::grains::{GrainRef, wait};
use gpubridge::{
    AllocationId, Error, GpuMemoryHandle, InlineResult, KernelSpec, MemoryType, MetricsResponse, Parameters,
};

use super::account::{Check, tracked_counts, tracker_faults};
use super::counts::{Counts, Kind, Seen};

/// Miscounts of one grain's tracker that are kept to be named.
const MOST_FAULTS: usize = 4;

/// A grain and the count of its calls. Nothing here looks at a counter of the runtime, but to compare it.
#[derive(Debug)]
pub struct Counted {
    /// The grain.
    pub grain: GrainRef,
    /// What was compared.
    pub seen: Seen,
    total: Counts,
    /// Since its activation: what the grain's own tracker counts.
    since: Counts,
    active: bool,
    /// The activation brought something back, and it is not noted what of it were hits.
    has_unnoted: bool,
    live: BTreeMap<AllocationId, GpuMemoryHandle>,
    tracked: Counts,
    tracker_faults: Vec<Check>,
}

impl Counted {
    /// A grain that is not active yet and is called through this alone.
    pub fn new(grain: GrainRef) -> Self {
        Self {
            grain,
            seen: Seen::default(),
            total: Counts::default(),
            since: Counts::default(),
            active: false,
            has_unnoted: false,
            live: BTreeMap::new(),
            tracked: Counts::default(),
            tracker_faults: Vec::new(),
        }
    }

    /// The same grain, which is active, for another thread: calls through the one and the other add up.
    pub fn beside(&self) -> Self {
        assert!(self.active, "its activation is counted once, by who made it");
        Self { active: true, ..Self::new(self.grain.clone()) }
    }

    /// All calls.
    pub fn total(&self) -> &Counts {
        &self.total
    }

    /// The calls since the grain's activation; `None` while it is not active.
    pub fn since_activation(&self) -> Option<&Counts> {
        self.active.then_some(&self.since)
    }

    /// The allocations that are live: how many, and their bytes.
    pub fn live(&self) -> (u64, u64) {
        (self.live.len() as u64, self.live.values().map(|handle| handle.size_bytes).sum())
    }

    /// What the grain's tracker had counted before its deactivations, all added up.
    pub fn tracked(&self) -> &Counts {
        &self.tracked
    }

    /// What the tracker had miscounted before a deactivation: the first few.
    pub fn tracker_faults(&self) -> &[Check] {
        &self.tracker_faults
    }

    /// Allocates; whether the block came from the pool is counted.
    pub fn allocate(&mut self, size_bytes: u64) -> Result<GpuMemoryHandle, Error> {
        self.wake()?;
        let response = self.timed(|grain| wait(grain.allocate_reporting(size_bytes, MemoryType::Default)))?;
        self.count(Kind::Allocations, 1);
        self.count(Kind::AllocatedBytes, size_bytes);
        self.count(Kind::PoolHits, u64::from(response.is_pool_hit));
        let handle = response.handle;
        let is_new = self.live.insert(handle.id, handle).is_none();
        self.seen.answer(is_new && handle.size_bytes == size_bytes, || {
            format!("grain {} was given {handle:?} for {size_bytes} bytes", self.grain.key())
        });
        Ok(handle)
    }

    /// Releases a live allocation.
    pub fn release(&mut self, handle: GpuMemoryHandle, return_to_pool: bool) -> Result<(), Error> {
        self.wake()?;
        let response = self.timed(|grain| wait(grain.release(handle, return_to_pool)))?;
        self.live.remove(&handle.id);
        self.count(Kind::Releases, 1);
        self.count(Kind::ReleasedBytes, handle.size_bytes);
        self.count(Kind::Returned, u64::from(return_to_pool));
        let found = (response.bytes_freed, response.returned_to_pool);
        self.seen.answer(found == (handle.size_bytes, return_to_pool), || {
            format!("the release of {handle:?} was answered with {found:?}")
        });
        Ok(())
    }

    /// Releases what was released before: nothing may be freed.
    pub fn release_again(&mut self, handle: GpuMemoryHandle) -> Result<(), Error> {
        self.wake()?;
        let response = self.timed(|grain| wait(grain.release(handle, true)))?;
        self.count(Kind::StaleReleases, 1);
        self.seen.answer(response.bytes_freed == 0, || {
            format!("the second release of {handle:?} freed {} bytes", response.bytes_freed)
        });
        Ok(())
    }

    /// Releases everything that is live.
    pub fn release_all(&mut self) -> Result<(), Error> {
        let live: Vec<_> = self.live.values().copied().collect();
        live.into_iter().try_for_each(|handle| self.release(handle, true))
    }

    /// Writes from element `offset` on.
    pub fn write<T: Pod>(&mut self, handle: GpuMemoryHandle, offset: usize, data: &[T]) -> Result<(), Error> {
        self.wake()?;
        let size_bytes = size_of_val(data) as u64;
        let written = self.timed(|grain| grain.write(handle, data, offset as u64).wait())?.bytes_written;
        self.count(Kind::Writes, 1);
        self.count(Kind::WrittenBytes, size_bytes);
        self.seen.answer(written == size_bytes, || format!("{written} of {size_bytes} bytes were written"));
        Ok(())
    }

    /// Reads from element `offset` on.
    pub fn read<T: Pod>(&mut self, handle: GpuMemoryHandle, offset: usize, target: &mut [T]) -> Result<(), Error> {
        self.wake()?;
        let size_bytes = size_of_val(target) as u64;
        let read = self.timed(|grain| grain.read_into(handle, offset as u64, target).wait())?.bytes_read;
        self.count(Kind::Reads, 1);
        self.count(Kind::ReadBytes, size_bytes);
        self.seen.answer(read == size_bytes, || format!("{read} of {size_bytes} bytes were read"));
        Ok(())
    }

    /// Runs a kernel; what it answers with.
    pub fn compute(
        &mut self,
        kernel: KernelSpec,
        input: Option<GpuMemoryHandle>,
        output: Option<GpuMemoryHandle>,
        parameters: Parameters,
    ) -> Result<InlineResult, Error> {
        self.wake()?;
        let response = self.timed(|grain| grain.compute(kernel, input, output, parameters).wait())?;
        self.count(Kind::Computes, 1);
        Ok(response.result)
    }

    /// Has a kernel run, and gives its answer up.
    pub fn post(
        &mut self,
        kernel: KernelSpec,
        input: Option<GpuMemoryHandle>,
        output: Option<GpuMemoryHandle>,
        parameters: Parameters,
    ) -> Result<(), Error> {
        self.wake()?;
        self.timed(|grain| grain.compute(kernel, input, output, parameters).post().map(drop))?;
        self.count(Kind::Computes, 1);
        Ok(())
    }

    /// A computation of this grain is about to be submitted with others.
    pub fn count_batched(&mut self) -> Result<(), Error> {
        self.wake()?;
        self.count(Kind::Computes, 1);
        Ok(())
    }

    /// The metrics of the device, with the detail of its pool.
    pub fn metrics(&mut self) -> Result<MetricsResponse, Error> {
        self.wake()?;
        self.count(Kind::MetricsRequests, 1);
        self.timed(|grain| wait(grain.metrics(true)))
    }

    /// Compares what the grain's tracker has counted since its activation, then deactivates the grain.
    pub fn deactivate(&mut self) -> Result<(), Error> {
        if !self.active {
            return Ok(());
        }
        self.note_restored()?;
        let tracked = tracked_counts(&wait(self.grain.totals())?);
        let room = MOST_FAULTS.saturating_sub(self.tracker_faults.len());
        self.tracker_faults.extend(tracker_faults(self.grain.key(), &self.since, &tracked).take(room));
        self.tracked.merge(&tracked);
        self.timed(|grain| wait(grain.deactivate()))?;
        self.count(Kind::Saved, self.live.len() as u64);
        self.count(Kind::Deactivations, 1);
        self.active = false;
        Ok(())
    }

    /// Counts one more than there was.
    #[cfg(test)]
    pub fn falsify(&mut self, kind: Kind) {
        self.note_restored().expect("the grain is active");
        self.count(kind, 1);
    }

    /// Notes which of the blocks that the last activation brought back were hits: no answer says so, but the grain's
    /// tracker, whose hits beyond those that were answered since are these.
    pub fn note_restored(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.has_unnoted) {
            return Ok(());
        }
        let hits = wait(self.grain.totals())?.allocations.pool_hit_count;
        let (answered, restored) = (self.since[Kind::PoolHits], self.since[Kind::Restored]);
        self.seen.answer((answered..=answered + restored).contains(&hits), || {
            format!("{hits} hits of {restored} blocks brought back, and {answered} that were answered")
        });
        self.count(Kind::RestoredHits, hits.saturating_sub(answered));
        Ok(())
    }

    /// Counts what the next call does first if the grain is not active. After the call that did it, the activation can
    /// be asked for its hits.
    fn wake(&mut self) -> Result<(), Error> {
        if self.active {
            return self.note_restored();
        }
        self.active = true;
        self.since = Counts::default();
        let (live, live_bytes) = self.live();
        self.count(Kind::Activations, 1);
        self.count(Kind::Restored, live);
        self.count(Kind::RestoredBytes, live_bytes);
        self.has_unnoted = live > 0;
        Ok(())
    }

    /// Makes a call, and sees how long it takes.
    fn timed<R>(&mut self, call: impl FnOnce(&GrainRef) -> R) -> R {
        let since = Instant::now();
        let answer = call(&self.grain);
        self.seen.took(since);
        answer
    }

    fn count(&mut self, kind: Kind, number: u64) {
        self.total[kind] += number;
        self.since[kind] += number;
    }
}
