//! A lane driven by hand: for the cases that speak to the traits of a device alone, and for what a backend's own tests add to
//! them.
//!
//! Whatever does not go as it must panics, and says so.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use gpubridge_abstractions::{
    Bind, Command, Completion, Compute, Device, DeviceBuffer, DeviceSlot, KernelSpec, Lane, MemoryType, Opcode, Ring,
    RingConfig, Scalars, Status, SubmitError, Taken, Ticket, Transfer,
};

use crate::rig::SOON;

/// The grain that cases speak for unless they say otherwise.
pub const GRAIN: u32 = 7;

/// One lane, few slots, and a staging area of a kilobyte.
pub const SMALL: RingConfig = RingConfig { lanes: 1, slots: 8, staging_bytes: 1024, allocations: 1024 };

/// A device with a ring, and its lane 0.
#[derive(Debug)]
pub struct Bench {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Its ring.
    pub ring: Box<dyn Ring>,
    /// The ring's lane 0.
    pub lane: Driver,
}

impl Bench {
    /// An active ring on `device`.
    pub fn new(device: Arc<dyn Device>, config: RingConfig) -> Self {
        let bench = Self::inactive(device, config);
        bench.ring.activate(SOON).expect("the ring starts");
        bench
    }

    /// A ring as it is launched.
    pub fn inactive(device: Arc<dyn Device>, config: RingConfig) -> Self {
        let ring = device.launch(config).expect("the configuration is good");
        let lane = Driver::take(&*ring, 0);
        Self { device, ring, lane }
    }

    /// An active ring, with these kernels in the slots from 0 on.
    pub fn with_kernels(device: Arc<dyn Device>, config: RingConfig, kernels: &[KernelSpec]) -> Self {
        let bench = Self::new(device, config);
        bench.compile(kernels);
        bench
    }

    /// Compiles these kernels into the slots from 0 on.
    pub fn compile(&self, kernels: &[KernelSpec]) {
        for (slot, kernel) in (0..).zip(kernels) {
            self.device.compile(kernel, slot).expect("the device has this kernel");
        }
    }

    /// A buffer that is bound whole and zeroed, for [`GRAIN`], and its name: `index`, generation 1.
    pub fn bound(&mut self, index: u32, size_bytes: u64) -> (Box<dyn DeviceBuffer>, DeviceSlot) {
        let buffer = self.device.reserve(size_bytes, MemoryType::Default).expect("there is memory");
        let slot = DeviceSlot { index, generation: 1 };
        assert_eq!(self.lane.bind(GRAIN, slot, buffer.address(), size_bytes, size_bytes), Status::Ok, "{slot:?}");
        (buffer, slot)
    }
}

/// Both halves of a lane, and short ways to use them.
#[derive(Debug)]
pub struct Driver(
    /// The halves.
    pub Lane,
);

impl Driver {
    /// This lane of `ring`, which nobody has taken yet.
    pub fn take(ring: &dyn Ring, lane: u32) -> Self {
        Self(ring.take_lane(lane).expect("nobody has taken this lane"))
    }

