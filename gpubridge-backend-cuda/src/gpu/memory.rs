//! A GPU's memory as rings and buffers share it: parts of what the driver gave, in pieces that come and go in windows.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};

use super::{Gpu, WINDOW_DEADLINE};
use crate::arena::rounded;
use crate::heap::{Heap, Kind};
use crate::parameters::ARENAS_MAX;
use crate::ring::Window;

/// How long rings may be held up to give memory back that nobody has asked for.
const GIVE_BACK_DEADLINE: Duration = Duration::from_millis(20);
/// How long they are left alone when that was in vain.
const GIVE_BACK_PAUSE: Duration = Duration::from_secs(1);
/// Page-locked memory that may wait to be given back: others want that of the host as well.
const PINNED_DEFERRED_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug)]
pub(super) struct Memory {
    device: Heap,
    pinned: Heap,
    /// Since when more lies unused than may for long.
    over_since: Option<Instant>,
    /// Before this, giving back is not tried again.
    next_give_back: Option<Instant>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            device: Heap::new(Kind::Device),
            pinned: Heap::new(Kind::Pinned),
            over_since: None,
            next_give_back: None,
        }
    }

    fn heap(&mut self, kind: Kind) -> &mut Heap {
        match kind {
            Kind::Device => &mut self.device,
            Kind::Pinned => &mut self.pinned,
        }
    }
}

impl Gpu {
    /// Bytes of device memory that can be reserved now, and those of them that go back to the driver when memory is asked for that is
    /// not there, or when they become too many: pieces in which nothing lies.
    pub(crate) fn available_and_deferred_bytes(&self) -> [u64; 2] {
        let memory = self.memory.lock();
        // Relaxed: a figure.
        let free = self.driver_free_bytes.load(Ordering::Relaxed);
        [free + memory.device.free_bytes(), memory.device.deferred_bytes()]
    }

    /// Memory of `size_bytes`, zeroed.
    ///
    /// Blocks; parks the rings for a moment if the driver has to be asked.
    pub(crate) fn take(self: &Arc<Self>, kind: Kind, size_bytes: u64) -> Result<Part, Error> {
        let taken = self.memory.lock().heap(kind).take(size_bytes);
        let address = match taken {
            Some(address) => address,
            None => self.window("cuda.reserve", true, WINDOW_DEADLINE, || self.grow_and_take(kind, size_bytes))?,
        };
        let part = Part { gpu: Arc::clone(self), kind, address, size_bytes };
        // The part is as long. Other sizes might have the driver load another kernel for them, under a running ring.
        self.zero(address, rounded(size_bytes).unwrap_or(size_bytes))?;
        Ok(part)
    }

    /// Zeroes memory that the caller owns, a multiple of 256 bytes.
    ///
    /// Blocks until it is done.
    pub(crate) fn zero(&self, address: u64, size_bytes: u64) -> Result<(), Error> {
        self.utility.zero(address, size_bytes)?;
        self.utility.wait()
    }

