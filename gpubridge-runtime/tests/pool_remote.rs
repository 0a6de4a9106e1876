//! Releases from other threads: none lost, none doubled, under real threads.

mod support;

use std::sync::mpsc;

use gpubridge_runtime::pool::{Allocation, Pool, PoolConfig, ReleaseError, RemoteFull, remote_releases};
use support::FakeDriver;

fn pool() -> Pool {
    Pool::new(PoolConfig::default(), Box::new(FakeDriver::default()))
}

#[test]
fn a_remote_release_is_done_by_the_owners_drain() {
    let mut pool = pool();
    let (releaser, mut releases) = remote_releases(4);
    let blocks: Vec<_> = (0..3).map(|_| pool.allocate(1024, 7, 0).expect("fits").block).collect();
    releaser.release(blocks[0], 7, 5, true).expect("room");
    releaser.release(blocks[1], 7, 5, false).expect("room");
    releaser.release(blocks[2], 8, 5, true).expect("room");
    assert_eq!(pool.stats().live_count, 3);
    let mut refused = Vec::new();
    assert_eq!(releases.drain(&mut pool, |block, error| refused.push((block, error))), 3);
    assert_eq!(refused, [(blocks[2], ReleaseError::NotOwner)]);
    assert_eq!((pool.stats().live_count, pool.stats().idle_count), (1, 2));
    assert_eq!(pool.allocate(1024, 7, 0).expect("fits").block, blocks[0]);
    assert_eq!(releases.drain(&mut pool, |_, _| ()), 0);
}

#[test]
fn a_full_queue_says_so_and_works_again_after_a_drain() {
    let mut pool = pool();
    let (releaser, mut releases) = remote_releases(4);
    for _ in 0..3 {
        let blocks: Vec<_> = (0..5).map(|_| pool.allocate(64, 1, 0).expect("fits").block).collect();
        let results: Vec<_> = blocks.iter().map(|&block| releaser.release(block, 1, 0, true)).collect();
        assert_eq!(results, [Ok(()), Ok(()), Ok(()), Ok(()), Err(RemoteFull)]);
        assert_eq!(releases.drain(&mut pool, |_, _| panic!("all are live")), 4);
        pool.release(blocks[4], 1, 0, true).expect("the fifth stayed live");
    }
    assert_eq!(pool.stats().live_count, 0);
}

#[test]
fn three_threads_release_what_the_owner_allocates() {
    const EACH: u64 = 20_000;
    let mut pool = pool();
    let (releaser, mut releases) = remote_releases(64);
    std::thread::scope(|scope| {
        let threads: Vec<mpsc::SyncSender<Allocation>> = (0..3)
            .map(|owner| {
                let (sender, receiver) = mpsc::sync_channel::<Allocation>(256);
                let releaser = releaser.clone();
                scope.spawn(move || {
                    for block in receiver {
                        while releaser.release(block.block, owner, 0, true) == Err(RemoteFull) {
                            std::thread::yield_now();
                        }
                    }
                });
                sender
            })
            .collect();
        for step in 0..EACH {
            for (owner, sender) in (0..).zip(&threads) {
                let mut block = pool.allocate(64 << (step % 8), owner, 0).expect("fits");
                while let Err(mpsc::TrySendError::Full(back)) = sender.try_send(block) {
                    block = back;
                    releases.drain(&mut pool, |block, error| panic!("{block:?}: {error}"));
                    std::thread::yield_now();
                }
            }
        }
        drop(threads);
        while pool.stats().live_count > 0 {
            releases.drain(&mut pool, |block, error| panic!("{block:?}: {error}"));
            std::thread::yield_now();
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.allocations(), stats.releases), (3 * EACH, 3 * EACH));
    assert_eq!(pool.trim(0), stats.reserved_bytes);
}
