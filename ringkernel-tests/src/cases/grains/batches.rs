//! A silo's batch: every computation is answered once, in order, whatever happens around it.

use std::iter;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gpubridge_abstractions::{ErrorKind, GpuMemoryHandle, Parameters, RingConfig};
use gpubridge_grains::storage::MemoryStorage;
use gpubridge_grains::{Computation, GrainBatch, GrainRef, Silo, wait};
use gpubridge_kernels::id::FILL;
use gpubridge_runtime::{Answered, ResidentMemoryConfig};

use crate::rig::{Joined, allocate, config, kind, silo_config, silo_on, stop};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!(
    "batches",
    Compute {
        answers_come_in_order_over_many_lanes => "GrainBatch/in-order",
        refusals_are_answered_in_their_turn_amid_deactivations => "GrainBatch::submit/refusals",
        a_grain_of_another_silo_is_refused => "GrainBatch::submit/other-silo",
        a_batch_goes_on_after_a_panic_of_its_caller => "GrainBatch::submit/after-panic",
    }
);

const ELEMENTS: usize = 16;
const ACTORS: usize = 13;

/// A grain and a block of it.
type Actor = (GrainRef, GpuMemoryHandle);

fn silo_of(context: &Context, lanes: u32) -> Silo {
    let ring = RingConfig { lanes, slots: 64, staging_bytes: 64, allocations: 1024 };
    let memory = ResidentMemoryConfig { ring, ..config() };
    silo_on(context.device(), Arc::new(MemoryStorage::new()), silo_config(memory))
}

fn actor(silo: &Silo, key: u64) -> Actor {
    let grain = silo.grain(key).expect("the key is good");
    let block = allocate(&grain, 4 * ELEMENTS as u64);
    (grain, block)
}

/// Fills a block with the token.
fn fill(grain: &GrainRef, block: GpuMemoryHandle, token: u64) -> Computation<'_> {
    let parameters = Parameters::new().with_f32(token as f32);
    Computation { grain, kernel: FILL.into(), input: None, output: Some(block), parameters, token }
}

fn content((grain, block): &Actor) -> Vec<f32> {
    wait(grain.read(*block, 0, ELEMENTS)).expect("it is read")
}

fn batch(silo: &Silo, depth: usize) -> GrainBatch {
    silo.batch(NonZeroUsize::new(depth).expect("it is not 0"))
}

fn rest(batch: &mut GrainBatch) -> impl Iterator<Item = Answered> {
    iter::from_fn(|| batch.next())
}

/// The actor that the computation with this token is for.
fn actor_of(token: u64) -> usize {
    (token * 7 % ACTORS as u64) as usize
}

/// Submits so many computations over the actors; those that are to be refused name a block of another grain. Each must be
/// answered in its turn, as it should, and each block hold what came last.
fn answers_are_as_they_should_be(silo: &Silo, actors: &[Actor], depth: usize, is_refused: impl Fn(u64) -> bool) {
    const COUNT: u64 = 3_000;
    let mut batch = batch(silo, depth);
    let mut answers = Vec::new();
    let computations = (0..COUNT).map(|token| {
        let block = actors[(actor_of(token) + usize::from(is_refused(token))) % ACTORS].1;
        fill(&actors[actor_of(token)].0, block, token)
    });
    batch.submit(computations, |answered| answers.push(answered));
    assert!(batch.len() <= depth, "{} are in flight, {depth} may be", batch.len());
    answers.extend(rest(&mut batch));
    assert!(batch.is_empty());
    assert_eq!(answers.len() as u64, COUNT);
    for (expected, (token, answer)) in (0..).zip(answers) {
        assert_eq!((token, answer.is_err()), (expected, is_refused(expected)), "depth {depth}: {answer:?}");
    }
    for (index, actor) in actors.iter().enumerate() {
        let last = (0..COUNT).rev().find(|&token| actor_of(token) == index && !is_refused(token));
        assert_eq!(content(actor), [last.expect("it had some") as f32; ELEMENTS]);
    }
}

