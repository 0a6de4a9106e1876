//! Metrics: each number is what its name says.

use std::time::{Duration, SystemTime};

use gpubridge_abstractions::{ResidentMemoryMetrics, ResidentMemoryTracker, TimeSamples};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("metrics":
    uptime_of_five_minutes => "ResidentMemoryMetrics::uptime/difference",
    uptime_is_zero_when_the_clock_was_set_back => "ResidentMemoryMetrics::uptime/clock-set-back",
    average_of_10_240_bytes_in_10_allocations_is_1_024 => "ResidentMemoryMetrics::average_allocation_size/live",
    average_without_allocations_is_zero => "ResidentMemoryMetrics::average_allocation_size/none",
    half_of_one_gib_is_a_utilization_of_one_half => "ResidentMemoryMetrics::with_rates/utilization",
    nine_hundred_hits_of_a_thousand_are_nine_tenths => "ResidentMemoryMetrics::memory_efficiency/hit-rate",
    one_and_a_half_million_per_second => "ResidentMemoryMetrics::throughput_mmessages_per_sec/millions",
    latency_of_75_500_ns_is_75_5_us => "ResidentMemoryMetrics::average_message_latency_us/microseconds",
    kernel_efficiency_is_the_cache_hit_rate => "ResidentMemoryMetrics::kernel_efficiency/hit-rate",
    the_cache_size_is_not_hits_plus_misses => "ResidentMemoryMetrics/cache-size",
    memory_in_mb_of_1024_squared => "ResidentMemoryMetrics::total_memory_mb/megabytes",
    total_used_and_allocated_are_three_numbers => "ResidentMemoryMetrics/three-numbers",
    rates_over_nothing_are_zero => "ResidentMemoryMetrics::with_rates/nothing",
    a_new_ring_keeps_its_device_and_start => "ResidentMemoryMetrics::new/identity",
    tracker_starts_between_before_and_after => "ResidentMemoryTracker::start/now",
    tracker_without_calls_has_no_totals => "ResidentMemoryTracker/empty",
    tracker_records_allocations => "ResidentMemoryTracker::record_allocation/counts",
    tracker_records_writes => "ResidentMemoryTracker::record_write/counts",
    tracker_records_reads => "ResidentMemoryTracker::record_read/counts",
    tracker_records_computations => "ResidentMemoryTracker::record_compute/counts",
    tracker_records_releases => "ResidentMemoryTracker::record_release/counts",
    tracker_means_are_over_sampled_calls_alone => "ResidentMemoryTracker/sampled-means",
    tracker_snapshots_stay_as_they_were => "ResidentMemoryTracker::snapshot/copy",
    tracker_is_exact_over_a_million_calls => "ResidentMemoryTracker/exact",
);

