//! A null device whose ring the test can stop and start again and whose memory it can withhold, and a session on it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, Backend, Completions, Device, DeviceBuffer, DeviceIndex, DeviceInfo, Error,
    ErrorKind, GpuMemoryHandle, InitializeMessage, KernelDeclaration, KernelSpec, Lane, MemoryType, NullBackend,
    ReadMessage, Ring, RingConfig, StagedRange, Taken, Ticket, WriteMessage,
};
use gpubridge_runtime::{Call, Read, ResidentMemory, ResidentMemoryConfig, SessionId, Write};

/// Longer than any test: what is bounded by it would hang.
pub const NEVER: Duration = Duration::from_secs(3600);

type Hook = Box<dyn FnOnce() + Send>;

/// Runs once, on the thread that takes the next answer, right after its slot has become free.
#[derive(Clone, Default)]
pub struct AfterTake(Arc<Mutex<Option<Hook>>>);

impl AfterTake {
    #[allow(dead_code, reason = "each test file uses a part of this module")]
    pub fn set(&self, hook: impl FnOnce() + Send + 'static) {
        *self.0.lock().expect("no panic") = Some(Box::new(hook));
    }
}

impl fmt::Debug for AfterTake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterTake")
    }
}

/// The null device, with a hold on its ring and its memory.
#[derive(Debug)]
pub struct HeldDevice {
    null: Arc<dyn Device>,
    ring: Mutex<Option<Arc<dyn Ring>>>,
    pub after_take: AfterTake,
    /// Whether no memory is to be had.
    pub is_exhausted: AtomicBool,
}

impl HeldDevice {
    pub fn new() -> Arc<Self> {
        let null = NullBackend::default().open(DeviceIndex(0)).expect("the null device opens");
        Arc::new(Self {
            null,
            ring: Mutex::new(None),
            after_take: AfterTake::default(),
            is_exhausted: AtomicBool::new(false),
        })
    }

    fn ring(&self) -> Arc<dyn Ring> {
        Arc::clone(self.ring.lock().expect("no panic").as_ref().expect("the ring is launched"))
    }

    /// Commands wait from now on.
    pub fn hold(&self) {
        self.ring().deactivate(NEVER).expect("the null ring follows");
    }

    /// What waits is answered.
    pub fn go_on(&self) {
        self.ring().activate(NEVER).expect("the null ring follows");
    }
}

impl Device for HeldDevice {
    fn info(&self) -> DeviceInfo {
        self.null.info()
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        if self.is_exhausted.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::OutOfMemory, "held.reserve", "there is none"));
        }
        self.null.reserve(size_bytes, memory_type)
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        self.null.kernels()
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        self.null.compile(spec, slot)
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        let ring: Arc<dyn Ring> = Arc::from(self.null.launch(config)?);
        *self.ring.lock().expect("no panic") = Some(Arc::clone(&ring));
        Ok(Box::new(HeldRing { ring, after_take: self.after_take.clone() }))
    }
}

#[derive(Debug)]
struct HeldRing {
    ring: Arc<dyn Ring>,
    after_take: AfterTake,
}

impl Ring for HeldRing {
    fn config(&self) -> RingConfig {
        self.ring.config()
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        let Lane { submitter, completions } = self.ring.take_lane(lane)?;
        let completions = Arc::new(Hooked { completions, after_take: self.after_take.clone() });
        Some(Lane { submitter, completions })
    }

    fn activate(&self, deadline: Duration) -> Result<(), Error> {
        self.ring.activate(deadline)
    }

    fn deactivate(&self, deadline: Duration) -> Result<(), Error> {
        self.ring.deactivate(deadline)
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        self.ring.terminate(deadline)
    }
}

#[derive(Debug)]
struct Hooked {
    completions: Arc<dyn Completions>,
    after_take: AfterTake,
}

impl Completions for Hooked {
    fn take(&self, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let taken = self.completions.take(ticket, staged);
        if matches!(taken, Taken::Ready(_)) {
            let hook = self.after_take.0.lock().expect("no panic").take();
            if let Some(hook) = hook {
                hook();
            }
        }
        taken
    }

    fn is_complete(&self, sequence: u64) -> bool {
        self.completions.is_complete(sequence)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        self.completions.abandon(ticket);
    }
}

/// Memory on a held device, with one lane.
pub fn open(device: &Arc<HeldDevice>, ring: RingConfig) -> ResidentMemory {
    let config = ResidentMemoryConfig {
        ring: RingConfig { lanes: 1, ..ring },
        call_deadline: NEVER,
        epoch: 1,
        ..ResidentMemoryConfig::default()
    };
    ResidentMemory::open(Arc::clone(device) as Arc<dyn Device>, config).expect("the null device opens")
}

pub fn session(memory: &ResidentMemory) -> SessionId {
    let session = memory.session(0);
    memory.initialize(session, &InitializeMessage::new(memory.envelope())).expect("the session is new");
    session
}

pub fn allocate(memory: &ResidentMemory, session: SessionId, size_bytes: u64) -> GpuMemoryHandle {
    let message = AllocateMessage::new(memory.envelope(), size_bytes);
    memory.allocate(session, &message).expect("there is memory").handle
}

pub fn write<'a>(
    memory: &'a ResidentMemory,
    session: SessionId,
    id: AllocationId,
    data: &'a [u8],
) -> Call<'a, Write<'a>> {
    let staged = StagedRange { offset_bytes: 0, size_bytes: data.len() as u64 };
    memory.write(session, &WriteMessage::new(memory.envelope(), id, 0, staged), data)
}

pub fn read<'a>(
    memory: &'a ResidentMemory,
    session: SessionId,
    id: AllocationId,
    target: &'a mut [u8],
) -> Call<'a, Read<'a>> {
    let staged = StagedRange { offset_bytes: 0, size_bytes: target.len() as u64 };
    memory.read(session, &ReadMessage::new(memory.envelope(), id, 0, staged), target)
}
