//! The CPU backend behind a wrapper that hands every call on, for faults to put themselves between.

use std::collections::HashMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Completions, Device, DeviceBuffer, DeviceIndex, DeviceInfo, DeviceSlot, Error,
    KernelDeclaration, KernelSpec, Lane, MemoryType, Opcode, Ring, RingConfig, SubmitError, Submitter, Taken, Ticket,
};
use gpubridge_backend_cpu::CpuBackend;
use gpubridge_kernels::KernelLibrary;
use parking_lot::Mutex;

/// What one backend does instead of what is right: the calls of the traits, of which a fault overrides one or two.
///
/// The device, each ring and each lane have a value of their own, in which a fault keeps what it remembers.
pub trait Fault: Debug + Default + Send + Sync + 'static {
    fn open(&self, backend: &CpuBackend, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        backend.open(index)
    }

    fn report(&self, info: DeviceInfo) -> DeviceInfo {
        info
    }

    fn reserve(&self, device: &dyn Device, size: u64, kind: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        device.reserve(size, kind)
    }

    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        device.compile(spec, slot)
    }

    fn launch(&self, device: &dyn Device, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        device.launch(config)
    }

    fn deactivate(&self, ring: &dyn Ring, deadline: Duration) -> Result<(), Error> {
        ring.deactivate(deadline)
    }

    fn terminate(&self, ring: &dyn Ring, deadline: Duration) -> Result<(), Error> {
        ring.terminate(deadline)
    }

    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let (mut command, mut staged) = (*command, staged.to_vec());
        self.alter(lane, &mut command, &mut staged);
        lane.submit(&command, &staged)
    }

    /// Sees a command and its staged bytes on their way to the device. It may be called again for one that was refused.
    fn alter(&self, _lane: &InnerLane<Self>, _command: &mut Command, _staged: &mut Vec<u8>) {}

    fn doorbell(&self, lane: &InnerLane<Self>) {
        lane.submitter.lock().doorbell();
    }

    fn completed_below(&self, lane: &InnerLane<Self>) -> u64 {
        lane.submitter.lock().completed_below()
    }

    fn pending(&self, lane: &InnerLane<Self>) -> u32 {
        lane.submitter.lock().pending()
    }

    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        lane.completions.take(ticket, staged)
    }

    /// Sees the answer to `command` on its way to the caller.
    fn answer(&self, _command: &Command, _completion: &mut Completion, _staged: &mut [u8]) {}
}

/// The wrapper without a fault.
#[derive(Debug, Default)]
pub struct Sound;

impl Fault for Sound {}

/// A lane of the CPU backend, and what passed through it.
#[derive(Debug)]
pub struct InnerLane<F> {
    pub config: RingConfig,
    /// The ring's own value of the fault.
    pub ring: Arc<F>,
    pub submitter: Mutex<Box<dyn Submitter>>,
    pub completions: Arc<dyn Completions>,
    // Commands whose answers were neither taken nor given up.
    flights: Mutex<HashMap<u64, Command>>,
    // The last `Bind` of each slot, and the grain it was for.
    bound: Mutex<HashMap<u32, (u32, Bind)>>,
}

impl<F> InnerLane<F> {
    /// Submits to the CPU backend.
    pub fn submit(&self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        self.submitter.lock().try_submit(command, staged)
    }

    /// The sequence number of the next submission.
    pub fn next_sequence(&self) -> u64 {
        self.submitter.lock().next_sequence()
    }

    /// Commands whose answers were neither taken nor given up.
    pub fn in_flight(&self) -> usize {
        self.flights.lock().len()
    }

    /// Whether the command with this sequence number is one of those.
    pub fn is_in_flight(&self, sequence: u64) -> bool {
        self.flights.lock().contains_key(&sequence)
    }

    /// The grain that a slot of the allocation table was last bound for, and how.
    pub fn bound(&self, slot: DeviceSlot) -> Option<(u32, Bind)> {
        self.bound.lock().get(&slot.index).copied()
    }
}

/// The CPU backend with the fault `F`.
#[derive(Debug)]
pub struct Broken<F> {
    backend: CpuBackend,
    fault: PhantomData<F>,
}

impl<F: Fault> Broken<F> {
    pub fn over(library: KernelLibrary) -> Arc<dyn Backend> {
        Arc::new(Self { backend: CpuBackend::new(library), fault: PhantomData })
    }
}

