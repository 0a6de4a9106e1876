//! The smallest correct backend: what a backend author reads first, and what tests use where no kernel is needed.

mod lane;
mod memory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::lane::{NullHalf, NullLane, Phase};
use self::memory::Heap;
use crate::{
    Backend, Capabilities, Device, DeviceBuffer, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind,
    KernelDeclaration, KernelSpec, Lane, MemoryType, Ring, RingConfig,
};

const MEMORY_TYPES: [MemoryType; 2] = [MemoryType::Default, MemoryType::Shared];

/// A backend with one device that allocates, copies and answers every command, and runs no kernel.
///
/// Commands are executed inside [`crate::Submitter::try_submit`] by the calling thread, so an answer is there when the
/// call returns. While the ring is inactive they wait for [`Ring::activate`], which executes them.
///
/// ```
/// use std::time::Duration;
/// use gpubridge_abstractions::{
///     Backend, Bind, Command, DeviceIndex, DeviceSlot, MemoryType, NullBackend, Opcode, RingConfig, Status, Taken,
///     Transfer,
/// };
///
/// // A device, a piece of its memory, and a running ring.
/// let device = NullBackend::default().open(DeviceIndex(0))?;
/// let buffer = device.reserve(4096, MemoryType::Default)?;
/// let ring = device.launch(RingConfig::default())?;
/// ring.activate(Duration::from_secs(1))?;
/// let mut lane = ring.take_lane(0).expect("nobody has taken lane 0 yet");
/// let mut run = |command: Command, staged: &[u8], result: &mut [u8]| {
///     let mut ticket = lane.submitter.try_submit(&command, staged).expect("the lane is empty");
///     lane.submitter.doorbell();
///     match lane.completions.take(&mut ticket, result) {
///         Taken::Ready(completion) => completion.status,
///         other => panic!("this device answers at once, not {other:?}"),
///     }
/// };
///
/// // Grain 7 binds the first 64 bytes, writes to them and reads them back.
/// let slot = DeviceSlot { index: 0, generation: 1 };
/// let bind = Bind { slot, address: buffer.address(), size_bytes: 64, zero_bytes: 64 };
/// assert_eq!(run(Command::new(Opcode::Bind, 7, bind.to_payload()), &[], &mut []), Status::Ok);
/// let transfer = Transfer { slot, offset_bytes: 8, size_bytes: 5 }.to_payload([0; 4]);
/// assert_eq!(run(Command::new(Opcode::Write, 7, transfer), b"hello", &mut []), Status::Ok);
/// let mut result = [0; 5];
/// assert_eq!(run(Command::new(Opcode::Read, 7, transfer), &[], &mut result), Status::Ok);
/// assert_eq!(&result, b"hello");
/// // Another grain has no business there.
/// assert_eq!(run(Command::new(Opcode::Read, 8, transfer), &[], &mut result), Status::NotOwner);
/// # Ok::<(), gpubridge_abstractions::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NullBackend {
    memory_bytes: u64,
}

impl Default for NullBackend {
    /// A device with 1 GiB of memory, which the host lends as it is reserved.
    fn default() -> Self {
        Self::with_memory_bytes(1 << 30)
    }
}

impl NullBackend {
    /// A backend whose device has this much memory.
    pub fn with_memory_bytes(memory_bytes: u64) -> Self {
        Self { memory_bytes }
    }

    fn info(&self, available_memory_bytes: u64) -> DeviceInfo {
        DeviceInfo {
            id: "null:0".to_owned(),
            uuid: None,
            index: DeviceIndex(0),
            name: "null device".to_owned(),
            kind: DeviceKind::Null,
            vendor: "gpubridge".to_owned(),
            architecture: "none".to_owned(),
            total_memory_bytes: self.memory_bytes,
            available_memory_bytes,
            deferred_memory_bytes: 0,
            compute_units: 0,
            clock_mhz: 0,
            max_threads_per_block: 0,
            max_work_group: [0; 3],
            warp_size: 0,
            capabilities: Capabilities::default().with_memory_types(&MEMORY_TYPES),
            status: DeviceStatus::Available,
        }
    }
}

impl Backend for NullBackend {
    fn name(&self) -> &str {
        "null"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        Ok(vec![self.info(self.memory_bytes)])
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        if index != DeviceIndex(0) {
            let why = format!("there is no device {index}: the null backend has device 0 only");
            return Err(Error::new(ErrorKind::NotFound, "null.open", why));
        }
        let heap = Heap { total_bytes: self.memory_bytes, buffers: Mutex::default() };
        Ok(Arc::new(NullDevice { backend: self.clone(), heap: Arc::new(heap) }))
    }
}

#[derive(Debug)]
struct NullDevice {
    backend: NullBackend,
    heap: Arc<Heap>,
}

impl Device for NullDevice {
    fn info(&self) -> DeviceInfo {
        self.backend.info(self.heap.available_bytes())
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        if !MEMORY_TYPES.contains(&memory_type) {
            let why = format!("the null device has no {memory_type} memory: choose default or shared memory");
            return Err(Error::new(ErrorKind::Unsupported, "null.reserve", why));
        }
        Ok(Box::new(self.heap.reserve(size_bytes, memory_type)?))
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        &[]
    }

    fn compile(&self, spec: &KernelSpec, _slot: u16) -> Result<(), Error> {
        let why = format!("there is no kernel {}: the null device runs none", spec.id);
        Err(Error::new(ErrorKind::NotFound, "null.compile", why))
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        config.check("null.launch")?;
        let lane = |_| NullHalf(Arc::new(Mutex::new(NullLane::new(&config, Arc::clone(&self.heap)))));
        let lanes: Vec<_> = (0..config.lanes).map(lane).collect();
        Ok(Box::new(NullRing { config, not_taken: Mutex::new(lanes.iter().cloned().map(Some).collect()), lanes }))
    }
}

#[derive(Debug)]
struct NullRing {
    config: RingConfig,
    lanes: Vec<NullHalf>,
    not_taken: Mutex<Vec<Option<NullHalf>>>,
}

impl NullRing {
    /// Brings all lanes into `phase`. Nothing here waits, so no deadline can pass.
    fn move_to(&self, phase: Phase, operation: &'static str) -> Result<(), Error> {
        if self.lanes.iter().all(|lane| lock(&lane.0).move_to(phase)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidState, operation, "the ring is terminated: launch another"))
    }
}

impl Ring for NullRing {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        let half = lock(&self.not_taken).get_mut(lane as usize)?.take()?;
        Some(Lane { submitter: Box::new(half.clone()), completions: Arc::new(half) })
    }

    fn activate(&self, _deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Active, "ring.activate")
    }

    fn deactivate(&self, _deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Inactive, "ring.deactivate")
    }

    fn terminate(&self, _deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Terminated, "ring.terminate")
    }
}

impl Drop for NullRing {
    fn drop(&mut self) {
        // Terminating waits for nothing here and cannot fail.
        let _ = self.terminate(Duration::ZERO);
    }
}

/// Locks also what a panicking test thread left locked: every critical section here leaves its data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
