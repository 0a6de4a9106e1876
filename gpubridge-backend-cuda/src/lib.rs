//! The CUDA backend: a kernel that never ends reads what the ring brings, and executes it over resident memory.
//!
//! Nothing but NVIDIA's driver is needed, at run time only. Without one everything builds, and [`CudaBackend`] says what is
//! missing. The kernels are PTX, made from `kernels/cuda`, which the driver compiles for its device.
//!
//! ```
//! use gpubridge_abstractions::Backend;
//! use gpubridge_backend_cuda::CudaBackend;
//! use gpubridge_kernels::library;
//!
//! match CudaBackend::new(library()).devices() {
//!     Ok(devices) => println!("{} devices", devices.len()),
//!     Err(error) => println!("{error}"),
//! }
//! ```

mod arena;
mod attendant;
mod backend;
mod bulk;
mod care;
mod driver;
mod gpu;
mod heap;
mod kernels;
mod parameters;
mod posted;
#[cfg(feature = "probe")]
pub mod probe;
mod process;
mod program;
mod report;
mod results;
mod ring;
mod side;
mod stub;
mod submit;
mod users;
mod words;

pub use backend::{CudaBackend, CudaConfig};
pub use process::{end_process_when_lost, exit, loads_eagerly, request_eager_loading};
