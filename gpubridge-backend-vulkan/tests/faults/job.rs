//! A short job on the device, and who watches over it.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, Device, DeviceBuffer, DeviceIndex, DeviceSlot, Error, KernelSpec,
    Lane, MemoryType, Opcode, Ring, RingConfig, Status, Taken, Ticket,
};
use gpubridge_backend_vulkan::{VulkanBackend, VulkanConfig};
use gpubridge_kernels::{id, library};

use crate::interposed;

pub const SOON: Duration = Duration::from_secs(30);
/// A job that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(180);

const SLOT: DeviceSlot = DeviceSlot { index: 0, generation: 1 };

/// How a job ends that does not do its work.
#[derive(Debug)]
pub enum Failure {
    Refused(Error),
    Answered(Status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The backend over the functions in between; `None` without a loader.
pub fn backend(validates: bool) -> Option<VulkanBackend> {
    backend_with(|config| config.validates = validates)
}

/// The same with another use of the device.
pub fn backend_with(set: impl FnOnce(&mut VulkanConfig)) -> Option<VulkanBackend> {
    let mut config = VulkanConfig::default();
    config.batch_limit = Duration::from_secs(5);
    set(&mut config);
    // SAFETY: it is the system's loader, with functions in between that do as the driver's do, or fail as those may.
    interposed::loader().map(|loader| unsafe { VulkanBackend::new(library()).with_config(config).with_loader(loader) })
}

/// Answers of a lane, one command at a time.
pub struct Caller(pub Lane);

impl Caller {
    pub fn call(&mut self, command: &Command) -> Result<Completion, Failure> {
        Ok(self.call_together(std::slice::from_ref(command))?[0])
    }

    /// Submits all, then rings once.
    pub fn call_together(&mut self, commands: &[Command]) -> Result<Vec<Completion>, Failure> {
        let mut tickets = Vec::new();
        let lost = |_| Failure::Answered(Status::DeviceLost);
        self.0.submitter.try_submit_run(commands, &mut tickets).map_err(lost)?;
        self.0.submitter.doorbell();
        tickets.into_iter().map(|ticket| self.wait(ticket)).collect()
    }

    fn wait(&self, mut ticket: Ticket) -> Result<Completion, Failure> {
        let since = Instant::now();
        loop {
            match self.0.completions.take(&mut ticket, &mut []) {
                Taken::Ready(answer) if answer.status == Status::Ok => return Ok(answer),
                Taken::Ready(answer) => return Err(Failure::Answered(answer.status)),
                _ => assert!(since.elapsed() < DEADLINE, "no answer"),
            }
            thread::yield_now();
        }
    }
}

/// Whether the validation layer is there.
pub fn validates() -> bool {
    backend(true).is_some_and(|backend| backend.devices().is_ok())
}

/// A device with a ring that is active, two kernels, and a buffer.
pub struct Set {
    pub caller: Caller,
    pub ring: Box<dyn Ring>,
    pub buffer: Box<dyn DeviceBuffer>,
    // Behind its ring and its buffer.
    _device: Arc<dyn Device>,
}

impl Set {
    pub fn up(backend: &VulkanBackend) -> Result<Self, Failure> {
        let device = backend.open(DeviceIndex(0))?;
        let buffer = device.reserve(1 << 20, MemoryType::Default)?;
        device.compile(&KernelSpec::new(id::FILL), 0)?;
        device.compile(&KernelSpec::new(id::SUM), 1)?;
        let ring = device.launch(RingConfig { lanes: 1, slots: 16, staging_bytes: 64, allocations: 4 })?;
        ring.activate(SOON)?;
        let caller = Caller(ring.take_lane(0).expect("it is there"));
        Ok(Self { caller, ring, buffer, _device: device })
    }

    /// Fills a buffer with sevens and adds them up, by a grid and in a list.
    pub fn work(&mut self) -> Result<(), Failure> {
        for size_bytes in [1 << 20, 4096] {
            let bind = Bind { slot: SLOT, address: self.buffer.address(), size_bytes, zero_bytes: size_bytes };
            self.caller.call(&Command::new(Opcode::Bind, 1, bind.to_payload()))?;
            self.caller.call(&self.fill(7.0))?;
            let answer = self.caller.call(&self.sum())?;
            let sum = f32::from_bits(answer.payload[0] as u32);
            assert_eq!(sum, 7.0 * (size_bytes / 4) as f32, "a wrong sum");
        }
        Ok(())
    }

    /// Fills what is bound with this.
    pub fn fill(&self, value: f32) -> Command {
        let scalars = [u64::from(value.to_bits()), 0, 0];
        let (input, operand) = (DeviceSlot::NONE, DeviceSlot::NONE);
        let fill = Compute { input, operand, output: SLOT, count: 0, scalars };
        Command { kernel: 0, ..Command::new(Opcode::Compute, 1, fill.to_payload()) }
    }

    /// Adds up what is bound.
    pub fn sum(&self) -> Command {
        let (operand, output) = (DeviceSlot::NONE, DeviceSlot::NONE);
        let sum = Compute { input: SLOT, operand, output, count: 0, scalars: [0; 3] };
        Command { kernel: 1, ..Command::new(Opcode::Compute, 1, sum.to_payload()) }
    }
}

/// All of it, from opening the device to the end of the ring.
fn job(backend: &VulkanBackend) -> Result<(), Failure> {
    let mut set = Set::up(backend)?;
    set.work()?;
    set.ring.terminate(SOON)?;
    Ok(())
}

/// Runs a job on a thread of its own, so that one that hangs is given up.
pub fn watched(backend: &VulkanBackend) -> Result<(), Failure> {
    let (done, finished) = channel();
    let backend = backend.clone();
    let thread = thread::spawn(move || {
        let outcome = job(&backend);
        drop(backend);
        done.send(outcome).expect("it is waited for");
    });
    let outcome = finished.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("it hangs or has panicked: {error}"));
    thread.join().expect("it has ended");
    outcome
}