fn metrics() -> ResidentMemoryMetrics {
    ResidentMemoryMetrics::new("CPU", "test device", SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}

/// Five minutes after the start the uptime is five minutes.
pub fn uptime_of_five_minutes() {
    let metrics = metrics();
    let now = metrics.start_time + Duration::from_secs(300);
    assert_eq!(metrics.uptime(now), Duration::from_secs(5 * 60));
    let started_now = ResidentMemoryTracker::start().snapshot();
    assert_eq!(started_now.uptime(started_now.start_time + Duration::from_secs(300)), Duration::from_secs(5 * 60));
}

/// A clock that was set back gives no negative time and no panic.
pub fn uptime_is_zero_when_the_clock_was_set_back() {
    let metrics = metrics();
    assert_eq!(metrics.uptime(metrics.start_time - Duration::from_secs(1)), Duration::ZERO);
}

/// 10 240 B in 10 allocations are 1 024 B each, however much lies idle beside them.
pub fn average_of_10_240_bytes_in_10_allocations_is_1_024() {
    let metrics = ResidentMemoryMetrics {
        used_pool_size_bytes: 10_240,
        total_allocated_bytes: 10_240 + 4096,
        active_allocation_count: 10,
        ..metrics()
    };
    assert_eq!(metrics.average_allocation_size(), 1024.0);
}

/// No allocations: the average is 0, not a division by zero.
pub fn average_without_allocations_is_zero() {
    let metrics = ResidentMemoryMetrics { total_allocated_bytes: 4096, active_allocation_count: 0, ..metrics() };
    assert_eq!(metrics.average_allocation_size(), 0.0);
}

/// 512 MB of 1 GiB = 0.5.
pub fn half_of_one_gib_is_a_utilization_of_one_half() {
    let metrics =
        ResidentMemoryMetrics { total_pool_size_bytes: 1 << 30, used_pool_size_bytes: 512 << 20, ..metrics() };
    assert_eq!(metrics.with_rates(0, 0).pool_utilization, 0.5);
}

/// 900 hits of 1 000 allocations = 0.9, which is also the memory efficiency.
pub fn nine_hundred_hits_of_a_thousand_are_nine_tenths() {
    let metrics = ResidentMemoryMetrics { pool_hit_count: 900, pool_miss_count: 100, ..metrics() }.with_rates(0, 0);
    assert_eq!((metrics.pool_hit_rate, metrics.memory_efficiency()), (0.9, 0.9));
}

/// 1.5 M messages per second = 1.5 Mmsg/s.
pub fn one_and_a_half_million_per_second() {
    let metrics = ResidentMemoryMetrics { messages_per_second: 1_500_000.0, ..metrics() };
    assert_eq!(metrics.throughput_mmessages_per_sec(), 1.5);
}

/// 75 500 ns = 75.5 us.
pub fn latency_of_75_500_ns_is_75_5_us() {
    let metrics = ResidentMemoryMetrics { average_message_latency_ns: 75_500.0, ..metrics() };
    assert_eq!(metrics.average_message_latency_us(), 75.5);
}

/// 95 hits of 100 computations = 0.95, and that is the kernel efficiency.
pub fn kernel_efficiency_is_the_cache_hit_rate() {
    let metrics = metrics().with_rates(95, 5);
    assert_eq!((metrics.kernel_cache_hit_rate, metrics.kernel_efficiency()), (0.95, 0.95));
}

/// However often the cache was asked, its size is the number of kernels it holds.
pub fn the_cache_size_is_not_hits_plus_misses() {
    let metrics = ResidentMemoryMetrics { kernel_cache_size: 3, ..metrics() }.with_rates(95, 5);
    assert_eq!(metrics.kernel_cache_size, 3);
}

/// Megabytes are 1024² bytes; total is the budget, used the live bytes.
pub fn memory_in_mb_of_1024_squared() {
    let metrics = ResidentMemoryMetrics { total_pool_size_bytes: 1 << 30, used_pool_size_bytes: 3 << 19, ..metrics() };
    assert_eq!((metrics.total_memory_mb(), metrics.used_memory_mb()), (1024.0, 1.5));
}

/// Budget, live bytes, and live with idle bytes stay apart in what follows from them.
pub fn total_used_and_allocated_are_three_numbers() {
    let metrics = ResidentMemoryMetrics {
        total_pool_size_bytes: 8 << 20,
        used_pool_size_bytes: 1 << 20,
        total_allocated_bytes: 3 << 20,
        active_allocation_count: 4,
        ..metrics()
    }
    .with_rates(0, 0);
    assert_eq!(
        (metrics.total_memory_mb(), metrics.used_memory_mb(), metrics.total_allocated_bytes),
        (8.0, 1.0, 3 << 20)
    );
    assert_eq!((metrics.pool_utilization, metrics.average_allocation_size()), (0.125, 262_144.0));
}

/// Before anything happened all rates are 0, none is "not a number".
pub fn rates_over_nothing_are_zero() {
    let metrics = metrics().with_rates(0, 0);
    assert_eq!((metrics.pool_utilization, metrics.pool_hit_rate, metrics.kernel_cache_hit_rate), (0.0, 0.0, 0.0));
}

/// Device and start are those of the launch.
pub fn a_new_ring_keeps_its_device_and_start() {
    let start_time = SystemTime::now();
    let metrics = ResidentMemoryMetrics::new("CUDA", "some device", start_time).with_rates(1, 1);
    assert_eq!((metrics.device_type.as_str(), metrics.device_name.as_str()), ("CUDA", "some device"));
    assert_eq!((metrics.start_time, metrics.total_messages_processed), (start_time, 0));
}

/// A tracker starts when it is started.
pub fn tracker_starts_between_before_and_after() {
    let before = SystemTime::now();
    let start_time = ResidentMemoryTracker::start().snapshot().start_time;
    let after = SystemTime::now();
    assert!((before..=after).contains(&start_time), "{start_time:?} is not within {before:?}..={after:?}");
}

/// A grain that did nothing has no allocations, rates of 0 and no mean time.
pub fn tracker_without_calls_has_no_totals() {
    let totals = ResidentMemoryTracker::start().snapshot();
    assert_eq!((totals.allocations.count, totals.allocations.bytes, totals.releases.count), (0, 0, 0));
    assert_eq!((totals.pool_hit_rate(), totals.kernel_cache_hit_rate()), (0.0, 0.0));
    assert_eq!(totals.computes.time.average_us(), None);
}

/// Allocations: number, hits, bytes, hit rate.
pub fn tracker_records_allocations() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_allocation(1000, false);
    tracker.record_allocation(24, true);
    tracker.record_allocation(1 << 33, true);
    tracker.record_allocation(0, true);
    let totals = tracker.snapshot();
    assert_eq!((totals.allocations.count, totals.allocations.pool_hit_count), (4, 3));
    assert_eq!((totals.allocations.bytes, totals.pool_hit_rate()), ((1 << 33) + 1024, 0.75));
}

