//! What one grain did with its resident memory.

use std::time::{Duration, SystemTime};

use super::ratio;

/// Times of the calls that were sampled. Reading a clock twice costs more than a small call itself, so only some calls
/// are timed; the mean is over those and no others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeSamples {
    /// Calls that were timed.
    pub count: u64,
    /// Their times added up, in microseconds.
    pub sum_us: f64,
}

impl TimeSamples {
    /// The mean, in microseconds; `None` when no call was timed.
    pub fn average_us(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us / self.count as f64)
    }

    fn record(&mut self, time_us: Option<f64>) {
        if let Some(time_us) = time_us {
            self.count += 1;
            self.sum_us += time_us;
        }
    }
}

/// The allocations of a grain, those that an activation brought back among them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AllocationTotals {
    /// How many.
    pub count: u64,
    /// How many of them an idle block served.
    pub pool_hit_count: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

/// The writes, or the reads, of a grain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransferTotals {
    /// How many.
    pub count: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// How long the timed ones took.
    pub time: TimeSamples,
}

/// The computations of a grain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ComputeTotals {
    /// How many.
    pub count: u64,
    /// How many of them found their kernel in the cache.
    pub cache_hit_count: u64,
    /// How long the timed ones took.
    pub time: TimeSamples,
}

/// The releases of a grain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReleaseTotals {
    /// How many.
    pub count: u64,
    /// How many of the blocks the pool kept.
    pub returned_to_pool_count: u64,
    /// Bytes given up.
    pub bytes: u64,
}

/// Everything a grain did since its tracker was started.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct ResidentMemoryTotals {
    /// Computations. The most frequent calls, so first: beside what else of its grain a call looks at.
    pub computes: ComputeTotals,
    /// When the tracker was started.
    pub start_time: SystemTime,
    /// Allocations.
    pub allocations: AllocationTotals,
    /// Writes.
    pub writes: TransferTotals,
    /// Reads.
    pub reads: TransferTotals,
    /// Releases.
    pub releases: ReleaseTotals,
}

impl ResidentMemoryTotals {
    /// `now − start_time`; zero if the clock was set back behind the start.
    pub fn uptime(&self, now: SystemTime) -> Duration {
        now.duration_since(self.start_time).unwrap_or_default()
    }

    /// Allocations that an idle block served / all allocations; 0 before the first.
    pub fn pool_hit_rate(&self) -> f64 {
        ratio(self.allocations.pool_hit_count, self.allocations.count)
    }

    /// Computations that found their kernel in the cache / all computations; 0 before the first.
    pub fn kernel_cache_hit_rate(&self) -> f64 {
        ratio(self.computes.cache_hit_count, self.computes.count)
    }
}

/// Counts what one grain does. Counters are exact, times are those of the sampled calls.
///
/// There is one for each grain, so it is small, and it has a single owner (the guard of the grain's lane): recording
/// is a few plain additions, without atomics, allocation or clock.
///
/// # Behavior
/// - **exact**: Counters are exact at the end of a million calls.
/// - **empty**: A grain that did nothing has no totals, rates of 0 and no mean time.
/// - **sampled-means**: A call that was not timed counts as a call and moves no mean.
#[derive(Clone, Debug)]
pub struct ResidentMemoryTracker {
    totals: ResidentMemoryTotals,
}

// A million grains may be known; their trackers must not cost more than their names.
const _: () = assert!(size_of::<ResidentMemoryTracker>() < 200);

impl ResidentMemoryTracker {
    /// A tracker that starts now and has counted nothing.
    ///
    /// # Behavior
    /// - **now**: It starts when it is started.
    pub fn start() -> Self {
        Self {
            totals: ResidentMemoryTotals {
                start_time: SystemTime::now(),
                allocations: AllocationTotals::default(),
                writes: TransferTotals::default(),
                reads: TransferTotals::default(),
                computes: ComputeTotals::default(),
                releases: ReleaseTotals::default(),
            },
        }
    }

    /// Counts an allocation of `size_bytes`, and whether an idle block served it.
    ///
    /// # Behavior
    /// - **counts**: Number, hits and bytes grow by it; the hit rate follows.
    pub fn record_allocation(&mut self, size_bytes: u64, is_pool_hit: bool) {
        let allocations = &mut self.totals.allocations;
        allocations.count += 1;
        allocations.pool_hit_count += u64::from(is_pool_hit);
        allocations.bytes += size_bytes;
    }

    /// Counts a write of `bytes`, with its time in microseconds if this call was timed.
    ///
    /// # Behavior
    /// - **counts**: Number, bytes and mean time of the writes follow it; reads stay as they were.
    pub fn record_write(&mut self, bytes: u64, time_us: Option<f64>) {
        record_transfer(&mut self.totals.writes, bytes, time_us);
    }

    /// Counts a read of `bytes`, with its time in microseconds if this call was timed.
    ///
    /// # Behavior
    /// - **counts**: Number, bytes and mean time of the reads follow it; writes stay as they were.
    pub fn record_read(&mut self, bytes: u64, time_us: Option<f64>) {
        record_transfer(&mut self.totals.reads, bytes, time_us);
    }

    /// Counts a computation, with its time in microseconds if this call was timed, and whether its kernel was found in
    /// the cache.
    ///
    /// # Behavior
    /// - **counts**: Number, cache hits, hit rate and mean time follow it.
    pub fn record_compute(&mut self, time_us: Option<f64>, is_cache_hit: bool) {
        let computes = &mut self.totals.computes;
        computes.count += 1;
        computes.cache_hit_count += u64::from(is_cache_hit);
        computes.time.record(time_us);
    }

    /// Counts a release of `size_bytes`, and whether the pool kept the block.
    ///
    /// # Behavior
    /// - **counts**: Number, bytes and blocks kept by the pool follow it; allocations stay as they were.
    pub fn record_release(&mut self, size_bytes: u64, returned_to_pool: bool) {
        let releases = &mut self.totals.releases;
        releases.count += 1;
        releases.returned_to_pool_count += u64::from(returned_to_pool);
        releases.bytes += size_bytes;
    }

    /// Everything counted so far.
    ///
    /// # Behavior
    /// - **copy**: What was read stays what it was when the grain goes on.
    pub fn snapshot(&self) -> ResidentMemoryTotals {
        self.totals
    }
}

fn record_transfer(transfers: &mut TransferTotals, bytes: u64, time_us: Option<f64>) {
    transfers.count += 1;
    transfers.bytes += bytes;
    transfers.time.record(time_us);
}
