//! The pool by itself: release one of many blocks, allocate another.

use gpubridge::runtime::pool::trace::{Addresses, SplitMix};
use gpubridge::runtime::pool::{Allocation, Pool, PoolConfig};

use super::OPERATIONS;

const LIVE: usize = 1024;

/// A pool whose live blocks are replaced, one of 1,024 at a time, by sizes from 256 B to 256 KiB.
#[derive(Debug)]
pub struct Turnover {
    pool: Pool,
    live: Vec<Allocation>,
    // Drawn beforehand, so that the generator is not counted.
    steps: Vec<(usize, u64)>,
    next: usize,
}

impl Turnover {
    pub fn new() -> Self {
        let mut random = SplitMix::new(1);
        let mut step = || (random.between(0, LIVE as u64 - 1) as usize, random.log_between(256, 256 << 10));
        let steps: Vec<_> = (0..LIVE + 2 * OPERATIONS).map(|_| step()).collect();
        let config = PoolConfig { budget_bytes: 256 << 30, ..PoolConfig::default() };
        let mut pool = Pool::new(config, Box::new(Addresses::default()));
        let live = steps[..LIVE].iter().map(|step| pool.allocate(step.1, 1, 0).expect("fits")).collect();
        let mut warm = Self { pool, live, steps, next: LIVE };
        (0..OPERATIONS).for_each(|_| warm.step());
        warm
    }

    #[inline]
    pub fn step(&mut self) {
        let (at, size_bytes) = self.steps[self.next];
        self.next += 1;
        self.pool.release(self.live[at].block, 1, 0, true).expect("live");
        self.live[at] = self.pool.allocate(size_bytes, 1, 0).expect("fits");
    }
}
