//! A pool of device memory: bins of released blocks in front, an arena behind, the driver only in large chunks.
//!
//! # How it works
//! - **One owner.** Every method takes `&mut self`; nothing locks, blocks or waits, except that reserving a chunk waits
//!   for the driver. The runtime keeps one pool per (lane, memory type), behind the lane's guard.
//! - **A hit is a few nanoseconds** and never allocates host memory: a released block of the same size class is used
//!   again, the newest first, or else one of the next class. Classes are four per doubling, from 64 B on; a block starts at a multiple of 64 bytes, or
//!   of 256 if it is larger than 1 KiB.
//! - **Fences.** A release carries the number of the last command that may touch the block. Its own owner may have the
//!   block back at once, since the lane keeps an owner's commands in order. Nobody else gets those bytes, as this block
//!   or as part of another, until the caller reports that number as completed: only completed blocks enter the arena.
//! - **Zeroing is the caller's.** The host cannot touch the bytes. Whenever [`Allocation::same_owner`] is false, the
//!   caller zeroes the block by a command on the device before its new owner sees it.
//! - **Order on a miss.** Arena; evict the longest idle blocks into the arena; reserve a chunk within the budget; evict
//!   everything idle, give free chunks back, try once more; a typed error. Live blocks are never evicted.
//! - **Nothing returns to the driver** except in [`Pool::trim`] and on that last try: freeing device memory may wait for
//!   the whole device.

mod arena;
mod bins;
mod class;
mod links;
mod report;
pub mod trace;

use std::fmt;

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind};

use arena::Arena;
use bins::Bins;
use class::{CLASSES, GRANULE_BYTES, MAX_BLOCK_BYTES, class_bytes, class_of};
pub use report::{ClassReport, PoolReport, PoolStats};

/// The step of chunk sizes, in bytes.
const CHUNK_STEP_BYTES: u64 = 64 << 10;
/// A chunk is this part of what is reserved already. With the two constants below, the result of a parameter sweep over
/// the five traces of [`trace`]: footprints of 1.2 to 1.47, with 93 to 96 % of the allocations served by the bins.
const CHUNK_SHARE: u64 = 16;
/// Below this multiple (a fraction) of the peak of live bytes, growing is preferred to emptying the bins...
const MODEST_FOOTPRINT: (u128, u128) = (4, 3);
/// ...and so it is up to this many bytes in all...
const SMALL_POOL_BYTES: u128 = 32 << 20;
/// ...and only so many blocks are evicted first.
const EVICTIONS_BEFORE_GROWTH: u32 = 8;
/// What a chunk's address, and so the largest block, must be a multiple of.
const CHUNK_ALIGN_BYTES: u64 = 256;

/// Where a pool gets its chunks: the driver of one device, for one memory type.
pub trait ChunkSource: Send + fmt::Debug {
    /// Reserves at least `size_bytes`, at an address that is a multiple of 256. May wait for the driver.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] makes the pool evict, give back free chunks and try once more; any other kind goes to
    /// the caller as it is.
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error>;
}

/// The limits of a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The most bytes that are reserved from the driver at any time.
    pub budget_bytes: u64,
    /// The smallest chunk. As large as the budget, it makes the pool reserve everything at its first allocation.
    pub min_chunk_bytes: u64,
    /// The largest chunk, unless one block needs more.
    pub max_chunk_bytes: u64,
    /// The most pieces, live, idle and free, that chunks are cut into; never more than 16 Mi. Bounds the pool's tables on
    /// the host, which grow on demand, to some 100 bytes each.
    pub max_pieces: u32,
}

impl Default for PoolConfig {
    /// 1 GiB, in chunks of 1 to 64 MiB, of up to 4 Mi pieces.
    fn default() -> Self {
        Self { budget_bytes: 1 << 30, min_chunk_bytes: 1 << 20, max_chunk_bytes: 64 << 20, max_pieces: 4 << 20 }
    }
}

/// Names a block of one pool while it is live. The pool uses the numbers of released blocks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// Bits of a block's index; the class is above.
    const INDEX_BITS: u32 = 24;

    #[inline(always)]
    fn new(class: usize, index: u32) -> Self {
        Self((class as u32) << Self::INDEX_BITS | index)
    }

    #[inline(always)]
    fn class(self) -> u8 {
        (self.0 >> Self::INDEX_BITS) as u8
    }

    #[inline(always)]
    fn index(self) -> u32 {
        self.0 & ((1 << Self::INDEX_BITS) - 1)
    }
}

