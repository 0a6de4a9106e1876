//! The device's memory: plain vectors behind locks. An address is a number of our own, so a forged one reaches nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind, MemoryType};
use gpubridge_kernels::device::{Block, DeviceMemory, Extent};

pub(crate) const TOTAL_BYTES: u64 = 1 << 30;
/// An address is a buffer's number, which is never given out twice, above so many bits of offset.
const OFFSET_BITS: u32 = 32;
const INTACT: &str = "nobody panics while holding this lock";

/// All buffers of the device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heap(Arc<Mutex<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    by_number: HashMap<u64, Arc<Mutex<Vec<u8>>>>,
    last_number: u64,
    used_bytes: u64,
}

impl Heap {
    pub(crate) fn available_bytes(&self) -> u64 {
        TOTAL_BYTES - self.0.lock().expect(INTACT).used_bytes
    }

    pub(crate) fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "custom.reserve", why));
        if size_bytes == 0 {
            return refuse(ErrorKind::InvalidArgument, "0 bytes were asked for; at least 1 is needed".to_owned());
        }
        let mut buffers = self.0.lock().expect(INTACT);
        let available = TOTAL_BYTES - buffers.used_bytes;
        // Asked first in a way that the host can refuse: a vector that cannot be had would end the process.
        if size_bytes > available || Vec::<u8>::new().try_reserve_exact(size_bytes as usize).is_err() {
            let why = format!("{size_bytes} bytes were asked for and {available} are available: release some");
            return refuse(ErrorKind::OutOfMemory, why);
        }
        buffers.used_bytes += size_bytes;
        buffers.last_number += 1;
        let number = buffers.last_number;
        buffers.by_number.insert(number, Arc::new(Mutex::new(vec![0; size_bytes as usize])));
        Ok(Box::new(Buffer { heap: self.clone(), number, size_bytes, memory_type }))
    }
}

/// A buffer, as the host holds it.
#[derive(Debug)]
struct Buffer {
    heap: Heap,
    number: u64,
    size_bytes: u64,
    memory_type: MemoryType,
}

impl DeviceBuffer for Buffer {
    fn address(&self) -> u64 {
        self.number << OFFSET_BITS
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffers = self.heap.0.lock().expect(INTACT);
        buffers.by_number.remove(&self.number);
        buffers.used_bytes -= self.size_bytes;
    }
}

/// Part of a buffer, as a slot is bound to it. It keeps the bytes alive until the slot is bound anew.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    bytes: Arc<Mutex<Vec<u8>>>,
    start: usize,
    size_bytes: usize,
}

impl DeviceMemory for Heap {
    type Block = Piece;

    fn block(&mut self, address: u64, size_bytes: u64) -> Option<Piece> {
        let bytes = Arc::clone(self.0.lock().expect(INTACT).by_number.get(&(address >> OFFSET_BITS))?);
        let start = usize::try_from(address & ((1 << OFFSET_BITS) - 1)).ok()?;
        let size_bytes = usize::try_from(size_bytes).ok()?;
        let fits = start.checked_add(size_bytes)? <= bytes.lock().expect(INTACT).len();
        fits.then_some(Piece { bytes, start, size_bytes })
    }
}

impl Extent for Piece {
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn cut(self, size_bytes: usize) -> Self {
        Self { size_bytes: self.size_bytes.min(size_bytes), ..self }
    }
}

impl Block for Piece {
    fn lend(&self, offset_bytes: usize, size_bytes: usize, to: impl FnOnce(&mut [u8])) {
        to(&mut self.bytes.lock().expect(INTACT)[self.start + offset_bytes..][..size_bytes]);
    }
}
