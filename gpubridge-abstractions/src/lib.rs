//! Traits, messages, metrics, errors and ids of gpubridge, with the smallest correct backend.
#![forbid(unsafe_code)]

mod command;
mod device;
mod error;
mod id;
mod kernel;
mod memory;
mod message;
mod metrics;
mod null;
mod ring;
mod status;

pub use command::{
    Bind, Command, Completion, Compute, DeviceSlot, Opcode, PAYLOAD_BYTES, PAYLOAD_WORDS, SubmitError, Taken, Ticket,
    Transfer,
};
pub use device::{Backend, Capabilities, Device, DeviceInfo, DeviceKind, DeviceStatus};
pub use error::{Error, ErrorKind, Result};
pub use id::{AllocationId, DeviceIndex, KernelId, RequestId};
pub use kernel::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelSpec, Placement, Scalars, Tolerance};
pub use memory::{DeviceBuffer, GpuMemoryHandle, GpuMemoryInfo, MemoryType};
pub use message::{
    AllocateMessage, AllocateResponse, AnyMessage, ComputeMessage, ComputeResponse, DecodeError, EncodeError, Envelope,
    GetMetricsMessage, InitializeMessage, InitializeResponse, InlineResult, LAYOUT_VERSION, MAX_MESSAGE_BYTES, Message,
    MetricsResponse, Parameters, ParametersOverflow, ReadMessage, ReadResponse, ReleaseMessage, ReleaseResponse,
    Response, ShutdownMessage, ShutdownResponse, SizeClassMetrics, StagedRange, WriteMessage, WriteResponse,
};
pub use metrics::{
    AllocationTotals, ComputeTotals, ReleaseTotals, ResidentMemoryMetrics, ResidentMemoryTotals, ResidentMemoryTracker,
    TimeSamples, TransferTotals,
};
pub use null::NullBackend;
pub use ring::{Completions, Lane, Ring, RingConfig, SharedMemory, Submitter};
pub use status::Status;
