//! What the pool promises, one test for each way to break it.

mod support;

use std::sync::atomic::Ordering;

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind};
use gpubridge_runtime::pool::{Allocation, BlockId, ChunkSource, Pool, PoolConfig, ReleaseError, Source};
use support::FakeDriver;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const ALL_DONE: u64 = u64::MAX;

fn pool_with(budget_bytes: u64, driver: FakeDriver) -> Pool {
    Pool::new(PoolConfig { budget_bytes, ..PoolConfig::default() }, Box::new(driver))
}

fn pool() -> Pool {
    pool_with(1 << 30, FakeDriver::default())
}

/// A pool whose one chunk is full: `count` live blocks of 256 KiB in 1 MiB × `count` / 4.
fn full(count: u64) -> (Pool, Vec<Allocation>) {
    let mut pool = pool_with(count * 256 * KIB, FakeDriver::default());
    let live = (0..count).map(|_| pool.allocate(256 * KIB, 1, 0).expect("fits")).collect();
    (pool, live)
}

#[test]
fn a_released_block_is_a_hit_for_its_owner_and_the_newest_comes_first() {
    let mut pool = pool();
    let first = pool.allocate(320, 1, 0).expect("fits");
    let second = pool.allocate(300, 1, 0).expect("fits");
    assert_eq!((first.source, first.block_bytes, first.is_pool_hit()), (Source::Driver, 320, false));
    assert_eq!((second.source, second.size_bytes, second.block_bytes), (Source::Arena, 300, 320));
    assert_eq!(pool.release(first.block, 1, 5, true), Ok(320));
    assert_eq!(pool.release(second.block, 1, 6, true), Ok(300));
    let again = pool.allocate(310, 1, 0).expect("fits");
    assert_eq!(
        (again.block, again.address, again.source, again.same_owner),
        (second.block, second.address, Source::Bin, true)
    );
    assert!(again.is_pool_hit());
}

#[test]
fn another_owner_gets_a_block_only_after_its_fence_and_is_told_to_zero_it() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(block.block, 1, 10, true).expect("live");
    let early = pool.allocate(KIB, 2, 9).expect("fits");
    assert_ne!(early.address, block.address);
    let late = pool.allocate(KIB, 2, 10).expect("fits");
    assert_eq!((late.address, late.source, late.same_owner), (block.address, Source::Bin, false));
}

#[test]
fn a_block_taken_back_early_keeps_its_fence_for_others() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(block.block, 1, 10, true).expect("live");
    let again = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(again.block, 1, 3, true).expect("live");
    assert_ne!(pool.allocate(KIB, 2, 9).expect("fits").address, block.address);
}

#[test]
fn memory_of_an_open_fence_does_not_reach_others_through_the_arena() {
    for return_to_pool in [true, false] {
        let (mut pool, live) = full(4);
        for block in &live {
            pool.release(block.block, 1, 10, return_to_pool).expect("live");
        }
        let error = pool.allocate(MIB, 2, 9).expect_err("all bytes are behind a fence");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(pool.trim(9), 0);
        let whole = pool.allocate(MIB, 2, 10).expect("the fence has completed");
        assert_eq!((whole.source, whole.same_owner), (Source::Arena, false));
    }
}

#[test]
fn a_release_past_the_bins_goes_to_the_arena_once_completed() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(block.block, 1, 0, false).expect("live");
    assert_eq!((pool.stats().idle_bytes, pool.stats().arena_free_bytes), (0, MIB));
    assert_eq!(pool.allocate(KIB, 1, 0).expect("fits").source, Source::Arena);
}

#[test]
fn idle_blocks_are_evicted_longest_idle_first_to_make_room() {
    let (mut pool, live) = full(8);
    for block in &live[2..6] {
        pool.release(block.block, 1, 0, true).expect("live");
    }
    let wide = pool.allocate(512 * KIB, 1, 0).expect("two neighbours are enough");
    assert_eq!((wide.source, wide.address), (Source::Arena, live[2].address));
    assert_eq!((pool.stats().evictions, pool.stats().idle_count), (2, 2));
    assert_eq!(pool.allocate(256 * KIB, 1, 0).expect("fits").address, live[5].address);
}

#[test]
fn of_several_bins_the_longest_idle_block_is_evicted_first() {
    // 1 MiB: one block of each size fills it.
    let (mut pool, sizes) = (pool_with(MIB, FakeDriver::default()), [128 * KIB, 384 * KIB, 512 * KIB]);
    let [a, b, c] = sizes.map(|bytes| pool.allocate(bytes, 1, 0).expect("fits"));
    for (block, fence) in [(b, 1), (c, 2), (a, 3)] {
        pool.release(block.block, 1, fence, true).expect("live");
    }
    // Too large for 128 KiB, and of no class that idles.
    assert_eq!(pool.allocate(256 * KIB, 1, 3).expect("fits").source, Source::Arena);
    let idle: Vec<_> = pool.report().classes.iter().map(|class| (class.block_bytes, class.idle_count)).collect();
    assert_eq!(idle, [(128 * KIB, 1), (256 * KIB, 0), (384 * KIB, 0), (512 * KIB, 1)]);
}

