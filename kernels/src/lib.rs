//! The ring (layout and both halves) and the kernel library of gpubridge, each kernel with its CPU twin.
#![forbid(unsafe_code)]

mod element;
mod kernel;
mod library;
pub mod ring;

pub use element::{Element, Elements};
pub use kernel::{Answer, CompileCpu, CpuKernel, Invocation, Kernel, KernelLibrary, Twin};
pub use library::{id, library};
