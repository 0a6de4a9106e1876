//! The bins: released blocks of each size class, ready to be used again, and the order in which they were released.

use super::ReleaseError;
use super::class::CLASSES;
use super::links::{Link, Linked, pop_newest, push_newest, unlink};

/// Newest blocks of a bin that are looked at for one of the same owner, and oldest blocks that are looked at for one
/// to evict. Bounds the time of a call; a block passed over is found by a later one.
const CANDIDATES: usize = 4;
/// The list of all blocks in bins, by the time of their release.
const LRU: u32 = CLASSES as u32;
/// The list of blocks on their way to the arena, waiting for their fence.
const RETURNING: u32 = LRU + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A sentinel, or a piece that the arena holds.
    None,
    Live,
    Idle,
    Returning,
}

/// A block: a piece of the arena while it is live or idle. One cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Block {
    address: u64,
    /// The size that the present owner asked for.
    asked_bytes: u64,
    block_bytes: u64,
    owner: u64,
    /// Every command up to this number may still touch the bytes.
    fence: u64,
    bin: Link,
    lru: Link,
    class: u8,
    state: State,
}

impl Block {
    fn unused(index: u32) -> Self {
        Self {
            address: 0,
            asked_bytes: 0,
            block_bytes: 0,
            owner: 0,
            fence: 0,
            bin: Link::alone(index),
            lru: Link::alone(index),
            class: 0,
            state: State::None,
        }
    }
}

struct Bin;
struct Lru;

impl Linked<Bin> for Block {
    #[inline]
    fn link(&mut self) -> &mut Link {
        &mut self.bin
    }
}

impl Linked<Lru> for Block {
    #[inline]
    fn link(&mut self) -> &mut Link {
        &mut self.lru
    }
}

/// What is counted for each class. Only sums are kept, one per call on the hot path; live and idle follow from them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub hits: u64,
    pub releases: u64,
    adopted: u64,
    evicted: u64,
}

impl Tally {
    pub fn live(&self) -> u64 {
        self.adopted + self.hits - self.releases
    }

    pub fn idle(&self) -> u64 {
        self.releases - self.hits - self.evicted
    }
}

/// A block that was taken from its bin.
pub struct Taken {
    pub index: u32,
    pub address: u64,
    pub block_bytes: u64,
    /// Whether its last owner was the same.
    pub same_owner: bool,
}

/// The table of blocks, their bins and their counters.
pub struct Bins {
    /// The sentinels of the bins come first, one per class, then those of the two other lists.
    blocks: Vec<Block>,
    /// By class. Longer than needed, so that a class, a `u8`, needs no check.
    tallies: [Tally; 256],
    live_asked_bytes: u64,
    peak_live_bytes: u64,
}

impl Bins {
    /// The smallest index of a block.
    pub const FIRST: u32 = RETURNING + 1;

    pub fn new() -> Self {
        Self {
            blocks: (0..Self::FIRST).map(Block::unused).collect(),
            tallies: [Tally::default(); 256],
            live_asked_bytes: 0,
            peak_live_bytes: 0,
        }
    }

    pub fn tallies(&self) -> &[Tally] {
        &self.tallies[..CLASSES]
    }

    pub fn live_asked_bytes(&self) -> u64 {
        self.live_asked_bytes
    }

    pub fn peak_live_bytes(&self) -> u64 {
        self.peak_live_bytes
    }

    /// A block of `class` for `owner`.
    #[inline(always)]
    pub fn take(&mut self, class: usize, asked_bytes: u64, owner: u64, completed: u64) -> Option<Taken> {
        // The slice keeps the table's address in a register through all the writes below.
        let blocks = self.blocks.as_mut_slice();
        let mut index = blocks[class].bin.older;
        // A bin's sentinel has the number of its class, so an empty bin shows itself here.
        if index as usize == class {
            return None;
        }
        let mut same_owner = true;
        if blocks[index as usize].owner == owner {
            pop_newest::<Bin, _>(blocks, class as u32, index);
        } else {
            (index, same_owner) = search(blocks, class, owner, completed)?;
            unlink::<Bin, _>(blocks, index);
        }
        unlink::<Lru, _>(blocks, index);
        let block = &mut blocks[index as usize];
        block.state = State::Live;
        block.asked_bytes = asked_bytes;
        block.owner = owner;
        self.tallies[usize::from(class as u8)].hits += 1;
        self.live_asked_bytes += asked_bytes;
        // A branch, because it is hardly ever taken, and a store saved.
        if self.live_asked_bytes > self.peak_live_bytes {
            self.peak_live_bytes = self.live_asked_bytes;
        }
        Some(Taken { index, address: block.address, block_bytes: block.block_bytes, same_owner })
    }