#[test]
fn an_empty_bin_is_served_by_the_next_class_and_the_block_stays_of_that() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(block.block, 1, 0, true).expect("live");
    assert_eq!(pool.allocate(768, 1, 0).expect("fits").source, Source::Arena, "two classes below");
    let less = pool.allocate(KIB - 128, 1, 0).expect("fits");
    assert_eq!((less.address, less.block_bytes, less.source), (block.address, KIB, Source::Bin));
    assert_eq!(pool.release(less.block, 1, 0, true), Ok(KIB - 128));
    assert_eq!(pool.allocate(KIB, 1, 0).expect("fits").address, block.address);
}

#[test]
fn a_disowned_block_is_zeroed_for_everybody() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(block.block, 1, 5, true).expect("live");
    pool.disown(block.block);
    assert_eq!(pool.allocate_idle(KIB, 1, 4), None, "its fence holds for its last owner too");
    let again = pool.allocate_idle(KIB, 1, 5).expect("it has completed");
    assert_eq!((again.address, again.same_owner), (block.address, false));
}

#[test]
fn live_blocks_are_never_evicted() {
    let (mut pool, live) = full(4);
    let error = pool.allocate(64, 1, ALL_DONE).expect_err("everything is live");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert_eq!(pool.trim(ALL_DONE), 0);
    assert_eq!((pool.stats().live_count, pool.stats().evictions, pool.stats().refusals), (4, 0, 1));
    for block in live {
        assert_eq!(pool.release(block.block, 1, 0, true), Ok(256 * KIB));
    }
}

#[test]
fn total_used_and_allocated_are_different_numbers() {
    let mut pool = pool_with(64 * MIB, FakeDriver::default());
    let used = pool.allocate(300, 1, 0).expect("fits");
    let idle = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(idle.block, 1, 0, true).expect("live");
    let stats = pool.stats();
    assert_eq!((stats.budget_bytes, stats.reserved_bytes), (64 * MIB, MIB));
    assert_eq!((stats.live_bytes, stats.live_block_bytes, stats.idle_bytes), (300, 320, KIB));
    assert_eq!(stats.arena_free_bytes, MIB - 320 - KIB);
    assert_eq!((stats.live_count, stats.idle_count, stats.peak_live_bytes), (1, 1, 300 + KIB));
    assert_eq!(used.size_bytes, stats.live_bytes);
}

#[test]
fn a_driver_out_of_memory_makes_the_pool_evict_return_chunks_and_retry() {
    let driver = FakeDriver::with_capacity(4 * MIB);
    let reserved = driver.reserved_bytes();
    let mut pool = pool_with(1 << 30, driver);
    let live: Vec<_> = (0..4).map(|_| pool.allocate(MIB, 1, 0).expect("fits")).collect();
    for block in &live[1..] {
        pool.release(block.block, 1, 0, true).expect("live");
    }
    let block = pool.allocate(2 * MIB, 1, 0).expect("three free chunks go back, one of two comes");
    assert_eq!(block.source, Source::Driver);
    let stats = pool.stats();
    assert_eq!((stats.evictions, stats.driver_returns, stats.driver_reserves), (3, 3, 5));
    assert_eq!((stats.reserved_bytes, stats.peak_reserved_bytes), (3 * MIB, 4 * MIB));
    assert_eq!(reserved.load(Ordering::Relaxed), stats.reserved_bytes);

    let error = pool.allocate(2 * MIB, 1, 0).expect_err("the device is full");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.message().contains("requested 2097152 B, available 1070596096 B"), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the driver's error is kept");
}

/// Fails in a way that more room would not mend.
#[derive(Debug)]
struct Broken(u64);

impl ChunkSource for Broken {
    fn reserve(&mut self, _size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        self.0 += 1;
        assert_eq!(self.0, 1, "not asked again");
        Err(Error::new(ErrorKind::DeviceLost, "broken.reserve", "the device is lost"))
    }
}

#[test]
fn other_errors_of_the_driver_are_passed_on_and_not_retried() {
    let mut pool = Pool::new(PoolConfig::default(), Box::new(Broken(0)));
    assert_eq!(pool.allocate(64, 1, 0).expect_err("lost").kind(), ErrorKind::DeviceLost);
    assert_eq!(pool.stats().live_count, 0);
}

#[test]
fn the_budget_is_never_exceeded() {
    let mut pool = pool_with(5 * MIB / 2, FakeDriver::default());
    let mut count = 0;
    while pool.allocate(100 * KIB, 1, 0).is_ok() {
        count += 1;
    }
    // Blocks of 112 KiB; a chunk of 1 MiB holds 9, the last one of half a MiB holds 4.
    assert_eq!((count, pool.stats().reserved_bytes), (22, 5 * MIB / 2));
}

