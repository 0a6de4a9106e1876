//! Pipelined calls that come when they come: one caller with many in flight, at a rate that does not wait for answers.

use std::num::NonZeroUsize;
use std::time::Instant;

use gpubridge_grains::{GrainBatch, Silo};

use super::Effort;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::measure::in_units;
use super::pace::{Loops, Pace};
use super::pipeline::{computation, m_per_s};
use super::subject::{Actor, Subject};

/// Calls that may be in flight.
const DEPTH: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(41), effort.of(100_000));
    let silo = subject.silo();
    let actor = Actor::new(&silo, 1);
    // The peak is what the same loop does when every call is due at once, clock readings and checks included.
    let loops = Loops::run(rounds, calls, |pace| offer(&silo, &actor, pace));
    let worst = loops.open().map(|offered| in_units(offered.worst_p999_ns));
    table.add(Draft::value("grain's calls in batches that take what is due", m_per_s(loops.peak_ns()), "M/s", 2).open(&loops).under(
        format!(
            "1 grain, 1 thread, up to {DEPTH} in flight; {rounds} rounds of {calls} calls, medians; worst rounds' p99.9 in \
             the open loops {}",
            worst.join(" and ")
        ),
    ));
}

/// Makes the calls of a pass from one thread, all that are due at once.
fn offer<C: Fn() -> Instant>(silo: &Silo, actor: &Actor, mut pace: Pace<C>) -> Pace<C> {
    let ran = || check(0, call(actor, 0).wait());
    let (before, calls) = (ran(), pace.steps().end);
    let mut batch: GrainBatch = silo.batch(DEPTH);
    let (mut submitted, mut answered) = (0, 0);
    let mut take = |pace: &mut Pace<C>, (x, answer)| {
        check(x, answer);
        assert_eq!(x, answered, "answers come in order");
        answered += 1;
        pace.answered(x);
    };
    while submitted < calls {
        // All that is due begins now: late if this thread was held up, and that is part of its latency.
        let due = pace.due();
        batch.submit((submitted..due).map(|x| computation(actor, x)), &mut |answer| take(&mut pace, answer));
        submitted = due;
        // The older half, a single one included: what came meanwhile goes together, so the longer the queue, the more at once.
        for _ in 0..batch.len().div_ceil(2) {
            batch.next().into_iter().for_each(|answer| take(&mut pace, answer));
        }
    }
    std::iter::from_fn(|| batch.next()).for_each(|answer| take(&mut pace, answer));
    assert_eq!(
        (answered, ran().wrapping_sub(before)),
        (calls, calls as u32 + 1),
        "calls that were answered and that ran"
    );
    pace
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::cell::Cell;

    use super::super::pace::tests::{is, open_by};
    use super::super::{Quantiles, select};
    use super::*;

    #[test]
    fn a_caller_that_is_held_up_does_not_shorten_the_latencies() {
        const CALLS: usize = 10;
        const HELD_UP_NS: u64 = 100_000;
        let device = select("cpu", "auto").and_then(|selection| selection.open()).expect("the CPU opens");
        let silo = Subject { device, backend: "cpu".to_owned() }.silo();
        // Held up as soon as it has started: all calls begin at one moment, when all were long due, and take no time.
        let has_started = Cell::new(false);
        let now_ns = || if has_started.replace(true) { HELD_UP_NS } else { 0 };
        let pace = offer(&silo, &Actor::new(&silo, 1), open_by(CALLS, 1_000.0, now_ns));
        assert_eq!(pace.cycle_ns(), HELD_UP_NS as f64 / CALLS as f64);
        let Quantiles { p50, p999, .. } = pace.quantiles();
        let held_up_ns = HELD_UP_NS as f64;
        assert!(is(p999, held_up_ns), "the first call was due {held_up_ns} ns before its answer, not {p999} ns");
        assert!(is(p50, held_up_ns - 5_000.0), "the sixth was due 5 intervals later, with {p50} ns left");
    }
}
