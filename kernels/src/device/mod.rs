//! What a device that runs Rust is made of, beside its half of the ring: its kernels by slot, and the rules of commands.
//!
//! [`KernelTable`] is where [`Device::compile`] puts a kernel, [`KernelCopy`] what a ring thread reads of it.
//! [`Executor`] executes the commands of one lane over a [`DeviceMemory`]: it keeps the allocation table and checks
//! slot, generation, owner and bounds, whatever the host has checked. Those checks are [`Rules`], for a device whose
//! commands the host looks up and something else executes. [`Chunks`] find memory by address. [`Control`] tells whoever serves a ring which [`Phase`] it
//! shall be in.
//!
//! [`Device::compile`]: gpubridge_abstractions::Device::compile

mod chunks;
mod control;
mod executor;
mod kernels;
mod memory;
mod rules;
#[cfg(test)]
mod tests;

pub use chunks::{Chunk, Chunks, LaneChunks};
pub use control::{Control, Phase};
pub use executor::{Call, Executor, Task, Zeroing};
pub use kernels::{Compiled, KernelCopy, KernelTable};
#[cfg(test)]
pub(crate) use memory::BLOCK_ALIGNMENT;
pub use memory::{Block, DeviceMemory, Extent};
pub use rules::{Action, Part, Rules, Run};
