//! The bins: released blocks of each size class, ready to be used again, and when each was released.

use super::class::{CLASSES, MAX_BLOCK_BYTES};
use super::{BlockId, ReleaseError};

/// Newest blocks of a bin that are looked at for one of the same owner. Bounds the time of a call; a block passed over
/// is found by a later one.
const CANDIDATES: u32 = 4;
/// The owner of bytes that are nobody's: whoever takes the block is not the same.
const NOBODY: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A piece that the arena holds.
    None,
    Live,
    Idle,
    Returning,
}

/// A block: a piece of the arena while it is live or idle. Two fit a cache line, because a pair of calls on a random
/// block waits for little else.
#[derive(Clone, Debug)]
#[repr(align(32))]
struct Block {
    address: u64,
    owner: u64,
    /// Every command up to this number may still touch the bytes. Also the age of an idle block: the last command before
    /// it was released, or before its last use if nothing used it since.
    fence: u64,
    /// The size that the present owner asked for, the class and the state: one comparison shows a live block of a class.
    word: u64,
}

const CLASS_SHIFT: u32 = 48;
const STATE_SHIFT: u32 = 56;
const ASKED_MASK: u64 = (1 << CLASS_SHIFT) - 1;

const UNUSED: Block = Block { address: 0, owner: NOBODY, fence: 0, word: 0 };

// The largest block is of 2⁴⁰ bytes.
const _: () = assert!(size_of::<Block>() == 32 && MAX_BLOCK_BYTES <= ASKED_MASK);

impl Block {
    #[inline(always)]
    fn word(asked_bytes: u64, class: u8, state: State) -> u64 {
        asked_bytes | u64::from(class) << CLASS_SHIFT | (state as u64) << STATE_SHIFT
    }

    #[inline(always)]
    fn is_live(&self, class: u8) -> bool {
        self.word >> CLASS_SHIFT == Self::word(0, class, State::Live) >> CLASS_SHIFT
    }

    #[inline(always)]
    fn asked_bytes(&self) -> u64 {
        self.word & ASKED_MASK
    }

    fn class(&self) -> usize {
        usize::from((self.word >> CLASS_SHIFT) as u8)
    }

    #[inline(always)]
    fn set_state(&mut self, state: State) {
        self.word = self.word << 8 >> 8 | (state as u64) << STATE_SHIFT;
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

/// Released blocks, in the order of their release, and what is counted of them. One cache line: a call touches this, one
/// place and the block, and no other block, as it would with a linked list.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bin {
    /// A ring with a place for every block that may come, so that a release always finds one: a power of two.
    places: Box<[u32]>,
    /// Where the oldest is, and where the next one comes, modulo the places.
    first: u32,
    end: u32,
    /// The size of the blocks, where they have one.
    block_bytes: u64,
    tally: Tally,
}

impl Bin {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.first == self.end
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        self.end.wrapping_sub(self.first)
    }

    #[inline(always)]
    fn place(&mut self, cursor: u32) -> &mut u32 {
        // A bin without places has no blocks, and is never asked for one.
        let mask = self.places.len().wrapping_sub(1);
        &mut self.places[cursor as usize & mask]
    }

    /// The block that is the `at`-th from the oldest.
    fn at(&self, at: u32) -> u32 {
        self.places[self.first.wrapping_add(at) as usize & (self.places.len() - 1)]
    }

    #[inline(always)]
    fn push(&mut self, index: u32) {
        *self.place(self.end) = index;
        self.end = self.end.wrapping_add(1);
    }

    /// Takes out the `at`-th from the oldest, which is the oldest itself or one of the newest few.
    fn remove(&mut self, at: u32) {
        if at == 0 {
            self.first = self.first.wrapping_add(1);
            return;
        }
        for at in at + 1..self.count() {
            let newer = self.at(at);
            *self.place(self.first.wrapping_add(at - 1)) = newer;
        }
        self.end = self.end.wrapping_sub(1);
    }

    /// Takes out all that `leaves` says, and returns how many; the others keep their order.
    fn remove_all(&mut self, mut leaves: impl FnMut(u32) -> bool) -> u64 {
        let mut kept = self.first;
        for at in 0..self.count() {
            let index = self.at(at);
            if !leaves(index) {
                *self.place(kept) = index;
                kept = kept.wrapping_add(1);
            }
        }
        u64::from(std::mem::replace(&mut self.end, kept).wrapping_sub(kept))
    }

