//! The device's memory as rings know it: by address.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ash::vk;
use gpubridge_kernels::device::{DeviceMemory, Extent};
use parking_lot::RwLock;

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

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
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

/// All chunks of a device that buffers refer to.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    chunks: RwLock<BTreeMap<u64, Weak<Chunk>>>,
}

impl Heap {
    pub(crate) fn enter(&self, chunk: &Arc<Chunk>) {
        self.chunks.write().insert(chunk.address, Arc::downgrade(chunk));
    }

    pub(crate) fn leave(&self, chunk: &Chunk) {
        self.chunks.write().remove(&chunk.address);
    }
}

/// The heap as one lane's commands reach it.
#[derive(Debug)]
pub(crate) struct LaneHeap {
    heap: Arc<Heap>,
    /// The chunk of the lane's range before: a weak reference, because a lane that is idle must not keep memory from
    /// being given back.
    last: Weak<Chunk>,
}

impl LaneHeap {
    pub(crate) fn new(heap: Arc<Heap>) -> Self {
        Self { heap, last: Weak::new() }
    }
}

impl DeviceMemory for LaneHeap {
    type Block = Range;

    fn block(&mut self, address: u64, size_bytes: u64) -> Option<Range> {
        let within = |chunk: Arc<Chunk>| {
            let offset = address.checked_sub(chunk.address)?;
            (offset.checked_add(size_bytes)? <= chunk.size_bytes).then_some(Range { chunk, address, size_bytes })
        };
        if let Some(range) = self.last.upgrade().and_then(within) {
            return Some(range);
        }
        let chunks = self.heap.chunks.read();
        self.last = Weak::clone(chunks.range(..=address).next_back()?.1);
        self.last.upgrade().and_then(within)
    }
}
