//! A driver without a device: it counts, and fails when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind, MemoryType};
use gpubridge_runtime::pool::ChunkSource;

/// Hands out ranges of an address space, up to a capacity.
#[derive(Debug)]
pub struct FakeDriver {
    next_address: u64,
    capacity_bytes: u64,
    reserved_bytes: Arc<AtomicU64>,
}

impl Default for FakeDriver {
    fn default() -> Self {
        Self::with_capacity(u64::MAX)
    }
}

impl FakeDriver {
    pub fn with_capacity(capacity_bytes: u64) -> Self {
        Self { next_address: 1 << 32, capacity_bytes, reserved_bytes: Arc::default() }
    }

    /// Counts what is reserved at present, also after the driver has moved into a pool.
    #[allow(dead_code, reason = "not every test program looks")]
    pub fn reserved_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reserved_bytes)
    }
}

impl ChunkSource for FakeDriver {
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        let reserved_bytes = self.reserved_bytes.load(Ordering::Relaxed);
        if size_bytes > self.capacity_bytes - reserved_bytes {
            return Err(Error::new(ErrorKind::OutOfMemory, "fake.reserve", format!("{size_bytes} B are too much")));
        }
        self.reserved_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        let address = self.next_address;
        self.next_address += size_bytes.next_multiple_of(256);
        Ok(Box::new(FakeBuffer { address, size_bytes, reserved_bytes: self.reserved_bytes() }))
    }
}

#[derive(Debug)]
struct FakeBuffer {
    address: u64,
    size_bytes: u64,
    reserved_bytes: Arc<AtomicU64>,
}

impl Drop for FakeBuffer {
    fn drop(&mut self) {
        self.reserved_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}

impl DeviceBuffer for FakeBuffer {
    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        MemoryType::Default
    }
}
