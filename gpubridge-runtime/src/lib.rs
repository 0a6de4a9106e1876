//! Registry, memory pool, kernel cache and resident memory of gpubridge.
#![forbid(unsafe_code)]

mod clock;
mod kernel_cache;
mod park;
pub mod pool;
mod registry;
mod resident;
mod sync;

pub use park::{wait, wait_until};
pub use registry::{AUTO, BACKEND_VARIABLE, BackendDevices, BackendRegistry, Selection};
pub use resident::{
    Answered, Batch, BatchCall, Call, Compute, Operation, Read, ResidentMemory, ResidentMemoryConfig,
    RestoredAllocation, SessionId, Write,
};
