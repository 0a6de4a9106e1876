//! Command slots in device memory, where the host can post to it: the device reads them without the way across the bus.
#![expect(
    unsafe_code,
    reason = "memory that a device reads is reached by raw pointers; this file is where the host posts to the device's own"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{Error, ErrorKind, SharedMemory};
use gpubridge_kernels::ring::Words;

use crate::driver::{Context, DeviceHandle, MAPPING_ALIGNMENT, Mapping, Stream, fence};
use crate::gpu::{Gpu, Part};
use crate::heap::Kind;
use crate::words::PinnedWords;

/// Where within memory at `address` a mapping may begin.
fn aligned(address: u64) -> u64 {
    address.next_multiple_of(MAPPING_ALIGNMENT)
}

fn words(mapping: &Mapping) -> &[AtomicU64] {
    // SAFETY: the mapping is as long, begins with a page, holds numbers, and lives as long as the slice; the device only reads
    // what is written here.
    unsafe { std::slice::from_raw_parts(mapping.first().cast::<AtomicU64>().as_ptr(), mapping.size_bytes() / 8) }
}

/// Finds out whether what the host posts to this device's memory arrives there; why not, if not. No ring runs.
pub(crate) fn try_posting(device: DeviceHandle, context: &Arc<Context>, stream: &Stream) -> Result<(), String> {
    device.maps_memory()?;
    let text = |error: Error| error.to_string();
    let memory = context.allocate(2 * MAPPING_ALIGNMENT).map_err(text)?;
    let seen = context.allocate_pinned(MAPPING_ALIGNMENT).map_err(text)?;
    let address = aligned(memory.address());
    let mapping = context.map(address, MAPPING_ALIGNMENT).map_err(text)?;
    // Twice: the second time over what the first one left.
    for round in 1..=2 {
        let posted = |place: usize| (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 << round);
        // Relaxed: the fence is what brings them to the device.
        words(&mapping).iter().enumerate().for_each(|(place, word)| word.store(posted(place), Ordering::Relaxed));
        fence();
        stream.copy(seen.address(), address, MAPPING_ALIGNMENT).map_err(text)?;
        stream.wait().map_err(text)?;
        for place in 0..words(&mapping).len() {
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

/// The command slots of a ring's lanes, in device memory, zero at first.
#[derive(Debug)]
pub(crate) struct PostedWords {
    // Dropped before what it maps.
    mapping: Mapping,
    address: u64,
    _part: Part,
}

impl PostedWords {
    /// `count` words; `None` where the host cannot post to the device.
    ///
    /// Blocks; parks the rings for a moment.
    pub(crate) fn new(gpu: &Arc<Gpu>, count: usize) -> Result<Option<Arc<Self>>, Error> {
        if gpu.posting.is_err() {
            return Ok(None);
        }
        let size_bytes = aligned(count as u64 * 8);
        let part = gpu.take(Kind::Device, size_bytes + MAPPING_ALIGNMENT)?;
        let address = aligned(part.address());
        match gpu.map(address, size_bytes) {
            Ok(mapping) => Ok(Some(Arc::new(Self { mapping, address, _part: part }))),
            Err(error) if error.kind() == ErrorKind::DeviceLost => Err(error),
            // Such as when others have mapped all that the bus reaches.
            Err(_) => Ok(None),
        }
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
        self.posted.as_ref().map(|(posted, range)| &words(&posted.mapping)[range.clone()])
    }

    #[inline]
    fn fence(&self) {
        // Page-locked memory keeps the order of stores.
        if self.posted.is_some() {
            fence();
        }
    }
}