    /// One more block may come.
    fn adopt(&mut self, block_bytes: u64) {
        self.block_bytes = block_bytes;
        self.tally.adopted += 1;
        let blocks = self.tally.adopted - self.tally.evicted;
        if blocks > self.places.len() as u64 {
            let room = (self.places.len() * 2).max(4);
            let idle = self.count();
            self.places = (0..room as u32).map(|at| if at < idle { self.at(at) } else { 0 }).collect();
            (self.first, self.end) = (0, idle);
        }
    }
}

/// The table of blocks, their bins and their counters.
pub struct Bins {
    blocks: Vec<Block>,
    live_asked_bytes: u64,
    peak_live_bytes: u64,
    /// By class. Longer than needed, so that a class, a `u8`, needs no check.
    bins: Box<[Bin; 256]>,
    /// By class, no more than the fence of its oldest block, which hardly ever falls: so it is looked up when a block is
    /// to be evicted, and costs a hit nothing.
    oldest: [u64; CLASSES],
    /// The blocks on their way to the arena, waiting for their fence.
    returning: Bin,
}

impl Bins {
    pub fn new() -> Self {
        let bins: Box<[Bin]> = (0..256).map(|_| Bin::default()).collect();
        Self {
            blocks: Vec::new(),
            live_asked_bytes: 0,
            peak_live_bytes: 0,
            bins: bins.try_into().expect("there are 256"),
            oldest: [0; CLASSES],
            returning: Bin::default(),
        }
    }