/// What served an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A released block of the same class, or of the next.
    Bin,
    /// Free memory of a chunk that was there already.
    Arena,
    /// A chunk reserved for this call.
    Driver,
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Names the block to [`Pool::release`].
    pub block: BlockId,
    /// The device address of its first byte.
    pub address: u64,
    /// The size asked for, in bytes.
    pub size_bytes: u64,
    /// The size of the block, in bytes.
    pub block_bytes: u64,
    /// What served it.
    pub source: Source,
    /// Whether the last owner of these bytes was the same. If not, the caller zeroes the block.
    pub same_owner: bool,
}

impl Allocation {
    /// Whether a released block was used again.
    pub fn is_pool_hit(&self) -> bool {
        self.source == Source::Bin
    }
}

/// Why a release was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseError {
    /// The pool never had a block of this number.
    Unknown,
    /// The block is not live: it was released before.
    NotLive,
    /// The block is live, but another owner's.
    NotOwner,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no block of this number was ever handed out",
            Self::NotLive => "the block is not live: it was released before",
            Self::NotOwner => "the block belongs to another owner",
        })
    }
}

impl std::error::Error for ReleaseError {}

/// A pool of device memory; see the [module](self) for its behaviour.
pub struct Pool {
    bins: Bins,
    /// The highest `completed` that a miss or trim brought; completion never goes back.
    completed: u64,
    largest_bytes: u64,
    arena: Arena,
    source: Box<dyn ChunkSource>,
    config: PoolConfig,
    counters: Counters,
}

/// What is counted off the fast path.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    arena_hits: u64,
    driver_hits: u64,
    refusals: u64,
    evictions: u64,
    peak_reserved_bytes: u64,
    driver_reserves: u64,
    driver_returns: u64,
}

impl Pool {
    /// An empty pool. Reserves nothing yet.
    pub fn new(config: PoolConfig, source: Box<dyn ChunkSource>) -> Self {
        let budget_bytes = config.budget_bytes / CHUNK_ALIGN_BYTES * CHUNK_ALIGN_BYTES;
        Self {
            bins: Bins::new(),
            completed: 0,
            largest_bytes: budget_bytes.min(MAX_BLOCK_BYTES),
            arena: Arena::new(config.max_pieces.min(1 << BlockId::INDEX_BITS)),
            source,
            config,
            counters: Counters::default(),
        }
    }

    /// Hands out a block of at least `size_bytes` to `owner`, any number but `u64::MAX`. Every command up to number `completed` has completed.
    ///
    /// A hit neither blocks nor allocates. A miss takes some tens of nanoseconds more for each block that it evicts;
    /// only when it reserves a chunk does it wait for the driver. The pool's tables on the host grow by doubling.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for 0 bytes; [`ErrorKind::OutOfMemory`], with the bytes requested and available,
    /// when budget or device are exhausted; the driver's own error if it failed for another reason.
    #[inline(always)]
    pub fn allocate(&mut self, size_bytes: u64, owner: u64, completed: u64) -> Result<Allocation, Error> {
        // 0 wraps to the largest number, so that one comparison finds both wrong sizes.
        if size_bytes.wrapping_sub(1) >= self.largest_bytes {
            return Err(self.refuse(size_bytes, None));
        }
        let class = class_of(size_bytes);
        let (block, source, same_owner) = match self.bins.take(class, size_bytes, owner, completed) {
            Some((index, same_owner)) => (BlockId::new(class, index), Source::Bin, same_owner),
            None => self.allocate_behind(class, size_bytes, owner, completed)?,
        };
        // Put together here for all paths, or else a hit goes through memory that a miss writes.
        let (address, block_bytes) = self.bins.range(block);
        Ok(Allocation { block, address, size_bytes, block_bytes, source, same_owner })
    }

    /// [`Pool::allocate`] if a released block serves; `None` changes nothing. Neither blocks nor allocates.
    #[inline]
    pub fn allocate_idle(&mut self, size_bytes: u64, owner: u64, completed: u64) -> Option<Allocation> {
        if size_bytes.wrapping_sub(1) >= self.largest_bytes {
            return None;
        }
        let class = class_of(size_bytes);
        let (block, same_owner) = match self.bins.take(class, size_bytes, owner, completed) {
            Some((index, same_owner)) => (BlockId::new(class, index), same_owner),
            None => self.take_next(class, size_bytes, owner, completed)?,
        };
        let (address, block_bytes) = self.bins.range(block);
        Some(Allocation { block, address, size_bytes, block_bytes, source: Source::Bin, same_owner })
    }

