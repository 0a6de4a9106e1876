//! Memory that the driver gave.
#![expect(unsafe_code, reason = "foreign functions: with `driver`, this is where the backend calls the driver")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Context, sys};

/// Device memory. Dropped while no ring runs.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    pub(super) context: Arc<Context>,
    pub(super) address: u64,
}

impl DeviceMemory {
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let address = self.address;
        // SAFETY: freed once; whoever used it is done.
        self.context.call("cuda.close", "freeing device memory", || unsafe { sys::cuMemFree_v2(address) }).ok();
    }
}

/// Page-locked host memory that the device reaches. Dropped while no ring runs.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    pub(super) context: Arc<Context>,
    pub(super) host: NonNull<u8>,
    pub(super) address: u64,
}

// SAFETY: the memory is not bound to a thread.
unsafe impl Send for PinnedMemory {}
// SAFETY: the bytes are reached through `crate::words` alone, as atomics, and `crate::bulk`, by one thread at a time.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// Where the host sees the byte at `offset`, which lies in it.
    pub(crate) fn host_at(&self, offset: usize) -> Option<NonNull<u8>> {
        NonNull::new(self.host.as_ptr().wrapping_add(offset))
    }

    /// Where the device sees it.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let host = self.host.as_ptr().cast::<c_void>();
        // SAFETY: freed once; whoever used it is done.
        self.context.call("cuda.close", "freeing page-locked memory", || unsafe { sys::cuMemFreeHost(host) }).ok();
    }
}
