//! One call at a time: spinning, and awaited from a task.

use std::time::Instant;

use tokio::runtime::Builder;

use super::Effort;
use super::bare::BareRing;
use super::kernel::{Actor, MIX, check, parameters, silo};
use super::measure::{Latencies, Quantiles, in_turn};
use super::table::Table;

pub fn run(effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(41), effort.of(20_000));
    let silo = silo();
    let actor = Actor::new(&silo, 1);
    // Two workers, as in what this is compared with; one core has one.
    let runtime = Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let task_actor = actor.clone();
    // The bare ring's consumer never sleeps, so it lives in its own rounds only.
    let mut bare_round = || BareRing::start().one_at_a_time(calls);
    let [bare, spinning, awaited] = in_turn(
        rounds,
        [&mut bare_round, &mut || spinning(&actor, calls), &mut || {
            let actor = task_actor.clone();
            runtime.block_on(runtime.spawn(async move { awaited(&actor, calls).await })).expect("the task ends")
        }],
    );
    let (limit, quiet) = (bare.middle(), bare.best());
    table.beside("bare ring, one call at a time", format!("{limit} (best round {quiet:.0})"));
    let (ratio, quantiles) = (spinning.ratio_to(&bare), spinning.middle());
    table.judged(
        "grain's spinning call, 64-byte command",
        "p50 ≤ 2.2 × bare ring",
        format!("{ratio:.2} ×; {quantiles} (best round {:.0})", spinning.best()),
        ratio <= 2.2,
    );
    let (ratio, quantiles) = (awaited.ratio_to(&bare), awaited.middle());
    table.judged(
        "grain's call awaited from a tokio task",
        "p50 ≤ 500 ns",
        format!("{quantiles} (best round {:.0}); {ratio:.2} × bare ring", awaited.best()),
        quantiles.p50 <= 500.0,
    );
}

fn spinning(actor: &Actor, calls: usize) -> Quantiles {
    let mut latencies = Latencies::new();
    let mut count = None;
    for x in 0..calls as u64 {
        let started = Instant::now();
        let answer = actor.grain.compute(MIX, None, Some(actor.state), parameters(x)).wait();
        let now = check(x, answer);
        latencies.since(started);
        follows(&mut count, now);
    }
    latencies.quantiles()
}

async fn awaited(actor: &Actor, calls: usize) -> Quantiles {
    let mut latencies = Latencies::new();
    let mut count = None;
    for x in 0..calls as u64 {
        let started = Instant::now();
        let answer = actor.grain.compute(MIX, None, Some(actor.state), parameters(x)).await;
        let now = check(x, answer);
        latencies.since(started);
        follows(&mut count, now);
    }
    latencies.quantiles()
}

/// Each call of one caller counts one more than the call before.
fn follows(before: &mut Option<u32>, now: u32) {
    assert!(before.is_none_or(|before| before.wrapping_add(1) == now), "a call was lost or ran twice");
    *before = Some(now);
}
