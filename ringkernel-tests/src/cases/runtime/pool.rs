//! The pool beneath resident memory, by the workloads of the documents.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use gpubridge_abstractions::{AllocationId, ReleaseMessage};
use gpubridge_runtime::SessionId;
use gpubridge_runtime::pool::trace::{SplitMix, documents_size_bytes};

use crate::rig::{Joined, KIB, MIB, Rig, config, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!(
    "pool",
    Memory {
        ten_blocks_of_2_kib_are_used_again => "ResidentMemory::allocate/pool-hit",
        fifty_threads_allocate_16_kib_each => "ResidentMemory::allocate/own-block",
        steady_turnover_hits_nine_times_in_ten => "ResidentMemory::allocate/hit-rate",
        the_originals_pattern_is_reported_beside => "ResidentMemory::allocate/no-more-hits",
        a_block_that_is_not_returned_is_no_hit => "ResidentMemory::release/not-returned",
        a_large_allocation_works => "ResidentMemory::allocate/large",
    }
);

/// Goal: released blocks serve the next allocations of their size. Method: ten of 2 KiB, released, ten again.
pub fn ten_blocks_of_2_kib_are_used_again(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let ten = || (0..10).map(|_| rig.try_allocate(session, 2 * KIB).expect("there is room")).collect::<Vec<_>>();
    let first = ten();
    assert!(first.iter().all(|(_, hit)| !hit), "nothing was there to use again");
    for (handle, _) in &first {
        rig.release(session, handle.id);
    }
    let second = ten();
    assert!(second.iter().all(|(_, hit)| *hit));
    let ids: HashSet<_> = first.iter().chain(&second).map(|(handle, _)| handle.id).collect();
    assert_eq!(ids.len(), 20, "a block that is used again has a new name");
    let metrics = rig.memory.metrics();
    assert_eq!((metrics.pool_hit_count, metrics.pool_miss_count, metrics.active_allocation_count), (10, 10, 10));
}

/// Goal: allocating at once from many threads gives each its own block. Method: fifty threads, a session each, start
/// together; each fills 16 KiB, and all is as it was written when all have.
pub fn fifty_threads_allocate_16_kib_each(context: &Context) {
    const SIZE: usize = 16 << 10;
    let rig = Rig::new(context.device(), config());
    let (start, filled) = (Barrier::new(50), Barrier::new(50));
    let ids = thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|number| {
                let (rig, start, filled) = (&rig, &start, &filled);
                scope.spawn(move || {
                    let session = rig.session(number);
                    start.wait();
                    let id = rig.allocate(session, SIZE as u64);
                    rig.write(session, id, &pattern(number, SIZE));
                    filled.wait();
                    assert!(rig.read(session, id, SIZE) == pattern(number, SIZE), "block {number} was overwritten");
                    id.generation
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.joined()).collect::<HashSet<_>>()
    });
    assert_eq!(ids.len(), 50);
    assert_eq!(rig.memory.metrics().used_pool_size_bytes, 50 * SIZE as u64);
}

/// Goal: the hit rate of a realistic workload, beside what it costs. Method: 10,000 operations from seed 42 at steady
/// turnover: 256 live blocks, and each operation releases one at random and allocates another.
pub fn steady_turnover_hits_nine_times_in_ten(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let mut random = SplitMix::new(42);
    let mut live: Vec<AllocationId> =
        (0..256).map(|_| rig.allocate(session, documents_size_bytes(&mut random))).collect();
    let before = rig.memory.metrics();
    let mut peak_bytes = before.used_pool_size_bytes;
    for _ in 0..10_000 {
        let at = random.between(0, 255) as usize;
        rig.release(session, live[at]);
        live[at] = rig.allocate(session, documents_size_bytes(&mut random));
        peak_bytes = peak_bytes.max(rig.memory.totals(session).map_or(0, |t| t.allocations.bytes - t.releases.bytes));
    }
    let after = rig.memory.metrics();
    let hits = after.pool_hit_count - before.pool_hit_count;
    let misses = after.pool_miss_count - before.pool_miss_count;
    assert_eq!(hits + misses, 10_000);
    let rate = hits as f64 / 10_000.0;
    let reserved_bytes = rig.memory.memory_info().reserved_bytes;
    assert!(rate >= 0.9, "hit rate {rate}, reserving {reserved_bytes} bytes");
    assert!(reserved_bytes <= 2 * peak_bytes + MIB, "{reserved_bytes} bytes for {peak_bytes} live ones");
}

/// Goal: the original's workload, reported beside the realistic one. Method: as it was: each operation allocates, three
/// in ten release at once, so that no pool can hit more often than that; every block that could be used again is.
pub fn the_originals_pattern_is_reported_beside(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session: SessionId = rig.session(0);
    let mut random = SplitMix::new(42);
    let mut released = 0;
    for _ in 0..2_000 {
        let id = rig.allocate(session, documents_size_bytes(&mut random));
        if random.between(1, 10) <= 3 {
            rig.release(session, id);
            released += 1;
        }
    }
    let metrics = rig.memory.metrics();
    assert!(metrics.pool_hit_count <= released, "{} hits of {released} blocks to use again", metrics.pool_hit_count);
    assert!(metrics.pool_hit_rate <= 0.35 && metrics.pool_hit_count * 10 >= released * 9, "{metrics:?}");
}

/// Goal: return_to_pool = false gives the block away. Method: the next allocation of its size is no hit.
pub fn a_block_that_is_not_returned_is_no_hit(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4 * KIB);
    let mut message = ReleaseMessage::new(rig.memory.envelope(), id);
    message.return_to_pool = false;
    let released = rig.memory.release(session, &message).expect("is answered");
    assert_eq!((released.bytes_freed, released.returned_to_pool), (4 * KIB, false));
    assert!(!rig.try_allocate(session, 4 * KIB).expect("there is room").1);
}

/// Goal: one block nearly as large as the budget. Method: 12 of 16 MiB, both ends written and read.
pub fn a_large_allocation_works(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 12 * MIB);
    for offset in [0, 12 * MIB - 100] {
        rig.try_write(session, id, offset, &pattern(offset, 100)).expect("is written");
        assert_eq!(rig.try_read(session, id, offset, 100).expect("is read"), pattern(offset, 100));
    }
}
