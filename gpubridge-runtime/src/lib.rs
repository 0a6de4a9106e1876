//! Registry, memory pool, kernel cache and resident memory of gpubridge.
//!
//! A handle names its allocation or is refused; it never names another block, and a session reaches its own blocks only.
//! A session's calls run in the order in which they were submitted and never overlap. A call takes no task, no channel and
//! no heap allocation, and every wait has a deadline; what is live, idle and reserved is counted apart and exactly.
//!
//! ```
//! use gpubridge_abstractions::{
//!     AllocateMessage, Backend, DeviceIndex, ErrorKind, InitializeMessage, NullBackend, ReadMessage, ReleaseMessage,
//!     StagedRange, WriteMessage,
//! };
//! use gpubridge_runtime::{ResidentMemory, ResidentMemoryConfig};
//!
//! let device = NullBackend::default().open(DeviceIndex(0))?;
//! let memory = ResidentMemory::open(device, ResidentMemoryConfig::default())?;
//! let session = memory.session(7);
//! memory.initialize(session, &InitializeMessage::new(memory.envelope()))?;
//!
//! let block = memory.allocate(session, &AllocateMessage::new(memory.envelope(), 64))?.handle.id;
//! let staged = StagedRange { offset_bytes: 0, size_bytes: 5 };
//! memory.write(session, &WriteMessage::new(memory.envelope(), block, 8, staged), b"hello").wait()?;
//! let mut bytes = [0; 5];
//! memory.read(session, &ReadMessage::new(memory.envelope(), block, 8, staged), &mut bytes).wait()?;
//! assert_eq!(&bytes, b"hello");
//!
//! memory.release(session, &ReleaseMessage::new(memory.envelope(), block))?;
//! let late = memory.read(session, &ReadMessage::new(memory.envelope(), block, 8, staged), &mut bytes).wait();
//! assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
//! # Ok::<(), gpubridge_abstractions::Error>(())
//! ```
#![forbid(unsafe_code)]

mod clock;
mod kernel_cache;
mod park;
pub mod pool;
mod registry;
mod resident;
mod sync;

pub use park::{wait, wait_until};
pub use registry::{AUTO, BACKEND_VARIABLE, BackendDevices, BackendRegistry, DEVICE_VARIABLE, Selection};
pub use resident::{
    Answered, Batch, BatchCall, Call, Compute, Operation, Read, ResidentMemory, ResidentMemoryConfig,
    RestoredAllocation, SessionId, Write, WriteChunk,
};
