//! Device memory that the host sees across the bus.
#![expect(unsafe_code, reason = "foreign functions: with `driver`, this is where the backend calls the driver")]

use std::ptr::NonNull;
use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use super::{Attribute, Context, DeviceHandle, sys};

/// What the addresses and sizes of mappings are multiples of: the pages by which GPUs map memory.
pub(crate) const MAPPING_ALIGNMENT: u64 = 64 << 10;

const OPERATION: &str = "cuda.map";

/// Device memory in the host's addresses, write-combined: stores to it are gathered, until [`fence`], and loads take a
/// microsecond. Dropped while no ring runs.
#[derive(Debug)]
pub(crate) struct Mapping {
    context: Arc<Context>,
    first: NonNull<u8>,
    size_bytes: usize,
}

// SAFETY: the mapping is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: the bytes are reached through `crate::posted` alone, as atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn first(&self) -> NonNull<u8> {
        self.first
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

impl DeviceHandle {
    /// Whether its memory can be mapped, by what is known before it is tried; if not, what is missing.
    pub(crate) fn maps_memory(self) -> Result<(), String> {
        if !host::MAPS {
            return Err("device memory is mapped on Linux on x86-64 alone".into());
        }
        match self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_DMA_BUF_MMAP_SUPPORTED) {
            Ok(1..) => Ok(()),
            Ok(0) => Err("the driver maps no memory of this device (DMA-BUF)".into()),
            Err(error) => Err(format!("the driver knows of no mapping (DMA-BUF), as one of CUDA 13.3 does: {error}")),
        }
    }
}

impl Context {
    /// Maps device memory whose address and size are multiples of [`MAPPING_ALIGNMENT`]. Never while a ring runs.
    ///
    /// The caller keeps the memory as long as the mapping.
    pub(crate) fn map(self: &Arc<Self>, address: u64, size_bytes: u64) -> Result<Mapping, Error> {
        let (mut descriptor, size) = (-1, size_bytes as usize);
        let handle = sys::CUmemRangeHandleType::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD;
        self.call(OPERATION, "exporting device memory", || {
            let out = (&raw mut descriptor).cast();
            // SAFETY: `descriptor` is the out parameter of this kind of handle; the range is the caller's.
            unsafe { sys::cuMemGetHandleForAddressRange(out, address, size, handle, 0) }
        })?;
        let first = host::map(descriptor, size).map_err(|error| {
            let why = format!("mapping device memory failed: {error}");
            Error::new(ErrorKind::Unsupported, OPERATION, why)
        })?;
        Ok(Mapping { context: Arc::clone(self), first, size_bytes: size })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The driver's part of the system is asked too: after a loss it is left alone.
        if !self.context.is_lost() {
            host::unmap(self.first, self.size_bytes);
        }
    }
}

pub(crate) use host::fence;

/// Where it is known how stores to such memory are ordered.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod host {
    use std::io;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::ptr::{self, NonNull};

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    pub(super) const MAPS: bool = true;

    pub(super) fn map(descriptor: i32, size_bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the driver made the descriptor for the caller, who uses it here alone. The mapping outlives it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new range of addresses, which the system chooses.
        let at = unsafe { mmap(ptr::null_mut(), size_bytes, access, MapFlags::SHARED, &descriptor, 0) }?;
        NonNull::new(at.cast()).ok_or_else(|| io::Error::other("the system mapped nothing"))
    }

    pub(super) fn unmap(first: NonNull<u8>, size_bytes: usize) {
        // SAFETY: mapped with this size, unmapped once. What is left mapped if it fails is address space.
        unsafe { munmap(first.as_ptr().cast(), size_bytes) }.ok();
    }

    /// Orders stores of either kind of memory, and has those to a mapping leave the processor.
    #[inline]
    pub(crate) fn fence() {
        // SAFETY: every x86-64 processor has the instruction, which touches no memory of the program's.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod host {
    use std::io;
    use std::ptr::NonNull;

    pub(super) const MAPS: bool = false;

    pub(super) fn map(_: i32, _: usize) -> io::Result<NonNull<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn unmap(_: NonNull<u8>, _: usize) {}

    pub(crate) fn fence() {}
}