/// Writes: number, bytes, mean time; reads stay as they were.
pub fn tracker_records_writes() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_write(4096, Some(0.5));
    tracker.record_write(1024, Some(1.5));
    let totals = tracker.snapshot();
    assert_eq!((totals.writes.count, totals.writes.bytes, totals.writes.time.average_us()), (2, 5120, Some(1.0)));
    assert_eq!((totals.reads.count, totals.reads.bytes, totals.reads.time), (0, 0, TimeSamples::default()));
}

/// Reads: number, bytes, mean time; writes stay as they were.
pub fn tracker_records_reads() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_read(100, Some(2.0));
    tracker.record_read(200, Some(4.0));
    let totals = tracker.snapshot();
    assert_eq!((totals.reads.count, totals.reads.bytes, totals.reads.time.average_us()), (2, 300, Some(3.0)));
    assert_eq!((totals.writes.count, totals.writes.bytes, totals.writes.time), (0, 0, TimeSamples::default()));
}

/// Computations: number, cache hits, hit rate, mean time.
pub fn tracker_records_computations() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_compute(Some(9.0), false);
    for _ in 0..3 {
        tracker.record_compute(Some(1.0), true);
    }
    let totals = tracker.snapshot();
    assert_eq!((totals.computes.count, totals.computes.cache_hit_count), (4, 3));
    assert_eq!((totals.kernel_cache_hit_rate(), totals.computes.time.average_us()), (0.75, Some(3.0)));
}

/// Releases: number, bytes, and how many blocks the pool kept; allocations stay as they were.
pub fn tracker_records_releases() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_allocation(3000, false);
    tracker.record_release(1000, true);
    tracker.record_release(2000, false);
    let totals = tracker.snapshot();
    assert_eq!((totals.releases.count, totals.releases.returned_to_pool_count, totals.releases.bytes), (2, 1, 3000));
    assert_eq!((totals.allocations.count, totals.allocations.bytes), (1, 3000));
}

/// A call that was not timed counts as a call and moves no mean.
pub fn tracker_means_are_over_sampled_calls_alone() {
    let mut tracker = ResidentMemoryTracker::start();
    for call in 0..64 {
        let time_us = (call % 16 == 0).then_some(8.0);
        tracker.record_write(10, time_us);
        tracker.record_read(10, time_us);
        tracker.record_compute(time_us, true);
    }
    let totals = tracker.snapshot();
    assert_eq!((totals.writes.count, totals.reads.count, totals.computes.count), (64, 64, 64));
    for time in [totals.writes.time, totals.reads.time, totals.computes.time] {
        assert_eq!((time.count, time.sum_us, time.average_us()), (4, 32.0, Some(8.0)));
    }
}

/// What was read stays what it was when the grain goes on.
pub fn tracker_snapshots_stay_as_they_were() {
    let mut tracker = ResidentMemoryTracker::start();
    tracker.record_allocation(1, true);
    let earlier = tracker.snapshot();
    tracker.record_allocation(2, true);
    let later = tracker.snapshot();
    assert_eq!((earlier.allocations.count, later.allocations.count), (1, 2));
    assert_eq!(later.start_time, earlier.start_time);
}

/// Counters are exact at the end of a million calls.
pub fn tracker_is_exact_over_a_million_calls() {
    const CALLS: u64 = 1_000_000;
    let mut tracker = ResidentMemoryTracker::start();
    for call in 0..CALLS {
        tracker.record_allocation(call, call % 10 != 0);
        tracker.record_release(call, call % 2 == 0);
    }
    let totals = tracker.snapshot();
    let bytes = CALLS * (CALLS - 1) / 2;
    assert_eq!((totals.allocations.count, totals.allocations.pool_hit_count), (CALLS, CALLS / 10 * 9));
    assert_eq!((totals.allocations.bytes, totals.releases.bytes), (bytes, bytes));
    assert_eq!((totals.releases.count, totals.releases.returned_to_pool_count), (CALLS, CALLS / 2));
}
