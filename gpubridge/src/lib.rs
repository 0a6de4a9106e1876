//! Actors whose state lives in GPU memory.
//!
//! This crate is the front door: it names what the other crates offer and knows which backends were built in. A feature
//! makes a backend available and changes nothing else; the choice is made at run time.
//!
//! ```
//! use std::sync::Arc;
//!
//! use gpubridge::grains::storage::MemoryStorage;
//! use gpubridge::grains::{Silo, SiloConfig, wait};
//! use gpubridge::kernels::id::SUM;
//! use gpubridge::{MemoryType, Parameters, backends};
//!
//! let selection = backends(gpubridge::kernels::library()).select(None, None)?;
//! println!("{}", selection.reason);
//! let silo = wait(Silo::start(selection.open()?, Arc::new(MemoryStorage::new()), SiloConfig::default()))?;
//!
//! let grain = silo.grain("sensor-7")?;
//! let block = wait(grain.allocate(4 * 4, MemoryType::Default))?;
//! grain.write(block, &[1.0_f32, 2.0, 3.0, 4.0], 0).wait()?;
//! let sum = grain.compute(SUM, Some(block), None, Parameters::new()).wait()?;
//! assert_eq!(sum.result.f32_at(0), Some(10.0));
//!
//! assert!(wait(silo.shutdown(std::time::Duration::from_secs(10))).is_clean());
//! # Ok::<(), gpubridge::Error>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "program")]
#[doc(hidden)]
pub mod figures;

use std::sync::Arc;

pub use gpubridge_abstractions::*;
pub use {gpubridge_grains as grains, gpubridge_kernels as kernels, gpubridge_runtime as runtime};

/// What a program that uses CUDA may have its process do, at its beginning and at its end: see each of them. The `gpubridge` program
/// does all of it.
#[cfg(feature = "cuda")]
pub mod cuda {
    pub use gpubridge_backend_cuda::{end_process_when_lost, exit, loads_eagerly, request_eager_loading};
}

/// The backends that were built in, each with the kernels of `library`, in a registry that chooses among them.
pub fn backends(library: kernels::KernelLibrary) -> runtime::BackendRegistry {
    type Make = fn(&kernels::KernelLibrary) -> Arc<dyn Backend>;
    let built_in: &[Make] = &[
        #[cfg(feature = "cuda")]
        |library| Arc::new(gpubridge_backend_cuda::CudaBackend::new(library.clone())),
        #[cfg(feature = "vulkan")]
        |library| Arc::new(gpubridge_backend_vulkan::VulkanBackend::new(library.clone())),
        #[cfg(feature = "cpu")]
        |library| Arc::new(gpubridge_backend_cpu::CpuBackend::new(library.clone())),
    ];
    let mut registry = runtime::BackendRegistry::new();
    for make in built_in {
        registry.register(make(&library)).expect("the built-in backends have names of their own");
    }
    registry
}

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The same of the guide to backends.
#[cfg(doctest)]
#[doc = include_str!("../../docs/backend-guide.md")]
struct BackendGuide;
