//! What the cases share: short ways to open things, gates, and executors.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{JoinHandle, ScopedJoinHandle};
use std::time::Duration;

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, ComputeMessage, ComputeResponse, Device, Error, ErrorKind, GpuMemoryHandle,
    InitializeMessage, KernelSpec, MemoryType, ReadMessage, ReleaseMessage, ReleaseResponse, RingConfig, StagedRange,
    WriteMessage, WriteResponse,
};
use gpubridge_grains::storage::{GrainStorage, MemoryStorage};
use gpubridge_grains::{GrainRef, Silo, SiloConfig, wait};
use gpubridge_runtime::{Call, Compute, ResidentMemory, ResidentMemoryConfig, SessionId};

use crate::Context;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// How long what must happen is waited for. A bound against hanging, no measure of anything.
pub const SOON: Duration = Duration::from_secs(60);

/// A ring of one lane with so many slots, which is full soon.
pub fn narrow(slots: u32) -> ResidentMemoryConfig {
    let ring = RingConfig { lanes: 1, slots, staging_bytes: 256, allocations: 4096 };
    ResidentMemoryConfig { ring, ..config() }
}

/// The budget of [`config`].
pub const BUDGET: u64 = 16 * MIB;

/// A ring of two lanes with that budget.
pub fn config() -> ResidentMemoryConfig {
    let ring = RingConfig { slots: 256, ..RingConfig::default() };
    ResidentMemoryConfig { ring, memory_budget_bytes: BUDGET, ..ResidentMemoryConfig::default() }
}

/// The same with a kernel cache of this capacity.
pub fn with_cache(config: ResidentMemoryConfig, capacity: usize) -> ResidentMemoryConfig {
    let kernel_cache_capacity = NonZeroUsize::new(capacity).expect("a cache holds something");
    ResidentMemoryConfig { kernel_cache_capacity, ..config }
}

/// A silo's configuration over this memory.
pub fn silo_config(memory: ResidentMemoryConfig) -> SiloConfig {
    let mut config = SiloConfig::default();
    config.memory = memory;
    config
}

/// A silo on a new device, with a storage of its own.
pub fn silo(context: &Context) -> Silo {
    silo_on(context.device(), Arc::new(MemoryStorage::new()), silo_config(config()))
}

pub fn silo_on(device: Arc<dyn Device>, storage: Arc<dyn GrainStorage>, config: SiloConfig) -> Silo {
    wait(Silo::start(device, storage, config)).expect("the silo starts")
}

/// Shuts a silo down and requires that nothing went wrong.
pub fn stop(silo: Silo) {
    let report = wait(silo.shutdown(SOON));
    assert!(report.is_clean(), "{report:?}");
}

/// The kind of the error that this must be.
#[track_caller]
pub fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("this is refused").kind()
}

/// A memory and short ways to use it, for one session after the other.
#[derive(Clone, Debug)]
pub struct Rig {
    pub memory: Arc<ResidentMemory>,
}

impl Rig {
    pub fn new(device: Arc<dyn Device>, config: ResidentMemoryConfig) -> Self {
        Self { memory: Arc::new(ResidentMemory::open(device, config).expect("the memory opens")) }
    }

    /// An open session in the lane of this hash.
    pub fn session(&self, hash: u64) -> SessionId {
        self.session_with(hash, u64::MAX)
    }

    pub fn session_with(&self, hash: u64, quota_bytes: u64) -> SessionId {
        let session = self.memory.session(hash);
        let mut message = InitializeMessage::new(self.memory.envelope());
        message.max_pool_size_bytes = quota_bytes;
        self.memory.initialize(session, &message).expect("a new session opens");
        session
    }

    pub fn try_allocate(&self, session: SessionId, size_bytes: u64) -> Result<(GpuMemoryHandle, bool), Error> {
        let message = AllocateMessage::new(self.memory.envelope(), size_bytes);
        self.memory.allocate(session, &message).map(|response| (response.handle, response.is_pool_hit))
    }

    pub fn allocate(&self, session: SessionId, size_bytes: u64) -> AllocationId {
        self.try_allocate(session, size_bytes).expect("there is room").0.id
    }

    pub fn release(&self, session: SessionId, id: AllocationId) -> ReleaseResponse {
        let message = ReleaseMessage::new(self.memory.envelope(), id);
        self.memory.release(session, &message).expect("the session is open")
    }

    pub fn write_message(&self, id: AllocationId, offset_bytes: u64, size_bytes: usize) -> WriteMessage {
        WriteMessage::new(self.memory.envelope(), id, offset_bytes, staged(size_bytes))
    }

