//! What one allocate + release costs: by path, by pattern, with all counters live.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gpubridge_runtime::pool::trace::SplitMix;
use gpubridge_runtime::pool::{Allocation, Pool, PoolConfig};
use support::FakeDriver;

const LIVE: usize = 1024;
const STEPS: usize = 1 << 16;

fn pool() -> Pool {
    let config = PoolConfig { budget_bytes: 64 << 30, ..PoolConfig::default() };
    Pool::new(config, Box::new(FakeDriver::default()))
}

/// Sizes and places drawn beforehand, so that the generator is not measured.
fn steps() -> Vec<(usize, u64)> {
    let mut random = SplitMix::new(1);
    (0..STEPS).map(|_| (random.between(0, LIVE as u64 - 1) as usize, random.log_between(256, 4 << 20))).collect()
}

/// Replaces a random one of 1024 live blocks, sizes log-uniform from 256 B to 4 MiB.
fn random_live(criterion: &mut Criterion, name: &str, owners: u64, lag: u64) {
    assert!(owners.is_power_of_two(), "a division would be measured too");
    let steps = steps();
    let mut pool = pool();
    let mut live: Vec<Allocation> =
        (0..LIVE).map(|at| pool.allocate(steps[at].1, at as u64 % owners, 0).expect("fits")).collect();
    let mut owner_of: Vec<u64> = (0..LIVE as u64).map(|at| at % owners).collect();
    let mut sequence = 0;
    let mut run = |times: usize| {
        for _ in 0..times {
            let (at, size_bytes) = steps[sequence as usize % STEPS];
            pool.release(live[at].block, owner_of[at], sequence, true).expect("live");
            let owner = sequence & (owners - 1);
            live[at] = pool.allocate(size_bytes, owner, sequence.saturating_sub(lag)).expect("fits");
            owner_of[at] = owner;
            sequence += 1;
        }
    };
    run(20 * STEPS);
    criterion.bench_function(name, |bencher| bencher.iter(|| run(1)));
    let stats = pool.stats();
    println!("{name}: bins {:.2} %, footprint {:.2}", stats.bin_hit_rate() * 100.0, stats.footprint());
}

fn pairs(criterion: &mut Criterion) {
    random_live(criterion, "pair/random of 1024 live, one owner", 1, 0);
    random_live(criterion, "pair/random of 1024 live, 64 owners, completion 64 behind", 64, 64);

    let mut pool = pool();
    let steps = steps();
    for &(_, size_bytes) in &steps {
        let block = pool.allocate(size_bytes, 1, 0).expect("fits").block;
        pool.release(block, 1, 0, true).expect("live");
    }
    let mut at = 0;
    criterion.bench_function("pair/last in, first out", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % STEPS;
            let block = pool.allocate(black_box(steps[at].1), 1, 0).expect("fits").block;
            pool.release(block, 1, 0, true)
        });
    });
    criterion.bench_function("pair/arena: released past the bins", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % STEPS;
            let block = pool.allocate(black_box(steps[at].1), 1, 0).expect("fits").block;
            pool.release(block, 1, 0, false)
        });
    });
}

/// One of the halves alone, over 1024 blocks of a live set.
fn halves(criterion: &mut Criterion) {
    let steps = steps();
    criterion.bench_function("1024 releases into bins", |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut pool = pool();
                let blocks: Vec<_> =
                    steps[..LIVE].iter().map(|step| pool.allocate(step.1, 1, 0).expect("fits").block).collect();
                (pool, blocks)
            },
            |(pool, blocks)| blocks.iter().for_each(|&block| assert!(pool.release(block, 1, 0, true).is_ok())),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("1024 first uses out of the arena", |bencher| {
        bencher.iter_batched_ref(
            || {
                let config = PoolConfig { budget_bytes: 8 << 30, min_chunk_bytes: 8 << 30, ..PoolConfig::default() };
                let mut pool = Pool::new(config, Box::new(FakeDriver::default()));
                pool.allocate(64, 1, 0).expect("fits");
                pool
            },
            |pool| steps[..LIVE].iter().for_each(|step| assert!(black_box(pool.allocate(step.1, 1, 0)).is_ok())),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, pairs, halves);
criterion_main!(benches);
