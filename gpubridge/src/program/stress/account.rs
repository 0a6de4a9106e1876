//! The accounts at the end of a run: each counter of the runtime against the count kept outside.

use std::collections::BTreeMap;
use std::fmt;

use gpubridge::grains::{GrainKey, GrainRef, Silo, wait};
use gpubridge::{Error, GpuMemoryInfo, MetricsResponse, ResidentMemoryMetrics, ResidentMemoryTotals};

use super::super::actors::metrics as named;
use super::super::engine::{Metric, MetricValue};
use super::counted::Counted;
use super::counts::{Counts, Kind, Seen};
use super::stage::Stage;

/// One number, as it must be and as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What it counts.
    pub name: String,
    /// What was counted outside, or follows from that.
    pub expected: MetricValue,
    /// What the runtime says.
    pub found: MetricValue,
    /// Whether the one is as the other demands.
    pub holds: bool,
}

impl Check {
    /// A number that must be the same.
    pub fn equal(name: impl Into<String>, expected: MetricValue, found: MetricValue) -> Self {
        let holds = expected == found;
        Self { name: name.into(), expected, found, holds }
    }

    /// A count that must be the same.
    pub fn count(name: impl Into<String>, expected: u64, found: u64) -> Self {
        Self::equal(name, MetricValue::Count(expected), MetricValue::Count(found))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.name, self.expected, self.found)
    }
}

/// What a tracker counts, under the names that its checks have.
const TRACKED: [(&str, Kind); 11] = [
    ("tracker allocations", Kind::Allocations),
    ("tracker allocated bytes", Kind::AllocatedBytes),
    ("tracker pool hits", Kind::PoolHits),
    ("tracker writes", Kind::Writes),
    ("tracker written bytes", Kind::WrittenBytes),
    ("tracker reads", Kind::Reads),
    ("tracker read bytes", Kind::ReadBytes),
    ("tracker computes", Kind::Computes),
    ("tracker releases", Kind::Releases),
    ("tracker released bytes", Kind::ReleasedBytes),
    ("tracker blocks returned to the pool", Kind::Returned),
];

/// Everything that the device's metrics must agree with.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The calls of all grains.
    pub counts: Counts,
    /// Allocations of active grains.
    pub live: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Kernels that were compiled, each once.
    pub kernels: u64,
    /// The memory budget.
    pub budget_bytes: u64,
    /// The device's kind and name.
    pub device: [String; 2],
}

impl Expected {
    fn of(stage: &Stage, calls: &[Counted], kernels: u64) -> Self {
        let mut counts = Counts::default();
        let (mut live, mut live_bytes) = (0, 0);
        for calls in calls {
            counts.merge(calls.total());
            if calls.since_activation().is_some() {
                live += calls.live().0;
                live_bytes += calls.live().1;
            }
        }
        let device = [stage.device.kind.to_string(), stage.device.name.clone()];
        Self { counts, live, live_bytes, kernels, budget_bytes: stage.budget_bytes, device }
    }

    /// Blocks that were taken from the pool: an activation takes one for each allocation that it brings back.
    fn blocks(&self) -> u64 {
        self.counts[Kind::Allocations] + self.counts[Kind::Restored]
    }

    /// The metrics of the device, but for times.
    pub fn check(&self, found: &ResidentMemoryMetrics) -> Vec<Check> {
        use MetricValue::{Count, Number, Text};
        let Self { counts, live, live_bytes, kernels, budget_bytes, device } = self;
        let computes = counts[Kind::Computes];
        let cache_hit_rate = ratio(computes.saturating_sub(*kernels), computes);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut expected = vec![
            ("total_pool_size_bytes", Count(*budget_bytes)),
            ("used_pool_size_bytes", Count(*live_bytes)),
            ("pool_utilization", Number(ratio(*live_bytes, *budget_bytes))),
            ("total_messages_processed", Count(counts.messages())),
            ("pending_message_count", Count(0)),
            ("active_allocation_count", Count(*live)),
            ("kernel_cache_size", Count(*kernels)),
            ("kernel_cache_hit_rate", Number(cache_hit_rate)),
            ("device_type", Text(device[0].clone())),
            ("device_name", Text(device[1].clone())),
            ("average_allocation_size_bytes", Number(ratio(*live_bytes, *live))),
            ("kernel_efficiency", Number(cache_hit_rate)),
            ("total_memory_mb", Number(mib(*budget_bytes))),
            ("used_memory_mb", Number(mib(*live_bytes))),
        ];
        if counts[Kind::Restored] == 0 {
            // Otherwise the blocks of restored allocations count among them, and of those nobody is told.
            let hits = counts[Kind::PoolHits];
            let hit_rate = ratio(hits, self.blocks());
            expected.push(("pool_hit_count", Count(hits)));
            expected.push(("pool_hit_rate", Number(hit_rate)));
            expected.push(("memory_efficiency", Number(hit_rate)));
        }
        let found_by_name: BTreeMap<String, MetricValue> =
            named(found).into_iter().map(|Metric { name, value }| (name, value)).collect();
        let missing = || Text("no such metric".into());
        let mut checks: Vec<Check> = expected
            .into_iter()
            .map(|(name, value)| Check::equal(name, value, found_by_name.get(name).cloned().unwrap_or_else(missing)))
            .collect();
        let blocks = found.pool_hit_count + found.pool_miss_count;
        checks.push(Check::count("pool_hit_count + pool_miss_count", self.blocks(), blocks));
        checks
    }

