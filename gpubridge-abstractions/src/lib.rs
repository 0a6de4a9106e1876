//! Traits, messages, metrics, errors and ids of gpubridge, with the smallest correct backend.
//!
//! Whatever implements [`Backend`], [`Device`] and [`Ring`] is used in the same way: each trait lists its behaviour, and
//! the suite `ringkernel-tests` tests those lists. A command that was accepted is answered exactly once; one that is
//! refused leaves no trace, and the refusal says why. Data is plain and errors of the data plane are `Copy`; nothing here
//! knows an async runtime or a device API, and there is no unsafe code.
//!
//! ```
//! use std::time::Duration;
//!
//! use gpubridge_abstractions::{
//!     Backend, Command, Completion, DeviceIndex, DeviceSlot, NullBackend, Opcode, RingConfig, Status, Taken, Transfer,
//! };
//!
//! // Nothing below knows which backend this is.
//! let backend: Box<dyn Backend> = Box::new(NullBackend::default());
//! let ring = backend.open(DeviceIndex(0))?.launch(RingConfig::default())?;
//! ring.activate(Duration::from_secs(1))?;
//! let mut lane = ring.take_lane(0).expect("each lane is taken once");
//!
//! // A block that was never bound is refused by the device, in an answer like any other.
//! let nowhere = Transfer { slot: DeviceSlot { index: 0, generation: 1 }, offset_bytes: 0, size_bytes: 4 };
//! let mut ticket = lane.submitter.try_submit(&Command::new(Opcode::Read, 7, nowhere.to_payload([0; 4])), &[])?;
//! lane.submitter.doorbell();
//! let answer = loop {
//!     match lane.completions.take(&mut ticket, &mut [0; 4]) {
//!         Taken::Pending => std::thread::yield_now(),
//!         taken => break taken,
//!     }
//! };
//! assert!(matches!(answer, Taken::Ready(Completion { status: Status::UnknownAllocation, .. })), "{answer:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
mod staging;
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
pub use staging::{BulkStaging, Chunk};
pub use status::Status;
