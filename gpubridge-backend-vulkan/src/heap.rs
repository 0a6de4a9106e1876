//! The device's memory as rings know it: by address.

use std::sync::Arc;

use ash::vk;
use gpubridge_kernels::device::{self, Extent};

use crate::gpu::Allocation;

/// Addresses of chunks are multiples of this.
pub(crate) const ALIGNMENT: u64 = 256;

/// One piece of memory. It lives as long as a buffer, a bound slot or a batch under way refers to it.
#[derive(Debug)]
pub(crate) struct Chunk {
    address: u64,
    size_bytes: u64,
    allocation: Allocation,
}

impl Chunk {
    /// What of the allocation, which is larger by [`ALIGNMENT`], begins at a multiple of that.
    pub(crate) fn of(allocation: Allocation, size_bytes: u64) -> Self {
        let address = allocation.address().next_multiple_of(ALIGNMENT);
        Self { address, size_bytes, allocation }
    }

    /// The buffer, and where in it an address of the chunk lies.
    pub(crate) fn place(&self, address: u64) -> (vk::Buffer, u64) {
        (self.allocation.buffer(), address - self.allocation.address())
    }
}

impl device::Chunk for Chunk {
    type Part = Range;

    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn part(self: Arc<Self>, address: u64, size_bytes: u64) -> Option<Range> {
        Some(Range { chunk: self, address, size_bytes })
    }
}

/// Part of a chunk, as a slot of the allocation table binds it.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) address: u64,
    pub(crate) size_bytes: u64,
}

impl Range {
    /// Whether they have a byte in common.
    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.address < end && start < self.address + self.size_bytes
    }
}

impl Extent for Range {
    #[inline]
    fn size_bytes(&self) -> usize {
        self.size_bytes as usize
    }

    fn cut(mut self, size_bytes: usize) -> Self {
        self.size_bytes = self.size_bytes.min(size_bytes as u64);
        self
    }
}
