//! A device with a ring and a lane of it, and short forms of what the tests ask of them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, Device, DeviceBuffer, DeviceIndex, DeviceSlot, Lane, MemoryType,
    Opcode, Ring, RingConfig, Status, SubmitError, Taken, Ticket, Transfer,
};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use gpubridge_kernels::KernelLibrary;

/// Far beyond what anything here takes: a hung test ends with a message, and nothing depends on the figure.
pub const HANG: Duration = Duration::from_secs(120);

/// The grain that tests speak for unless they say otherwise.
pub const GRAIN: u32 = 7;

/// One lane, few slots, and a staging area of a kilobyte.
pub const SMALL: RingConfig = RingConfig { lanes: 1, slots: 8, staging_bytes: 1024, allocations: 1024 };

pub fn open(library: KernelLibrary, config: CpuConfig) -> Arc<dyn Device> {
    CpuBackend::new(library).with_config(config).open(DeviceIndex(0)).unwrap()
}

/// A ring thread that parks as soon as it has no work.
pub fn parking() -> CpuConfig {
    let mut config = CpuConfig::default();
    config.spin = Duration::ZERO;
    config
}

/// No ring thread: the test's own threads serve.
pub fn served_by_callers() -> CpuConfig {
    let mut config = CpuConfig::default();
    config.served_by_callers = true;
    config
}

pub struct Bench {
    pub device: Arc<dyn Device>,
    pub ring: Box<dyn Ring>,
    pub lane: BenchLane,
}

pub struct BenchLane(pub Lane);

impl Bench {
    /// An active ring of `config` on a device with the kernels of `library`.
    pub fn new(library: KernelLibrary, config: RingConfig) -> Self {
        let bench = Self::inactive(library, config);
        bench.ring.activate(HANG).unwrap();
        bench
    }

    pub fn inactive(library: KernelLibrary, config: RingConfig) -> Self {
        Self::inactive_with(library, config, parking())
    }

    pub fn inactive_with(library: KernelLibrary, config: RingConfig, cpu: CpuConfig) -> Self {
        let device = open(library, cpu);
        let ring = device.launch(config).unwrap();
        let lane = BenchLane(ring.take_lane(0).unwrap());
        Self { device, ring, lane }
    }

    /// A buffer of which `slot` is bound to the first `size_bytes`, zeroed, for `GRAIN`.
    pub fn bound(&mut self, index: u32, size_bytes: u64) -> (Box<dyn DeviceBuffer>, DeviceSlot) {
        let buffer = self.device.reserve(size_bytes, MemoryType::Default).unwrap();
        let slot = DeviceSlot { index, generation: 1 };
        assert_eq!(self.lane.bind(GRAIN, slot, buffer.address(), size_bytes, size_bytes), Status::Ok);
        (buffer, slot)
    }
}

impl BenchLane {
    /// Submits without waiting.
    pub fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let ticket = self.0.submitter.try_submit(command, staged)?;
        self.0.submitter.doorbell();
        Ok(ticket)
    }

    pub fn submit(&mut self, command: &Command) -> Ticket {
        self.try_submit(command, &[]).unwrap()
    }

    /// Waits for the answer to `ticket`.
    pub fn wait(&self, ticket: Ticket) -> Completion {
        self.wait_into(ticket, &mut [])
    }

    pub fn wait_into(&self, mut ticket: Ticket, staged: &mut [u8]) -> Completion {
        let since = Instant::now();
        loop {
            match self.0.completions.take(&mut ticket, staged) {
                Taken::Ready(completion) => return completion,
                Taken::Pending => assert!(since.elapsed() < HANG, "no answer to {ticket:?}"),
                Taken::Gone => panic!("{ticket:?} is gone"),
            }
            thread::yield_now();
        }
    }

    /// Submits and waits.
    pub fn run(&mut self, command: &Command) -> Completion {
        let ticket = self.submit(command);
        self.wait(ticket)
    }

    pub fn status(&mut self, command: &Command) -> Status {
        self.run(command).status
    }

    pub fn bind(&mut self, grain: u32, slot: DeviceSlot, address: u64, size_bytes: u64, zero_bytes: u64) -> Status {
        self.status(&bind(grain, slot, address, size_bytes, zero_bytes))
    }

    pub fn write(&mut self, slot: DeviceSlot, offset_bytes: u64, bytes: &[u8]) -> Status {
        let ticket = self.try_submit(&transfer(Opcode::Write, slot, offset_bytes, bytes.len()), bytes).unwrap();
        self.wait(ticket).status
    }

    pub fn read(&mut self, slot: DeviceSlot, offset_bytes: u64, bytes: &mut [u8]) -> Status {
        let ticket = self.submit(&transfer(Opcode::Read, slot, offset_bytes, bytes.len()));
        self.wait_into(ticket, bytes).status
    }

    /// Writes `bytes` however many they are, in pieces of `piece_bytes`.
    pub fn write_all(&mut self, slot: DeviceSlot, bytes: &[u8], piece_bytes: usize) {
        for (index, piece) in bytes.chunks(piece_bytes).enumerate() {
            assert_eq!(self.write(slot, (index * piece_bytes) as u64, piece), Status::Ok);
        }
    }

    pub fn read_all(&mut self, slot: DeviceSlot, size_bytes: usize, piece_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0xa5; size_bytes];
        for (index, piece) in bytes.chunks_mut(piece_bytes).enumerate() {
            assert_eq!(self.read(slot, (index * piece_bytes) as u64, piece), Status::Ok);
        }
        bytes
    }
}

pub fn echo(grain: u32, number: u64) -> Command {
    Command::new(Opcode::Echo, grain, [number; 7])
}

pub fn bind(grain: u32, slot: DeviceSlot, address: u64, size_bytes: u64, zero_bytes: u64) -> Command {
    Command::new(Opcode::Bind, grain, Bind { slot, address, size_bytes, zero_bytes }.to_payload())
}

pub fn transfer(opcode: Opcode, slot: DeviceSlot, offset_bytes: u64, size_bytes: usize) -> Command {
    let size_bytes = u32::try_from(size_bytes).unwrap();
    Command::new(opcode, GRAIN, Transfer { slot, offset_bytes, size_bytes }.to_payload([0; 4]))
}

/// A call of the kernel in `kernel` that names no buffer and carries `number` as its first scalar.
pub fn call(kernel: u16, grain: u32, number: u32) -> Command {
    let none = DeviceSlot::NONE;
    let call = Compute { input: none, operand: none, output: none, count: 1, scalars: [u64::from(number), 0, 0] };
    Command { kernel, ..Command::new(Opcode::Compute, grain, call.to_payload()) }
}
