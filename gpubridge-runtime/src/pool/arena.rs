//! The arena: cuts chunks of device memory into pieces and joins free neighbours again.
//!
//! Good fit in constant time: sixteen lists of free pieces per doubling, a two-level bitmap of the lists that are not
//! empty. The bytes are on the device, so what other allocators keep as boundary tags lies in a table here.

use gpubridge_abstractions::DeviceBuffer;

use super::class::{GRANULE_BYTES, MAX_BLOCK_BYTES, floor_index};
use super::links::{Link, Linked, push_newest, unlink};

/// Lists per doubling, as a power of two.
const LIST_BITS: u32 = 4;
const LISTS: usize = floor_index(MAX_BLOCK_BYTES / GRANULE_BYTES, LIST_BITS) + 1;
const WORDS: usize = LISTS.div_ceil(64);
/// Pieces larger than this lie at multiples of [`LARGE_ALIGN_BYTES`].
const SMALL_BYTES: u64 = 1024;
const LARGE_ALIGN_BYTES: u64 = 256;
/// Pieces up to this size are cut from the upper end of a free one, larger ones from the lower: small and large blocks
/// then break up each other's room less (measured: up to 5 % less footprint).
const LOW_END_BYTES: u64 = 32 << 10;
/// No neighbour: the end of a chunk.
const NONE: u32 = u32::MAX;

/// A range of one chunk: free, or taken by a block of the same index.
#[derive(Debug)]
struct Piece {
    address: u64,
    size_bytes: u64,
    /// Neighbours in the chunk, by address.
    before: u32,
    after: u32,
    /// Place in the list of free pieces of this size; unused ids chain through `older`.
    link: Link,
    free: bool,
}

/// The list family of free pieces.
struct BySize;

impl Linked<BySize> for Piece {
    #[inline]
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

#[derive(Debug)]
struct Chunk {
    buffer: Box<dyn DeviceBuffer>,
    /// The piece at the chunk's start. Its index never changes, because joins keep the lower piece's.
    first: u32,
}

/// Chunks and their pieces. Indices are dense from [`Arena::FIRST`], and reused.
#[derive(Debug)]
pub struct Arena {
    /// The first entries are the sentinels of the lists.
    pieces: Vec<Piece>,
    unused: u32,
    unused_count: u32,
    lists: [u64; WORDS],
    words: u64,
    chunks: Vec<Chunk>,
    max_pieces: u32,
    reserved_bytes: u64,
    free_bytes: u64,
}

impl Arena {
    /// The smallest index of a piece.
    pub const FIRST: u32 = LISTS as u32;

    /// An empty arena of at most `max_pieces` pieces.
    pub fn new(max_pieces: u32) -> Self {
        let sentinel = |index| Piece {
            address: 0,
            size_bytes: 0,
            before: NONE,
            after: NONE,
            link: Link::alone(index),
            free: false,
        };
        Self {
            pieces: (0..Self::FIRST).map(sentinel).collect(),
            unused: NONE,
            unused_count: 0,
            lists: [0; WORDS],
            words: 0,
            chunks: Vec::new(),
            max_pieces: max_pieces.min(NONE - Self::FIRST) + Self::FIRST,
            reserved_bytes: 0,
            free_bytes: 0,
        }
    }

    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The address of a piece.
    pub fn address(&self, index: u32) -> u64 {
        self.pieces[index as usize].address
    }

    /// The largest free piece. Walks the one list that holds it.
    pub fn largest_free_bytes(&self) -> u64 {
        let Some(word) = self.words.checked_ilog2() else { return 0 };
        let list = word * 64 + self.lists[word as usize].ilog2();
        let mut at = self.pieces[list as usize].link.older;
        let mut largest_bytes = 0;
        while at != list {
            largest_bytes = largest_bytes.max(self.pieces[at as usize].size_bytes);
            at = self.pieces[at as usize].link.older;
        }
        largest_bytes
    }

    /// Takes over a chunk, as one free piece. Gives it back as an error when there are too many pieces.
    pub fn add(&mut self, buffer: Box<dyn DeviceBuffer>) -> Result<(), Box<dyn DeviceBuffer>> {
        let size_bytes = buffer.size_bytes() / GRANULE_BYTES * GRANULE_BYTES;
        let Some(first) = self.new_piece(buffer.address(), size_bytes, NONE, NONE) else { return Err(buffer) };
        self.reserved_bytes += buffer.size_bytes();
        self.chunks.push(Chunk { buffer, first });
        self.list(first);
        Ok(())
    }

    /// Takes a piece of exactly `size_bytes`, a multiple of the granule. `None` if no free piece is large enough.
    pub fn take(&mut self, size_bytes: u64) -> Option<u32> {
        let mut index = self.search(size_bytes).or_else(|| self.newest_like(size_bytes))?;
        if size_bytes > SMALL_BYTES && !self.pieces[index as usize].address.is_multiple_of(LARGE_ALIGN_BYTES) {
            // Any piece this much larger has an aligned start in it, so the search stays one step.
            index = self.search(size_bytes + LARGE_ALIGN_BYTES - GRANULE_BYTES)?;
        }
        if self.room_for_pieces() < 2 {
            return None;
        }
        self.unlist(index);
        let Piece { address, size_bytes: whole_bytes, .. } = self.pieces[index as usize];
        let align_bytes = if size_bytes > SMALL_BYTES { LARGE_ALIGN_BYTES } else { GRANULE_BYTES };
        let start = if size_bytes > LOW_END_BYTES {
            address.next_multiple_of(align_bytes)
        } else {
            (address + whole_bytes - size_bytes) / align_bytes * align_bytes
        };
        if start > address {
            let rest = self.split(index, start - address)?;
            self.list(index);
            index = rest;
        }
        if self.pieces[index as usize].size_bytes > size_bytes {
            let rest = self.split(index, size_bytes)?;
            self.list(rest);
        }
        Some(index)
    }