    /// Makes a piece of the arena a live block of `class`.
    pub fn adopt(&mut self, index: u32, class: usize, asked_bytes: u64, address: u64, block_bytes: u64, owner: u64) {
        if self.blocks.len() <= index as usize {
            self.blocks.resize(index as usize + 1, Block::unused(0));
        }
        let state = State::Live;
        let class_number = class as u8;
        let block = Block { address, asked_bytes, block_bytes, owner, class: class_number, state, ..Block::unused(0) };
        self.blocks[index as usize] = block;
        self.tallies[class].adopted += 1;
        self.live_asked_bytes += asked_bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_asked_bytes);
    }

    /// Ends the life of a block: into its bin, or onto its way to the arena. Returns the size that was asked.
    #[inline(always)]
    pub fn release(&mut self, index: u32, owner: u64, fence: u64, to_bin: bool) -> Result<u64, ReleaseError> {
        let blocks = self.blocks.as_mut_slice();
        let block = blocks.get_mut(index as usize).ok_or(ReleaseError::Unknown)?;
        if block.state != State::Live {
            return Err(ReleaseError::NotLive);
        }
        if block.owner != owner {
            return Err(ReleaseError::NotOwner);
        }
        // The block may have come to its owner before the fence of its last release completed.
        block.fence = block.fence.max(fence);
        block.state = if to_bin { State::Idle } else { State::Returning };
        let Block { asked_bytes, class, .. } = *block;
        self.tallies[usize::from(class)].releases += 1;
        self.live_asked_bytes -= asked_bytes;
        if to_bin {
            push_newest::<Bin, _>(blocks, u32::from(class), index);
            push_newest::<Lru, _>(blocks, LRU, index);
        } else {
            push_newest::<Lru, _>(blocks, RETURNING, index);
        }
        Ok(asked_bytes)
    }

    /// Takes the block that has been idle longest out of its bin; the caller gives it to the arena. Blocks whose fence
    /// has not completed are passed over.
    pub fn evict_oldest(&mut self, completed: u64) -> Option<u32> {
        let mut index = self.blocks[LRU as usize].lru.newer;
        for _ in 0..CANDIDATES {
            if index == LRU {
                return None;
            }
            if self.blocks[index as usize].fence <= completed {
                self.leave(index);
                return Some(index);
            }
            index = self.blocks[index as usize].lru.newer;
        }
        None
    }

    /// As [`Bins::evict_oldest`] for the block that waits longest on its way to the arena.
    pub fn next_returned(&mut self, completed: u64) -> Option<u32> {
        let index = self.blocks[RETURNING as usize].lru.newer;
        if index == RETURNING || self.blocks[index as usize].fence > completed {
            return None;
        }
        self.leave(index);
        Some(index)
    }

    /// Takes out every block whose fence has completed, and shows each to `give`. Returns how many came from bins.
    pub fn evict_all(&mut self, completed: u64, mut give: impl FnMut(u32)) -> u64 {
        let mut evicted = 0;
        for sentinel in [RETURNING, LRU] {
            let mut index = self.blocks[sentinel as usize].lru.newer;
            while index != sentinel {
                let next = self.blocks[index as usize].lru.newer;
                if self.blocks[index as usize].fence <= completed {
                    self.leave(index);
                    give(index);
                    evicted += u64::from(sentinel == LRU);
                }
                index = next;
            }
        }
        evicted
    }

    /// Takes an idle or returning block out of its lists.
    fn leave(&mut self, index: u32) {
        if self.blocks[index as usize].state == State::Idle {
            unlink::<Bin, _>(&mut self.blocks, index);
        }
        unlink::<Lru, _>(&mut self.blocks, index);
        let block = &mut self.blocks[index as usize];
        block.state = State::None;
        self.tallies[usize::from(block.class)].evicted += 1;
    }
}

/// The best of a few blocks of a bin that is not empty: one that `owner` had (it needs no zeroing), or else one
/// that no command touches any more. The newest are likely in a cache; the oldest is the likeliest to be free.
#[inline(never)]
fn search(blocks: &[Block], class: usize, owner: u64, completed: u64) -> Option<(u32, bool)> {
    let mut usable = None;
    let mut index = blocks[class].bin.older;
    for _ in 0..CANDIDATES {
        if index as usize == class {
            return usable;
        }
        let block = &blocks[index as usize];
        if block.owner == owner {
            return Some((index, true));
        }
        if usable.is_none() && block.fence <= completed {
            usable = Some((index, false));
        }
        index = block.bin.older;
    }
    let oldest = blocks[class].bin.newer;
    let block = &blocks[oldest as usize];
    let same_owner = block.owner == owner;
    let oldest_usable = (same_owner || block.fence <= completed).then_some((oldest, same_owner));
    if same_owner { oldest_usable } else { usable.or(oldest_usable) }
}
