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
use super::measure::{Latencies, Rounds, in_units, median};
use super::pipeline::computation;
use super::subject::{Actor, Subject};

/// Calls that may be in flight.
const DEPTH: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");
/// Percent of the peak that are offered.
const SHARES: [u32; 2] = [50, 80];

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(41), effort.of(100_000));
    let silo = subject.silo();
    let actor = Actor::new(&silo, 1);
    let mut outcome = SHARES.map(|_| Offered::default());
    let mut peaks_ns = Vec::with_capacity(rounds);
    let origin = Instant::now();
    let now_ns = || origin.elapsed().as_nanos() as f64;
    for round in 0..=rounds {
        // The peak is what the same loop does when every call is due at once, clock readings and checks included. Each
        // round has its own: what other load leaves of the machine changes between rounds.
        let peak_ns = offer(&silo, &actor, calls, 0.0, &now_ns, &mut Latencies::new());
        for (share, offered) in SHARES.iter().zip(&mut outcome) {
            let interval_ns = peak_ns * 100.0 / f64::from(*share);
            let mut latencies = Latencies::new();
            let took_ns = offer(&silo, &actor, calls, interval_ns, &now_ns, &mut latencies);
            // The first round warms up.
            if round > 0 {
                offered.rounds.0.push(latencies.quantiles());
                offered.achieved.push(100.0 * interval_ns / took_ns);
            }
        }
        peaks_ns.extend((round > 0).then_some(peak_ns));
    }
    let peak = 1e3 / median(peaks_ns);
    table.add(
        Draft::value("peak of the open loop's caller", peak, "M/s", 2)
            .under(format!("1 grain, 1 thread, up to {DEPTH} in flight; {rounds} rounds of {calls} calls, median")),
    );
    for (share, Offered { rounds: each, achieved }) in SHARES.into_iter().zip(outcome) {
        let worst = each.0.iter().map(|round| round.p999).fold(0.0, f64::max);
        let conditions = format!(
            "latency from the intended start; calls at fixed intervals, {share} % of their round's peak, of which \
             {:.1} % were achieved; {rounds} rounds of {calls} calls, medians; worst round's p99.9 {}",
            median(achieved),
            in_units(worst)
        );
        let figure = format!("grain's call in an open loop, {share} % of the peak");
        table.add(Draft::latency(figure, each.middle()).under(conditions));
        table.charts.latency(format!("open loop, {share} % of peak"), each.middle());
    }
}

/// What the rounds at one rate came to.
#[derive(Default)]
struct Offered {
    rounds: Rounds,
    /// Percent of the rate that was offered.
    achieved: Vec<f64>,
}

/// Offers `calls` calls from one thread, call `x` at `x · interval_ns` from the start, and records their latencies from
/// then, by the clock `now_ns`. Returns nanoseconds per call.
fn offer(
    silo: &Silo,
    actor: &Actor,
    calls: usize,
    interval_ns: f64,
    now_ns: &impl Fn() -> f64,
    latencies: &mut Latencies,
) -> f64 {
    let ran = || check(0, call(actor, 0).wait());
    let (before, calls) = (ran(), calls as u64);
    let mut batch: GrainBatch = silo.batch(DEPTH);
    let (mut submitted, mut answered) = (0, 0);
    let started_ns = now_ns();
    let elapsed_ns = || now_ns() - started_ns;
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
        // The older half, a single one included: what came meanwhile goes together, so the longer the queue, the more at once.
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::cell::Cell;

    use super::super::{Quantiles, select};
    use super::*;

    #[test]
    fn a_caller_that_is_held_up_does_not_shorten_the_latencies() {
        const CALLS: usize = 10;
        const HELD_UP_NS: f64 = 100_000.0;
        let device = select("cpu").and_then(|selection| selection.open()).expect("the CPU opens");
        let silo = Subject { device, backend: "cpu".to_owned() }.silo();
        // Held up as soon as it has started: all calls begin at one moment, when all were long due, and take no time.
        let has_started = Cell::new(false);
        let now_ns = || if has_started.replace(true) { HELD_UP_NS } else { 0.0 };
        let mut latencies = Latencies::new();
        let took_ns = offer(&silo, &Actor::new(&silo, 1), CALLS, 1_000.0, &now_ns, &mut latencies);
        assert_eq!((latencies.len(), took_ns), (CALLS as u64, HELD_UP_NS / CALLS as f64));
        let Quantiles { p50, p999, .. } = latencies.quantiles();
        // Histograms keep three digits.
        let is = |latency_ns: f64, expected_ns: f64| (latency_ns / expected_ns - 1.0).abs() < 1e-3;
        assert!(is(p999, HELD_UP_NS), "the first call was due {HELD_UP_NS} ns before its answer, not {p999} ns");
        assert!(is(p50, HELD_UP_NS - 5_000.0), "the sixth was due 5 intervals later, with {p50} ns left");
    }
}
