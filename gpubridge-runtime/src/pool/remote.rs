//! Releases by threads that do not own the pool: a bounded queue that any thread pushes to and the owner drains.
//!
//! Lock-free for the owner; a pushing thread retries only when another one pushed in between. Each slot carries a turn
//! number: position `p` may be written when it is `p`, read when it is `p + 1`, and is `p + capacity` afterwards. The
//! other words of a slot are ordered by it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BlockId, Pool, ReleaseError};

/// The bit beside a block's number that says that the block goes to its bin.
const TO_BIN: u64 = 1 << 32;

/// One release on its way.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Slot {
    turn: AtomicU64,
    block: AtomicU64,
    owner: AtomicU64,
    fence: AtomicU64,
}

/// A number that one side writes: apart from what the other side writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Position(AtomicU64);

#[derive(Debug)]
struct Queue {
    tail: Position,
    slots: Box<[Slot]>,
}

impl Queue {
    fn slot(&self, position: u64) -> &Slot {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }
}

/// The queue is full: the owner has to drain it. Nothing was released; try again, or tell the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFull;

impl fmt::Display for RemoteFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue of remote releases is full until the pool's owner drains it")
    }
}

impl std::error::Error for RemoteFull {}

/// Releases blocks of a pool that another thread owns. Clones push to the same queue.
#[derive(Clone, Debug)]
pub struct RemoteReleaser {
    queue: Arc<Queue>,
}

/// The owner's end of the queue.
#[derive(Debug)]
pub struct RemoteReleases {
    queue: Arc<Queue>,
    head: u64,
}

/// A queue of at least `capacity` releases (rounded up to a power of two, 32 bytes each).
pub fn remote_releases(capacity: u32) -> (RemoteReleaser, RemoteReleases) {
    let capacity = u64::from(capacity).next_power_of_two().max(2);
    let slots = (0..capacity).map(|turn| Slot { turn: AtomicU64::new(turn), ..Slot::default() }).collect();
    let queue = Arc::new(Queue { tail: Position::default(), slots });
    (RemoteReleaser { queue: Arc::clone(&queue) }, RemoteReleases { queue, head: 0 })
}

impl RemoteReleaser {
    /// As [`Pool::release`], later: the owner's next drain does it, in the order of each thread's pushes. Never blocks or
    /// allocates.
    ///
    /// # Errors
    /// [`RemoteFull`]; the block stays live. Whether the pool refuses the release is known only to its owner.
    pub fn release(&self, block: BlockId, owner: u64, fence: u64, return_to_pool: bool) -> Result<(), RemoteFull> {
        // Relaxed: the position only proposes a slot; the slot's turn is what orders.
        let mut position = self.queue.tail.0.load(Ordering::Relaxed);
        let slot = loop {
            let slot = self.queue.slot(position);
            // Acquire: pairs with the owner's release of the turn, so that it has read what is overwritten now.
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == position {
                let claim = self.queue.tail.0.compare_exchange_weak(
                    position,
                    position.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                match claim {
                    Ok(_) => break slot,
                    Err(now) => position = now,
                }
            } else if turn.wrapping_sub(position) > u64::MAX / 2 {
                return Err(RemoteFull);
            } else {
                position = self.queue.tail.0.load(Ordering::Relaxed);
            }
        };
        slot.block.store(u64::from(block.0) | if return_to_pool { TO_BIN } else { 0 }, Ordering::Relaxed);
        slot.owner.store(owner, Ordering::Relaxed);
        slot.fence.store(fence, Ordering::Relaxed);
        // Release: pairs with the owner's acquire in `drain`, which then sees the words above.
        slot.turn.store(position.wrapping_add(1), Ordering::Release);
        Ok(())
    }
}

impl RemoteReleases {
    /// Does every release that has arrived, up to the queue's capacity, and returns how many. Shows those that the pool
    /// refuses to `refused`. Never blocks or allocates.
    ///
    /// Looking at an empty queue takes a cache line away from the thread that pushes: drain once in a few dozen
    /// allocations, and before giving up for want of memory.
    pub fn drain(&mut self, pool: &mut Pool, mut refused: impl FnMut(BlockId, ReleaseError)) -> usize {
        let capacity = self.queue.slots.len();
        for count in 0..capacity {
            let slot = self.queue.slot(self.head);
            // Acquire: pairs with the release in `RemoteReleaser::release`.
            if slot.turn.load(Ordering::Acquire) != self.head.wrapping_add(1) {
                return count;
            }
            let word = slot.block.load(Ordering::Relaxed);
            let (owner, fence) = (slot.owner.load(Ordering::Relaxed), slot.fence.load(Ordering::Relaxed));
            // Release: the words have been read before a pusher may write them again.
            slot.turn.store(self.head.wrapping_add(capacity as u64), Ordering::Release);
            self.head = self.head.wrapping_add(1);
            let block = BlockId(word as u32);
            if let Err(error) = pool.release(block, owner, fence, word & TO_BIN != 0) {
                refused(block, error);
            }
        }
        capacity
    }
}
