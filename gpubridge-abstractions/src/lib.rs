//! Traits, messages, metrics, errors and ids of gpubridge, with the smallest correct backend.
#![forbid(unsafe_code)]

mod error;
mod id;
mod memory;
mod message;
mod metrics;
mod status;

pub use error::{Error, ErrorKind, Result};
pub use id::{AllocationId, DeviceIndex, KernelId, RequestId};
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
pub use status::Status;