    /// Frees a taken piece and joins it with free neighbours. Returns the size of the result.
    pub fn give(&mut self, index: u32) -> u64 {
        let mut index = index;
        let Piece { before, after, .. } = self.pieces[index as usize];
        if after != NONE && self.pieces[after as usize].free {
            self.unlist(after);
            self.join(index, after);
        }
        if before != NONE && self.pieces[before as usize].free {
            self.unlist(before);
            self.join(before, index);
            index = before;
        }
        self.list(index);
        self.pieces[index as usize].size_bytes
    }

    /// Gives wholly free chunks back to the driver. Returns how many, and their bytes.
    pub fn return_chunks(&mut self) -> (u64, u64) {
        let mut returned = (0, 0);
        for at in (0..self.chunks.len()).rev() {
            let first = self.chunks[at].first;
            let piece = &self.pieces[first as usize];
            if piece.free && piece.after == NONE {
                let chunk = self.chunks.swap_remove(at);
                self.unlist(first);
                self.drop_piece(first);
                self.reserved_bytes -= chunk.buffer.size_bytes();
                returned = (returned.0 + 1, returned.1 + chunk.buffer.size_bytes());
            }
        }
        returned
    }

    fn list_of(size_bytes: u64) -> u32 {
        floor_index(size_bytes / GRANULE_BYTES, LIST_BITS) as u32
    }

    /// The newest piece of the first list all of whose pieces hold `size_bytes`.
    fn search(&self, size_bytes: u64) -> Option<u32> {
        let list = floor_index(size_bytes / GRANULE_BYTES - 1, LIST_BITS) + 1;
        let word = list / 64;
        let within = self.lists.get(word)? & (u64::MAX << (list % 64));
        let (word, bits) = if within != 0 {
            (word, within)
        } else {
            let words = self.words & (u64::MAX << word << 1);
            let word = words.trailing_zeros() as usize;
            (word, *self.lists.get(word)?)
        };
        let list = word * 64 + bits.trailing_zeros() as usize;
        Some(self.pieces[list].link.older)
    }

    /// The newest piece of the list that `size_bytes` itself belongs to, if it is large enough. Only sizes that start no
    /// list need it: the one cut to the budget, in the chunk just reserved for it.
    fn newest_like(&self, size_bytes: u64) -> Option<u32> {
        let list = Self::list_of(size_bytes);
        let newest = self.pieces[list as usize].link.older;
        (newest != list && self.pieces[newest as usize].size_bytes >= size_bytes).then_some(newest)
    }

    fn list(&mut self, index: u32) {
        let piece = &mut self.pieces[index as usize];
        piece.free = true;
        self.free_bytes += piece.size_bytes;
        let list = Self::list_of(piece.size_bytes);
        push_newest::<BySize, _>(&mut self.pieces, list, index);
        self.lists[list as usize / 64] |= 1 << (list % 64);
        self.words |= 1 << (list / 64);
    }

    fn unlist(&mut self, index: u32) {
        unlink::<BySize, _>(&mut self.pieces, index);
        let piece = &mut self.pieces[index as usize];
        piece.free = false;
        self.free_bytes -= piece.size_bytes;
        let list = Self::list_of(piece.size_bytes);
        if self.pieces[list as usize].link.older == list {
            self.lists[list as usize / 64] &= !(1 << (list % 64));
            if self.lists[list as usize / 64] == 0 {
                self.words &= !(1 << (list / 64));
            }
        }
    }

    /// Cuts a piece that is in no list; returns the part behind the first `size_bytes`.
    fn split(&mut self, index: u32, size_bytes: u64) -> Option<u32> {
        let Piece { address, size_bytes: whole_bytes, after, .. } = self.pieces[index as usize];
        let rest = self.new_piece(address + size_bytes, whole_bytes - size_bytes, index, after)?;
        self.pieces[index as usize].size_bytes = size_bytes;
        self.pieces[index as usize].after = rest;
        if after != NONE {
            self.pieces[after as usize].before = rest;
        }
        Some(rest)
    }

    /// Adds `upper` to `lower`, its neighbour; both are in no list.
    fn join(&mut self, lower: u32, upper: u32) {
        let Piece { size_bytes, after, .. } = self.pieces[upper as usize];
        self.pieces[lower as usize].size_bytes += size_bytes;
        self.pieces[lower as usize].after = after;
        if after != NONE {
            self.pieces[after as usize].before = lower;
        }
        self.drop_piece(upper);
    }

    fn room_for_pieces(&self) -> u32 {
        self.max_pieces - self.pieces.len() as u32 + self.unused_count
    }

    fn new_piece(&mut self, address: u64, size_bytes: u64, before: u32, after: u32) -> Option<u32> {
        let piece = Piece { address, size_bytes, before, after, link: Link::alone(NONE), free: false };
        let index = self.unused;
        if index != NONE {
            self.unused = self.pieces[index as usize].link.older;
            self.unused_count -= 1;
            self.pieces[index as usize] = piece;
            return Some(index);
        }
        let index = self.pieces.len() as u32;
        if index >= self.max_pieces {
            return None;
        }
        self.pieces.push(piece);
        Some(index)
    }

    fn drop_piece(&mut self, index: u32) {
        self.pieces[index as usize].link.older = self.unused;
        self.unused = index;
        self.unused_count += 1;
    }
}
