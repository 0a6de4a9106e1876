//! What resident memory counts: exact counters, sampled times.

use std::time::Instant;

use gpubridge_abstractions::{
    Error, GetMetricsMessage, MetricsResponse, ResidentMemoryMetrics, ResidentMemoryTotals, SizeClassMetrics,
};

use super::ResidentMemory;
use super::session::SessionId;
use crate::pool::PoolStats;

/// The most size classes that a response lists: it stays within a message.
const DETAILS_MAX: usize = 100;

/// The sums over all lanes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    pool: PoolSums,
    /// Requests that were answered: by the host, or by the device. One that is refused before it reaches the device is
    /// not counted.
    processed: u64,
    pending: u64,
    kernel_hits: u64,
    kernel_misses: u64,
    latency_ns: u64,
    latencies: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct PoolSums {
    hits: u64,
    misses: u64,
    live_bytes: u64,
    live_block_bytes: u64,
    idle_bytes: u64,
    live_count: u64,
}

impl PoolSums {
    fn add(&mut self, stats: &PoolStats) {
        self.hits += stats.bin_hits;
        self.misses += stats.misses();
        self.live_bytes += stats.live_bytes;
        self.live_block_bytes += stats.live_block_bytes;
        self.idle_bytes += stats.idle_bytes;
        self.live_count += stats.live_count;
    }
}

impl ResidentMemory {
    /// Answers a metrics request of a session.
    ///
    /// # Behavior
    /// - **details**: Size classes are listed when asked for, and are right.
    ///
    /// # Errors
    /// `InvalidState` without a session.
    ///
    /// Blocking: takes each lane's guard for a look at its slots. Allocates: for details only.
    pub fn get_metrics(&self, session: SessionId, message: &GetMetricsMessage) -> Result<MetricsResponse, Error> {
        {
            let mut lane = self.lane(session).lock();
            lane.sessions.find(session).map_err(|refusal| refusal.into_error("get_metrics"))?;
            lane.count_host_answered();
        }
        let sums = self.sums();
        let now = Instant::now();
        let response = MetricsResponse::new(self.clock.envelope(now), message.envelope.request_id);
        Ok(MetricsResponse {
            total_messages_processed: sums.processed,
            messages_per_second: rate(sums.processed, self.clock.elapsed(now).as_secs_f64()),
            average_latency_ns: rate(sums.latency_ns, sums.latencies as f64),
            pool_hit_count: sums.pool.hits,
            pool_miss_count: sums.pool.misses,
            kernel_cache_hit_count: sums.kernel_hits,
            kernel_cache_miss_count: sums.kernel_misses,
            total_allocated_bytes: sums.pool.live_block_bytes + sums.pool.idle_bytes,
            active_allocation_count: sums.pool.live_count,
            details: if message.include_details { self.details() } else { Vec::new() },
            ..response
        })
    }

    /// The metrics of the whole device.
    ///
    /// # Behavior
    /// - **messages-exact**: Each request that was answered counts once, whatever its kind, session or thread, and
    ///   nothing else does.
    /// - **pieces**: An operation in pieces is one message.
    /// - **rates**: Messages per second are those answered since the memory was opened, over that time; the mean latency is
    ///   that of the sampled calls.
    /// - **pending**: What was submitted and is not answered is pending.
    /// - **kernels-exact**: Hits and misses of the kernel cache are exact.
    /// - **cache-size**: The size of the kernel cache is the kernels that it holds.
    /// - **three-numbers**: Budget, live bytes and allocated bytes are three numbers.
    ///
    /// Blocking: takes each lane's guard for a look at its slots. Allocates: for the device's name.
    pub fn metrics(&self) -> ResidentMemoryMetrics {
        let sums = self.sums();
        let info = self.device.info();
        let uptime_s = self.clock.elapsed(Instant::now()).as_secs_f64();
        let launched = ResidentMemoryMetrics::new(info.kind.to_string(), info.name, self.clock.started_at());
        ResidentMemoryMetrics {
            total_pool_size_bytes: self.budget.limit_bytes(),
            used_pool_size_bytes: sums.pool.live_bytes,
            pool_hit_count: sums.pool.hits,
            pool_miss_count: sums.pool.misses,
            total_messages_processed: sums.processed,
            messages_per_second: rate(sums.processed, uptime_s),
            average_message_latency_ns: rate(sums.latency_ns, sums.latencies as f64),
            pending_message_count: sums.pending,
            active_allocation_count: sums.pool.live_count,
            total_allocated_bytes: sums.pool.live_block_bytes + sums.pool.idle_bytes,
            kernel_cache_size: self.kernels.len() as u64,
            ..launched
        }
        .with_rates(sums.kernel_hits, sums.kernel_misses)
    }

    /// What one session did.
    ///
    /// # Behavior
    /// - **own**: A session's totals are its own, and exact.
    /// - **restored**: An allocation that is restored is one of them, a hit of the pool or not, as the device counts it.
    ///
    /// # Errors
    /// `InvalidState` without a session.
    pub fn totals(&self, session: SessionId) -> Result<ResidentMemoryTotals, Error> {
        let mut lane = self.lane(session).lock();
        let session = lane.sessions.find(session).map_err(|refusal| refusal.into_error("totals"))?;
        Ok(session.tracker.snapshot())
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for host in &self.lanes {
            let lane = host.lock();
            let pending = lane.unanswered(None);
            sums.pending += pending;
            sums.processed += lane.counters.submitted - pending + lane.counters.host_answered;
            sums.kernel_hits += lane.counters.kernel_hits;
            sums.kernel_misses += lane.counters.kernel_misses;
            lane.pools().for_each(|(_, pool)| sums.pool.add(&pool.stats()));
            let (latency_ns, latencies) = host.latency.totals();
            sums.latency_ns += latency_ns;
            sums.latencies += latencies;
        }
        sums
    }

    /// The size classes of all lanes together, smallest first.
    fn details(&self) -> Vec<SizeClassMetrics> {
        let mut details: Vec<SizeClassMetrics> = Vec::new();
        for host in &self.lanes {
            let lane = host.lock();
            for (memory_type, pool) in lane.pools() {
                for class in pool.report().classes {
                    let same = |d: &&mut SizeClassMetrics| {
                        d.memory_type == memory_type && d.block_size_bytes == class.block_bytes
                    };
                    let (live, idle) = (class.live_count as u32, class.idle_count as u32);
                    let misses = class.releases + class.live_count - class.hits;
                    if let Some(detail) = details.iter_mut().find(same) {
                        detail.live_block_count += live;
                        detail.idle_block_count += idle;
                        detail.hit_count += class.hits;
                        detail.miss_count += misses;
                    } else {
                        details.push(SizeClassMetrics {
                            block_size_bytes: class.block_bytes,
                            memory_type,
                            live_block_count: live,
                            idle_block_count: idle,
                            hit_count: class.hits,
                            miss_count: misses,
                        });
                    }
                }
            }
        }
        details.sort_by_key(|detail| (detail.memory_type, detail.block_size_bytes));
        details.truncate(DETAILS_MAX);
        details
    }
}

fn rate(sum: u64, per: f64) -> f64 {
    if per == 0.0 { 0.0 } else { sum as f64 / per }
}
