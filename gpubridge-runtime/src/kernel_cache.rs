//! The kernel cache: which specialization is compiled into which kernel slot of the device.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gpubridge_abstractions::{Device, Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec};
use lru::LruCache;
use parking_lot::Mutex;

/// Slots that may await the end of their last commands, beside those of the cache.
const RETIRED_MAX: usize = 32;

/// Progress of a lane: a command submitted from now on gets `next` or more, and all below `completed` are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneProgress {
    pub(crate) next: u64,
    pub(crate) completed: u64,
}

/// A slot whose kernel was evicted while commands that use it may still be under way.
#[derive(Debug)]
struct Retired {
    slot: u16,
    fences: Vec<u64>,
}

#[derive(Debug)]
struct State {
    cached: LruCache<KernelSpec, u16>,
    free: Vec<u16>,
    retired: Vec<Retired>,
    slots: u16,
}

/// A least-recently-used cache of compiled kernels. A failure is never cached.
///
/// Lanes keep copies of what they use ([`LaneKernels`]), so that a hit takes no lock; they mark a slot as used, and
/// eviction passes over marked slots once.
#[derive(Debug)]
pub(crate) struct KernelCache {
    device: Arc<dyn Device>,
    declarations: HashMap<KernelId, Arc<KernelDeclaration>>,
    state: Mutex<State>,
    // Held while compiling, so that a kernel is compiled once; lookups do not need it.
    compiling: Mutex<()>,
    // Counts evictions: copies from before are void.
    version: AtomicU64,
    used: Box<[AtomicBool]>,
    capacity: usize,
}

impl KernelCache {
    pub(crate) fn new(device: Arc<dyn Device>, capacity: NonZeroUsize) -> Self {
        let declarations =
            device.kernels().iter().map(|declaration| (declaration.id, Arc::new(declaration.clone()))).collect();
        let state = State { cached: LruCache::new(capacity), free: Vec::new(), retired: Vec::new(), slots: 0 };
        let used = (0..capacity.get() + RETIRED_MAX).map(|_| AtomicBool::new(false)).collect();
        Self {
            device,
            declarations,
            state: Mutex::new(state),
            compiling: Mutex::new(()),
            version: AtomicU64::new(0),
            used,
            capacity: capacity.get(),
        }
    }

    /// The most kernels it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The kernels it holds now.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().cached.len()
    }

    /// What the kernel declares, if the device knows it.
    pub(crate) fn declaration(&self, id: KernelId) -> Option<&Arc<KernelDeclaration>> {
        self.declarations.get(&id)
    }

    /// Makes sure that `spec` is compiled. Blocks while it compiles, and no call that does not need it.
    ///
    /// `progress` asks every lane; it is called without any lock of the cache held by lookups.
    ///
    /// # Errors
    /// Those of [`Device::compile`], with the compiler's text; `Full` when too many evicted kernels are still at work.
    pub(crate) fn compile(&self, spec: &KernelSpec, progress: impl Fn() -> Vec<LaneProgress>) -> Result<(), Error> {
        let _one_at_a_time = self.compiling.lock();
        if self.state.lock().cached.contains(spec) {
            return Ok(());
        }
        let slot = self.vacant_slot(&progress)?;
        match self.device.compile(spec, slot) {
            Ok(()) => {
                self.state.lock().cached.put(*spec, slot);
                Ok(())
            }
            Err(error) => {
                self.state.lock().free.push(slot);
                Err(error)
            }
        }
    }

    /// A slot that no command uses.
    fn vacant_slot(&self, progress: &impl Fn() -> Vec<LaneProgress>) -> Result<u16, Error> {
        self.evict();
        // After the eviction: a command that still found the old slot lies below these fences.
        let lanes = progress();
        let mut state = self.state.lock();
        for retired in &mut state.retired {
            if retired.fences.is_empty() {
                retired.fences = lanes.iter().map(|lane| lane.next).collect();
            }
        }
        let done = |retired: &Retired| retired.fences.iter().zip(&lanes).all(|(fence, lane)| *fence <= lane.completed);
        let (vacant, retired): (Vec<_>, Vec<_>) = state.retired.drain(..).partition(done);
        state.retired = retired;
        state.free.extend(vacant.iter().map(|retired| retired.slot));
        if let Some(slot) = state.free.pop() {
            return Ok(slot);
        }
        if usize::from(state.slots) >= self.used.len() {
            return Err(Error::new(
                ErrorKind::Full,
                "kernels.compile",
                format!(
                    "{} evicted kernels are still at work: wait for their calls, then try again",
                    state.retired.len()
                ),
            ));
        }
        state.slots += 1;
        Ok(state.slots - 1)
    }

    /// Evicts the least recently used kernel if the cache is full.
    fn evict(&self) {
        let mut state = self.state.lock();
        if state.cached.len() < self.capacity {
            return;
        }
        // Each pass over a used slot takes its mark, so this ends after one round at most.
        while let Some((spec, slot)) = state.cached.pop_lru() {
            // Relaxed: a mark that comes late costs a compilation, nothing else.
            if self.used[usize::from(slot)].swap(false, Ordering::Relaxed) {
                state.cached.put(spec, slot);
                continue;
            }
            state.retired.push(Retired { slot, fences: Vec::new() });
            // Release: pairs with the Acquire load in `LaneKernels::find`.
            self.version.fetch_add(1, Ordering::Release);
            return;
        }
    }
}

/// A kernel as a lane knows it.
#[derive(Clone, Debug)]
pub(crate) struct LaneKernel {
    pub(crate) spec: KernelSpec,
    pub(crate) slot: u16,
    pub(crate) declaration: Arc<KernelDeclaration>,
}

/// A lane's copies of what it used last, kept under the lane's guard.
#[derive(Debug)]
pub(crate) struct LaneKernels {
    cache: Arc<KernelCache>,
    version: u64,
    copies: [Option<LaneKernel>; LaneKernels::COPIES],
}

impl LaneKernels {
    const COPIES: usize = 16;

    pub(crate) fn new(cache: Arc<KernelCache>) -> Self {
        Self { cache, version: 0, copies: Default::default() }
    }

    /// The kernel, if it is compiled.
    #[inline]
    pub(crate) fn find(&mut self, spec: &KernelSpec) -> Option<&LaneKernel> {
        // Acquire: pairs with the Release in `KernelCache::evict`.
        let version = self.cache.version.load(Ordering::Acquire);
        if version != self.version {
            self.copies = Default::default();
            self.version = version;
        }
        let index = (spec.id.0 ^ spec.element as u32 ^ spec.constants[0]) as usize % Self::COPIES;
        if self.copies[index].as_ref().is_none_or(|copy| copy.spec != *spec) {
            let slot = *self.cache.state.lock().cached.get(spec)?;
            let declaration = Arc::clone(self.cache.declaration(spec.id)?);
            self.copies[index] = Some(LaneKernel { spec: *spec, slot, declaration });
        }
        let copy = self.copies[index].as_ref()?;
        let used = &self.cache.used[usize::from(copy.slot)];
        // Relaxed: see `KernelCache::evict`. Looking first keeps the line shared among lanes.
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
        Some(copy)
    }
}
