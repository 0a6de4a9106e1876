//! The documents' concurrent throughput: ten grains with a thousand calls each, all at once.

use std::time::Instant;

use tokio::runtime::Builder;

use super::Effort;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::measure::median;
use super::subject::{Actor, Subject};

const GRAINS: u64 = 10;
const CALLS: u64 = 1_000;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let rounds = effort.of(101);
    let silo = subject.silo();
    let actors: Vec<Actor> = (0..GRAINS).map(|key| Actor::new(&silo, key)).collect();
    let runtime = Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let count = |actor: &Actor| check(0, call(actor, 0).wait());
    let mut m_per_s = Vec::with_capacity(rounds);
    for _ in 0..=rounds {
        let before: Vec<u32> = actors.iter().map(count).collect();
        let started = Instant::now();
        runtime.block_on(all(&actors));
        m_per_s.push((GRAINS * CALLS) as f64 * 1e3 / started.elapsed().as_nanos() as f64);
        for (actor, before) in actors.iter().zip(before) {
            assert_eq!(count(actor).wrapping_sub(before), CALLS as u32 + 1, "calls of one grain");
        }
    }
    // The first round warms up.
    table.add(
        Draft::value("concurrent, 10 grains × 1,000 calls", median(m_per_s.split_off(1)), "M/s", 2)
            .at_least(1.0)
            .under(format!(
                "a task for each grain, one call awaited after the other, 2 workers; {rounds} rounds, median"
            )),
    );
}

/// A task for each grain, which awaits its calls one after the other.
async fn all(actors: &[Actor]) {
    let task = |actor: Actor| async move {
        for x in 0..CALLS {
            check(x, call(&actor, x).await);
        }
    };
    let tasks: Vec<_> = actors.iter().map(|actor| tokio::spawn(task(actor.clone()))).collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
}
