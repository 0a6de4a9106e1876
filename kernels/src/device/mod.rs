//! What a device that runs Rust is made of, beside its half of the ring: its kernels by slot, and the rules of commands.
//!
//! [`KernelTable`] is where [`Device::compile`] puts a kernel, [`KernelCopy`] what a ring thread reads of it.
//! [`Rules`] keep the allocation table of a lane over a [`DeviceMemory`], and check slot, generation, owner and bounds of
//! its commands, whatever the host has checked. [`Executor`] does by them what commands ask for.
//!
//! [`Device::compile`]: gpubridge_abstractions::Device::compile

mod executor;
mod kernels;
mod memory;
mod rules;
#[cfg(test)]
mod tests;

pub use executor::{Call, Executor, Task, Zeroing};
pub use kernels::{Compiled, KernelCopy, KernelTable};
#[cfg(test)]
pub(crate) use memory::BLOCK_ALIGNMENT;
pub use memory::{Block, DeviceMemory, Extent};
pub use rules::{Action, Part, Rules, Run};
