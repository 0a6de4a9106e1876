//! Ask a ring for its metrics.

use super::Envelope;
use crate::{MemoryType, RequestId};

/// Asks for the metrics of a ring.
///
/// # Behavior
/// - **details**: Details come only if asked for, and arrive in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetMetricsMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// Whether to add the pool's numbers for each size class; no unless asked for.
    pub include_details: bool,
}

impl GetMetricsMessage {
    /// Asks for the metrics without details.
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, include_details: false }
    }
}

/// One size class of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClassMetrics {
    /// The size of its blocks, in bytes.
    pub block_size_bytes: u64,
    /// The kind of memory of its blocks.
    pub memory_type: MemoryType,
    /// Blocks that are allocated.
    pub live_block_count: u32,
    /// Blocks that wait for the next allocation.
    pub idle_block_count: u32,
    /// Allocations that an idle block served.
    pub hit_count: u64,
    /// Allocations that no idle block served.
    pub miss_count: u64,
}

/// Answers a [`GetMetricsMessage`]. Counters are exact and count from the launch of the ring.
///
/// # Behavior
/// - **nine-values**: Nine values arrive, each in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// Messages that were answered.
    pub total_messages_processed: u64,
    /// Messages answered per second.
    pub messages_per_second: f64,
    /// Mean time from submission to observed completion, over the sampled messages, in nanoseconds.
    pub average_latency_ns: f64,
    /// Allocations that an idle block served.
    pub pool_hit_count: u64,
    /// Allocations that no idle block served.
    pub pool_miss_count: u64,
    /// Computations that found their kernel in the cache.
    pub kernel_cache_hit_count: u64,
    /// Computations that did not.
    pub kernel_cache_miss_count: u64,
    /// Bytes in live and idle blocks.
    pub total_allocated_bytes: u64,
    /// Allocations that are live.
    pub active_allocation_count: u64,
    /// The size classes in use, if [`GetMetricsMessage::include_details`] asked for them; otherwise empty.
    pub details: Vec<SizeClassMetrics>,
}

impl MetricsResponse {
    /// Answers `original_request_id` for a ring that has done nothing yet: all numbers 0, no details.
    pub fn new(envelope: Envelope, original_request_id: RequestId) -> Self {
        Self {
            envelope,
            original_request_id,
            total_messages_processed: 0,
            messages_per_second: 0.0,
            average_latency_ns: 0.0,
            pool_hit_count: 0,
            pool_miss_count: 0,
            kernel_cache_hit_count: 0,
            kernel_cache_miss_count: 0,
            total_allocated_bytes: 0,
            active_allocation_count: 0,
            details: Vec::new(),
        }
    }
}