    fn grow_and_take(&self, kind: Kind, size_bytes: u64) -> Result<u64, Error> {
        let mut memory = self.memory.lock();
        // Somebody else may have grown it, or given something back.
        if let Some(address) = memory.heap(kind).take(size_bytes) {
            return Ok(address);
        }
        memory.heap(kind).shrink();
        let free = self.ask_free_bytes()?;
        let (most, there) = match kind {
            Kind::Device => (free, format!("and {free} are available")),
            Kind::Pinned => {
                (u64::MAX, format!("in page-locked memory, and {} are at hand", memory.pinned.free_bytes()))
            }
        };
        let refuse = |source: Option<Error>, what: &str| {
            let why = format!("{size_bytes} bytes were asked for {there}{what}: release some, or ask for less");
            let error = Error::new(ErrorKind::OutOfMemory, "cuda.reserve", why);
            Err(source.into_iter().fold(error, Error::with_source))
        };
        if size_bytes > most {
            return refuse(None, "");
        }
        if memory.device.ranges().count() + memory.pinned.ranges().count() >= ARENAS_MAX {
            return refuse(None, &format!(", but memory is in {ARENAS_MAX} pieces already, the most"));
        }
        let grown = memory.heap(kind).grow(&self.context, size_bytes, most);
        match grown.map(|()| memory.heap(kind).take(size_bytes)) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => refuse(None, ""),
            Err(error) if error.kind() == ErrorKind::OutOfMemory => refuse(Some(error), ""),
            Err(error) => Err(error),
        }
    }

    /// Gives back what lies unused, once that has been too much for long, if a window is to be had soon. Asked whenever memory is
    /// reserved or released.
    ///
    /// Blocks; parks the rings for a moment, or in vain for [`GIVE_BACK_DEADLINE`], at most once in [`GIVE_BACK_PAUSE`].
    pub(crate) fn bound_deferred(&self) {
        let mut memory = self.memory.lock();
        let most = [self.deferred_bytes_max, self.deferred_bytes_max.min(PINNED_DEFERRED_BYTES_MAX)];
        let deferred = [memory.device.deferred_bytes(), memory.pinned.deferred_bytes()];
        let is_over = |times: u64| (0..2).any(|kind| deferred[kind] > times * most[kind]);
        if !is_over(1) {
            memory.over_since = None;
            return;
        }
        // What is released now is often wanted again soon, and a window each time would be worse.
        if memory.over_since.get_or_insert_with(Instant::now).elapsed() < self.cuda.unused_memory_limit {
            return;
        }
        drop(memory);
        // Somebody else's window, or a ring's launch, is not waited for.
        let Some(rings) = self.rings.try_lock() else { return };
        if self.memory.lock().next_give_back.is_some_and(|next| Instant::now() < next) {
            return;
        }
        // Work beside the rings would hold them up for as long as it takes: that is waited for only when it is far too much.
        let window = Window { operation: "cuda.release", deadline: GIVE_BACK_DEADLINE, drains: true };
        let is_to_try = is_over(2) || self.is_drained().unwrap_or(false);
        let give_back = || {
            let mut memory = self.memory.lock();
            memory.device.shrink();
            memory.pinned.shrink();
            Ok(())
        };
        let is_given_back = is_to_try && self.window_of(&rings, window, give_back).is_ok();
        // Whoever asks next says what failed, if that lasts.
        self.memory.lock().next_give_back = (!is_given_back).then(|| Instant::now() + GIVE_BACK_PAUSE);
    }

    /// Asks the driver what it has free, which is what it has until it is asked again. No ring runs.
    pub(super) fn ask_free_bytes(&self) -> Result<u64, Error> {
        let free = self.context.free_memory_bytes()?;
        // Relaxed: a figure.
        self.driver_free_bytes.store(free, Ordering::Relaxed);
        Ok(free)
    }

    /// The memory that blocks may lie in, as the ring's kernel is told.
    pub(crate) fn arenas(&self) -> Vec<[u64; 2]> {
        let memory = self.memory.lock();
        memory.device.ranges().chain(memory.pinned.ranges()).collect()
    }

    /// Whether this device address is one of page-locked memory.
    pub(crate) fn is_pinned(&self, address: u64) -> bool {
        self.memory.lock().pinned.ranges().any(|[first, end]| (first..end).contains(&address))
    }

    /// Enters a buffer of the caller's, which a bind may name from then on.
    pub(crate) fn enter(&self, address: u64, size_bytes: u64) {
        self.buffers.write().insert(address, size_bytes);
    }

    /// Whether all of these bytes lie within one buffer.
    pub(crate) fn is_within_buffer(&self, address: u64, size_bytes: u64) -> bool {
        let buffers = self.buffers.read();
        let before = buffers.range((Bound::Unbounded, Bound::Included(address))).next_back();
        before.is_some_and(|(first, size)| {
            let offset = address - first;
            offset <= *size && size_bytes <= size - offset
        })
    }

    /// Takes a buffer out.
    pub(crate) fn leave(&self, address: u64) {
        self.buffers.write().remove(&address);
    }

    /// Where the host sees a part of page-locked memory.
    pub(crate) fn host_of(&self, part: &Part) -> Result<std::ptr::NonNull<u8>, Error> {
        let memory = self.memory.lock();
        let there = memory.pinned.pinned(part.address);
        there.and_then(|(pinned, offset)| pinned.host_at(offset)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidState, "cuda.launch", "page-locked memory has no address in the host")
        })
    }
}

/// A part of the GPU's memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Part {
    gpu: Arc<Gpu>,
    kind: Kind,
    address: u64,
    size_bytes: u64,
}

impl Part {
    /// The device address of its first byte.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Self { gpu, kind, address, size_bytes } = self;
        gpu.memory.lock().heap(*kind).give_back(*address, *size_bytes);
    }
}
