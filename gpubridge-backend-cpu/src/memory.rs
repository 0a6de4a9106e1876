//! The device's memory: aligned chunks of host memory, reached by device addresses.
//!
//! A device address is a number that this module gave out, not a pointer, so a forged one is refused like any other
//! bad argument.
//!
//! # What soundness rests on
//!
//! No two threads work on the same bytes at the same time. Up to here the backend sees to it: a lane is served by one
//! thread, a grain with work on the worker is held, and what a command reaches is checked against the table. The rest is
//! the runtime's promise (see `Bind`): **a block is bound again, for another grain or in another lane, only when every
//! command that reaches it through an earlier binding has been answered.** A program that drives a ring by hand and binds
//! one block for two grains, or in two lanes, and has commands of both under way, can have a ring thread and a worker or
//! two ring threads race on its bytes. Nothing outside the chunk is reached even then. Refusing it here would take a
//! device-wide table of bound ranges, to be searched by each binding.
#![expect(unsafe_code, reason = "a device's memory is raw bytes; this file is where the backend touches them")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use gpubridge_abstractions::{DeviceBuffer, Error, ErrorKind, MemoryType, SharedMemory};

/// Alignment of chunks and of device addresses given out for them.
const ALIGNMENT: usize = 4096;
/// Alignment of a block within its chunk.
const BLOCK_ALIGNMENT: usize = 64;

/// One piece of memory. It lives as long as a buffer or a bound slot refers to it.
#[derive(Debug)]
pub(crate) struct Chunk {
    address: u64,
    bytes: NonNull<u8>,
    layout: Layout,
    // Set when the buffer is dropped: what still refers to the chunk is no allocation of anybody.
    given_back: AtomicBool,
}

// SAFETY: the bytes belong to the chunk alone and are not thread-bound.
unsafe impl Send for Chunk {}
// SAFETY: the bytes are reached only through `Range`, by the one command at work on them: see the module's documentation.
unsafe impl Sync for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `bytes` came from `alloc_zeroed` with this very layout and is freed once, here.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) }
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
    /// Whether the buffer that it is part of was dropped.
    pub(crate) fn is_given_back(&self) -> bool {
        // Relaxed: the look at `Heap::given_back` ordered it.
        self.chunk.given_back.load(Ordering::Relaxed)
    }

    /// Bytes that the slot may reach.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The whole 4-byte elements of the range.
    ///
    /// The caller is the one command at work on the range: the ring runs a grain's commands one at a time, and a block
    /// belongs to one grain. Two ranges of one command may be the same memory, hence cells.
    pub(crate) fn elements(&self) -> &[Cell<u32>] {
        // SAFETY: `offset` lies inside the chunk: `Heap::range` checked it.
        let first = unsafe { self.chunk.bytes.add(self.offset) }.cast::<Cell<u32>>();
        debug_assert!(first.is_aligned(), "blocks are aligned to 64 bytes");
        // SAFETY: the range lies inside the chunk, is aligned and initialised (chunks are zeroed when reserved), and no
        // other thread touches it while the command runs, as said above.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.size_bytes / 4) }
    }

    /// Copies `size_bytes` from `words` to `offset_bytes` on, under the same terms as [`Range::elements`].
    ///
    /// # Panics
    /// When the target leaves the range or `words` holds fewer bytes; the executor checks both.
    pub(crate) fn copy_in(&self, offset_bytes: usize, size_bytes: usize, words: &[AtomicU64]) {
        let target = &self.bytes()[offset_bytes..offset_bytes + size_bytes];
        let (whole, rest) = target.as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(words) {
            let bytes = NonNull::from(bytes).cast::<[u8; 8]>();
            // SAFETY: eight cells of bytes are eight bytes; they lie in the range, which this command alone works on.
            // Relaxed: the command's header was read with Acquire before.
            unsafe { bytes.write(word.load(Ordering::Relaxed).to_le_bytes()) }
        }
        if !rest.is_empty() {
            let last = words[whole.len()].load(Ordering::Relaxed).to_le_bytes();
            rest.iter().zip(last).for_each(|(cell, byte)| cell.set(byte));
        }
    }

    /// Copies `size_bytes` from `offset_bytes` on into `words`, under the same terms as [`Range::elements`].
    ///
    /// # Panics
    /// When the source leaves the range or `words` holds fewer bytes; the executor checks both.
    pub(crate) fn copy_out(&self, offset_bytes: usize, size_bytes: usize, words: &[AtomicU64]) {
        let source = &self.bytes()[offset_bytes..offset_bytes + size_bytes];
        let (whole, rest) = source.as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(words) {
            let bytes = NonNull::from(bytes).cast::<[u8; 8]>();
            // SAFETY: eight cells of bytes are eight bytes; they lie in the range, which this command alone works on.
            let value = unsafe { bytes.read() };
            // Relaxed: the completion's header is stored with Release afterwards.
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(byte, cell)| *byte = cell.get());
            words[whole.len()].store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
    }

    /// Zeroes the first `size_bytes`, under the same terms as [`Range::elements`].
    ///
    /// # Panics
    /// When the range is shorter; the executor checks it.
    pub(crate) fn zero(&self, size_bytes: usize) {
        self.bytes()[..size_bytes].iter().for_each(|cell| cell.set(0));
    }

    /// The same range, `size_bytes` long.
    pub(crate) fn cut(mut self, size_bytes: usize) -> Self {
        self.size_bytes = self.size_bytes.min(size_bytes);
        self
    }

    fn bytes(&self) -> &[Cell<u8>] {
        // SAFETY: `offset` lies inside the chunk: `Heap::range` checked it.
        let first = unsafe { self.chunk.bytes.add(self.offset) }.cast::<Cell<u8>>();
        // SAFETY: as in `elements`; bytes need no alignment.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.size_bytes) }
    }
}

