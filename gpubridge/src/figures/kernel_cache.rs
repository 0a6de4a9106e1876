//! The kernel cache: more kernels than slots, fewer, and what a miss costs.

use std::time::Instant;

use gpubridge_grains::wait;
use gpubridge_runtime::pool::trace::SplitMix;

use super::Effort;
use super::kernel::numbered;
use super::line::{Draft, Table};
use super::measure::Latencies;
use super::subject::Subject;
use crate::Parameters;

const CALLS: usize = 10_000;
const SEED: u64 = 42;
/// Popularity falls with the rank to this power.
const EXPONENT: f64 = 1.2;
/// Percent that must hit.
const BAR: f64 = 95.0;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let mut latencies = [Latencies::new(), Latencies::new()];
    let more = popular("more kernels than slots", 130, subject, &mut latencies);
    let fewer = popular("fewer kernels than slots", 50, subject, &mut [Latencies::new(), Latencies::new()]);
    table.add(more);
    table.add(fewer);
    let [hits, misses] = latencies;
    let calls =
        |what: &Latencies| format!("closed loop, spinning; {} of the calls with more kernels than slots", what.len());
    table.add(Draft::latency("call whose kernel is in the cache", hits.quantiles()).under(calls(&hits)));
    table.add(
        Draft::latency("kernel cache miss: call that compiles its kernel", misses.quantiles()).under(calls(&misses)),
    );
    let times = effort.of(10_000);
    table.add(
        Draft::latency("compilation alone", compilations(subject, times))
            .under(format!("the device's compile, {times} specializations, no ring")),
    );
}

/// The hit rate of calls to `kernels` kernels, of which few are popular; their latencies by hit and miss.
fn popular(name: &str, kernels: u32, subject: &Subject, [hit, missed]: &mut [Latencies; 2]) -> Draft {
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    wait(grain.totals()).expect("it is active");
    let mut random = SplitMix::new(SEED);
    for _ in 0..CALLS {
        let which = random.zipf(kernels, EXPONENT);
        let started = Instant::now();
        let answer = grain.compute(numbered(which), None, None, Parameters::new()).wait().expect("it runs");
        let latencies = if answer.is_cache_hit { &mut *hit } else { &mut *missed };
        latencies.since(started);
        assert_eq!(answer.result.u32_at(0), Some(which), "another kernel answered");
    }
    let metrics = wait(grain.metrics(false)).expect("it is answered");
    let known = (metrics.kernel_cache_hit_count, metrics.kernel_cache_miss_count);
    assert_eq!(known, (hit.len(), missed.len()), "hits and misses that the metrics know of");
    let slots = silo.memory().config().kernel_cache_capacity;
    Draft::value(format!("kernel cache hit rate, {name}"), 100.0 * hit.len() as f64 / CALLS as f64, "%", 2)
        .at_least(BAR)
        .under(format!("{kernels} kernels, {slots} slots, {CALLS} calls, Zipf popularity (exponent {EXPONENT}), seed {SEED}, from an empty cache"))
}

fn compilations(subject: &Subject, times: usize) -> crate::figures::Quantiles {
    let mut latencies = Latencies::new();
    for which in 0..times as u32 {
        let spec = numbered(which);
        let started = Instant::now();
        let compiled = subject.device.compile(&spec, 0);
        latencies.since(started);
        compiled.expect("it compiles");
    }
    latencies.quantiles()
}
