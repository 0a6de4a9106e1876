//! Random calls against a simple reference: who owns which bytes, and until when commands may touch them.

mod support;

use std::sync::atomic::Ordering;

use gpubridge_runtime::pool::{Allocation, Pool, PoolConfig, ReleaseError};
use proptest::prelude::*;
use support::FakeDriver;

#[derive(Clone, Debug)]
enum Call {
    Allocate { size_bytes: u64, owner: u64 },
    Release { at: usize, return_to_pool: bool },
    ReleaseAgain { at: usize },
    Complete { by: u64 },
    Trim,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let size_bytes = prop_oneof![1..2000_u64, 1..100_000_u64, 200_000..3_000_000_u64];
    let call = prop_oneof![
        10 => (size_bytes, 0..4_u64).prop_map(|(size_bytes, owner)| Call::Allocate { size_bytes, owner }),
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(at, return_to_pool)| Call::Release { at, return_to_pool }),
        1 => any::<usize>().prop_map(|at| Call::ReleaseAgain { at }),
        4 => (0..8_u64).prop_map(|by| Call::Complete { by }),
        1 => Just(Call::Trim),
    ];
    prop::collection::vec(call, 1..400)
}

/// What may be known of the pool from outside.
#[derive(Default)]
struct Model {
    live: Vec<(Allocation, u64)>,
    released: Vec<(Allocation, u64)>,
    /// Everything released, in order: start, end, owner, fence.
    fenced: Vec<(u64, u64, u64, u64)>,
    sequence: u64,
    completed: u64,
}

impl Model {
    fn allocated(&mut self, new: Allocation, owner: u64) {
        let end = new.address + new.block_bytes;
        assert!(new.block_bytes >= new.size_bytes && new.address.is_multiple_of(64));
        for (block, _) in &self.live {
            assert!(new.address >= block.address + block.block_bytes || end <= block.address, "{new:?} on {block:?}");
        }
        for &(start, fenced_end, fenced_owner, fence) in &self.fenced {
            let apart = new.address >= fenced_end || end <= start;
            assert!(apart || fence <= self.completed || fenced_owner == owner, "{new:?} before fence {fence}");
        }
        self.live.push((new, owner));
    }

    fn check(&self, pool: &Pool, reserved_bytes: u64) {
        let stats = pool.stats();
        let live_bytes: u64 = self.live.iter().map(|(block, _)| block.size_bytes).sum();
        let live_block_bytes: u64 = self.live.iter().map(|(block, _)| block.block_bytes).sum();
        assert_eq!((stats.live_bytes, stats.live_block_bytes), (live_bytes, live_block_bytes));
        assert_eq!(stats.live_count, self.live.len() as u64);
        assert_eq!(stats.reserved_bytes, reserved_bytes);
        assert_eq!(stats.arena_free_bytes, stats.reserved_bytes - stats.live_block_bytes - stats.idle_bytes);
        assert_eq!(stats.allocations() - stats.releases, stats.live_count);
        assert!(stats.reserved_bytes <= stats.budget_bytes && stats.peak_live_bytes >= live_bytes);
    }

    /// A block that `owner` need not zero is one that nobody else had any bytes of since `owner` had them.
    fn is_untouched(&self, block: &Allocation, owner: u64) -> bool {
        let end = block.address + block.block_bytes;
        let mut overlapping =
            self.fenced.iter().rev().filter(|&&(start, other_end, ..)| start < end && block.address < other_end);
        overlapping.next().is_some_and(|&(start, other_end, other_owner, _)| {
            (start, other_end, other_owner) == (block.address, end, owner)
        })
    }
}

fn run(calls: Vec<Call>, budget_bytes: u64) {
    let driver = FakeDriver::default();
    let reserved = driver.reserved_bytes();
    let mut pool = Pool::new(PoolConfig { budget_bytes, ..PoolConfig::default() }, Box::new(driver));
    let mut model = Model::default();
    for call in calls {
        model.sequence += 1;
        match call {
            Call::Allocate { size_bytes, owner } => match pool.allocate(size_bytes, owner, model.completed) {
                Ok(block) => {
                    assert!(!block.same_owner || model.is_untouched(&block, owner), "{block:?} was another's");
                    model.allocated(block, owner);
                }
                Err(error) => assert_eq!(error.kind(), gpubridge_abstractions::ErrorKind::OutOfMemory),
            },
            Call::Release { at, return_to_pool } if !model.live.is_empty() => {
                let (block, owner) = model.live.swap_remove(at % model.live.len());
                let fence = model.sequence;
                assert_eq!(pool.release(block.block, owner, fence, return_to_pool), Ok(block.size_bytes));
                model.fenced.push((block.address, block.address + block.block_bytes, owner, fence));
                model.released.push((block, owner));
            }
            Call::ReleaseAgain { at } if !model.released.is_empty() => {
                let (block, owner) = model.released[at % model.released.len()];
                if model.live.iter().all(|(live, _)| live.block != block.block) {
                    assert_eq!(pool.release(block.block, owner, 0, true), Err(ReleaseError::NotLive));
                }
            }
            Call::Complete { by } => model.completed = (model.completed + by).min(model.sequence),
            Call::Trim => {
                pool.trim(model.completed);
            }
            Call::Release { .. } | Call::ReleaseAgain { .. } => {}
        }
        model.check(&pool, reserved.load(Ordering::Relaxed));
    }
    for (block, owner) in model.live.drain(..) {
        pool.release(block.block, owner, model.sequence, true).expect("live");
    }
    pool.trim(model.sequence);
    model.check(&pool, 0);
    assert_eq!(pool.report().fragmentation, 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_overlap_fences_hold_and_the_bytes_add_up(calls in calls(), budget_mib in 1..64_u64) {
        run(calls, budget_mib << 20);
    }
}
