//! The Vulkan backend: the same rings and kernels on any device with Vulkan 1.2, timeline semaphores and buffer device addresses.
//!
//! Vulkan promises no progress to a kernel that waits, so none lives on the device. The host's half of a ring is served by one
//! owner thread for each device: it looks commands up, gathers them in a batch, each grain's in a list of its own, and submits
//! that as one command buffer, recorded in advance, whose shader walks the lists, one workgroup each. What is work for many
//! workgroups is a batch of its own. Up to three batches are under way; one's memory is what the next one sees.
//!
//! ```no_run
//! use gpubridge_abstractions::{Backend, DeviceIndex};
//! use gpubridge_backend_vulkan::VulkanBackend;
//!
//! let backend = VulkanBackend::new(gpubridge_kernels::library());
//! for device in backend.devices()? {
//!     println!("{}: {}", device.id, device.name);
//! }
//! let device = backend.open(DeviceIndex(0))?;
//! assert!(!device.info().capabilities.persistent_kernel);
//! # Ok::<(), gpubridge_abstractions::Error>(())
//! ```

mod backend;
mod gpu;
mod heap;
mod kernels;
mod owner;
mod report;
mod ring;

pub use backend::{VulkanBackend, VulkanConfig};
