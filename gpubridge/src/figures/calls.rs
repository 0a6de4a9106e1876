//! One call at a time: spinning, and awaited from a task.

use std::time::Instant;

use tokio::runtime::Builder;

use super::Effort;
use super::bare::BareRing;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::measure::{Latencies, Quantiles, Rounds, in_turn, in_units};
use super::subject::{Actor, Subject};

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(41), effort.of(20_000));
    let silo = subject.silo();
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
    let times = format!("closed loop; {rounds} rounds of {calls} calls in turn, medians");
    let under = |best: f64| format!("{times}; best round {}", in_units(best));
    table.add(Draft::latency("bare ring, one call at a time", bare.middle()).under(under(bare.best())));
    table.add(
        Draft::latency("grain's spinning call, 64-byte command", spinning.middle())
            .p50_at_most(subject.bar(200.0, 2_500.0))
            .under(under(spinning.best())),
    );
    let ratio = |side: &Rounds| side.ratio_to(&bare);
    table.add(
        Draft::value("the same beside the bare ring", ratio(&spinning), "× bare ring", 2)
            .at_most(2.2)
            .under("median of the rounds' ratios of p50"),
    );
    table.add(
        Draft::latency("grain's call awaited from a tokio task", awaited.middle())
            .p50_at_most(subject.bar(500.0, 2_500.0))
            .under(format!("{}; {:.2} × bare ring", under(awaited.best()), ratio(&awaited))),
    );
    table.charts.latency("closed loop, spinning", spinning.middle());
    table.charts.latency("closed loop, awaited", awaited.middle());
}

fn spinning(actor: &Actor, calls: usize) -> Quantiles {
    let mut latencies = Latencies::new();
    let mut count = None;
    for x in 0..calls as u64 {
        let started = Instant::now();
        let answer = call(actor, x).wait();
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
        let answer = call(actor, x).await;
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
