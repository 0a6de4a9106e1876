//! Which parts of a few large pieces of memory are free. Knows addresses only; nothing here touches memory.

use std::collections::BTreeMap;

/// What parts begin at multiples of.
pub(crate) const ALIGNMENT: u64 = 256;

/// Pieces of memory, and which parts of them are free.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    // Per piece, by its address: its size, and its free parts by their address.
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Debug)]
struct Piece {
    size_bytes: u64,
    free: BTreeMap<u64, u64>,
}

/// The size that a part of so many bytes takes; `None` for more than an address can say.
pub(crate) fn rounded(size_bytes: u64) -> Option<u64> {
    size_bytes.checked_next_multiple_of(ALIGNMENT)
}

impl Arena {
    /// Adds a piece, all of it free.
    pub(crate) fn add(&mut self, address: u64, size_bytes: u64) {
        let free = BTreeMap::from([(address, size_bytes)]);
        self.pieces.insert(address, Piece { size_bytes, free });
    }

    /// Takes `size_bytes`, a multiple of [`ALIGNMENT`], from the smallest free part that holds them.
    pub(crate) fn take(&mut self, size_bytes: u64) -> Option<u64> {
        let parts = self.pieces.values_mut().flat_map(|piece| {
            let fitting = piece.free.iter().filter(|(_, size)| **size >= size_bytes);
            fitting.min_by_key(|(_, size)| **size).map(|(address, size)| (*address, *size)).map(|part| (part, piece))
        });
        let ((address, size), piece) = parts.min_by_key(|((_, size), _)| *size)?;
        piece.free.remove(&address);
        if size > size_bytes {
            piece.free.insert(address + size_bytes, size - size_bytes);
        }
        Some(address)
    }

    /// Gives back what [`Arena::take`] gave out.
    pub(crate) fn give_back(&mut self, mut address: u64, mut size_bytes: u64) {
        let Some((_, piece)) = self.pieces.range_mut(..=address).next_back() else { return };
        if let Some((&before, &size)) = piece.free.range(..address).next_back()
            && before + size == address
        {
            piece.free.remove(&before);
            (address, size_bytes) = (before, size_bytes + size);
        }
        if let Some(size) = piece.free.remove(&(address + size_bytes)) {
            size_bytes += size;
        }
        piece.free.insert(address, size_bytes);
    }

    /// Removes the pieces that are wholly free, and says which.
    pub(crate) fn remove_free(&mut self) -> Vec<u64> {
        let free: Vec<u64> = self.free_pieces().map(|(address, _)| address).collect();
        free.iter().for_each(|address| drop(self.pieces.remove(address)));
        free
    }

    /// The pieces that are wholly free: address and size.
    pub(crate) fn free_pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        let whole = self.pieces.iter().filter(|(address, piece)| piece.free.get(address) == Some(&piece.size_bytes));
        whole.map(|(address, piece)| (*address, piece.size_bytes))
    }

    /// Bytes in free parts.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.pieces.values().flat_map(|piece| piece.free.values()).sum()
    }

    /// The pieces: first address and the one behind the last.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = [u64; 2]> {
        self.pieces.iter().map(|(address, piece)| [*address, address + piece.size_bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: parts never overlap, neighbours become one again, and pieces that touch stay two.
    #[test]
    fn parts_come_back_and_join() {
        let mut arena = Arena::default();
        arena.add(4096, 1024);
        arena.add(5120, 512);
        let parts: Vec<u64> = (0..6).map(|_| arena.take(256).unwrap()).collect();
        assert_eq!(arena.take(256), None);
        let mut sorted = parts.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] + 256 <= pair[1]), "{sorted:?}");
        for part in [1, 0, 3, 2, 5, 4].map(|i| parts[i]) {
            arena.give_back(part, 256);
        }
        assert_eq!(arena.free_bytes(), 1536);
        assert_eq!(arena.take(1280), None, "two pieces are not one");
        let whole = arena.take(1024).unwrap();
        assert_eq!(whole, 4096);
        assert!(arena.free_pieces().eq([(5120, 512)]));
        assert_eq!(arena.remove_free(), [5120]);
        arena.give_back(whole, 1024);
        assert_eq!(arena.remove_free(), [4096]);
        assert_eq!(arena.ranges().count(), 0);
    }

    /// Goal: the smallest part that holds the size is taken, so that large ones stay whole.
    #[test]
    fn the_smallest_part_that_fits_is_taken() {
        let mut arena = Arena::default();
        arena.add(4096, 2048);
        arena.add(8192, 512);
        assert_eq!(arena.take(512), Some(8192));
        assert_eq!(arena.take(512), Some(4096));
        assert_eq!(rounded(1), Some(256));
        assert_eq!(rounded(u64::MAX), None);
    }
}