    pub fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.bins[..CLASSES].iter().map(|bin| &bin.tally)
    }

    pub fn tally(&self, class: usize) -> &Tally {
        &self.bins[class].tally
    }

    pub fn live_asked_bytes(&self) -> u64 {
        self.live_asked_bytes
    }

    pub fn peak_live_bytes(&self) -> u64 {
        self.peak_live_bytes
    }

    /// A block of `class` for `owner`, and whether that was its last owner too.
    #[inline(always)]
    pub fn take(&mut self, class: usize, asked_bytes: u64, owner: u64, completed: u64) -> Option<(u32, bool)> {
        let bin = &mut self.bins[usize::from(class as u8)];
        if bin.is_empty() {
            return None;
        }
        let newest = bin.end.wrapping_sub(1);
        let mut index = *bin.place(newest);
        let mut same_owner = true;
        if self.blocks[index as usize].owner == owner {
            bin.end = newest;
        } else {
            (index, same_owner) = search(&self.blocks, bin, owner, completed)?;
        }
        let block = &mut self.blocks[index as usize];
        block.word = Block::word(asked_bytes, class as u8, State::Live);
        block.owner = owner;
        bin.tally.hits += 1;
        self.live_asked_bytes += asked_bytes;
        // A branch, because it is hardly ever taken, and a store saved.
        if self.live_asked_bytes > self.peak_live_bytes {
            self.peak_live_bytes = self.live_asked_bytes;
        }
        Some((index, same_owner))
    }

    /// Makes a piece of the arena a live block of `class`.
    pub fn adopt(&mut self, index: u32, class: usize, asked_bytes: u64, address: u64, block_bytes: u64, owner: u64) {
        if self.blocks.len() <= index as usize {
            self.blocks.resize(index as usize + 1, UNUSED);
        }
        let word = Block::word(asked_bytes, class as u8, State::Live);
        self.blocks[index as usize] = Block { address, owner, fence: 0, word };
        self.bins[class].adopt(block_bytes);
        self.returning.adopt(0);
        self.live_asked_bytes += asked_bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_asked_bytes);
    }

    /// Ends the life of a block: into its bin, or onto its way to the arena. Returns the size that was asked.
    #[inline(always)]
    pub fn release(&mut self, block: BlockId, owner: u64, fence: u64, to_bin: bool) -> Result<u64, ReleaseError> {
        // The class is the id's, so that nothing but a prediction waits for the block to come from memory.
        let (class, index) = (block.class(), block.index());
        let block = self.blocks.get_mut(index as usize).ok_or(ReleaseError::Unknown)?;
        if !block.is_live(class) {
            return Err(ReleaseError::NotLive);
        }
        if block.owner != owner {
            return Err(ReleaseError::NotOwner);
        }
        // The block may have come to its owner before the fence of its last release completed.
        block.fence = block.fence.max(fence);
        let asked_bytes = block.asked_bytes();
        let bin = &mut self.bins[usize::from(class)];
        bin.tally.releases += 1;
        self.live_asked_bytes -= asked_bytes;
        if to_bin {
            block.set_state(State::Idle);
            bin.push(index);
        } else {
            block.set_state(State::Returning);
            self.returning.push(index);
        }
        Ok(asked_bytes)
    }

    /// Makes the bytes of a live or idle block nobody's.
    pub fn disown(&mut self, block: BlockId) {
        if let Some(block) = self.blocks.get_mut(block.index() as usize) {
            block.owner = NOBODY;
        }
    }

    /// Where a block is, and its size.
    #[inline(always)]
    pub fn range(&self, block: BlockId) -> (u64, u64) {
        (self.blocks[block.index() as usize].address, self.bins[usize::from(block.class())].block_bytes)
    }

    /// Takes the block that has been idle longest out of its bin; the caller gives it to the arena. A bin whose oldest
    /// block has a fence that is not completed is passed over.
    pub fn evict_oldest(&mut self, completed: u64) -> Option<u32> {
        let mut found = None;
        let mut least = u64::MAX;
        for (class, oldest) in self.oldest.iter_mut().enumerate() {
            let bin = &self.bins[class];
            if *oldest >= least || bin.is_empty() {
                continue;
            }
            *oldest = self.blocks[bin.at(0) as usize].fence;
            if *oldest < least && *oldest <= completed {
                (found, least) = (Some(class), *oldest);
            }
        }
        let bin = &mut self.bins[found?];
        let index = bin.at(0);
        bin.remove(0);
        self.leave(index);
        Some(index)
    }

    /// As [`Bins::evict_oldest`] for the block that waits longest on its way to the arena.
    pub fn next_returned(&mut self, completed: u64) -> Option<u32> {
        if self.returning.is_empty() {
            return None;
        }
        let index = self.returning.at(0);
        if self.blocks[index as usize].fence > completed {
            return None;
        }
        self.returning.remove(0);
        self.leave(index);
        Some(index)
    }

    /// Takes out every block whose fence has completed, and shows each to `give`. Returns how many came from bins.
    pub fn evict_all(&mut self, completed: u64, mut give: impl FnMut(u32)) -> u64 {
        let Self { blocks, bins, returning, .. } = self;
        let mut leave = |index: u32| {
            let block = &mut blocks[index as usize];
            if block.fence > completed {
                return None;
            }
            block.set_state(State::None);
            give(index);
            Some(block.class())
        };
        let returned = returning.remove_all(|index| {
            let left = leave(index);
            left.inspect(|class| bins[*class].tally.evicted += 1).is_some()
        });
        let mut evicted = 0;
        for bin in &mut bins[..CLASSES] {
            let left = bin.remove_all(|index| leave(index).is_some());
            bin.tally.evicted += left;
            evicted += left;
        }
        returning.tally.evicted += returned + evicted;
        evicted
    }

    /// A block is idle no longer: the arena gets it.
    fn leave(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        block.set_state(State::None);
        self.bins[block.class()].tally.evicted += 1;
        self.returning.tally.evicted += 1;
    }
}

/// Takes the best of a few blocks out of a bin that is not empty: one that `owner` had (it needs no zeroing), or else one
/// that no command touches any more. The newest are likely in a cache; the oldest is the likeliest to be free.
#[inline(never)]
fn search(blocks: &[Block], bin: &mut Bin, owner: u64, completed: u64) -> Option<(u32, bool)> {
    let newest = (bin.count().saturating_sub(CANDIDATES)..bin.count()).rev();
    let mut usable = None;
    for at in newest.chain([0]) {
        let index = bin.at(at);
        let block = &blocks[index as usize];
        if block.owner == owner {
            bin.remove(at);
            return Some((index, true));
        }
        if usable.is_none() && block.fence <= completed {
            usable = Some((at, index));
        }
    }
    let (at, index) = usable?;
    bin.remove(at);
    Some((index, false))
}
