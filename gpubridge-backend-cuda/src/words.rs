//! Page-locked memory as words that host and device share.
#![expect(
    unsafe_code,
    reason = "memory that a device writes is reached by raw pointers; this file is where the host does"
)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gpubridge_abstractions::{Error, SharedMemory};

use crate::gpu::{Gpu, Part};
use crate::heap::Kind;

/// Words in page-locked host memory, zero at first.
#[derive(Debug)]
pub(crate) struct PinnedWords {
    part: Part,
    first: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the words are atomics in memory that belongs to `part`.
unsafe impl Send for PinnedWords {}
// SAFETY: as above.
unsafe impl Sync for PinnedWords {}

impl PinnedWords {
    /// `count` words.
    pub(crate) fn new(gpu: &Arc<Gpu>, count: usize) -> Result<Self, Error> {
        let part = gpu.take(Kind::Pinned, count as u64 * 8)?;
        let first = gpu.host_of(&part)?.cast::<AtomicU64>();
        Ok(Self { part, first, count })
    }

    /// Where the device sees the first one.
    pub(crate) fn device_address(&self) -> u64 {
        self.part.address()
    }
}

impl SharedMemory for PinnedWords {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the part is as long, aligned to 256 bytes, initialised (it was zeroed when it was taken), and given back
        // after `self`; whoever writes it does so as atomics, the device by system-scoped accesses of eight bytes.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}
