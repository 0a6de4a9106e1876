//! One call at a time: spinning, and awaited from a task.

use tokio::runtime::Builder;

use super::Effort;
use super::bare::BareRing;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::measure::{in_turn, in_units};
use super::pace::{Loops, Pace, Round};
use super::subject::{Actor, Subject};

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, calls) = (effort.of(21), effort.of(10_000));
    let silo = subject.silo();
    let actor = Actor::new(&silo, 1);
    // Two workers, as in what this is compared with; one core has one.
    let runtime = Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let mut in_task = |pace| {
        let actor = actor.clone();
        runtime.block_on(runtime.spawn(async move { awaited(&actor, pace).await })).expect("the task ends")
    };
    let [bare, spinning, awaited] = in_turn(
        rounds,
        [
            // The bare ring's consumer never sleeps, so it lives in its own passes only.
            &mut || Round::new(calls, &mut |pace| BareRing::start().one_at_a_time(pace)),
            &mut || Round::new(calls, &mut |pace| spinning(&actor, pace)),
            &mut || Round::new(calls, &mut in_task),
        ],
    )
    .map(Loops);
    let times = format!("{rounds} rounds of {calls} calls in turn, medians");
    let under = |best: f64| format!("{times}; best round {}", in_units(best));
    let closed = bare.closed();
    table.add(Draft::latency("bare ring, one call at a time", &bare).under(under(closed.best())));
    table.add(
        Draft::latency("grain's spinning call, 64-byte command", &spinning)
            .p50_at_most(subject.bar(200.0, 2_500.0))
            .under(under(spinning.closed().best())),
    );
    let ratio = |side: &Loops| side.closed().ratio_to(&closed);
    table.add(
        Draft::value("the same beside the bare ring", ratio(&spinning), "× bare ring", 2)
            .at_most(2.2)
            .under("median of the rounds' ratios of p50 in the closed loop"),
    );
    table.add(
        Draft::latency("grain's call awaited from a tokio task", &awaited)
            .p50_at_most(subject.bar(500.0, 2_500.0))
            .under(format!("{}; {:.2} × bare ring", under(awaited.closed().best()), ratio(&awaited))),
    );
}

fn spinning(actor: &Actor, mut pace: Pace) -> Pace {
    let mut count = None;
    for x in pace.steps() {
        pace.begin();
        let answer = call(actor, x).wait();
        let now = check(x, answer);
        pace.end(1);
        follows(&mut count, now);
    }
    pace
}

async fn awaited(actor: &Actor, mut pace: Pace) -> Pace {
    let mut count = None;
    for x in pace.steps() {
        pace.begin();
        let answer = call(actor, x).await;
        let now = check(x, answer);
        pace.end(1);
        follows(&mut count, now);
    }
    pace
}

/// Each call of one caller counts one more than the call before.
fn follows(before: &mut Option<u32>, now: u32) {
    assert!(before.is_none_or(|before| before.wrapping_add(1) == now), "a call was lost or ran twice");
    *before = Some(now);
}
