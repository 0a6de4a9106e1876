//! A lane whose answers are waited for by spinning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, Device, DeviceBuffer, DeviceSlot, Error, KernelSpec, Lane, MemoryType,
    Opcode, PAYLOAD_WORDS, Ring, RingConfig, Status, Taken, Ticket, Transfer,
};
use gpubridge_backend_cuda::{CudaBackend, CudaConfig};
use gpubridge_kernels::{KernelLibrary, library};

use crate::DEVICE;

pub const DEADLINE: Duration = Duration::from_secs(30);

/// An active ring with kernels in its first slots.
pub struct Rig {
    pub device: Arc<dyn Device>,
    // Dropped before the device's buffers.
    pub ring: Box<dyn Ring>,
}

impl Rig {
    pub fn new(lanes: u32, kernels: &[KernelSpec]) -> Result<Self, Error> {
        Self::with_library(lanes, library(), kernels)
    }

    pub fn with_library(lanes: u32, library: KernelLibrary, kernels: &[KernelSpec]) -> Result<Self, Error> {
        Self::with_config(lanes, library, CudaConfig::default(), kernels)
    }

    pub fn with_config(
        lanes: u32,
        library: KernelLibrary,
        config: CudaConfig,
        kernels: &[KernelSpec],
    ) -> Result<Self, Error> {
        let device = CudaBackend::new(library).with_config(config).open(DEVICE)?;
        for (slot, spec) in kernels.iter().enumerate() {
            device.compile(spec, slot as u16)?;
        }
        let ring = device.launch(RingConfig { lanes, slots: 1024, staging_bytes: 4096, allocations: 1024 })?;
        ring.activate(DEADLINE)?;
        Ok(Self { device, ring })
    }

    pub fn lane(&self, lane: u32) -> SpinningLane {
        SpinningLane { lane: self.ring.take_lane(lane).expect("nobody took it") }
    }

    /// Device memory, bound to table index `index` of the lane for `grain`.
    pub fn bound(&self, lane: &mut SpinningLane, index: u32, grain: u32, bytes: u64) -> Result<Bound, Error> {
        let buffer = self.device.reserve(bytes, MemoryType::Default)?;
        let slot = DeviceSlot { index, generation: 1 };
        let bind = Bind { slot, address: buffer.address(), size_bytes: bytes, zero_bytes: 0 };
        let answer = lane.call(&Command::new(Opcode::Bind, grain, bind.to_payload()), &[], &mut []);
        assert_eq!(answer.status, Status::Ok, "binding {bytes} bytes");
        Ok(Bound { slot, _buffer: buffer })
    }
}

pub struct Bound {
    pub slot: DeviceSlot,
    _buffer: Box<dyn DeviceBuffer>,
}

pub struct SpinningLane {
    pub lane: Lane,
}

impl SpinningLane {
    /// Submits and spins until the answer.
    pub fn call(&mut self, command: &Command, staged: &[u8], answer: &mut [u8]) -> Completion {
        let mut ticket = self.submit(command, staged);
        self.wait(&mut ticket, answer)
    }

    pub fn submit(&mut self, command: &Command, staged: &[u8]) -> Ticket {
        self.lane.submitter.try_submit(command, staged).expect("the lane has room")
    }

    pub fn wait(&self, ticket: &mut Ticket, answer: &mut [u8]) -> Completion {
        let since = Instant::now();
        let mut looks = 0_u32;
        loop {
            match self.lane.completions.take(ticket, answer) {
                Taken::Ready(completion) => return completion,
                Taken::Pending => {}
                Taken::Gone => panic!("an answer was taken twice"),
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(1 << 16) {
                assert!(since.elapsed() < DEADLINE, "no answer within {DEADLINE:?}");
                // For a device that is a thread of this machine.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// The command that runs the kernel in `slot`.
pub fn compute(slot: u16, grain: u32, input: DeviceSlot, output: DeviceSlot, count: u32, scalar: f32) -> Command {
    let call =
        Compute { input, operand: DeviceSlot::NONE, output, count, scalars: [u64::from(scalar.to_bits()), 0, 0] };
    Command { kernel: slot, ..Command::new(Opcode::Compute, grain, call.to_payload()) }
}

pub fn transfer(opcode: Opcode, grain: u32, slot: DeviceSlot, offset_bytes: u64, size_bytes: u32) -> Command {
    let transfer = Transfer { slot, offset_bytes, size_bytes };
    Command::new(opcode, grain, transfer.to_payload([0; PAYLOAD_WORDS - Transfer::HEADER_WORDS]))
}
