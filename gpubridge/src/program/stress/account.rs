//! The accounts at the end of a run: each counter of the runtime against the count kept outside.
//!
//! Counts and what follows from them are compared to the last digit. Two things are known outside between bounds only, and
//! the bounds are exact: messages per second are the messages counted over a time between two that the run's own clock
//! tells; the mean latency, which is that of the sampled calls, is no longer than the longest of all calls. What the runtime
//! alone can know is held against another of its books: allocated bytes against those of its size classes, hits among restored
//! blocks as the session's tracker counted them against the pool's; and what derives from a metric against that. Of no account
//! are the start time, the uptime that is reckoned from it, and the trackers' mean times: the first two are the system
//! clock's, which may be set meanwhile, the last the device's own and nobody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gpubridge::grains::{GrainKey, GrainRef, Silo, wait};
use gpubridge::{Error, GpuMemoryInfo, MetricsResponse, ResidentMemoryMetrics, ResidentMemoryTotals};

use super::super::actors::metrics as named;
use super::super::engine::{Metric, MetricValue};
use super::counted::Counted;
use super::counts::{Counts, Kind, Seen};
use super::stage::{Stage, Uptime};

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

    /// A number that must be as is `demanded`.
    fn demand(name: &str, demanded: String, found: f64, holds: bool) -> Self {
        Self { name: name.to_owned(), expected: MetricValue::Text(demanded), found: MetricValue::Number(found), holds }
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
    /// Whether a pipeline was answered: the first call of each has its latency sampled. Of the others one command in 16
    /// of a lane has, which may be none of a call.
    pub is_sampled: bool,
    /// The longest that any call took.
    pub longest: Duration,
}

impl Expected {
    fn of(stage: &Stage, calls: &[Counted], kernels: u64, seen: &Seen) -> Self {
        let mut counts = Counts::default();
        let (mut live, mut live_bytes) = (0, 0);
        let mut longest = seen.longest;
        for calls in calls {
            longest = longest.max(calls.seen.longest);
            counts.merge(calls.total());
            if calls.since_activation().is_some() {
                live += calls.live().0;
                live_bytes += calls.live().1;
            }
        }
        let device = [stage.device.kind.to_string(), stage.device.name.clone()];
        let is_sampled = seen.pipelined > 0;
        Self { counts, live, live_bytes, kernels, budget_bytes: stage.budget_bytes, device, is_sampled, longest }
    }

    /// Blocks that were taken from the pool: an activation takes one for each allocation that it brings back.
    fn blocks(&self) -> u64 {
        self.counts[Kind::Allocations] + self.counts[Kind::Restored]
    }

    /// Those of them that idle blocks served: as each answer said, and of those brought back as the trackers do.
    fn hits(&self) -> u64 {
        self.counts[Kind::PoolHits] + self.counts[Kind::RestoredHits]
    }

    /// The others.
    fn misses(&self) -> u64 {
        self.blocks().saturating_sub(self.hits())
    }

    /// The metrics of the device.
    pub fn check(&self, (found, uptime): &(ResidentMemoryMetrics, Uptime)) -> Vec<Check> {
        use MetricValue::{Count, Number, Text};
        let Self { counts, live, live_bytes, kernels, budget_bytes, device, .. } = self;
        let computes = counts[Kind::Computes];
        let cache_hit_rate = ratio(computes.saturating_sub(*kernels), computes);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let hit_rate = ratio(self.hits(), self.blocks());
        let expected = [
            ("total_pool_size_bytes", Count(*budget_bytes)),
            ("used_pool_size_bytes", Count(*live_bytes)),
            ("pool_utilization", Number(ratio(*live_bytes, *budget_bytes))),
            ("pool_hit_count", Count(self.hits())),
            ("pool_miss_count", Count(self.misses())),
            ("pool_hit_rate", Number(hit_rate)),
            ("total_messages_processed", Count(counts.messages())),
            ("pending_message_count", Count(0)),
            ("active_allocation_count", Count(*live)),
            ("kernel_cache_size", Count(*kernels)),
            ("kernel_cache_hit_rate", Number(cache_hit_rate)),
            ("device_type", Text(device[0].clone())),
            ("device_name", Text(device[1].clone())),
            ("average_allocation_size_bytes", Number(ratio(*live_bytes, *live))),
            ("memory_efficiency", Number(hit_rate)),
            ("throughput_mmessages_per_sec", Number(found.messages_per_second / 1e6)),
            ("average_message_latency_us", Number(found.average_message_latency_ns / 1e3)),
            ("kernel_efficiency", Number(cache_hit_rate)),
            ("total_memory_mb", Number(mib(*budget_bytes))),
            ("used_memory_mb", Number(mib(*live_bytes))),
        ];
        let found_by_name: BTreeMap<String, MetricValue> =
            named(found).into_iter().map(|Metric { name, value }| (name, value)).collect();
        let missing = || Text("no such metric".into());
        let mut checks: Vec<Check> = expected
            .into_iter()
            .map(|(name, value)| Check::equal(name, value, found_by_name.get(name).cloned().unwrap_or_else(missing)))
            .collect();
        checks.push(self.check_rate("messages_per_second", *uptime, found.messages_per_second));
        checks.push(self.check_latency("average_message_latency_ns", found.average_message_latency_ns));
        checks
    }