/// Goal: answers come in the order of submission, each once. Method: thirteen grains on four lanes, at depths below, at
/// and beyond what is submitted at once.
pub fn answers_come_in_order_over_many_lanes(context: &Context) {
    let silo = silo_of(context, 4);
    let actors: Vec<_> = (0..ACTORS as u64).map(|key| actor(&silo, key)).collect();
    for depth in [1, 2, 3, 7, 16, 17, 64] {
        answers_are_as_they_should_be(&silo, &actors, depth, |_| false);
        assert_eq!(silo.metrics().pending_message_count, 0);
    }
    stop(silo);
}

/// Goal: the same, when some are refused and a grain comes and goes. Method: every fifth names a block of another grain,
/// while one grain is deactivated all the time.
pub fn refusals_are_answered_in_their_turn_amid_deactivations(context: &Context) {
    let silo = silo_of(context, 4);
    let actors: Vec<_> = (0..ACTORS as u64).map(|key| actor(&silo, key)).collect();
    for depth in [1, 2, 3, 7, 16, 17, 64] {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let deactivating = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    wait(actors[3].0.deactivate()).expect("it is saved");
                    thread::yield_now();
                }
            });
            let submitting = AssertUnwindSafe(|| {
                answers_are_as_they_should_be(&silo, &actors, depth, |token| token.is_multiple_of(5));
            });
            let submitted = catch_unwind(submitting);
            done.store(true, Ordering::Relaxed);
            deactivating.joined();
            submitted.unwrap_or_else(|panic| resume_unwind(panic));
        });
        // Deactivating a grain takes messages too.
        assert_eq!(silo.metrics().pending_message_count, 0);
    }
    stop(silo);
}

/// Goal: a grain of another silo is not taken for one of this. Method: two silos with the same keys; one batch gets both
/// grains in turn.
pub fn a_grain_of_another_silo_is_refused(context: &Context) {
    let (silo, other) = (silo_of(context, 1), silo_of(context, 1));
    let (own, strange) = (actor(&silo, 1), actor(&other, 1));
    strange.0.write(strange.1, &[-1.0_f32; ELEMENTS], 0).wait().expect("it is written");
    let mut batch = batch(&silo, 2);
    let mut answers = Vec::new();
    let of = |token: u64| if token.is_multiple_of(2) { &own } else { &strange };
    batch.submit((0..6).map(|token| fill(&of(token).0, of(token).1, token)), |answered| answers.push(answered));
    answers.extend(rest(&mut batch));
    assert_eq!(answers.iter().map(|(token, _)| *token).collect::<Vec<_>>(), Vec::from_iter(0..6));
    for (token, answer) in answers {
        match token % 2 {
            0 => assert!(answer.expect("its own").success),
            _ => assert_eq!(kind(answer), ErrorKind::InvalidArgument),
        }
    }
    assert_eq!((content(&own), content(&strange)), (vec![4.0; ELEMENTS], vec![-1.0; ELEMENTS]));
    stop(silo);
    stop(other);
}

/// Goal: whatever a panic left behind is not taken for a part of the next submission. Method: the iterator panics, then
/// the receiver of answers.
pub fn a_batch_goes_on_after_a_panic_of_its_caller(context: &Context) {
    let silo = silo_of(context, 1);
    let (one, other) = (actor(&silo, 1), actor(&silo, 2));
    let mut batch = batch(&silo, 4);
    // Without the panic hook, which would report what is meant to happen.
    let panic = || -> ! { resume_unwind(Box::new("this caller fails on purpose")) };
    let expect_only = |batch: &mut GrainBatch, tokens: Range<u64>| {
        let mut answered = Vec::new();
        let mut take = |(token, answer): Answered| {
            answer.expect("it runs");
            answered.push(token);
        };
        batch.submit(tokens.clone().map(|token| fill(&other.0, other.1, token)), &mut take);
        rest(batch).for_each(take);
        assert_eq!(answered, Vec::from_iter(tokens));
    };
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let computations = (0..4).map(|token| if token == 1 { panic() } else { fill(&one.0, one.1, token) });
        batch.submit(computations, drop);
    }));
    assert!(panics.is_err());
    expect_only(&mut batch, 10..14);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let computations = (20..28).map(|token| fill(&one.0, one.1, token));
        batch.submit(computations, |(token, _)| {
            if token == 21 {
                panic()
            }
        });
    }));
    assert!(panics.is_err());
    rest(&mut batch).for_each(drop);
    expect_only(&mut batch, 30..31);
    assert_eq!(content(&other), [30.0; ELEMENTS]);
    stop(silo);
}
