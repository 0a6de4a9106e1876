//! Registry, memory pool, kernel cache and resident memory of gpubridge.
#![forbid(unsafe_code)]

pub mod pool;
mod registry;

pub use registry::{AUTO, BACKEND_VARIABLE, BackendDevices, BackendRegistry, Selection};
