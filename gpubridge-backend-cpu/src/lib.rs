//! The CPU backend: the host's own processor as a device.
//!
//! It really copies and really computes, and says that it is the CPU. Each ring is served by threads that own dequeue →
//! dispatch → complete: they spin while there is work and park when there is none. Kernels that declare themselves
//! beside the ring, and large zeroing, run on a worker thread, ordered with their grain only. For runs that shall be alike
//! each time, [`CpuConfig::served_by_callers`] does without threads.
//!
//! ```
//! use gpubridge_abstractions::{Backend, DeviceIndex};
//! use gpubridge_backend_cpu::CpuBackend;
//! use gpubridge_kernels::KernelLibrary;
//!
//! let backend = CpuBackend::new(KernelLibrary::empty());
//! let device = backend.open(DeviceIndex(0))?;
//! assert!(device.info().total_memory_bytes > 0);
//! # Ok::<(), gpubridge_abstractions::Error>(())
//! ```

mod backend;
mod callers;
mod memory;
mod report;
mod ring;
mod serve;
mod worker;

pub use backend::{CpuBackend, CpuConfig};
