//! The metrics of resident memory: 17 values that are stored, 8 that follow from them.

use std::time::{Duration, SystemTime};

use super::ratio;

/// The state of a device's resident memory and of its ring at one moment.
///
/// Total, used and allocated are three numbers: the budget, the bytes in live blocks, and the bytes in live and idle
/// blocks. A caller sets the counters by name and lets [`Self::with_rates`] compute what follows:
///
/// ```
/// use std::time::SystemTime;
/// use gpubridge_abstractions::ResidentMemoryMetrics;
///
/// let metrics = ResidentMemoryMetrics {
///     total_pool_size_bytes: 1 << 30,
///     used_pool_size_bytes: 1 << 29,
///     ..ResidentMemoryMetrics::new("CPU", "8 cores", SystemTime::now())
/// };
/// assert_eq!(metrics.with_rates(0, 0).pool_utilization, 0.5);
/// ```
///
/// # Behavior
/// - **three-numbers**: Budget, live bytes, and live with idle bytes stay apart in everything that follows from them.
/// - **cache-size**: The size of the kernel cache is the kernels that it holds, however often it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidentMemoryMetrics {
    /// The budget of the pool, in bytes.
    pub total_pool_size_bytes: u64,
    /// Bytes in live blocks.
    pub used_pool_size_bytes: u64,
    /// `used_pool_size_bytes / total_pool_size_bytes`; 0 for an empty budget.
    pub pool_utilization: f64,
    /// Allocations that an idle block served.
    pub pool_hit_count: u64,
    /// Allocations that no idle block served.
    pub pool_miss_count: u64,
    /// `pool_hit_count / (pool_hit_count + pool_miss_count)`; 0 before the first allocation.
    pub pool_hit_rate: f64,
    /// Messages that were answered.
    pub total_messages_processed: u64,
    /// Messages answered per second.
    pub messages_per_second: f64,
    /// Mean time from submission to observed completion, over the sampled messages, in nanoseconds.
    pub average_message_latency_ns: f64,
    /// Messages that were submitted and are not yet answered.
    pub pending_message_count: u64,
    /// Allocations that are live.
    pub active_allocation_count: u64,
    /// Bytes in live and idle blocks.
    pub total_allocated_bytes: u64,
    /// Compiled kernels that the cache holds now.
    pub kernel_cache_size: u64,
    /// Computations that found their kernel in the cache / all computations; 0 before the first.
    pub kernel_cache_hit_rate: f64,
    /// The kind of device.
    pub device_type: String,
    /// The device's own name.
    pub device_name: String,
    /// When the ring was launched.
    pub start_time: SystemTime,
}

impl ResidentMemoryMetrics {
    /// A device whose ring has just been launched: all numbers 0.
    ///
    /// # Behavior
    /// - **identity**: Device and start are those of the launch.
    pub fn new(device_type: impl Into<String>, device_name: impl Into<String>, start_time: SystemTime) -> Self {
        Self {
            total_pool_size_bytes: 0,
            used_pool_size_bytes: 0,
            pool_utilization: 0.0,
            pool_hit_count: 0,
            pool_miss_count: 0,
            pool_hit_rate: 0.0,
            total_messages_processed: 0,
            messages_per_second: 0.0,
            average_message_latency_ns: 0.0,
            pending_message_count: 0,
            active_allocation_count: 0,
            total_allocated_bytes: 0,
            kernel_cache_size: 0,
            kernel_cache_hit_rate: 0.0,
            device_type: device_type.into(),
            device_name: device_name.into(),
            start_time,
        }
    }

    /// The same with the three rates computed: pool utilization and pool hit rate from the stored counters, the kernel
    /// cache's hit rate from the two counts given (the metrics keep the rate alone).
    ///
    /// # Behavior
    /// - **utilization**: 512 MB of 1 GiB are 0.5.
    /// - **nothing**: A rate over nothing is 0, not "not a number".
    #[must_use]
    pub fn with_rates(self, kernel_cache_hit_count: u64, kernel_cache_miss_count: u64) -> Self {
        Self {
            pool_utilization: ratio(self.used_pool_size_bytes, self.total_pool_size_bytes),
            pool_hit_rate: ratio(self.pool_hit_count, self.pool_hit_count + self.pool_miss_count),
            kernel_cache_hit_rate: ratio(kernel_cache_hit_count, kernel_cache_hit_count + kernel_cache_miss_count),
            ..self
        }
    }

    /// `now − start_time`; zero if the clock was set back behind the start.
    ///
    /// # Behavior
    /// - **difference**: Five minutes after the start it is five minutes.
    /// - **clock-set-back**: A clock that was set back gives zero.
    pub fn uptime(&self, now: SystemTime) -> Duration {
        now.duration_since(self.start_time).unwrap_or_default()
    }

    /// `used_pool_size_bytes / active_allocation_count`, in bytes; 0 when there are none. Idle blocks are nobody's
    /// allocation and do not count.
    ///
    /// # Behavior
    /// - **live**: 10 240 B in 10 allocations are 1 024 B each, however much lies idle beside them.
    /// - **none**: Without allocations it is 0.
    pub fn average_allocation_size(&self) -> f64 {
        ratio(self.used_pool_size_bytes, self.active_allocation_count)
    }

    /// How well the pool spares the driver: `pool_hit_rate`.
    ///
    /// # Behavior
    /// - **hit-rate**: 900 hits of 1 000 allocations are 0.9.
    pub fn memory_efficiency(&self) -> f64 {
        self.pool_hit_rate
    }

    /// `messages_per_second / 10⁶`: millions of messages per second.
    ///
    /// # Behavior
    /// - **millions**: 1.5 M messages per second are 1.5.
    pub fn throughput_mmessages_per_sec(&self) -> f64 {
        self.messages_per_second / 1e6
    }

    /// `average_message_latency_ns / 10³`, in microseconds.
    ///
    /// # Behavior
    /// - **microseconds**: 75 500 ns are 75.5 µs.
    pub fn average_message_latency_us(&self) -> f64 {
        self.average_message_latency_ns / 1e3
    }

    /// How well the cache spares the compiler: `kernel_cache_hit_rate`. It says nothing of how well a kernel uses the
    /// device.
    ///
    /// # Behavior
    /// - **hit-rate**: 95 hits of 100 computations are 0.95.
    pub fn kernel_efficiency(&self) -> f64 {
        self.kernel_cache_hit_rate
    }

    /// `total_pool_size_bytes / 1024²`.
    ///
    /// # Behavior
    /// - **megabytes**: A megabyte is 1024² bytes; total is the budget, used the live bytes.
    pub fn total_memory_mb(&self) -> f64 {
        self.total_pool_size_bytes as f64 / (1024.0 * 1024.0)
    }

    /// `used_pool_size_bytes / 1024²`.
    pub fn used_memory_mb(&self) -> f64 {
        self.used_pool_size_bytes as f64 / (1024.0 * 1024.0)
    }
}