impl<F: Fault> Backend for Broken<F> {
    fn name(&self) -> &str {
        self.backend.name()
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let fault = F::default();
        Ok(self.backend.devices()?.into_iter().map(|info| fault.report(info)).collect())
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        let fault = F::default();
        let device = fault.open(&self.backend, index)?;
        Ok(Arc::new(BrokenDevice { device, fault }))
    }
}

#[derive(Debug)]
struct BrokenDevice<F> {
    device: Arc<dyn Device>,
    fault: F,
}

impl<F: Fault> Device for BrokenDevice<F> {
    fn info(&self) -> DeviceInfo {
        self.fault.report(self.device.info())
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        self.fault.reserve(&*self.device, size_bytes, memory_type)
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        self.device.kernels()
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        self.fault.compile(&*self.device, spec, slot)
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        let ring = self.fault.launch(&*self.device, config)?;
        Ok(Box::new(BrokenRing::<F> { ring, config, fault: Arc::default() }))
    }
}

#[derive(Debug)]
struct BrokenRing<F> {
    ring: Box<dyn Ring>,
    // As it was asked for, which is what the CPU backend grants.
    config: RingConfig,
    fault: Arc<F>,
}

impl<F: Fault> Ring for BrokenRing<F> {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        let Lane { submitter, completions } = self.ring.take_lane(lane)?;
        let wire = InnerLane {
            config: self.config,
            ring: Arc::clone(&self.fault),
            submitter: Mutex::new(submitter),
            completions,
            flights: Mutex::default(),
            bound: Mutex::default(),
        };
        let end = BrokenLane::<F>(Arc::new((wire, F::default())));
        let completions = Arc::new(BrokenLane::<F>(Arc::clone(&end.0)));
        Some(Lane { submitter: Box::new(end), completions })
    }

    fn activate(&self, deadline: Duration) -> Result<(), Error> {
        self.ring.activate(deadline)
    }

    fn deactivate(&self, deadline: Duration) -> Result<(), Error> {
        self.fault.deactivate(&*self.ring, deadline)
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        self.fault.terminate(&*self.ring, deadline)
    }
}

/// One end of a lane, with the lane's own value of the fault.
#[derive(Debug)]
struct BrokenLane<F>(Arc<(InnerLane<F>, F)>);

impl<F: Fault> Submitter for BrokenLane<F> {
    fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let (wire, fault) = &*self.0;
        let ticket = fault.submit(wire, command, staged)?;
        wire.flights.lock().insert(ticket.sequence(), *command);
        if command.opcode == Opcode::Bind as u8 {
            let bind = Bind::from_payload(&command.payload);
            wire.bound.lock().insert(bind.slot.index, (command.grain, bind));
        }
        Ok(ticket)
    }

    fn doorbell(&mut self) {
        let (wire, fault) = &*self.0;
        fault.doorbell(wire);
    }

    fn next_sequence(&self) -> u64 {
        self.0.0.next_sequence()
    }

    fn completed_below(&mut self) -> u64 {
        let (wire, fault) = &*self.0;
        fault.completed_below(wire)
    }

    fn pending(&self) -> u32 {
        let (wire, fault) = &*self.0;
        fault.pending(wire)
    }
}

impl<F: Fault> Completions for BrokenLane<F> {
    fn take(&self, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let (wire, fault) = &*self.0;
        let mut taken = fault.take(wire, ticket, staged);
        if let Taken::Ready(completion) = &mut taken
            && let Some(command) = wire.flights.lock().remove(&ticket.sequence())
        {
            fault.answer(&command, completion, staged);
        }
        taken
    }

    fn is_complete(&self, sequence: u64) -> bool {
        self.0.0.completions.is_complete(sequence)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        let wire = &self.0.0;
        wire.completions.abandon(ticket);
        wire.flights.lock().remove(&ticket.sequence());
    }
}

/// A buffer that says of another what a fault has it say.
#[derive(Debug)]
pub struct Said {
    pub buffer: Arc<dyn DeviceBuffer>,
    pub offset_bytes: u64,
    pub size_bytes: u64,
    pub memory_type: MemoryType,
}

impl Said {
    /// Says the truth.
    pub fn of(buffer: Arc<dyn DeviceBuffer>) -> Self {
        let (size_bytes, memory_type) = (buffer.size_bytes(), buffer.memory_type());
        Self { buffer, offset_bytes: 0, size_bytes, memory_type }
    }
}

impl DeviceBuffer for Said {
    fn address(&self) -> u64 {
        self.buffer.address() + self.offset_bytes
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}
