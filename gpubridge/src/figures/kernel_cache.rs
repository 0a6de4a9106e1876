//! The kernel cache: more kernels than slots, fewer, and what a miss costs.

use std::num::NonZeroUsize;

use gpubridge_grains::{Computation, wait};
use gpubridge_runtime::Answered;
use gpubridge_runtime::pool::trace::SplitMix;

use super::Effort;
use super::kernel::numbered;
use super::line::{Draft, Table};
use super::pace::Loops;
use super::subject::Subject;
use crate::Parameters;

/// Kernels where there are more than slots, and where there are fewer.
const MORE: u32 = 130;
const FEWER: u32 = 50;
const CALLS: usize = 10_000;
/// Calls in flight: fewer than the kernels that may be evicted while they are at work.
const DEPTH: NonZeroUsize = NonZeroUsize::new(16).expect("it is not 0");
const SEED: u64 = 42;
/// Popularity falls with the rank to this power.
const EXPONENT: f64 = 1.2;
/// Percent that must hit.
const BAR: f64 = 95.0;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    table.add(popular("more kernels than slots", MORE, subject));
    table.add(popular("fewer kernels than slots", FEWER, subject));
    let (rounds, calls) = (effort.of(11), effort.of(CALLS));
    for (figure, is_hit) in
        [("call whose kernel is in the cache", true), ("kernel cache miss: call that compiles its kernel", false)]
    {
        let loops = latencies(subject, rounds, calls, is_hit);
        table.add(Draft::latency(figure, &loops).under(format!(
            "spinning; {rounds} rounds of {calls} calls, of which {} count and all are paced, medians; {MORE} kernels as above",
            loops.recorded() / rounds as u64
        )));
    }
    let times = effort.of(10_000);
    table.add(
        Draft::latency("compilation alone", &compilations(subject, times))
            .under(format!("the device's compile, {times} specializations in each loop, no ring")),
    );
}

/// The hit rate of calls to `kernels` kernels, of which few are popular.
fn popular(name: &str, kernels: u32, subject: &Subject) -> Draft {
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    let mut random = SplitMix::new(SEED);
    let (mut hits, mut answered) = (0, 0);
    let mut take = |(which, answer): Answered| {
        let answer = answer.expect("it runs");
        assert_eq!(answer.result.u32_at(0), Some(which as u32), "another kernel answered");
        hits += u64::from(answer.is_cache_hit);
        answered += 1;
    };
    let computations = (0..CALLS).map(|_| {
        let which = random.zipf(kernels, EXPONENT);
        let parameters = Parameters::new();
        Computation {
            grain: &grain,
            kernel: numbered(which),
            input: None,
            output: None,
            parameters,
            token: which.into(),
        }
    });
    let mut batch = silo.batch(DEPTH);
    batch.submit(computations, &mut take);
    std::iter::from_fn(|| batch.next()).for_each(&mut take);
    let metrics = wait(grain.metrics(false)).expect("it is answered");
    let known = (metrics.kernel_cache_hit_count, metrics.kernel_cache_miss_count);
    assert_eq!((answered, known), (CALLS, (hits, CALLS as u64 - hits)), "calls, and what the metrics know of them");
    let slots = silo.memory().config().kernel_cache_capacity;
    Draft::value(format!("kernel cache hit rate, {name}"), 100.0 * hits as f64 / CALLS as f64, "%", 2).at_least(BAR).under(
        format!(
            "{kernels} kernels, {slots} slots, {CALLS} calls from an empty cache, Zipf popularity with exponent {EXPONENT}, \
             seed {SEED}"
        ),
    )
}

/// Calls one at a time, of which those count whose kernel was in the cache, or those whose kernel was not.
fn latencies(subject: &Subject, rounds: usize, calls: usize, is_hit: bool) -> Loops {
    Loops::run(rounds, calls, |mut pace| {
        let silo = subject.silo();
        let grain = silo.grain(1).expect("the key is good");
        wait(grain.totals()).expect("it is active");
        let mut random = SplitMix::new(SEED);
        for _ in pace.steps() {
            let which = random.zipf(MORE, EXPONENT);
            pace.begin();
            let answer = grain.compute(numbered(which), None, None, Parameters::new()).wait().expect("it runs");
            if answer.is_cache_hit == is_hit {
                pace.end(1);
            }
            assert_eq!(answer.result.u32_at(0), Some(which), "another kernel answered");
        }
        pace
    })
}

fn compilations(subject: &Subject, times: usize) -> Loops {
    let mut numbers = 0..;
    Loops::once(times, |mut pace| {
        for which in numbers.by_ref().take(times) {
            let spec = numbered(which);
            pace.begin();
            let compiled = subject.device.compile(&spec, 0);
            pace.end(1);
            compiled.expect("it compiles");
        }
        pace
    })
}
