//! A device's memory in chunks, found by address.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::memory::{DeviceMemory, Extent};

/// One piece of a device's memory. It lives as long as a buffer or a bound slot refers to it.
pub trait Chunk: Debug {
    /// Part of it.
    type Part: Extent;

    /// Its first address.
    fn address(&self) -> u64;

    /// Its size.
    fn size_bytes(&self) -> u64;

    /// The `size_bytes` at `address`, which lie in it; `None` when the device has no part that begins there.
    fn part(self: Arc<Self>, address: u64, size_bytes: u64) -> Option<Self::Part>;
}

/// All chunks of a device that buffers refer to.
#[derive(Debug)]
pub struct Chunks<C>(RwLock<BTreeMap<u64, Weak<C>>>);

impl<C> Default for Chunks<C> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<C: Chunk> Chunks<C> {
    /// Lets commands find a chunk.
    pub fn enter(&self, chunk: &Arc<C>) {
        let mut chunks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        chunks.insert(chunk.address(), Arc::downgrade(chunk));
    }

    /// Lets none find it any more.
    pub fn leave(&self, chunk: &C) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&chunk.address());
    }
}

/// The chunks as one lane's commands reach them.
#[derive(Debug)]
pub struct LaneChunks<C> {
    chunks: Arc<Chunks<C>>,
    /// The chunk of the lane's part before: a weak reference, because a lane that is idle must not keep memory from
    /// being given back.
    last: Weak<C>,
}

impl<C> LaneChunks<C> {
    /// All of `chunks`, for one lane.
    pub fn new(chunks: Arc<Chunks<C>>) -> Self {
        Self { chunks, last: Weak::new() }
    }
}

impl<C: Chunk> DeviceMemory for LaneChunks<C> {
    type Block = C::Part;

    fn block(&mut self, address: u64, size_bytes: u64) -> Option<C::Part> {
        let within = |chunk: Arc<C>| {
            let offset = address.checked_sub(chunk.address())?;
            let fits = offset.checked_add(size_bytes)? <= chunk.size_bytes();
            if fits { chunk.part(address, size_bytes) } else { None }
        };
        if let Some(part) = self.last.upgrade().and_then(within) {
            return Some(part);
        }
        let chunks = self.chunks.0.read().unwrap_or_else(PoisonError::into_inner);
        self.last = Weak::clone(chunks.range(..=address).next_back()?.1);
        self.last.upgrade().and_then(within)
    }
}
