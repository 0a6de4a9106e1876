//! Faults of kernels: not compiled, not run, or not right.

use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{
    Command, Completion, Compute, Device, ElementType, Error, ErrorKind, KernelSpec, Opcode, Status,
};
use parking_lot::Mutex;

use crate::wrap::{Fault, InnerLane};

fn is_compute(command: &Command) -> bool {
    command.opcode == Opcode::Compute as u8
}

/// Does nothing and says that it is done.
#[derive(Debug, Default)]
pub struct DoesNothing;

impl Fault for DoesNothing {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        if is_compute(command) {
            command.opcode = Opcode::Echo as u8;
        }
    }

    fn answer(&self, command: &Command, completion: &mut Completion, _: &mut [u8]) {
        if is_compute(command) {
            *completion = Completion::of(Status::Ok);
        }
    }
}

/// Sleeps in place of work, and tells how long it took.
#[derive(Debug, Default)]
pub struct Sleeps;

impl Fault for Sleeps {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        if is_compute(command) {
            command.opcode = Opcode::Echo as u8;
        }
    }

    fn answer(&self, command: &Command, completion: &mut Completion, _: &mut [u8]) {
        if is_compute(command) {
            thread::sleep(Duration::from_micros(10));
            *completion = Completion { device_time_ns: 10_000, ..Completion::of(Status::Ok) };
        }
    }
}

/// Says "done" of a kernel that was never compiled.
#[derive(Debug, Default)]
pub struct PassesUnknownKernels;

impl Fault for PassesUnknownKernels {
    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        device
            .compile(spec, slot)
            .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn answer(&self, _: &Command, completion: &mut Completion, _: &mut [u8]) {
        if completion.status == Status::UnknownKernel {
            completion.status = Status::Ok;
        }
    }
}

/// Remembers that a kernel failed to compile, and never tries again.
#[derive(Debug, Default)]
pub struct RemembersFailures {
    failed: Mutex<Vec<(KernelSpec, String)>>,
}

impl Fault for RemembersFailures {
    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let mut failed = self.failed.lock();
        if let Some((_, text)) = failed.iter().find(|(known, _)| known == spec) {
            return Err(Error::new(ErrorKind::KernelBuild, "broken.compile", text.clone()));
        }
        device.compile(spec, slot).inspect_err(|error| failed.push((*spec, error.message().to_owned())))
    }
}

/// Keeps the compiler's text to itself.
#[derive(Debug, Default)]
pub struct LosesTheCompilersText;

impl Fault for LosesTheCompilersText {
    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let compiled = device.compile(spec, slot);
        compiled.map_err(|error| Error::new(error.kind(), "broken.compile", "the kernel does not compile"))
    }
}

/// Keeps the first kernel of a slot, whatever is compiled into it later.
#[derive(Debug, Default)]
pub struct KeepsTheFirstKernel {
    taken: Mutex<Vec<u16>>,
}

impl Fault for KeepsTheFirstKernel {
    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let mut taken = self.taken.lock();
        if taken.contains(&slot) {
            return Ok(());
        }
        device.compile(spec, slot).inspect(|()| taken.push(slot))
    }
}

/// Takes numbers of any type for floats, where the kernel comes in floats.
#[derive(Debug, Default)]
pub struct IgnoresTheElementType;

impl Fault for IgnoresTheElementType {
    fn compile(&self, device: &dyn Device, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        device.compile(&spec.of(ElementType::F32), slot).or_else(|_| device.compile(spec, slot))
    }
}

/// Changes the elements that a kernel works on.
fn change_count<F>(lane: &InnerLane<F>, command: &mut Command, change: impl FnOnce(u64) -> u64) {
    if is_compute(command) {
        let mut call = Compute::from_payload(&command.payload);
        let whole = if call.input.is_none() { call.output } else { call.input };
        let elements = lane.bound(whole).map_or(0, |(_, bind)| bind.size_bytes / 4);
        let count = if call.count == 0 { elements } else { u64::from(call.count) };
        let changed = change(count);
        if changed != count {
            call.count = changed as u32;
        }
        command.payload = call.to_payload();
    }
}

/// Runs whole blocks of 256 elements only, when there is at least one: the last partial block is left out.
#[derive(Debug, Default)]
pub struct LeavesOutTheLastBlock;

impl Fault for LeavesOutTheLastBlock {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_count(lane, command, |count| if count < 256 { count } else { count - count % 256 });
    }
}

/// Is wrong past 65,535 elements, the most blocks of a grid's second dimension.
#[derive(Debug, Default)]
pub struct StopsAt65535;

impl Fault for StopsAt65535 {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_count(lane, command, |count| count.min(65_535));
    }
}

/// Answers 0 where a result is no number.
#[derive(Debug, Default)]
pub struct TurnsNanIntoZero;

impl Fault for TurnsNanIntoZero {
    fn answer(&self, command: &Command, completion: &mut Completion, _: &mut [u8]) {
        if is_compute(command) {
            for word in &mut completion.payload {
                let number = |bits: u64| if f32::from_bits(bits as u32).is_nan() { 0 } else { bits & 0xffff_ffff };
                *word = number(*word >> 32) << 32 | number(*word);
            }
        }
    }
}
