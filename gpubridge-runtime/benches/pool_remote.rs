//! Blocks allocated by one thread and released by another, both running: the lock-free queue against a shared mutex.
//!
//! The time of a pair includes handing the block over to the other thread, in batches of 32 for both.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gpubridge_runtime::pool::trace::SplitMix;
use gpubridge_runtime::pool::{BlockId, Pool, PoolConfig, remote_releases};
use parking_lot::Mutex;
use support::FakeDriver;

const BATCH: u64 = 32;
const WINDOW: u64 = 1024;
const SIZES: usize = 1 << 12;

/// Blocks on their way from the allocating thread to the releasing one.
struct HandOver {
    blocks: Vec<AtomicU32>,
    sent: AtomicU64,
    released: AtomicU64,
}

impl HandOver {
    fn new() -> Self {
        let blocks = (0..WINDOW).map(|_| AtomicU32::new(0)).collect();
        Self { blocks, sent: AtomicU64::new(0), released: AtomicU64::new(0) }
    }

    fn send(&self, at: u64, block: BlockId, last: bool) {
        self.blocks[(at % WINDOW) as usize].store(block.0, Ordering::Relaxed);
        if last || (at + 1).is_multiple_of(BATCH) {
            self.sent.store(at + 1, Ordering::Release);
        }
    }

    fn receive(&self, count: u64, mut release: impl FnMut(BlockId)) {
        let mut at = 0;
        while at < count {
            let sent = self.sent.load(Ordering::Acquire);
            if at == sent {
                std::thread::yield_now();
            }
            while at < sent {
                release(BlockId(self.blocks[(at % WINDOW) as usize].load(Ordering::Relaxed)));
                at += 1;
            }
            self.released.store(at, Ordering::Release);
        }
    }

    /// Waits until there is room for the block `at`.
    fn wait_for_room(&self, at: u64) {
        while at.is_multiple_of(BATCH) && at + BATCH > self.released.load(Ordering::Acquire) + WINDOW {
            std::thread::yield_now();
        }
    }
}

fn pool_and_sizes() -> (Pool, Vec<u64>) {
    let config = PoolConfig { budget_bytes: 64 << 30, ..PoolConfig::default() };
    let mut random = SplitMix::new(1);
    let sizes = (0..SIZES).map(|_| random.log_between(256, 4 << 20)).collect();
    (Pool::new(config, Box::new(FakeDriver::default())), sizes)
}

fn queue(criterion: &mut Criterion) {
    let (mut pool, sizes) = pool_and_sizes();
    let (releaser, mut releases) = remote_releases(4096);
    let mut run = |count: u64| -> Duration {
        let hand_over = HandOver::new();
        let start = Instant::now();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                hand_over.receive(count, |block| {
                    while releaser.release(block, 1, 0, true).is_err() {
                        std::thread::yield_now();
                    }
                });
            });
            let mut drained = 0;
            for at in 0..count {
                hand_over.wait_for_room(at);
                if at.is_multiple_of(BATCH) {
                    drained += releases.drain(&mut pool, |_, error| panic!("{error}"));
                }
                let block = pool.allocate(sizes[at as usize % SIZES], 1, 0).expect("fits").block;
                hand_over.send(at, block, at + 1 == count);
            }
            thread.join().expect("no panic");
            drained += releases.drain(&mut pool, |_, error| panic!("{error}"));
            assert_eq!(drained as u64, count);
        });
        start.elapsed()
    };
    criterion.bench_function("other thread/queue of releases", |bencher| bencher.iter_custom(&mut run));
}

fn mutex(criterion: &mut Criterion) {
    let (pool, sizes) = pool_and_sizes();
    let pool = Mutex::new(pool);
    let mut run = |count: u64| -> Duration {
        let hand_over = HandOver::new();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| hand_over.receive(count, |block| assert!(pool.lock().release(block, 1, 0, true).is_ok())));
            for at in 0..count {
                hand_over.wait_for_room(at);
                let block = pool.lock().allocate(sizes[at as usize % SIZES], 1, 0).expect("fits").block;
                hand_over.send(at, block, at + 1 == count);
            }
        });
        start.elapsed()
    };
    criterion.bench_function("other thread/mutex around the pool", |bencher| bencher.iter_custom(&mut run));
}

criterion_group!(benches, queue, mutex);
criterion_main!(benches);
