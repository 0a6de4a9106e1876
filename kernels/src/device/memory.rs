//! A device's memory, as the executor of its commands uses it.

use std::cell::Cell;
use std::fmt::Debug;

use crate::Elements;

/// What blocks begin at multiples of: each has its cache lines to itself.
pub(crate) const BLOCK_ALIGNMENT: u64 = 64;

/// A device's memory by address.
pub trait DeviceMemory: Debug {
    /// Part of it.
    type Block: Extent;

    /// The `size_bytes` at `address`; `None` when they do not all lie within one buffer. The address may be forged.
    fn block(&mut self, address: u64, size_bytes: u64) -> Option<Self::Block>;
}

/// Part of a device's memory, to which a slot of the allocation table is bound: what the rules of commands ask of it.
pub trait Extent: Clone + Debug {
    /// Bytes that may be reached.
    fn size_bytes(&self) -> usize;

    /// Its first `size_bytes`, or all of it if it has fewer.
    #[must_use]
    fn cut(self, size_bytes: usize) -> Self;
}

/// An extent whose bytes the host reaches, so that it can execute commands on it.
///
/// Whoever calls is the one command at work on the block: a grain's commands run one at a time, and a block belongs to
/// one grain. The executor has checked every range.
pub trait Block: Extent {
    /// Lends `size_bytes` from `offset_bytes` on, to be read or changed. Short: it is for copies.
    ///
    /// # Panics
    /// When they leave the block.
    fn lend(&self, offset_bytes: usize, size_bytes: usize, to: impl FnOnce(&mut [u8]));

    /// Lends `run` the whole 4-byte elements of each of `blocks`, none for a block that is missing, for as long as a
    /// kernel takes. Where two of them are one block, by reference, what `run` writes to one is seen in the other.
    ///
    /// Provided on copies, which serves every memory. One that lies in the host as it is may lend that instead.
    ///
    /// # Panics
    /// When `run` does; the blocks stay usable.
    fn with_elements(blocks: [Option<&Self>; 3], run: impl FnOnce(Elements<'_>, Elements<'_>, Elements<'_>)) {
        thread_local! {
            // Kept, so that a call like an earlier one allocates nothing.
            static COPIES: Cell<[Vec<Cell<u32>>; 3]> = Cell::default();
        }
        let is_same = |a: usize, b: usize| blocks[a].zip(blocks[b]).is_some_and(|(a, b)| std::ptr::eq(a, b));
        let copy_of = [0, 1, 2].map(|i| (0..i).find(|earlier| is_same(*earlier, i)).unwrap_or(i));
        let mut copies = COPIES.take();
        for (copy, block) in copies.iter_mut().zip(blocks) {
            copy.clear();
            let Some(block) = block else { continue };
            block.lend(0, block.size_bytes(), |bytes| {
                copy.extend(bytes.as_chunks().0.iter().map(|element| Cell::new(u32::from_le_bytes(*element))));
            });
        }
        let [input, operand, output] = copy_of.map(|i| Elements::new(&copies[i]));
        run(input, operand, output);
        for (block, copy) in blocks.into_iter().zip(copy_of) {
            let Some(block) = block else { continue };
            block.lend(0, block.size_bytes(), |bytes| {
                let elements = bytes.as_chunks_mut().0.iter_mut().zip(&copies[copy]);
                elements.for_each(|(element, cell)| *element = cell.get().to_le_bytes());
            });
        }
        COPIES.set(copies);
    }
}
