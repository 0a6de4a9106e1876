//! One kind of the device's memory: large pieces from the driver, given out in parts.
//!
//! The driver is asked while no ring runs, or in a window in which the rings are parked ([`crate::gpu::Gpu`] sees to that):
//! its calls wait for kernels that never end. Parts come and go without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use crate::arena::{ALIGNMENT, Arena, rounded};
use crate::driver::{Context, DeviceMemory, PinnedMemory};

/// What the driver is asked for at least.
const PIECE_BYTES: u64 = 64 << 20;

/// Where memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the device.
    Device,
    /// In the host, page-locked, mapped into the device.
    Pinned,
}

/// How large a piece is asked for, where so many bytes are needed, so many are there and the driver has so many.
///
/// Half as much as there is at the least: the kernel is told of a few pieces only, and these are to be all of a large device.
fn piece_bytes(needed_bytes: u64, held_bytes: u64, most_bytes: u64) -> u64 {
    let wanted = PIECE_BYTES.max(held_bytes / 2).min(most_bytes);
    needed_bytes.max(wanted / ALIGNMENT * ALIGNMENT)
}

#[derive(Debug)]
enum Piece {
    Device(DeviceMemory),
    Pinned(PinnedMemory),
}

/// The memory of one kind.
#[derive(Debug)]
pub(crate) struct Heap {
    kind: Kind,
    arena: Arena,
    // By device address.
    pieces: BTreeMap<u64, Piece>,
}

impl Heap {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, arena: Arena::default(), pieces: BTreeMap::new() }
    }

    /// A part of `size_bytes`, not zeroed; `None` when the driver has to be asked first.
    pub(crate) fn take(&mut self, size_bytes: u64) -> Option<u64> {
        self.arena.take(rounded(size_bytes)?)
    }

    /// Gives a part back.
    pub(crate) fn give_back(&mut self, address: u64, size_bytes: u64) {
        self.arena.give_back(address, rounded(size_bytes).unwrap_or(size_bytes));
    }

    /// Asks the driver for a piece that holds a part of `size_bytes`: a larger one, so that it need not be asked again soon,
    /// as far as it has `most_bytes`. No ring runs.
    pub(crate) fn grow(&mut self, context: &Arc<Context>, size_bytes: u64, most_bytes: u64) -> Result<(), Error> {
        let needed = rounded(size_bytes).unwrap_or(u64::MAX);
        let held = self.ranges().map(|[first, end]| end - first).sum();
        let size = piece_bytes(needed, held, most_bytes);
        // What is free need not be so in one piece, and of the last of it the driver keeps some.
        self.add_piece(context, size).or_else(|error| {
            let is_large = error.kind() == ErrorKind::OutOfMemory && size > needed;
            if is_large { self.add_piece(context, needed) } else { Err(error) }
        })
    }

    fn add_piece(&mut self, context: &Arc<Context>, size: u64) -> Result<(), Error> {
        let piece = match self.kind {
            Kind::Device => Piece::Device(context.allocate(size)?),
            Kind::Pinned => Piece::Pinned(context.allocate_pinned(size)?),
        };
        let address = match &piece {
            Piece::Device(memory) => memory.address(),
            Piece::Pinned(memory) => memory.address(),
        };
        self.arena.add(address, size);
        self.pieces.insert(address, piece);
        Ok(())
    }

    /// Gives the driver back what is wholly free. No ring runs.
    pub(crate) fn shrink(&mut self) {
        for address in self.arena.remove_free() {
            self.pieces.remove(&address);
        }
    }

    /// Bytes that are free without asking the driver.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.arena.free_bytes()
    }

    /// Bytes of the pieces that [`Heap::shrink`] would give back.
    pub(crate) fn deferred_bytes(&self) -> u64 {
        self.arena.free_pieces().map(|(_, size)| size).sum()
    }

    /// The pieces: first device address and the one behind the last.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = [u64; 2]> {
        self.arena.ranges()
    }

    /// The page-locked piece that holds this device address, and how far into it the address lies.
    pub(crate) fn pinned(&self, address: u64) -> Option<(&PinnedMemory, usize)> {
        let (first, piece) = self.pieces.range(..=address).next_back()?;
        match piece {
            Piece::Pinned(memory) => Some((memory, usize::try_from(address - first).ok()?)),
            Piece::Device(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::ARENAS_MAX;

    /// Goal: a device of 256 GiB is taken in fewer pieces than a ring can be told of, though each time little is needed.
    #[test]
    fn a_large_device_takes_few_pieces() {
        let (mut free, mut held, mut pieces) = (256_u64 << 30, 0, 0);
        while free > PIECE_BYTES {
            let size = piece_bytes(PIECE_BYTES, held, free);
            (free, held, pieces) = (free - size, held + size, pieces + 1);
        }
        assert!(pieces <= ARENAS_MAX * 3 / 4, "{pieces} pieces");
    }

    /// Goal: what is needed is asked for, whatever else holds.
    #[test]
    fn what_is_needed_is_asked_for() {
        assert_eq!(piece_bytes(256, 0, 1 << 40), PIECE_BYTES);
        assert_eq!(piece_bytes(256, 0, 1000), 768);
        assert_eq!(piece_bytes(1 << 30, 0, 1 << 40), 1 << 30);
        assert_eq!(piece_bytes(256, 4 << 30, 1 << 40), 2 << 30);
        assert_eq!(piece_bytes(256, 4 << 30, 0), 256);
    }
}
