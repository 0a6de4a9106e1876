//! Many calls in flight: the batch form over 1, 10 and 100 grains, from one thread and from two.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use gpubridge::grains::{Computation, Silo};

use super::Effort;
use super::bare::BareRing;
use super::kernel::{Actor, MIX, check, parameters, silo};
use super::measure::{Quantiles, in_turn};
use super::table::Table;

const DEPTHS: [usize; 3] = [16, 64, 256];
const GRAINS: [usize; 3] = [1, 10, 100];
const THREADS: [usize; 2] = [1, 2];
/// The goal, in millions of operations per second.
const GOAL_M_PER_S: f64 = 30.0;

pub fn run(effort: Effort, table: &mut Table) {
    let silo = silo();
    let actors: Vec<Actor> = (0..GRAINS[2] as u64).map(|key| Actor::new(&silo, key)).collect();
    let (rounds, calls) = (effort.of(11), effort.of(400_000));
    for depth in DEPTHS {
        for grains in GRAINS {
            for threads in THREADS {
                // The depth is the subject for one grain, the grains and threads for the greatest depth.
                if depth != DEPTHS[2] && (grains, threads) != (1, 1) {
                    continue;
                }
                compare(table, &silo, &actors[..grains], Shape { threads, depth, calls, rounds });
            }
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

/// One shape against the bare ring at the same depth.
fn compare(table: &mut Table, silo: &Silo, actors: &[Actor], shape: Shape) {
    let Shape { threads, depth, calls, rounds } = shape;
    let [bare, ours] = in_turn(
        rounds,
        [&mut || per_call(BareRing::start().pipelined(calls, depth)), &mut || per_call(pipelined(silo, actors, shape))],
    );
    let rate = |ns: f64| 1e3 / ns;
    let (own, limit) = (rate(ours.middle().p50), rate(bare.middle().p50));
    let figure = format!("pipelined, {} grains, {threads} threads, {depth} in flight each", actors.len());
    let measured = format!(
        "{own:.1} M/s (best round {:.1}); {:.2} × bare ring's {limit:.0} M/s",
        rate(ours.best()),
        1.0 / ours.ratio_to(&bare)
    );
    table.judged(figure, "≥ 30 M/s, quiet machine", measured, own >= GOAL_M_PER_S);
}

/// A round that has one time only.
fn per_call(ns: f64) -> Quantiles {
    Quantiles { p50: ns, p99: ns, p999: ns }
}

/// Nanoseconds per call over all threads, each with a batch of its own over the same grains.
fn pipelined(silo: &Silo, actors: &[Actor], Shape { threads, depth, calls, .. }: Shape) -> f64 {
    let barrier = Barrier::new(threads);
    let share = calls / threads;
    // Calls that a grain had before, and must have afterwards: none is lost, none runs twice.
    let counts = |x: u64| -> Vec<u32> {
        let call = |actor: &Actor| check(x, actor.grain.compute(MIX, None, Some(actor.state), parameters(x)).wait());
        actors.iter().map(call).collect()
    };
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
    let computations = (0..calls as u64).zip(actors.iter().cycle()).map(|(x, Actor { grain, state })| Computation {
        grain,
        kernel: MIX,
        input: None,
        output: Some(*state),
        parameters: parameters(x),
        token: x,
    });
    batch.submit(computations, &mut take);
    std::iter::from_fn(|| batch.next()).for_each(&mut take);
    assert_eq!(answered as usize, calls, "every call is answered");
}
