//! What a silo's batch promises: every computation is answered once, in order, whatever happens around it.
#![cfg(feature = "cpu")]

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{Computation, GrainBatch, GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::{id, library};
use gpubridge::runtime::Answered;
use gpubridge::{DeviceIndex, GpuMemoryHandle, MemoryType, Parameters, RingConfig, backends};

const ELEMENTS: usize = 16;

fn silo(lanes: u32) -> Silo {
    let selection = backends(library()).select(Some("cpu"), Some(DeviceIndex(0))).expect("it is built in");
    let mut config = SiloConfig::default();
    config.memory.ring = RingConfig { lanes, slots: 64, staging_bytes: 64, allocations: 1024 };
    wait(Silo::start(selection.open().expect("it opens"), Arc::new(MemoryStorage::new()), config)).expect("it starts")
}

fn actor(silo: &Silo, key: u64) -> (GrainRef, GpuMemoryHandle) {
    let grain = silo.grain(key).expect("the key is good");
    let block = wait(grain.allocate(4 * ELEMENTS as u64, MemoryType::Default)).expect("there is memory");
    (grain, block)
}

/// Fills a block with the token.
fn fill(grain: &GrainRef, block: GpuMemoryHandle, token: u64) -> Computation<'_> {
    let parameters = Parameters::new().with_f32(token as f32);
    Computation { grain, kernel: id::FILL.into(), input: None, output: Some(block), parameters, token }
}

fn content((grain, block): &(GrainRef, GpuMemoryHandle)) -> Vec<f32> {
    wait(grain.read(*block, 0, ELEMENTS)).expect("it is read")
}

fn batch(silo: &Silo, depth: usize) -> GrainBatch {
    silo.batch(NonZeroUsize::new(depth).expect("it is not 0"))
}

fn rest(batch: &mut GrainBatch) -> impl Iterator<Item = Answered> {
    std::iter::from_fn(|| batch.next())
}

/// Grains on several lanes, every fifth computation refused for a handle of another grain, one grain deactivated all the
/// while.
#[test]
fn computations_over_many_lanes_are_answered_in_order_among_refusals_and_deactivations() {
    const COUNT: u64 = 3_000;
    let silo = silo(4);
    let actors: Vec<_> = (0..13).map(|key| actor(&silo, key)).collect();
    let of = |token: u64| (token * 7 % 13) as usize;
    let is_refused = |token: u64| token.is_multiple_of(5);
    for depth in [1, 2, 3, 7, 16, 17, 64] {
        let mut batch = batch(&silo, depth);
        let mut answers = Vec::new();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    wait(actors[3].0.deactivate()).expect("it is saved");
                    thread::yield_now();
                }
            });
            let computations = (0..COUNT).map(|token| {
                let block = actors[(of(token) + usize::from(is_refused(token))) % 13].1;
                fill(&actors[of(token)].0, block, token)
            });
            batch.submit(computations, |answered| answers.push(answered));
            answers.extend(rest(&mut batch));
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(answers.len() as u64, COUNT);
        for (expected, (token, answer)) in (0..).zip(answers) {
            assert_eq!((token, answer.is_err()), (expected, is_refused(expected)), "depth {depth}: {answer:?}");
        }
        for (index, actor) in actors.iter().enumerate() {
            let last = (0..COUNT).rev().find(|&token| of(token) == index && !is_refused(token));
            assert_eq!(content(actor), [last.expect("it had some") as f32; ELEMENTS]);
        }
        assert_eq!(silo.metrics().pending_message_count, 0);
    }
}

/// Whatever a panic left behind is not taken for a part of the next submission.
#[test]
fn a_batch_goes_on_after_a_panic_of_its_caller() {
    let silo = silo(1);
    let (one, other) = (actor(&silo, 1), actor(&silo, 2));
    let mut batch = batch(&silo, 4);
    let expect_only = |batch: &mut GrainBatch, tokens: std::ops::Range<u64>| {
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
        let computations =
            (0..4).map(|token| if token == 1 { panic!("an iterator's") } else { fill(&one.0, one.1, token) });
        batch.submit(computations, drop);
    }));
    assert!(panics.is_err());
    expect_only(&mut batch, 10..14);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let computations = (20..28).map(|token| fill(&one.0, one.1, token));
        batch.submit(computations, |(token, _)| assert_ne!(token, 21, "a receiver's"));
    }));
    assert!(panics.is_err());
    rest(&mut batch).for_each(drop);
    expect_only(&mut batch, 30..31);
    assert_eq!(content(&other), [30.0; ELEMENTS]);
}
