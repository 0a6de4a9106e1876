//! Command slots in device memory, where the host can post to it: the device reads them without the way across the bus.
#![expect(
    unsafe_code,
    reason = "memory that a device reads is reached by raw pointers; this file is where the host posts to the device's own"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{Error, SharedMemory};
use gpubridge_kernels::ring::Words;
use parking_lot::Mutex;

use crate::arena::{Arena, rounded};
use crate::driver::{Context, DeviceHandle, DeviceMemory, MAPPING_ALIGNMENT, Mapping, Stream, fence};
use crate::gpu::Gpu;
use crate::words::PinnedWords;

/// What all rings of a GPU have for their commands: some thirty rings of the usual size.
const REGION_BYTES: u64 = 4 << 20;

/// Device memory that the host can post commands to, for all rings of a GPU.
#[derive(Debug)]
pub(crate) struct Region {
    // Dropped before what it maps.
    mapping: Mapping,
    _memory: DeviceMemory,
    address: u64,
    free: Mutex<Arena>,
}

impl Region {
    /// Maps a region, and finds out whether what is posted to it arrives; why not, if not. No ring runs.
    pub(crate) fn new(device: DeviceHandle, context: &Arc<Context>, stream: &Stream) -> Result<Self, String> {
        device.maps_memory()?;
        let text = |error: Error| error.to_string();
        let memory = context.allocate(REGION_BYTES + MAPPING_ALIGNMENT).map_err(text)?;
        let address = memory.address().next_multiple_of(MAPPING_ALIGNMENT);
        let mapping = context.map(address, REGION_BYTES).map_err(text)?;
        let mut free = Arena::default();
        free.add(address, REGION_BYTES);
        let region = Self { mapping, _memory: memory, address, free: Mutex::new(free) };
        region.try_posting(context, stream)?;
        Ok(region)
    }

    fn try_posting(&self, context: &Arc<Context>, stream: &Stream) -> Result<(), String> {
        const TRIED_BYTES: u64 = 64 << 10;
        let text = |error: Error| error.to_string();
        let seen = context.allocate_pinned(TRIED_BYTES).map_err(text)?;
        let words = &self.words()[..TRIED_BYTES as usize / 8];
        // Twice: the second time over what the first one left.
        for round in 1..=2 {
            let posted = |place: usize| (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 << round);
            // Relaxed: the fence is what brings them to the device.
            words.iter().enumerate().for_each(|(place, word)| word.store(posted(place), Ordering::Relaxed));
            fence();
            stream.copy(seen.address(), self.address, TRIED_BYTES).map_err(text)?;
            stream.wait().map_err(text)?;
            for place in 0..words.len() {
                let at = seen.host_at(place * 8).ok_or("page-locked memory has no address in the host")?;
                // SAFETY: within the page-locked memory, which the copy that has ended wrote whole.
                let value = unsafe { at.cast::<u64>().read_volatile() };
                if value != posted(place) {
                    return Err("what is written to mapped device memory does not arrive there".into());
                }
            }
        }
        Ok(())
    }

    fn words(&self) -> &[AtomicU64] {
        let (first, count) = (self.mapping.first().cast::<AtomicU64>(), self.mapping.size_bytes() / 8);
        // SAFETY: the mapping is as long, begins with a page, holds numbers, and lives as long as the slice; the device only reads
        // what is written here, or zeroes it for whoever takes it.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), count) }
    }
}

/// The command slots of a ring's lanes, in the region, zero at first.
#[derive(Debug)]
pub(crate) struct PostedWords {
    gpu: Arc<Gpu>,
    address: u64,
    size_bytes: u64,
}

impl PostedWords {
    /// `count` words; `None` where the host cannot post to the device, or has no more room there.
    pub(crate) fn new(gpu: &Arc<Gpu>, count: usize) -> Result<Option<Arc<Self>>, Error> {
        let Some(size_bytes) = rounded(count as u64 * 8) else { return Ok(None) };
        let taken = gpu.region.as_ref().ok().and_then(|region| region.free.lock().take(size_bytes));
        let Some(address) = taken else { return Ok(None) };
        let words = Self { gpu: Arc::clone(gpu), address, size_bytes };
        gpu.zero(address, size_bytes)?;
        Ok(Some(Arc::new(words)))
    }

    /// Those of them in the range.
    fn words(&self, range: &Range<usize>) -> &[AtomicU64] {
        let region = self.region();
        let first = (self.address - region.address) as usize / 8;
        &region.words()[first + range.start..first + range.end]
    }

    fn region(&self) -> &Region {
        self.gpu.region.as_ref().expect("the words were taken from it")
    }
}

impl Drop for PostedWords {
    fn drop(&mut self) {
        self.region().free.lock().give_back(self.address, self.size_bytes);
    }
}

/// The words of a lane: in page-locked memory, and its commands in the device's too where they are posted there.
#[derive(Clone, Debug)]
pub(crate) struct LaneWords {
    pinned: Arc<PinnedWords>,
    posted: Option<(Arc<PostedWords>, Range<usize>)>,
}

impl LaneWords {
    pub(crate) fn new(pinned: Arc<PinnedWords>, posted: Option<(Arc<PostedWords>, Range<usize>)>) -> Self {
        Self { pinned, posted }
    }

    /// Where the device reads the lane's commands.
    pub(crate) fn commands_address(&self) -> u64 {
        match &self.posted {
            Some((words, range)) => words.address + range.start as u64 * 8,
            None => self.pinned.device_address(),
        }
    }
}

impl Words for LaneWords {
    type Word = AtomicU64;

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        SharedMemory::words(&*self.pinned)
    }

    #[inline]
    fn posted(&self) -> Option<&[AtomicU64]> {
        self.posted.as_ref().map(|(posted, range)| posted.words(range))
    }

    #[inline]
    fn fence(&self) {
        // Page-locked memory keeps the order of stores.
        if self.posted.is_some() {
            fence();
        }
    }
}
