//! Registry, memory pool, kernel cache and resident memory of gpubridge.
#![forbid(unsafe_code)]

mod clock;
mod kernel_cache;
pub mod pool;
mod resident;

pub use resident::{
    Batch, Call, Compute, Operation, Read, ResidentMemory, ResidentMemoryConfig, RestoredAllocation, SessionId, Write,
};
mod registry;

pub use registry::{AUTO, BACKEND_VARIABLE, BackendDevices, BackendRegistry, Selection};