    pub fn try_write(&self, s: SessionId, id: AllocationId, offset: u64, data: &[u8]) -> Result<WriteResponse, Error> {
        self.memory.write(s, &self.write_message(id, offset, data.len()), data).wait()
    }

    pub fn write(&self, session: SessionId, id: AllocationId, data: &[u8]) {
        let response = self.try_write(session, id, 0, data).expect("it is written");
        assert_eq!(response.bytes_written, data.len() as u64);
    }

    pub fn try_read(&self, s: SessionId, id: AllocationId, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        // Filled, so that a read that copies nothing shows.
        let mut bytes = vec![0xee; size];
        let message = ReadMessage::new(self.memory.envelope(), id, offset, staged(size));
        let response = self.memory.read(s, &message, &mut bytes).wait()?;
        assert_eq!(response.bytes_read, size as u64);
        Ok(bytes)
    }

    pub fn read(&self, session: SessionId, id: AllocationId, size: usize) -> Vec<u8> {
        self.try_read(session, id, 0, size).expect("it is read")
    }

    pub fn compute(&self, session: SessionId, kernel: KernelSpec, output: Option<AllocationId>) -> Call<'_, Compute> {
        self.memory.compute(session, &ComputeMessage::new(self.memory.envelope(), kernel, None, output))
    }

    /// Runs a kernel, which must succeed.
    pub fn run(&self, session: SessionId, kernel: KernelSpec, output: Option<AllocationId>) -> ComputeResponse {
        let response = self.compute(session, kernel, output).wait().expect("it is answered");
        assert!(response.success, "{response:?}");
        response
    }

    /// The messages that were answered, and those that hit and missed the pool.
    pub fn processed(&self) -> u64 {
        self.memory.metrics().total_messages_processed
    }
}

pub fn staged(size_bytes: usize) -> StagedRange {
    StagedRange { offset_bytes: 0, size_bytes: size_bytes as u64 }
}

/// Bytes that tell whose they are.
pub fn pattern(seed: u64, size: usize) -> Vec<u8> {
    (0..size as u64).map(|i| (seed.wrapping_mul(0x9e37_79b9).wrapping_add(i * 7) % 251) as u8 + 1).collect()
}

/// Allocates in a grain, on this thread.
pub fn allocate(grain: &GrainRef, size_bytes: u64) -> GpuMemoryHandle {
    wait(grain.allocate(size_bytes, MemoryType::Default)).expect("there is room")
}

/// Allocates in a grain and writes one number.
pub fn keep(grain: &GrainRef, value: u32) -> GpuMemoryHandle {
    let handle = allocate(grain, 4);
    grain.write(handle, &[value], 0).wait().expect("it is written");
    handle
}

/// The number in an allocation.
pub fn kept(grain: &GrainRef, handle: GpuMemoryHandle) -> Result<u32, Error> {
    let mut value = [0_u32];
    grain.read_into(handle, 0, &mut value).wait()?;
    Ok(value[0])
}

/// Waits until `holds`, by looking; panics with `what` when it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + SOON;
    while !holds() {
        assert!(std::time::Instant::now() < until, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// A gate that tests open, and that tells how many have come to it. For threads and for tasks.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    arrived: usize,
    wakers: Vec<Waker>,
}

impl Gate {
    pub fn closed() -> Arc<Self> {
        Arc::default()
    }

    pub fn opened() -> Arc<Self> {
        let gate = Self::closed();
        gate.open();
        gate
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open(&self) {
        let mut state = self.lock();
        state.open = true;
        state.wakers.drain(..).for_each(Waker::wake);
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.lock().open = false;
    }

    /// Blocks until the gate is open.
    pub fn pass(&self) {
        let mut state = self.lock();
        state.arrived += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the gate is open.
    pub async fn passed(&self) {
        self.lock().arrived += 1;
        self.changed.notify_all();
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.open {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Blocks until so many have come to the gate in all.
    pub fn wait_arrived(&self, count: usize) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, SOON, |state| state.arrived < count);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {count} came to the gate", state.arrived);
    }
}

/// Waits for a thread and goes on with what it came to; its panic becomes the caller's, so that a report says what was
/// seen.
pub trait Joined<T> {
    fn joined(self) -> T;
}

impl<T> Joined<T> for JoinHandle<T> {
    fn joined(self) -> T {
        self.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl<T> Joined<T> for ScopedJoinHandle<'_, T> {
    fn joined(self) -> T {
        self.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Opens a gate when it goes, so that a case that fails leaves no kernel waiting.
#[derive(Debug)]
pub struct OpenAtEnd<'g>(pub &'g Gate);

impl Drop for OpenAtEnd<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
