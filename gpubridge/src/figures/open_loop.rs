//! Calls that come when they come: latency at a rate that does not wait for answers.
//!
//! In a closed loop a caller that is held up also stops calling, and the calls that it did not make are missing from the
//! quantiles. Here each call has a fixed time at which it is to begin, and its latency counts from then, whatever became of
//! the calls before.

use std::num::NonZeroUsize;
use std::time::Instant;

use gpubridge_grains::{GrainBatch, Silo};

use super::Effort;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::measure::{Latencies, median};
use super::pipeline::computation;
use super::subject::{Actor, Subject};

/// Calls that may be in flight.
const DEPTH: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");
/// Percent of the peak that are offered.
const SHARES: [u32; 2] = [50, 80];

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(11), effort.of(400_000));
    let silo = subject.silo();
    let actor = Actor::new(&silo, 1);
    // The peak is what the same loop does when every call is due at once, clock readings and checks included.
    let peak = || offer(&silo, &actor, calls, 0.0, &mut Latencies::new());
    peak();
    let peak_ns = median((0..rounds).map(|_| peak()));
    let peak_m_per_s = 1e3 / peak_ns;
    table.add(
        Draft::value("peak of the open loop's caller", peak_m_per_s, "M/s", 2)
            .under(format!("1 grain, 1 thread, up to {DEPTH} in flight; {rounds} rounds of {calls} calls, median")),
    );
    let mut offered = SHARES.map(|_| (Latencies::new(), Vec::with_capacity(rounds)));
    for _ in 0..rounds {
        for (share, (latencies, took)) in SHARES.iter().zip(&mut offered) {
            took.push(offer(&silo, &actor, calls, interval_ns(peak_ns, *share), latencies));
        }
    }
    for (share, (latencies, took)) in SHARES.into_iter().zip(offered) {
        let interval_ns = interval_ns(peak_ns, share);
        let achieved = 100.0 * interval_ns / median(took);
        let conditions = format!(
            "latency from the intended start; offered {:.2} M/s at fixed intervals, achieved {achieved:.1} % of that; \
             {rounds} rounds of {calls} calls in one histogram",
            1e3 / interval_ns
        );
        let figure = format!("grain's call in an open loop, {share} % of the peak");
        table.add(Draft::latency(figure, latencies.quantiles()).under(conditions));
        table.charts.latency(format!("open loop, {share} % of peak"), latencies.quantiles());
    }
}

fn interval_ns(peak_ns: f64, share: u32) -> f64 {
    peak_ns * 100.0 / f64::from(share)
}

/// Offers `calls` calls from one thread, call `x` at `x · interval_ns` from the start, and records their latencies from
/// then. Returns nanoseconds per call.
fn offer(silo: &Silo, actor: &Actor, calls: usize, interval_ns: f64, latencies: &mut Latencies) -> f64 {
    let ran = || check(0, call(actor, 0).wait());
    let (before, calls) = (ran(), calls as u64);
    let mut batch: GrainBatch = silo.batch(DEPTH);
    let (mut submitted, mut answered) = (0, 0);
    let started = Instant::now();
    let elapsed_ns = || started.elapsed().as_nanos() as f64;
    let mut take = |(x, answer)| {
        check(x, answer);
        assert_eq!(x, answered, "answers come in order");
        answered += 1;
        latencies.record(elapsed_ns() - x as f64 * interval_ns);
    };
    while submitted < calls {
        // All that is due begins now: late if this thread was held up, and that is part of its latency.
        let due = if interval_ns > 0.0 { calls.min((elapsed_ns() / interval_ns) as u64 + 1) } else { calls };
        batch.submit((submitted..due).map(|x| computation(actor, x)), &mut take);
        submitted = due;
        // The older half, and so the only one: the longer the queue, the more is submitted at once next time.
        for _ in 0..batch.len().div_ceil(2) {
            batch.next().into_iter().for_each(&mut take);
        }
    }
    std::iter::from_fn(|| batch.next()).for_each(&mut take);
    let took = elapsed_ns() / calls as f64;
    assert_eq!(
        (answered, ran().wrapping_sub(before)),
        (calls, calls as u32 + 1),
        "calls that were answered and that ran"
    );
    took
}
