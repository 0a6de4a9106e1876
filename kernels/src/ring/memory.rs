//! A lane's memory for devices that are threads of this process.

use std::sync::atomic::AtomicU64;

use gpubridge_abstractions::SharedMemory;

use super::layout::{LaneLayout, SLOT_WORDS};

/// The memory of a lane on the host's heap, zero at first: what a device shares with the host that runs on it.
#[derive(Debug)]
pub struct HostMemory {
    words: Vec<AtomicU64>,
    first: usize,
    len: usize,
}

impl HostMemory {
    /// Memory for a lane of this layout.
    pub fn new(layout: LaneLayout) -> Self {
        let len = layout.words();
        // A slot is a cache line; the vector may begin in the middle of one.
        let words: Vec<AtomicU64> = (0..len + SLOT_WORDS).map(|_| AtomicU64::new(0)).collect();
        let first = words.as_ptr().align_offset(SLOT_WORDS * size_of::<AtomicU64>());
        Self { words, first, len }
    }
}

impl SharedMemory for HostMemory {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        &self.words[self.first..self.first + self.len]
    }
}
