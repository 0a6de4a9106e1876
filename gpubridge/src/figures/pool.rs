//! The pool by itself: a pair of calls, by path, and blocks that another running thread frees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use gpubridge_runtime::pool::trace::{Addresses, SplitMix};
use gpubridge_runtime::pool::{Allocation, BlockId, ChunkSource, Pool, PoolConfig, Source};
use parking_lot::Mutex;

use super::Effort;
use super::line::{Draft, Table};
use super::measure::median;
use super::pace::{Loops, in_groups};
use super::subject::Subject;
use crate::{Device, DeviceBuffer, Error, MemoryType};

const LIVE: usize = 1024;
const STEPS: usize = 1 << 14;
const GROUP: usize = 64;
/// Blocks that are handed to the other thread at once, and the most on their way.
const BATCH: u64 = 32;
const WINDOW: u64 = 1024;

/// The device's own memory as a source of chunks.
#[derive(Debug)]
struct FromDevice(Arc<dyn Device>);

impl ChunkSource for FromDevice {
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        self.0.reserve(size_bytes, MemoryType::Default)
    }
}

/// A pool with this budget over nothing but addresses.
pub fn pool(budget_bytes: u64) -> Pool {
    Pool::new(config(budget_bytes), Box::new(Addresses::default()))
}

/// More than any of the traces needs.
pub const AMPLE: u64 = 256 << 30;

fn config(budget_bytes: u64) -> PoolConfig {
    PoolConfig { budget_bytes, ..PoolConfig::default() }
}

/// Sizes and places drawn beforehand, so that the generator is not measured; log-uniform from 256 B to 256 KiB.
fn steps() -> Vec<(usize, u64)> {
    let mut random = SplitMix::new(1);
    (0..STEPS).map(|_| (random.between(0, LIVE as u64 - 1) as usize, random.log_between(256, 256 << 10))).collect()
}

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let rounds = effort.of(11);
    let groups = effort.of(5_000);
    let grouped = format!(
        "256 B to 256 KiB; {rounds} rounds of {groups} groups, medians; {GROUP} pairs between two clock readings, which \
         would be much of one, quantiles of the groups' means"
    );
    table.add(
        Draft::latency("pool pair, a random one of 1,024 live", &random_live(rounds, groups))
            .p50_at_most(10.0)
            .under(format!("one thread; {grouped}")),
    );
    for (name, path) in [("bin", Source::Bin), ("arena", Source::Arena)] {
        let (pair, of_path) = by_path(path, rounds, groups);
        table.add(
            Draft::latency(format!("pool pair, last in, first out, by {name}"), &pair)
                .under(format!("{:.2} % were served so; {grouped}", of_path * 100.0)),
        );
    }
    let times = effort.of(300);
    table.add(
        Draft::latency("pool miss: first allocation, by the driver", &driver_path(&subject.device, times))
            .under(format!("4 KiB from each of {times} new pools in each loop; every one asked the driver")),
    );
    let rounds = effort.of(21);
    let other = median((0..rounds).map(|_| freed_by_another(effort.of(200_000) as u64)));
    table.add(
        Draft::value("pool pair, freed by another running thread", other, "ns", 1)
            .at_most(40.0)
            .no_open_loop("one number of two threads, the inverse of their rate: no single pair has a start and an end")
            .under(format!("pool behind a mutex, hand-over included; median of {rounds} rounds")),
    );
}

/// A pair, by groups of pairs between two clock readings.
fn random_live(rounds: usize, groups: usize) -> Loops {
    let (steps, mut pool) = (steps(), pool(AMPLE));
    let mut live: Vec<Allocation> =
        steps[..LIVE].iter().map(|step| pool.allocate(step.1, 1, 0).expect("fits")).collect();
    let mut sizes = steps.iter().cycle();
    let mut pair = |_| {
        let &(at, size_bytes) = sizes.next().expect("they go round");
        pool.release(live[at].block, 1, 0, true).expect("live");
        live[at] = pool.allocate(size_bytes, 1, 0).expect("fits");
    };
    Loops::run(rounds, groups, |pace| in_groups(pace, GROUP, &mut pair))
}

/// A pair that takes a path, and the share of pairs that did.
fn by_path(path: Source, rounds: usize, groups: usize) -> (Loops, f64) {
    let (steps, mut pool) = (steps(), pool(AMPLE));
    let (mut hits, mut all) = (0_u64, 0_u64);
    let mut sizes = steps.iter().cycle();
    let mut pair = |_| {
        let block = pool.allocate(sizes.next().expect("they go round").1, 1, 0).expect("fits");
        hits += u64::from(block.source == path);
        all += 1;
        pool.release(block.block, 1, 0, path == Source::Bin).expect("live");
    };
    (0..STEPS as u64).for_each(&mut pair);
    let loops = Loops::run(rounds, groups, |pace| in_groups(pace, GROUP, &mut pair));
    (loops, hits as f64 / all as f64)
}

/// The first allocation of a new pool, which asks the driver.
fn driver_path(device: &Arc<dyn Device>, times: usize) -> Loops {
    Loops::once(times, |mut pace| {
        for _ in pace.steps() {
            let mut pool = Pool::new(config(AMPLE), Box::new(FromDevice(Arc::clone(device))));
            pace.begin();
            let block = pool.allocate(4096, 1, 0).expect("fits");
            pace.end(1);
            assert_eq!(block.source, Source::Driver);
        }
        pace
    })
}

/// Blocks on their way from the allocating thread to the releasing one.
struct HandOver {
    blocks: Vec<AtomicU32>,
    sent: AtomicU64,
    released: AtomicU64,
}

impl HandOver {
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
}

/// Nanoseconds per pair when another running thread releases what this one allocates.
fn freed_by_another(count: u64) -> f64 {
    let (steps, pool) = (steps(), Mutex::new(pool(AMPLE)));
    let blocks = (0..WINDOW).map(|_| AtomicU32::new(0)).collect();
    let hand_over = HandOver { blocks, sent: AtomicU64::new(0), released: AtomicU64::new(0) };
    let run = |from: u64, to: u64| {
        for at in from..to {
            while at.is_multiple_of(BATCH) && at + BATCH > hand_over.released.load(Ordering::Acquire) + WINDOW {
                std::thread::yield_now();
            }
            let block = pool.lock().allocate(steps[at as usize % STEPS].1, 1, 0).expect("fits").block;
            hand_over.blocks[(at % WINDOW) as usize].store(block.0, Ordering::Relaxed);
            if (at + 1).is_multiple_of(BATCH) || at + 1 == to {
                hand_over.sent.store(at + 1, Ordering::Release);
            }
        }
    };
    let warm_up = count / 10;
    std::thread::scope(|scope| {
        let other =
            scope.spawn(|| hand_over.receive(count, |block| assert!(pool.lock().release(block, 1, 0, true).is_ok())));
        run(0, warm_up);
        let started = Instant::now();
        run(warm_up, count);
        other.join().expect("no panic");
        started.elapsed().as_nanos() as f64 / (count - warm_up) as f64
    })
}