    /// Takes back a block from `owner`; commands up to number `fence` may still touch it. Returns the size that was
    /// asked for, in bytes. Neither blocks nor allocates.
    ///
    /// With `return_to_pool` the block waits in its bin. Without, it goes to the arena, to become part of any other
    /// block: at once if `fence` has completed, or else in the first miss, trim or such release that finds it
    /// completed. Until then it counts as idle.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing has changed then. A block that was released and handed out again to the same owner is
    /// live, and cannot be told from its former self: callers who need that keep generations of their own.
    #[inline(always)]
    pub fn release(
        &mut self,
        block: BlockId,
        owner: u64,
        fence: u64,
        return_to_pool: bool,
    ) -> Result<u64, ReleaseError> {
        let size_bytes = self.bins.release(block, owner, fence, return_to_pool)?;
        if !return_to_pool {
            self.give_returned();
        }
        Ok(size_bytes)
    }

    /// Makes the bytes of a block nobody's: whoever has it next is told to zero it, and gets it only once its fence has
    /// completed. For a block that was released before it was zeroed for its owner. Neither blocks nor allocates.
    pub fn disown(&mut self, block: BlockId) {
        self.bins.disown(block);
    }

    /// Evicts every idle block whose fence has completed and gives wholly free chunks back to the driver, which may wait
    /// for the device. Returns the bytes given back.
    pub fn trim(&mut self, completed: u64) -> u64 {
        self.completed = self.completed.max(completed);
        self.evict_all();
        self.return_chunks()
    }

    /// The size of the blocks of `class`: no block is larger than the budget.
    fn block_bytes(&self, class: usize) -> u64 {
        class_bytes(class).min(self.largest_bytes)
    }

    /// A released block of the class after `class`. It wastes less than cutting up idle memory for one of this: in the
    /// traces that lowers the footprint by up to 5 % and the misses by up to a quarter. The class after gains little more.
    #[inline(never)]
    fn take_next(&mut self, class: usize, size_bytes: u64, owner: u64, completed: u64) -> Option<(BlockId, bool)> {
        let next = class + 1;
        if next == CLASSES {
            return None;
        }
        let (index, same_owner) = self.bins.take(next, size_bytes, owner, completed)?;
        Some((BlockId::new(next, index), same_owner))
    }

    #[cold]
    #[inline(never)]
    fn allocate_behind(
        &mut self,
        class: usize,
        size_bytes: u64,
        owner: u64,
        completed: u64,
    ) -> Result<(BlockId, Source, bool), Error> {
        if let Some((block, same_owner)) = self.take_next(class, size_bytes, owner, completed) {
            return Ok((block, Source::Bin, same_owner));
        }
        self.completed = self.completed.max(completed);
        let block_bytes = self.block_bytes(class);
        self.give_returned();
        let (piece, source) = match self.arena.take(block_bytes).or_else(|| self.evict_until_fits(block_bytes)) {
            Some(piece) => (piece, Source::Arena),
            None => self.grow(block_bytes, size_bytes)?,
        };
        match source {
            Source::Driver => self.counters.driver_hits += 1,
            _ => self.counters.arena_hits += 1,
        }
        let index = block_index(piece);
        let address = self.arena.address(piece);
        self.bins.adopt(index, class, size_bytes, address, block_bytes, owner);
        Ok((BlockId::new(class, index), source, false))
    }

    /// Evicts the longest idle blocks until a piece of `block_bytes` is free. Stops early while another chunk is cheap:
    /// as long as the footprint stays modest, emptying the bins costs more than it saves.
    fn evict_until_fits(&mut self, block_bytes: u64) -> Option<u32> {
        let footprint_bytes = u128::from(self.arena.reserved_bytes()) + u128::from(self.chunk_bytes(block_bytes));
        let modest_bytes = u128::from(self.bins.peak_live_bytes()) * MODEST_FOOTPRINT.0 / MODEST_FOOTPRINT.1;
        let modest_bytes = modest_bytes.max(SMALL_POOL_BYTES);
        let mut left = if footprint_bytes < modest_bytes { EVICTIONS_BEFORE_GROWTH } else { u32::MAX };
        while left > 0
            && let Some(index) = self.bins.evict_oldest(self.completed)
        {
            left -= 1;
            self.counters.evictions += 1;
            if self.arena.give(piece_index(index)) >= block_bytes
                && let Some(piece) = self.arena.take(block_bytes)
            {
                return Some(piece);
            }
        }
        None
    }

    /// Chunks grow with what is reserved, so that few are asked for and the last one is a small part of the whole.
    fn chunk_bytes(&self, block_bytes: u64) -> u64 {
        (self.arena.reserved_bytes() / CHUNK_SHARE)
            .min(self.config.max_chunk_bytes)
            .max(self.config.min_chunk_bytes)
            .max(block_bytes)
            .next_multiple_of(CHUNK_STEP_BYTES)
    }

