//! The same by the backend, through the traits that every backend has.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, Device, DeviceBuffer, DeviceIndex, DeviceSlot, ElementType, Error,
    KernelSpec, Lane, MemoryType, Opcode, Ring, RingConfig, Status, Ticket,
};
use gpubridge_backend_vulkan::VulkanBackend;
use gpubridge_kernels::id;

use crate::work::{BATCH_MAX, BLOCK_BYTES, KERNEL, SPIN, sum_of, value_of};

/// What takes longer hangs: drivers compile a shader when it is first used.
const DEADLINE: Duration = Duration::from_secs(120);
// Kernel slots.
const SUM: u16 = 0;
const FILL: u16 = 1;

/// A ring with a lane that is served, and a block for each grain.
pub struct Ours {
    lane: Lane,
    commands: Vec<Command>,
    tickets: Vec<Ticket>,
    answers: Vec<Completion>,
    // Behind the lane, in this order.
    _ring: Box<dyn Ring>,
    _numbers: Box<dyn DeviceBuffer>,
    _device: Arc<dyn Device>,
}

impl Ours {
    /// The backend's device of this index, its blocks bound and filled.
    pub fn new(backend: &VulkanBackend, index: DeviceIndex) -> Result<Self, Error> {
        let device = backend.open(index)?;
        let numbers = device.reserve(BATCH_MAX as u64 * BLOCK_BYTES, MemoryType::Default)?;
        device.compile(&KERNEL, SUM)?;
        device.compile(&KernelSpec::new(id::FILL).of(ElementType::U32), FILL)?;
        let slots = BATCH_MAX as u32;
        let ring = device.launch(RingConfig { lanes: 1, slots, staging_bytes: 64, allocations: slots })?;
        ring.activate(DEADLINE)?;
        let mut made = Self {
            lane: ring.take_lane(0).expect("nobody has taken it"),
            commands: Vec::with_capacity(BATCH_MAX),
            tickets: Vec::with_capacity(BATCH_MAX),
            answers: vec![Completion::of(Status::Ok); BATCH_MAX],
            _ring: ring,
            _numbers: numbers,
            _device: device,
        };
        let base = made._numbers.address();
        made.answer(BATCH_MAX, |call| {
            let address = base + call as u64 * BLOCK_BYTES;
            let bind = Bind { slot: slot_of(call), address, size_bytes: BLOCK_BYTES, zero_bytes: 0 };
            Command::new(Opcode::Bind, call as u32, bind.to_payload())
        });
        made.answer(BATCH_MAX, |call| {
            compute(FILL, call, DeviceSlot::NONE, slot_of(call), [u64::from(value_of(call)), 0, 0])
        });
        Ok(made)
    }

    /// Has so many calls answered, each by a grain of its own, and checks every answer.
    pub fn run(&mut self, calls: usize) {
        self.answer(calls, |call| compute(SUM, call, slot_of(call), DeviceSlot::NONE, [0; 3]));
        for (call, answer) in self.answers[..calls].iter().enumerate() {
            assert_eq!(answer.payload[0], sum_of(call), "call {call}");
        }
    }

    /// Submits so many commands, rings once, and waits for every answer.
    fn answer(&mut self, calls: usize, command: impl Fn(usize) -> Command) {
        self.commands.clear();
        self.commands.extend((0..calls).map(command));
        self.tickets.clear();
        self.lane.submitter.try_submit_run(&self.commands, &mut self.tickets).expect("there are slots for all");
        self.lane.submitter.doorbell();
        let mut taken = 0;
        let mut since = Instant::now();
        while taken < calls {
            let came = self.lane.completions.take_ready(&mut self.tickets[taken..], &mut self.answers[taken..calls]);
            taken += came;
            if came > 0 {
                since = Instant::now();
            } else if since.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                assert!(since.elapsed() < DEADLINE, "no answer");
                thread::yield_now();
            }
        }
        for (call, answer) in self.answers[..calls].iter().enumerate() {
            assert_eq!(answer.status, Status::Ok, "call {call}");
        }
    }
}

/// A grain's block.
fn slot_of(call: usize) -> DeviceSlot {
    DeviceSlot { index: call as u32, generation: 1 }
}

fn compute(kernel: u16, call: usize, input: DeviceSlot, output: DeviceSlot, scalars: [u64; 3]) -> Command {
    let compute = Compute { input, operand: DeviceSlot::NONE, output, count: 0, scalars };
    Command { kernel, ..Command::new(Opcode::Compute, call as u32, compute.to_payload()) }
}
