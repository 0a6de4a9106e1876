//! What a pool tells about itself.

use super::{CLASSES, Pool};

/// Bytes and counts of a pool. Counts are exact and run from the pool's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// The most that may be reserved.
    pub budget_bytes: u64,
    /// Bytes reserved from the driver: in live blocks, in idle blocks, or free in the arena.
    pub reserved_bytes: u64,
    /// Bytes that owners of live blocks asked for.
    pub live_bytes: u64,
    /// Bytes of live blocks.
    pub live_block_bytes: u64,
    /// Bytes of blocks that are in bins, or wait for their fence on the way to the arena.
    pub idle_bytes: u64,
    /// Bytes free in the arena.
    pub arena_free_bytes: u64,
    /// Live blocks.
    pub live_count: u64,
    /// Idle blocks.
    pub idle_count: u64,
    /// Chunks that are reserved.
    pub chunk_count: u64,
    /// The most bytes that owners of live blocks had asked for at one time.
    pub peak_live_bytes: u64,
    /// The most bytes that were reserved at one time.
    pub peak_reserved_bytes: u64,
    /// Allocations served by a released block.
    pub bin_hits: u64,
    /// Allocations served by free memory of a chunk that was there.
    pub arena_hits: u64,
    /// Allocations for which a chunk was reserved.
    pub driver_hits: u64,
    /// Allocations that were refused.
    pub refusals: u64,
    /// Blocks released.
    pub releases: u64,
    /// Idle blocks moved from their bin to the arena.
    pub evictions: u64,
    /// Chunks reserved.
    pub driver_reserves: u64,
    /// Chunks given back.
    pub driver_returns: u64,
}

impl PoolStats {
    /// Allocations that succeeded.
    pub fn allocations(&self) -> u64 {
        self.bin_hits + self.misses()
    }

    /// Allocations that found no released block to use again.
    pub fn misses(&self) -> u64 {
        self.arena_hits + self.driver_hits
    }

    /// The share of allocations that a released block served; 0 before the first.
    pub fn bin_hit_rate(&self) -> f64 {
        ratio(self.bin_hits, self.allocations())
    }

    /// The share of allocations served without the driver; 0 before the first. Read it beside
    /// [`PoolStats::footprint`]: never giving anything back hits every time.
    pub fn driver_free_rate(&self) -> f64 {
        ratio(self.bin_hits + self.arena_hits, self.allocations())
    }

    /// Peak reserved bytes / peak live bytes as asked; 0 before the first allocation.
    pub fn footprint(&self) -> f64 {
        ratio(self.peak_reserved_bytes, self.peak_live_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// One size class that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// The size of its blocks.
    pub block_bytes: u64,
    /// Live blocks.
    pub live_count: u64,
    /// Idle blocks.
    pub idle_count: u64,
    /// Allocations served by a released block of this class.
    pub hits: u64,
    /// Blocks of this class released.
    pub releases: u64,
}

/// The detail of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolReport {
    /// Bytes and counts.
    pub stats: PoolStats,
    /// The largest free piece of the arena.
    pub largest_free_bytes: u64,
    /// 1 − largest free piece / free bytes of the arena; 0 when nothing is free.
    pub fragmentation: f64,
    /// The classes that were used, smallest first.
    pub classes: Vec<ClassReport>,
}

impl Pool {
    /// Bytes and counts. Neither blocks nor allocates; sums over the size classes.
    pub fn stats(&self) -> PoolStats {
        let mut stats = PoolStats {
            budget_bytes: self.config.budget_bytes,
            reserved_bytes: self.arena.reserved_bytes(),
            live_bytes: self.bins.live_asked_bytes(),
            arena_free_bytes: self.arena.free_bytes(),
            chunk_count: self.arena.chunk_count() as u64,
            peak_live_bytes: self.bins.peak_live_bytes(),
            peak_reserved_bytes: self.counters.peak_reserved_bytes,
            arena_hits: self.counters.arena_hits,
            driver_hits: self.counters.driver_hits,
            refusals: self.counters.refusals,
            evictions: self.counters.evictions,
            driver_reserves: self.counters.driver_reserves,
            driver_returns: self.counters.driver_returns,
            ..PoolStats::default()
        };
        for (class, tally) in self.bins.tallies().enumerate() {
            stats.live_block_bytes += tally.live() * self.block_bytes(class);
            stats.idle_bytes += tally.idle() * self.block_bytes(class);
            stats.live_count += tally.live();
            stats.idle_count += tally.idle();
            stats.bin_hits += tally.hits;
            stats.releases += tally.releases;
        }
        stats
    }

    /// Everything, class by class. Allocates; walks one list of free pieces.
    pub fn report(&self) -> PoolReport {
        let stats = self.stats();
        let largest_free_bytes = self.arena.largest_free_bytes();
        let fragmentation =
            if stats.arena_free_bytes == 0 { 0.0 } else { 1.0 - ratio(largest_free_bytes, stats.arena_free_bytes) };
        let class_report = |class: usize| {
            let tally = self.bins.tally(class);
            ClassReport {
                block_bytes: self.block_bytes(class),
                live_count: tally.live(),
                idle_count: tally.idle(),
                hits: tally.hits,
                releases: tally.releases,
            }
        };
        let classes = (0..CLASSES).map(class_report).filter(|class| class.live_count + class.releases > 0).collect();
        PoolReport { stats, largest_free_bytes, fragmentation, classes }
    }
}
