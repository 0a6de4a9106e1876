//! Faults of what is reported: devices, capabilities, memory, and the figures that the runtime counts by.

use std::sync::Arc;

use gpubridge_abstractions::{
    Backend, Command, Completion, Device, DeviceIndex, DeviceInfo, Error, MemoryType, Opcode,
};
use gpubridge_backend_cpu::CpuBackend;

use crate::wrap::{Fault, InnerLane};

/// Claims every memory type.
#[derive(Debug, Default)]
pub struct ClaimsEveryMemoryType;

impl Fault for ClaimsEveryMemoryType {
    fn report(&self, mut info: DeviceInfo) -> DeviceInfo {
        info.capabilities = info.capabilities.with_memory_types(&MemoryType::ALL);
        info
    }
}

/// Opens the first device, whichever is asked for.
#[derive(Debug, Default)]
pub struct IgnoresTheDeviceIndex;

impl Fault for IgnoresTheDeviceIndex {
    fn open(&self, backend: &CpuBackend, _: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        backend.open(DeviceIndex(0))
    }
}

/// Mixes up all memory and what is available of it.
#[derive(Debug, Default)]
pub struct MixesUpTotalAndAvailable;

impl Fault for MixesUpTotalAndAvailable {
    fn report(&self, info: DeviceInfo) -> DeviceInfo {
        let (total_memory_bytes, available_memory_bytes) = (info.available_memory_bytes, info.total_memory_bytes);
        DeviceInfo { total_memory_bytes, available_memory_bytes, ..info }
    }
}

/// Never tells how long a command took.
#[derive(Debug, Default)]
pub struct NeverTellsTheTime;

impl Fault for NeverTellsTheTime {
    fn answer(&self, _: &Command, completion: &mut Completion, _: &mut [u8]) {
        completion.device_time_ns = 0;
    }
}

/// Miscounts the bytes of a result: rounds them up to whole words.
#[derive(Debug, Default)]
pub struct RoundsResultsUp;

impl Fault for RoundsResultsUp {
    fn answer(&self, command: &Command, completion: &mut Completion, _: &mut [u8]) {
        if command.opcode == Opcode::ReadInline as u8 {
            completion.result_bytes = completion.result_bytes.next_multiple_of(8);
        }
    }
}

/// Counts what is submitted as completed.
#[derive(Debug, Default)]
pub struct CompletesTooEarly;

impl Fault for CompletesTooEarly {
    fn completed_below(&self, lane: &InnerLane<Self>) -> u64 {
        lane.next_sequence()
    }
}

/// Miscounts what is pending by one.
#[derive(Debug, Default)]
pub struct CountsOnePendingTooFew;

impl Fault for CountsOnePendingTooFew {
    fn pending(&self, lane: &InnerLane<Self>) -> u32 {
        lane.submitter.lock().pending().saturating_sub(1)
    }
}
