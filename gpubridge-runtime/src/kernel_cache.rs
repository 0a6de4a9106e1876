//! The kernel cache: which specialization is compiled into which kernel slot of the device.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
/// Lanes keep copies of what they use ([`LaneKernels`]), so that a hit takes no lock and leaves the order as it is. An
/// eviction voids the copies: a kernel's first use after it finds the kernel here, and goes behind all that were not
/// used since.
#[derive(Debug)]
pub(crate) struct KernelCache {
    device: Arc<dyn Device>,
    declarations: HashMap<KernelId, Arc<KernelDeclaration>>,
    state: Mutex<State>,
    // Held while compiling, so that a kernel is compiled once; lookups do not need it.
    compiling: Mutex<()>,
    // Counts evictions: copies from before are void.
    version: AtomicU64,
    capacity: usize,
}

impl KernelCache {
    pub(crate) fn new(device: Arc<dyn Device>, capacity: NonZeroUsize) -> Self {
        let declarations =
            device.kernels().iter().map(|declaration| (declaration.id, Arc::new(declaration.clone()))).collect();
        // Slots are numbered in 16 bits.
        const CAPACITY_MAX: NonZeroUsize = NonZeroUsize::new(u16::MAX as usize - RETIRED_MAX).expect("it is not 0");
        let capacity = capacity.min(CAPACITY_MAX);
        let state = State { cached: LruCache::new(capacity), free: Vec::new(), retired: Vec::new(), slots: 0 };
        Self {
            device,
            declarations,
            state: Mutex::new(state),
            compiling: Mutex::new(()),
            version: AtomicU64::new(0),
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

    /// Makes sure that `spec` is compiled. Blocks while it compiles, and no call that does not need it. A kernel that does
    /// not compile evicts none.
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
        let compiled = self.device.compile(spec, slot);
        let mut state = self.state.lock();
        if let Err(error) = compiled {
            state.free.push(slot);
            return Err(error);
        }
        self.evict(&mut state);
        state.cached.put(*spec, slot);
        Ok(())
    }

    /// A slot that no command uses. Only the holder of `compiling` comes here.
    fn vacant_slot(&self, progress: &impl Fn() -> Vec<LaneProgress>) -> Result<u16, Error> {
        let any_retired = !self.state.lock().retired.is_empty();
        // After the evictions: a command that still found an old slot lies below these fences.
        let lanes = if any_retired { progress() } else { Vec::new() };
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
        if usize::from(state.slots) >= self.capacity + RETIRED_MAX {
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
    fn evict(&self, state: &mut State) {
        if state.cached.len() < self.capacity {
            return;
        }
        if let Some((_, slot)) = state.cached.pop_lru() {
            state.retired.push(Retired { slot, fences: Vec::new() });
            // Release: pairs with the Acquire load in `LaneKernels::find`.
            self.version.fetch_add(1, Ordering::Release);
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
pub struct LaneKernels {
    cache: Arc<KernelCache>,
    version: u64,
    copies: [Option<LaneKernel>; LaneKernels::COPIES],
}

impl LaneKernels {
    const COPIES: usize = 16;

    pub(crate) fn new(cache: Arc<KernelCache>) -> Self {
        Self { cache, version: 0, copies: Default::default() }
    }

    /// Whether the device has this kernel, compiled or not.
    pub(crate) fn knows(&self, id: KernelId) -> bool {
        self.cache.declaration(id).is_some()
    }

    /// The kernel, if it is compiled.
    #[inline]
    pub(crate) fn find(&mut self, spec: KernelSpec) -> Option<&LaneKernel> {
        // Acquire: pairs with the Release in `KernelCache::evict`.
        let version = self.cache.version.load(Ordering::Acquire);
        if version != self.version {
            self.copies = Default::default();
            self.version = version;
        }
        let index = (spec.id.0 ^ spec.element as u32 ^ spec.constants[0]) as usize % Self::COPIES;
        if self.copies[index].as_ref().is_none_or(|copy| copy.spec != spec) {
            self.copies[index] = Some(self.copy(spec)?);
        }
        self.copies[index].as_ref()
    }

    #[cold]
    fn copy(&self, spec: KernelSpec) -> Option<LaneKernel> {
        let slot = *self.cache.state.lock().cached.get(&spec)?;
        let declaration = Arc::clone(self.cache.declaration(spec.id)?);
        Some(LaneKernel { spec, slot, declaration })
    }
}

#[cfg(test)]
mod tests {
    use gpubridge_abstractions::{
        Backend, BufferUse, DeviceBuffer, DeviceIndex, DeviceInfo, ElementType, MemoryType, NullBackend, Placement,
        Ring, RingConfig, Tolerance,
    };

    use super::*;

    const BROKEN: KernelId = KernelId(9);

    /// Compiles any kernel but [`BROKEN`], and notes what lies in which slot.
    #[derive(Debug)]
    struct Compiler {
        null: Arc<dyn Device>,
        declarations: Vec<KernelDeclaration>,
        slots: Mutex<HashMap<u16, KernelId>>,
    }

    impl Device for Compiler {
        fn info(&self) -> DeviceInfo {
            self.null.info()
        }

        fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
            self.null.reserve(size_bytes, memory_type)
        }

        fn kernels(&self) -> &[KernelDeclaration] {
            &self.declarations
        }

        fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
            if spec.id == BROKEN {
                return Err(Error::new(ErrorKind::KernelBuild, "test.compile", "line 1: no"));
            }
            self.slots.lock().insert(slot, spec.id);
            Ok(())
        }

        fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
            self.null.launch(config)
        }
    }

    fn declaration(id: KernelId) -> KernelDeclaration {
        KernelDeclaration {
            id,
            name: "test",
            summary: "nothing",
            elements: &[ElementType::F32],
            buffers: [BufferUse::None; 3],
            scalars: &[],
            constants: &[],
            in_place: false,
            stateful: false,
            placement: Placement::InRing,
            check: |_| Ok(()),
            work: |_| 0,
            tolerance: Tolerance::Exact,
            targets: &["test"],
        }
    }

    fn cache(capacity: usize) -> (Arc<Compiler>, Arc<KernelCache>, LaneKernels) {
        let null = NullBackend::default().open(DeviceIndex(0)).expect("the null device opens");
        let declarations = (0..100).map(|id| declaration(KernelId(id))).collect();
        let device = Arc::new(Compiler { null, declarations, slots: Mutex::default() });
        let capacity = NonZeroUsize::new(capacity).expect("the tests ask for some");
        let cache = Arc::new(KernelCache::new(Arc::clone(&device) as Arc<dyn Device>, capacity));
        let lane = LaneKernels::new(Arc::clone(&cache));
        (device, cache, lane)
    }

    /// A lane all of whose commands are answered.
    fn idle() -> Vec<LaneProgress> {
        vec![LaneProgress { next: 5, completed: 5 }]
    }

    fn spec(id: u32) -> KernelSpec {
        KernelSpec::new(KernelId(id))
    }

    #[test]
    fn a_kernel_that_does_not_compile_evicts_none_and_is_not_kept() {
        let (_, cache, mut lane) = cache(2);
        cache.compile(&spec(1), idle).expect("it compiles");
        cache.compile(&spec(2), idle).expect("it compiles");
        for _ in 0..100 {
            let error = cache.compile(&KernelSpec::new(BROKEN), idle).expect_err("it is broken");
            assert!(error.to_string().contains("line 1: no"), "{error}");
        }
        assert_eq!(cache.len(), 2);
        assert!(lane.find(spec(1)).is_some() && lane.find(spec(2)).is_some());
        assert!(lane.find(KernelSpec::new(BROKEN)).is_none());
    }

    #[test]
    fn a_slot_at_work_is_not_compiled_into() {
        let (device, cache, mut lane) = cache(1);
        cache.compile(&spec(1), idle).expect("it compiles");
        let first = lane.find(spec(1)).expect("it is there").slot;
        let busy = || vec![LaneProgress { next: 9, completed: 8 }];
        // Every kernel from here on is evicted by the next, and all are at work.
        for id in 10..10 + RETIRED_MAX as u32 {
            cache.compile(&spec(id), busy).expect("there are spare slots");
            assert!(lane.find(spec(id - 1)).is_none() || id == 10);
        }
        assert_eq!(device.slots.lock()[&first], KernelId(1));
        let error = cache.compile(&spec(90), busy).expect_err("all slots are at work");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert_eq!(cache.len(), 1);
        cache.compile(&spec(90), || vec![LaneProgress { next: 9, completed: 9 }]).expect("they are done");
        assert_eq!(lane.find(spec(90)).expect("it is there").spec, spec(90));
    }

    #[test]
    fn what_is_used_survives_what_is_not() {
        let (_, cache, mut lane) = cache(4);
        (1..=4).for_each(|id| cache.compile(&spec(id), idle).expect("it compiles"));
        for id in 10..60 {
            cache.compile(&spec(id), idle).expect("it compiles");
            assert!(lane.find(spec(2)).is_some(), "it is in use when {id} comes");
        }
    }

    #[test]
    fn the_largest_capacity_is_what_slots_can_number() {
        let (_, cache, _) = cache(usize::MAX);
        assert_eq!(cache.capacity() + RETIRED_MAX, usize::from(u16::MAX));
    }
}