    /// What only the answer to a request for the metrics tells, and whether its parts agree with its sums.
    pub fn check_response(&self, found: &MetricsResponse, memory: &GpuMemoryInfo) -> Vec<Check> {
        let sum = |part: fn(&gpubridge::SizeClassMetrics) -> u64| found.details.iter().map(part).sum::<u64>();
        let block_bytes = sum(|class| {
            class.block_size_bytes * (u64::from(class.live_block_count) + u64::from(class.idle_block_count))
        });
        let hits = self.counts[Kind::Computes].saturating_sub(self.kernels);
        vec![
            Check::count("kernel_cache_hit_count", hits, found.kernel_cache_hit_count),
            Check::count("kernel_cache_miss_count", self.kernels, found.kernel_cache_miss_count),
            Check::count("messages in the answer itself", self.counts.messages(), found.total_messages_processed),
            Check::count("live blocks of all size classes", self.live, sum(|class| class.live_block_count.into())),
            Check::count("hits of all size classes", found.pool_hit_count, sum(|class| class.hit_count)),
            Check::count("misses of all size classes", found.pool_miss_count, sum(|class| class.miss_count)),
            Check::count("bytes of all size classes", found.total_allocated_bytes, block_bytes),
            Check::count("allocated bytes of the memory", found.total_allocated_bytes, memory.allocated_bytes),
        ]
    }
}

/// Compares everything while all is live, releases it, and compares everything again.
pub fn settle(stage: &Stage, calls: &mut [Counted], kernels: u64, mut seen: Seen) -> Result<(Vec<Check>, Seen), Error> {
    let silo = &stage.silo;
    let before = Expected::of(stage, calls, kernels).check(&silo.metrics());
    let mut checks: Vec<Check> = before
        .into_iter()
        .map(|check| Check { name: format!("before the release, {}", check.name), ..check })
        .collect();
    calls.iter_mut().try_for_each(Counted::release_all)?;
    if let Some(first) = calls.first_mut() {
        let response = first.metrics()?;
        let expected = Expected::of(stage, calls, kernels);
        checks.extend(expected.check_response(&response, &silo.memory_info()));
        checks.extend(expected.check(&silo.metrics()));
        checks.extend(settle_trackers(&expected, calls)?);
    }
    for calls in calls {
        seen.merge(std::mem::take(&mut calls.seen));
    }
    checks.push(Check::count("bytes that differ", 0, seen.wrong_bytes));
    checks.push(Check::count("answers that differ", 0, seen.wrong_answers));
    Ok((checks, seen))
}

/// The silo's end is part of the accounts.
pub fn settle_shutdown(silo: Silo) -> Result<Check, Error> {
    let report = wait(silo.shutdown(super::stage::STOP_DEADLINE));
    let unsaved = report.unsaved.len() as u64;
    if unsaved == 0 {
        report.into_result()?;
    }
    Ok(Check::count("grains not saved at the end", 0, unsaved))
}

/// Each grain's tracker against the calls since its activation, and the trackers of all activations against all calls.
fn settle_trackers(expected: &Expected, calls: &[Counted]) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let mut tracked = Counts::default();
    let mut by_grain: BTreeMap<GrainKey, (&GrainRef, Counts)> = BTreeMap::new();
    for calls in calls {
        tracked.merge(calls.tracked());
        checks.extend(calls.tracker_faults().iter().cloned());
        if let Some(since) = calls.since_activation() {
            let (_, counts) = by_grain.entry(calls.grain.key().clone()).or_insert((&calls.grain, Counts::default()));
            counts.merge(since);
        }
    }
    for (key, (grain, since)) in &by_grain {
        let found = tracked_counts(&wait(grain.totals())?);
        checks.extend(tracker_faults(key, since, &found));
        tracked.merge(&found);
    }
    let all = as_tracked(&expected.counts);
    checks.extend(TRACKED.map(|(name, kind)| Check::count(name, all[kind], tracked[kind])));
    checks.push(Check::count("allocations released", all[Kind::Allocations], tracked[Kind::Releases]));
    let hits = all[Kind::Computes].saturating_sub(expected.kernels);
    checks.push(Check::count("tracker kernel cache hits", hits, tracked[Kind::CacheHits]));
    Ok(checks)
}

/// What of a tracker is not as it was counted.
pub fn tracker_faults(key: &GrainKey, since: &Counts, found: &Counts) -> impl Iterator<Item = Check> {
    let (expected, found) = (as_tracked(since), *found);
    let checks = TRACKED.map(|(name, kind)| Check::count(format!("grain {key}: {name}"), expected[kind], found[kind]));
    checks.into_iter().filter(|check| !check.holds)
}

/// What a tracker has counted.
pub fn tracked_counts(totals: &ResidentMemoryTotals) -> Counts {
    let ResidentMemoryTotals { computes, allocations, writes, reads, releases, .. } = totals;
    let mut counts = Counts::default();
    for (kind, number) in [
        (Kind::Allocations, allocations.count),
        (Kind::AllocatedBytes, allocations.bytes),
        (Kind::PoolHits, allocations.pool_hit_count),
        (Kind::Writes, writes.count),
        (Kind::WrittenBytes, writes.bytes),
        (Kind::Reads, reads.count),
        (Kind::ReadBytes, reads.bytes),
        (Kind::Computes, computes.count),
        (Kind::CacheHits, computes.cache_hit_count),
        (Kind::Releases, releases.count),
        (Kind::ReleasedBytes, releases.bytes),
        (Kind::Returned, releases.returned_to_pool_count),
    ] {
        counts[kind] = number;
    }
    counts
}

/// Counts as a tracker sees them: what an activation brings back is written.
fn as_tracked(counts: &Counts) -> Counts {
    let mut tracked = *counts;
    tracked[Kind::Writes] += counts[Kind::Restored];
    tracked[Kind::WrittenBytes] += counts[Kind::RestoredBytes];
    tracked
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