/// All chunks of a device.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    chunks: RwLock<BTreeMap<u64, Weak<Chunk>>>,
    next_address: AtomicU64,
    // Counts buffers that were dropped.
    given_back: AtomicU64,
}

impl Heap {
    /// How many buffers were dropped so far.
    #[inline]
    pub(crate) fn given_back(&self) -> u64 {
        // Acquire: pairs with the Release in `Buffer::drop`, which marked its chunk before.
        self.given_back.load(Ordering::Acquire)
    }

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
        let chunk = Arc::new(Chunk { address, bytes, layout, given_back: AtomicBool::new(false) });
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        chunks.insert(address, Arc::downgrade(&chunk));
        Ok(Box::new(Buffer { heap: Arc::clone(self), chunk, memory_type }))
    }

    /// The range at a device address, if it lies inside one chunk. `last` is the chunk of the lane's range before: a
    /// weak reference, because a lane that is idle must not keep memory from being given back.
    pub(crate) fn range(&self, address: u64, size_bytes: u64, last: &mut Weak<Chunk>) -> Option<Range> {
        let within = |chunk: Arc<Chunk>| {
            let offset = usize::try_from(address.checked_sub(chunk.address)?).ok()?;
            let size_bytes = usize::try_from(size_bytes).ok()?;
            let fits = offset.checked_add(size_bytes)? <= chunk.layout.size();
            (fits && offset.is_multiple_of(BLOCK_ALIGNMENT)).then_some(Range { chunk, offset, size_bytes })
        };
        if let Some(range) = last.upgrade().and_then(within) {
            return Some(range);
        }
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        *last = Weak::clone(chunks.range(..=address).next_back()?.1);
        last.upgrade().and_then(within)
    }
}

#[derive(Debug)]
struct Buffer {
    heap: Arc<Heap>,
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
        let mut chunks = self.heap.chunks.write().unwrap_or_else(PoisonError::into_inner);
        chunks.remove(&self.chunk.address);
        self.chunk.given_back.store(true, Ordering::Relaxed);
        // Release: pairs with the Acquire load in `Heap::given_back`.
        self.heap.given_back.fetch_add(1, Ordering::Release);
    }
}

/// A lane's memory: words on the host's heap, aligned to a cache line.
#[derive(Debug)]
pub(crate) struct LaneMemory {
    words: Vec<AtomicU64>,
    first: usize,
    len: usize,
}

impl LaneMemory {
    pub(crate) fn new(len: usize) -> Self {
        const LINE_WORDS: usize = 8;
        let words: Vec<AtomicU64> = (0..len + LINE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let first = words.as_ptr().align_offset(LINE_WORDS * size_of::<AtomicU64>());
        Self { words, first, len }
    }
}

impl SharedMemory for LaneMemory {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        &self.words[self.first..self.first + self.len]
    }
}