    /// Submits and rings, without waiting.
    ///
    /// # Errors
    /// Why the lane refused it.
    pub fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let ticket = self.0.submitter.try_submit(command, staged)?;
        self.0.submitter.doorbell();
        Ok(ticket)
    }

    /// [`Driver::try_submit`] of what must be accepted.
    #[track_caller]
    pub fn submit(&mut self, command: &Command) -> Ticket {
        self.try_submit(command, &[]).expect("there is a slot")
    }

    /// What there is of the answer now, without staged bytes.
    pub fn look(&self, ticket: &mut Ticket) -> Taken {
        self.0.completions.take(ticket, &mut [])
    }

    /// Whether the command is answered.
    pub fn is_complete(&self, ticket: &Ticket) -> bool {
        self.0.completions.is_complete(ticket.sequence())
    }

    /// Waits for the answer.
    #[track_caller]
    pub fn wait(&self, ticket: Ticket) -> Completion {
        self.wait_into(ticket, &mut [])
    }

    /// The same with the staged bytes of a read.
    #[track_caller]
    pub fn wait_into(&self, mut ticket: Ticket, staged: &mut [u8]) -> Completion {
        let until = Instant::now() + SOON;
        loop {
            match self.0.completions.take(&mut ticket, staged) {
                Taken::Ready(completion) => return completion,
                Taken::Pending => assert!(Instant::now() < until, "no answer to {ticket:?}"),
                Taken::Gone => panic!("{ticket:?} is gone, although nobody took its answer"),
            }
            thread::yield_now();
        }
    }

    /// Submits and waits.
    #[track_caller]
    pub fn run(&mut self, command: &Command) -> Completion {
        let ticket = self.submit(command);
        self.wait(ticket)
    }

    /// [`Driver::run`], when only the status matters.
    #[track_caller]
    pub fn status(&mut self, command: &Command) -> Status {
        self.run(command).status
    }

    /// Runs an echo, which must come back: the lane goes on.
    #[track_caller]
    pub fn probe(&mut self, number: u64) {
        let completion = self.run(&echo(GRAIN, number));
        assert_eq!((completion.status, completion.payload), (Status::Ok, [number; 7]));
    }

    /// Runs [`bind`].
    #[track_caller]
    pub fn bind(&mut self, grain: u32, slot: DeviceSlot, address: u64, size_bytes: u64, zero_bytes: u64) -> Status {
        self.status(&bind(grain, slot, address, size_bytes, zero_bytes))
    }

    /// Runs a staged write for [`GRAIN`].
    #[track_caller]
    pub fn write(&mut self, slot: DeviceSlot, offset_bytes: u64, bytes: &[u8]) -> Status {
        let command = transfer(Opcode::Write, slot, offset_bytes, bytes.len());
        let ticket = self.try_submit(&command, bytes).expect("there is a slot");
        self.wait(ticket).status
    }

    /// Runs a staged read for [`GRAIN`], as long as `bytes`.
    #[track_caller]
    pub fn read(&mut self, slot: DeviceSlot, offset_bytes: u64, bytes: &mut [u8]) -> Status {
        let ticket = self.submit(&transfer(Opcode::Read, slot, offset_bytes, bytes.len()));
        self.wait_into(ticket, bytes).status
    }

    /// Writes the bytes from the first on, however many they are, in pieces of [`SMALL`]'s staging area.
    #[track_caller]
    pub fn write_all(&mut self, slot: DeviceSlot, bytes: &[u8]) {
        let piece_bytes = SMALL.staging_bytes as usize;
        for (index, piece) in bytes.chunks(piece_bytes).enumerate() {
            assert_eq!(self.write(slot, (index * piece_bytes) as u64, piece), Status::Ok, "{slot:?}");
        }
    }

    /// Reads so many bytes from the first on, likewise.
    #[track_caller]
    pub fn read_all(&mut self, slot: DeviceSlot, size_bytes: usize) -> Vec<u8> {
        let piece_bytes = SMALL.staging_bytes as usize;
        let mut bytes = vec![0xa5; size_bytes];
        for (index, piece) in bytes.chunks_mut(piece_bytes).enumerate() {
            assert_eq!(self.read(slot, (index * piece_bytes) as u64, piece), Status::Ok, "{slot:?}");
        }
        bytes
    }
}

/// An echo of seven times this number.
pub fn echo(grain: u32, number: u64) -> Command {
    Command::new(Opcode::Echo, grain, [number; 7])
}

/// A bind of `slot` to `size_bytes` bytes at `address`, of which `zero_bytes` are zeroed.
pub fn bind(grain: u32, slot: DeviceSlot, address: u64, size_bytes: u64, zero_bytes: u64) -> Command {
    Command::new(Opcode::Bind, grain, Bind { slot, address, size_bytes, zero_bytes }.to_payload())
}

/// A copy for [`GRAIN`]; an inline write carries zeros.
pub fn transfer(opcode: Opcode, slot: DeviceSlot, offset_bytes: u64, size_bytes: usize) -> Command {
    let size_bytes = u32::try_from(size_bytes).expect("a copy is no larger than 4 GiB");
    Command::new(opcode, GRAIN, Transfer { slot, offset_bytes, size_bytes }.to_payload([0; 4]))
}

/// An inline write of eight bytes.
pub fn write_word(slot: DeviceSlot, offset_bytes: u64, word: u64) -> Command {
    let payload = Transfer { slot, offset_bytes, size_bytes: 8 }.to_payload([word, 0, 0, 0]);
    Command::new(Opcode::WriteInline, GRAIN, payload)
}

/// A call of the kernel in `kernel` for [`GRAIN`].
pub fn compute(kernel: u16, buffers: [DeviceSlot; 3], count: u32, scalars: Scalars) -> Command {
    let [input, operand, output] = buffers;
    let call = Compute { input, operand, output, count, scalars: scalars.0 };
    Command { kernel, ..Command::new(Opcode::Compute, GRAIN, call.to_payload()) }
}

/// A call that names no buffer and carries a number, and whose it is, as its scalars.
pub fn call(kernel: u16, grain: u32, number: u32) -> Command {
    let scalars = Scalars::default().with_bits(0, number).with_bits(1, grain);
    Command { grain, ..compute(kernel, [DeviceSlot::NONE; 3], 1, scalars) }
}