#[test]
fn a_block_as_large_as_the_budget_fits_and_absurd_sizes_are_typed_errors() {
    let budget_bytes = 1_000_000_000 / 256 * 256;
    let mut pool = pool_with(budget_bytes, FakeDriver::default());
    let kind = |result: Result<Allocation, Error>| result.expect_err("refused").kind();
    assert_eq!(kind(pool.allocate(0, 1, 0)), ErrorKind::InvalidArgument);
    for size_bytes in [budget_bytes + 1, 1 << 40, (1 << 40) + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(kind(pool.allocate(size_bytes, 1, 0)), ErrorKind::OutOfMemory);
    }
    assert_eq!((pool.stats().refusals, pool.stats().driver_reserves), (6, 0));
    let whole = pool.allocate(budget_bytes, 1, 0).expect("all of it");
    assert_eq!(whole.block_bytes, budget_bytes);
    assert_eq!(pool.release(whole.block, 1, 0, true), Ok(budget_bytes));
    assert!(pool.allocate(950_000_000, 1, 0).expect("the same class").is_pool_hit());
}

#[test]
fn wrong_releases_say_so_and_change_nothing() {
    let mut pool = pool();
    let block = pool.allocate(KIB, 1, 0).expect("fits");
    let other = pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(other.block, 1, 0, true).expect("live");
    let before = pool.stats();
    assert_eq!(pool.release(other.block, 1, 0, true), Err(ReleaseError::NotLive));
    assert_eq!(pool.release(other.block, 1, 0, false), Err(ReleaseError::NotLive));
    assert_eq!(pool.release(block.block, 2, 0, true), Err(ReleaseError::NotOwner));
    for number in (0..200).filter(|number| *number != block.block.0).chain([u32::MAX]) {
        assert!(pool.release(BlockId(number), 1, 0, true).is_err(), "{number}");
    }
    assert_eq!(pool.release(BlockId(u32::MAX), 1, 0, true), Err(ReleaseError::Unknown));
    assert_eq!(pool.stats(), before);
}

#[test]
fn the_limit_of_pieces_is_a_typed_error() {
    let config = PoolConfig { max_pieces: 8, ..PoolConfig::default() };
    let mut pool = Pool::new(config, Box::new(FakeDriver::default()));
    let blocks: Vec<_> = std::iter::from_fn(|| pool.allocate(64, 1, 0).ok()).collect();
    assert!((6..=8).contains(&blocks.len()), "{}", blocks.len());
    for block in blocks {
        pool.release(block.block, 1, 0, false).expect("live");
    }
    pool.trim(0);
    assert_eq!(pool.stats().reserved_bytes, 0);
}

#[test]
fn blocks_over_1_kib_lie_at_multiples_of_256() {
    let mut pool = pool();
    for step in 0..2000 {
        let small = pool.allocate(64 + step % 300, 1, 0).expect("fits");
        let large = pool.allocate(1025 + step * 37, 1, 0).expect("fits");
        assert!(small.address.is_multiple_of(64) && large.address.is_multiple_of(256));
        if step % 3 == 0 {
            pool.release(small.block, 1, 0, false).expect("live");
        }
    }
}

#[test]
fn the_report_goes_class_by_class() {
    let mut pool = pool();
    let blocks: Vec<_> = [KIB, KIB, 5 * KIB].iter().map(|&bytes| pool.allocate(bytes, 1, 0).expect("fits")).collect();
    pool.release(blocks[0].block, 1, 0, true).expect("live");
    pool.allocate(KIB, 1, 0).expect("fits");
    pool.release(blocks[2].block, 1, 0, true).expect("live");
    let report = pool.report();
    let rows: Vec<_> = report
        .classes
        .iter()
        .map(|class| (class.block_bytes, class.live_count, class.idle_count, class.hits, class.releases))
        .collect();
    assert_eq!(rows, [(KIB, 2, 0, 1, 1), (5 * KIB, 0, 1, 0, 1)]);
    assert_eq!(report.largest_free_bytes, MIB - 7 * KIB);
    assert!(report.fragmentation.abs() < 1e-9);
    assert_eq!((report.stats.bin_hits, report.stats.misses(), report.stats.allocations()), (1, 3, 4));
}

#[test]
fn fragmentation_is_the_share_of_free_bytes_outside_the_largest_piece() {
    let (mut pool, live) = full(8);
    for at in [0, 2, 4, 5] {
        pool.release(live[at].block, 1, 0, false).expect("live");
    }
    let report = pool.report();
    assert_eq!((report.stats.arena_free_bytes, report.largest_free_bytes), (MIB, 512 * KIB));
    assert!((report.fragmentation - 0.5).abs() < 1e-9);
}
