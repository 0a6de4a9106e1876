//! The pool by itself: release one of many blocks, allocate another.

use gpubridge::runtime::pool::trace::SplitMix;
use gpubridge::runtime::pool::{Allocation, ChunkSource, Pool, PoolConfig};
use gpubridge::{DeviceBuffer, Error, MemoryType};

use super::OPERATIONS;

const LIVE: usize = 1024;

/// Addresses without memory: the pool never touches what it hands out.
#[derive(Debug)]
struct Addresses {
    next: u64,
}

#[derive(Debug)]
struct AddressRange {
    address: u64,
    size_bytes: u64,
}

impl ChunkSource for Addresses {
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        let address = self.next;
        self.next += size_bytes.next_multiple_of(1 << 20);
        Ok(Box::new(AddressRange { address, size_bytes }))
    }
}

impl DeviceBuffer for AddressRange {
    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        MemoryType::Default
    }
}

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
        let mut pool = Pool::new(config, Box::new(Addresses { next: 1 << 32 }));
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