    /// Messages per second: all that were counted, over the time that the silo had run.
    fn check_rate(&self, name: &str, uptime: Uptime, found: f64) -> Check {
        let [most, least] = uptime.map(|uptime| self.counts.messages() as f64 / uptime.as_secs_f64());
        Check::demand(name, format!("{least} to {most}"), found, (least..=most).contains(&found))
    }

    /// A mean of latencies.
    fn check_latency(&self, name: &str, found: f64) -> Check {
        let most = self.longest.as_nanos() as f64;
        let (least, is_enough) = if self.is_sampled { ("more than", found > 0.0) } else { ("at least", found >= 0.0) };
        Check::demand(name, format!("{least} 0 and at most {most}"), found, is_enough && found <= most)
    }

    /// What only the answer to a request for the metrics tells, and whether its parts agree with its sums.
    pub fn check_response(&self, (found, uptime): &(MetricsResponse, Uptime), memory: &GpuMemoryInfo) -> Vec<Check> {
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
            self.check_rate("messages per second in the answer itself", *uptime, found.messages_per_second),
            self.check_latency("average latency in the answer itself", found.average_latency_ns),
            Check::count("hits in the answer itself", self.hits(), found.pool_hit_count),
            Check::count("misses in the answer itself", self.misses(), found.pool_miss_count),
            Check::count("hits of all size classes", found.pool_hit_count, sum(|class| class.hit_count)),
            Check::count("misses of all size classes", found.pool_miss_count, sum(|class| class.miss_count)),
            Check::count("bytes of all size classes", found.total_allocated_bytes, block_bytes),
            Check::count("allocated bytes of the memory", found.total_allocated_bytes, memory.allocated_bytes),
        ]
    }
}

/// Compares everything while all is live, releases it, and compares everything again.
pub fn settle(stage: &Stage, calls: &mut [Counted], kernels: u64, mut seen: Seen) -> Result<(Vec<Check>, Seen), Error> {
    calls.iter_mut().try_for_each(Counted::note_restored)?;
    let before = Expected::of(stage, calls, kernels, &seen).check(&stage.ask(Silo::metrics));
    let mut checks: Vec<Check> = before
        .into_iter()
        .map(|check| Check { name: format!("before the release, {}", check.name), ..check })
        .collect();
    calls.iter_mut().try_for_each(Counted::release_all)?;
    if let Some(first) = calls.first_mut() {
        let (response, uptime) = stage.ask(|_| first.metrics());
        let expected = Expected::of(stage, calls, kernels, &seen);
        checks.extend(expected.check_response(&(response?, uptime), &stage.silo.memory_info()));
        checks.extend(expected.check(&stage.ask(Silo::metrics)));
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
    let allocations = expected.counts[Kind::Allocations];
    checks.push(Check::count("allocations released", allocations, tracked[Kind::Releases]));
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

/// Counts as a tracker sees them: what an activation brings back is allocated and written.
fn as_tracked(counts: &Counts) -> Counts {
    let mut tracked = *counts;
    tracked[Kind::Allocations] += counts[Kind::Restored];
    tracked[Kind::AllocatedBytes] += counts[Kind::RestoredBytes];
    tracked[Kind::PoolHits] += counts[Kind::RestoredHits];
    tracked[Kind::Writes] += counts[Kind::Restored];
    tracked[Kind::WrittenBytes] += counts[Kind::RestoredBytes];
    tracked
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Of the accounts of 1,000 messages in 2 to 4 seconds, the longest of which took one.
    fn faults(messages_per_second: f64, average_message_latency_ns: f64, is_sampled: bool) -> Vec<String> {
        let mut counts = Counts::default();
        counts[Kind::Writes] = 1_000;
        let device = ["kind", "name"].map(str::to_owned);
        let longest = Duration::from_secs(1);
        let expected =
            Expected { counts, live: 0, live_bytes: 0, kernels: 0, budget_bytes: 0, device, is_sampled, longest };
        let found = ResidentMemoryMetrics {
            total_messages_processed: 1_000,
            messages_per_second,
            average_message_latency_ns,
            ..ResidentMemoryMetrics::new("kind", "name", SystemTime::UNIX_EPOCH)
        };
        let checks = expected.check(&(found, [2, 4].map(Duration::from_secs)));
        checks.iter().filter(|check| !check.holds).map(Check::to_string).collect()
    }

    #[test]
    fn a_rate_is_the_count_over_the_time_and_no_mean_is_longer_than_the_longest() {
        for (rate, latency_ns, is_sampled) in [(250.0, 1e9, true), (500.0, 0.5, true), (300.0, 0.0, false)] {
            assert_eq!(faults(rate, latency_ns, is_sampled), [] as [&str; 0]);
        }
        for rate in [249.9, 500.1] {
            assert_eq!(faults(rate, 1.0, true), [format!("messages_per_second: expected 250 to 500, found {rate}")]);
        }
        let name = "average_message_latency_ns";
        let expected = "more than 0 and at most 1000000000";
        for latency_ns in [0.0, 1_000_000_001.0] {
            assert_eq!(faults(300.0, latency_ns, true), [format!("{name}: expected {expected}, found {latency_ns}")]);
        }
    }
}
