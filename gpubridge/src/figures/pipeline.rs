//! Many calls in flight: the batch form by depth, and over 1, 10 and 100 grains, from one thread and from two.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use gpubridge_grains::{Computation, Silo};

use super::Effort;
use super::bare::BareRing;
use super::kernel::{MIX, call, check, parameters};
use super::line::{Draft, Table};
use super::measure::{Quantiles, Rounds, in_turn};
use super::subject::{Actor, Subject};

const DEPTHS: [usize; 5] = [1, 4, 16, 64, 256];
const MOST_GRAINS: usize = 100;
/// How many grains, and millions of calls per second that the documents want of them.
const GRAINS: [(usize, f64); 3] = [(1, 1.0), (10, 10.0), (MOST_GRAINS, 10.0)];

/// One grain, one thread: what more calls in flight give.
pub fn depths(subject: &Subject, effort: Effort, table: &mut Table) {
    let silo = subject.silo();
    let actors = [Actor::new(&silo, 0)];
    for depth in DEPTHS {
        let shape = Shape::new(effort, 1, depth);
        let [bare, ours] = compare(&silo, &actors, shape);
        let mut draft = Draft::value(format!("pipelined, {depth} in flight"), rate(&ours), "M/s", 2);
        if depth == DEPTHS[4] {
            draft = draft.at_least(subject.bar(30.0, 10.0));
        }
        table.add(draft.under(format!("1 grain, 1 thread; {}", beside(&bare, &ours, shape))));
        table.charts.throughput("grain's public call, in batches", depth, rate(&ours));
        table.charts.throughput("bare ring", depth, rate(&bare));
    }
}

/// The greatest depth: what more grains and another thread give.
pub fn many_grains(subject: &Subject, effort: Effort, table: &mut Table) {
    let silo = subject.silo();
    let actors: Vec<Actor> = (0..MOST_GRAINS as u64).map(|key| Actor::new(&silo, key)).collect();
    for (grains, bar) in GRAINS {
        for threads in [1, 2] {
            let shape = Shape::new(effort, threads, DEPTHS[4]);
            let [bare, ours] = compare(&silo, &actors[..grains], shape);
            let figure = format!("pipelined, {}, {}", counted(grains, "grain"), counted(threads, "thread"));
            table.add(Draft::value(figure, rate(&ours), "M/s", 2).at_least(bar).under(beside(&bare, &ours, shape)));
        }
    }
}

#[derive(Clone, Copy)]
struct Shape {
    threads: usize,
    depth: usize,
    calls: usize,
    rounds: usize,
}

impl Shape {
    fn new(effort: Effort, threads: usize, depth: usize) -> Self {
        // What one call in flight takes is no reason to wait minutes.
        let calls = effort.of(if depth < 16 { 100_000 } else { 400_000 });
        Self { threads, depth, calls, rounds: effort.of(11) }
    }
}

/// One shape in turn with the bare ring at the same depth.
fn compare(silo: &Silo, actors: &[Actor], shape: Shape) -> [Rounds; 2] {
    let Shape { depth, calls, rounds, .. } = shape;
    in_turn(
        rounds,
        [&mut || Quantiles::of_one(BareRing::start().pipelined(calls, depth)), &mut || {
            Quantiles::of_one(pipelined(silo, actors, shape))
        }],
    )
    .map(Rounds)
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A rate, of what a call takes.
pub fn m_per_s(ns: f64) -> f64 {
    1e3 / ns
}

fn rate(rounds: &Rounds) -> f64 {
    m_per_s(rounds.middle().p50)
}

fn beside(bare: &Rounds, ours: &Rounds, shape: Shape) -> String {
    let Shape { depth, calls, rounds, .. } = shape;
    format!(
        "{depth} in flight per thread; {rounds} rounds of {calls} calls, median; best round {:.1} M/s; {:.2} × the bare \
         ring's {:.1} M/s, run in turn",
        m_per_s(ours.best()),
        1.0 / ours.ratio_to(bare),
        rate(bare)
    )
}

/// Nanoseconds per call over all threads, each with a batch of its own over the same grains.
fn pipelined(silo: &Silo, actors: &[Actor], Shape { threads, depth, calls, .. }: Shape) -> f64 {
    let barrier = Barrier::new(threads);
    let share = calls / threads;
    // Calls that a grain had before, and must have afterwards: none is lost, none runs twice.
    let counts = |x: u64| -> Vec<u32> { actors.iter().map(|actor| check(x, call(actor, x).wait())).collect() };
    let before = counts(1);
    let ends: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let one = || {
            barrier.wait();
            let started = Instant::now();
            submit(silo, actors, share, depth);
            (started, Instant::now())
        };
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let own = one();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).chain([own]).collect()
    });
    let ran: u32 = counts(2).iter().zip(before).map(|(after, before)| after.wrapping_sub(before) - 1).sum();
    assert_eq!(ran as usize, share * threads, "calls that ran");
    let first = ends.iter().map(|(started, _)| *started).min().expect("a thread ran");
    let last = ends.iter().map(|(_, ended)| *ended).max().expect("a thread ran");
    (last - first).as_nanos() as f64 / (share * threads) as f64
}

/// One thread's calls, round the grains in turn, each answer checked against its token.
fn submit(silo: &Silo, actors: &[Actor], calls: usize, depth: usize) {
    let mut batch = silo.batch(NonZeroUsize::new(depth).expect("a depth is not 0"));
    let mut answered = 0;
    let mut take = |(token, answer)| {
        check(token, answer);
        assert_eq!(token, answered, "answers come in order");
        answered += 1;
    };
    let computations = (0..calls as u64).zip(actors.iter().cycle()).map(|(x, actor)| computation(actor, x));
    batch.submit(computations, &mut take);
    std::iter::from_fn(|| batch.next()).for_each(&mut take);
    assert_eq!(answered as usize, calls, "every call is answered");
}

/// The call `x` of an actor, for a batch.
#[inline]
pub fn computation(Actor { grain, state }: &Actor, x: u64) -> Computation<'_> {
    Computation { grain, kernel: MIX, input: None, output: Some(*state), parameters: parameters(x), token: x }
}