    /// Reserves a chunk and takes a piece from it; makes room for it as a last resort.
    fn grow(&mut self, block_bytes: u64, size_bytes: u64) -> Result<(u32, Source), Error> {
        match self.reserve(self.chunk_bytes(block_bytes), block_bytes) {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {}
            Err(error) => return Err(error),
            Ok(()) => {
                if let Some(piece) = self.arena.take(block_bytes) {
                    return Ok((piece, Source::Driver));
                }
            }
        }
        self.evict_all();
        if let Some(piece) = self.arena.take(block_bytes) {
            return Ok((piece, Source::Arena));
        }
        self.return_chunks();
        match self.reserve(block_bytes.next_multiple_of(CHUNK_STEP_BYTES), block_bytes) {
            Ok(()) => match self.arena.take(block_bytes) {
                Some(piece) => Ok((piece, Source::Driver)),
                None => Err(self.refuse(size_bytes, None)),
            },
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(self.refuse(size_bytes, Some(error))),
            Err(error) => Err(error),
        }
    }

    /// Reserves `wanted_bytes`, or as much of it as the budget allows, but at least `least_bytes`.
    fn reserve(&mut self, wanted_bytes: u64, least_bytes: u64) -> Result<(), Error> {
        const OPERATION: &str = "pool.reserve";
        let room_bytes = self.config.budget_bytes.saturating_sub(self.arena.reserved_bytes());
        let chunk_bytes = wanted_bytes.min(room_bytes / GRANULE_BYTES * GRANULE_BYTES).min(MAX_BLOCK_BYTES);
        if chunk_bytes < least_bytes {
            let message = format!("a chunk of {least_bytes} B does not fit the {room_bytes} B left of the budget");
            return Err(Error::new(ErrorKind::OutOfMemory, OPERATION, message));
        }
        let chunk = self.source.reserve(chunk_bytes)?;
        let (address, given_bytes) = (chunk.address(), chunk.size_bytes());
        if given_bytes < chunk_bytes || given_bytes > room_bytes.min(MAX_BLOCK_BYTES) {
            let message =
                format!("asked for {chunk_bytes} B, the driver gave {given_bytes} B; {room_bytes} B are left");
            return Err(Error::new(ErrorKind::OutOfMemory, OPERATION, message));
        }
        if !address.is_multiple_of(CHUNK_ALIGN_BYTES) {
            let message = format!("the driver's address {address:#x} is not a multiple of {CHUNK_ALIGN_BYTES}");
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, message));
        }
        self.arena.add(chunk).map_err(|_| {
            let message = format!("the limit of {} pieces is reached", self.config.max_pieces);
            Error::new(ErrorKind::OutOfMemory, OPERATION, message)
        })?;
        self.counters.driver_reserves += 1;
        self.counters.peak_reserved_bytes = self.counters.peak_reserved_bytes.max(self.arena.reserved_bytes());
        Ok(())
    }

    /// Gives blocks that were released past the bins to the arena, as far as they have completed.
    fn give_returned(&mut self) {
        while let Some(index) = self.bins.next_returned(self.completed) {
            self.arena.give(piece_index(index));
        }
    }

    fn evict_all(&mut self) {
        let arena = &mut self.arena;
        self.counters.evictions += self.bins.evict_all(self.completed, |index| {
            arena.give(piece_index(index));
        });
    }

    fn return_chunks(&mut self) -> u64 {
        let (count, size_bytes) = self.arena.return_chunks();
        self.counters.driver_returns += count;
        size_bytes
    }

    #[cold]
    fn refuse(&mut self, size_bytes: u64, cause: Option<Error>) -> Error {
        const OPERATION: &str = "pool.allocate";
        self.counters.refusals += 1;
        if size_bytes == 0 {
            return Error::new(ErrorKind::InvalidArgument, OPERATION, "a block of 0 bytes was requested");
        }
        let budget_bytes = self.config.budget_bytes;
        let stats = self.stats();
        let available_bytes = budget_bytes.saturating_sub(stats.live_block_bytes);
        let waiting_bytes = stats.idle_bytes;
        let message = format!(
            "requested {size_bytes} B, available {available_bytes} B of a budget of {budget_bytes} B; {waiting_bytes} B \
             of that wait for commands to complete; release blocks, wait for completions or raise the budget"
        );
        let error = Error::new(ErrorKind::OutOfMemory, OPERATION, message);
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.config)
            .field("source", &self.source)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Block and piece are two views of one thing; the table of pieces has sentinels before them.
fn block_index(piece: u32) -> u32 {
    piece - Arena::FIRST
}

fn piece_index(block: u32) -> u32 {
    block + Arena::FIRST
}
