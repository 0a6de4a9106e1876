//! Traits, messages, metrics, errors and ids of gpubridge, with the smallest correct backend.
#![forbid(unsafe_code)]

mod error;
mod id;
mod memory;

pub use error::{Error, ErrorKind, Result};
pub use id::{AllocationId, DeviceIndex, KernelId, RequestId};
pub use memory::{DeviceBuffer, GpuMemoryHandle, GpuMemoryInfo, MemoryType};
