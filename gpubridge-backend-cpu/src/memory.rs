//! The device's memory: aligned chunks of host memory, reached by device addresses.
//!
//! A device address is a number that this module gave out, not a pointer, so a forged one is refused like any other
//! bad argument.
#![expect(unsafe_code, reason = "a device's memory is raw bytes; this file is where the backend touches them")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind, MemoryType};
use gpubridge_kernels::Elements;
use gpubridge_kernels::device::{self, Block, Chunks, Extent};

/// Alignment of chunks and of device addresses given out for them.
const ALIGNMENT: usize = 4096;

/// One piece of memory. It lives as long as a buffer or a bound slot refers to it.
#[derive(Debug)]
pub(crate) struct Chunk {
    address: u64,
    bytes: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes belong to the chunk alone and are not thread-bound.
unsafe impl Send for Chunk {}
// SAFETY: the bytes are reached only through `Range`, whose owner is the one command at work on them.
unsafe impl Sync for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `bytes` came from `alloc_zeroed` with this very layout and is freed once, here.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) }
    }
}

impl device::Chunk for Chunk {
    type Part = Range;

    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.layout.size() as u64
    }

    fn part(self: Arc<Self>, address: u64, size_bytes: u64) -> Option<Range> {
        let offset = usize::try_from(address - self.address).ok()?;
        let size_bytes = usize::try_from(size_bytes).ok()?;
        // `Range::elements` stands on the alignment.
        offset.is_multiple_of(align_of::<u32>()).then_some(Range { chunk: self, offset, size_bytes })
    }
}

/// Part of a chunk, as a slot of the allocation table binds it.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    chunk: Arc<Chunk>,
    offset: usize,
    size_bytes: usize,
}

impl Range {
    /// The whole 4-byte elements of the range.
    ///
    /// The caller is the one command at work on the range: the ring runs a grain's commands one at a time, and a block
    /// belongs to one grain. Two ranges of one command may be the same memory, hence cells.
    fn elements(&self) -> &[Cell<u32>] {
        // SAFETY: `offset` lies inside the chunk: whoever cut the part checked it.
        let first = unsafe { self.chunk.bytes.add(self.offset) }.cast::<Cell<u32>>();
        debug_assert!(first.is_aligned(), "blocks are aligned to 4 bytes");
        // SAFETY: the range lies inside the chunk, is aligned and initialised (chunks are zeroed when reserved), and no
        // other thread touches it while the command runs, as said above.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.size_bytes / 4) }
    }
}

impl Extent for Range {
    #[inline]
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn cut(mut self, size_bytes: usize) -> Self {
        self.size_bytes = self.size_bytes.min(size_bytes);
        self
    }
}

impl Block for Range {
    #[inline]
    fn lend(&self, offset_bytes: usize, size_bytes: usize, to: impl FnOnce(&mut [u8])) {
        let end = offset_bytes.checked_add(size_bytes);
        assert!(end.is_some_and(|end| end <= self.size_bytes), "the bytes lie in the range");
        // SAFETY: `offset` lies inside the chunk: whoever cut the part checked it. So do the bytes behind it up to the range's
        // end, and these end before that.
        let first = unsafe { self.chunk.bytes.add(self.offset + offset_bytes) };
        // SAFETY: the bytes lie inside the chunk and are initialised (chunks are zeroed when reserved). Nobody else reads or
        // writes them meanwhile: this command alone works on the range, and it is here.
        to(unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), size_bytes) });
    }

    #[inline]
    fn with_elements(blocks: [Option<&Self>; 3], run: impl FnOnce(Elements<'_>, Elements<'_>, Elements<'_>)) {
        // Each for itself: an array of them is moved on before it has left the store buffer.
        let elements = |block: usize| Elements::new(blocks[block].map_or(&[], Range::elements));
        run(elements(0), elements(1), elements(2));
    }
}

/// All chunks of a device.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(crate) chunks: Arc<Chunks<Chunk>>,
    next_address: AtomicU64,
}

impl Heap {
    /// Reserves a zeroed chunk.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        size_bytes: u64,
        memory_type: MemoryType,
    ) -> Result<Box<dyn DeviceBuffer>, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "cpu.reserve", why));
        if size_bytes == 0 {
            return refuse(ErrorKind::InvalidArgument, "0 bytes were asked for".to_owned());
        }
        let layout = usize::try_from(size_bytes).ok().and_then(|size| Layout::from_size_align(size, ALIGNMENT).ok());
        // SAFETY: the layout's size is not zero: it was checked above.
        let bytes = layout.and_then(|layout| Some((layout, NonNull::new(unsafe { alloc_zeroed(layout) })?)));
        let Some((layout, bytes)) = bytes else {
            let available = crate::report::available_memory_bytes().unwrap_or(0);
            return refuse(
                ErrorKind::OutOfMemory,
                format!("{size_bytes} bytes were asked for and {available} are available"),
            );
        };
        // A gap of one alignment keeps one chunk's end from being another's start. Relaxed: only uniqueness matters.
        let span = size_bytes.next_multiple_of(ALIGNMENT as u64) + ALIGNMENT as u64;
        let address = ALIGNMENT as u64 + self.next_address.fetch_add(span, Ordering::Relaxed);
        let chunk = Arc::new(Chunk { address, bytes, layout });
        self.chunks.enter(&chunk);
        Ok(Box::new(Buffer { chunks: Arc::clone(&self.chunks), chunk, memory_type }))
    }
}

#[derive(Debug)]
struct Buffer {
    chunks: Arc<Chunks<Chunk>>,
    chunk: Arc<Chunk>,
    memory_type: MemoryType,
}

impl DeviceBuffer for Buffer {
    fn address(&self) -> u64 {
        self.chunk.address
    }

    fn size_bytes(&self) -> u64 {
        self.chunk.layout.size() as u64
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.chunks.leave(&self.chunk);
    }
}
