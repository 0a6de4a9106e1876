//! The atomic word that both halves are generic over.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::SharedMemory;

/// A 64-bit atomic. Across the bus only [`Word::load`] and [`Word::store`] are used; [`Word::swap`] serves two threads
/// of one host.
pub trait Word: Send + Sync + Debug {
    /// A word with this value.
    fn new(value: u64) -> Self;
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
    /// Writes it and returns what was there.
    fn swap(&self, value: u64, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    fn new(value: u64) -> Self {
        AtomicU64::new(value)
    }

    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::swap(self, value, order)
    }
}

/// A piece of shared memory as its words.
pub trait Words: Clone + Send + Sync + Debug {
    /// The word.
    type Word: Word;
    /// The words, zero at first.
    fn words(&self) -> &[Self::Word];

    /// Where the device reads commands, if that is memory of its own: their slots once more, in the same order, zero at first. The
    /// host writes each command here too, and reads none back, which would cost it the way across the bus.
    #[inline]
    fn posted(&self) -> Option<&[Self::Word]> {
        None
    }

    /// Orders stores from before against those from after, as seen by the device, and has those from before leave the host. Called
    /// around each run of commands, and between staged bytes and their command. To be given by memory whose stores are gathered (write-combined); any other keeps their order.
    #[inline]
    fn fence(&self) {}
}

impl<M: SharedMemory + ?Sized> Words for Arc<M> {
    type Word = AtomicU64;

    fn words(&self) -> &[AtomicU64] {
        SharedMemory::words(&**self)
    }
}
