//! A device of the driver's, and what is made of it. All that is unsafe is done in this folder.
#![expect(unsafe_code, reason = "each of the driver's functions is unsafe to call")]

mod commands;
mod device;
mod instance;
mod memory;
mod pipelines;

pub(crate) use commands::{Buffers, Slot};
pub(crate) use device::{Flight, Gpu};
pub(crate) use instance::{Instance, Loader, Physical};
pub(crate) use memory::{Allocation, Use};
pub(crate) use pipelines::{Pipelines, Program};

use ash::vk;
use gpubridge_abstractions::{Error, ErrorKind};

/// What a call of the driver's came to, as an error of the `operation` that made it.
pub(crate) fn failed(operation: &'static str, what: &str, result: vk::Result) -> Error {
    let kind = match result {
        vk::Result::ERROR_OUT_OF_DEVICE_MEMORY
        | vk::Result::ERROR_OUT_OF_HOST_MEMORY
        | vk::Result::ERROR_TOO_MANY_OBJECTS
        | vk::Result::ERROR_FRAGMENTATION => ErrorKind::OutOfMemory,
        vk::Result::ERROR_DEVICE_LOST => ErrorKind::DeviceLost,
        vk::Result::ERROR_INITIALIZATION_FAILED
        | vk::Result::ERROR_INCOMPATIBLE_DRIVER
        | vk::Result::ERROR_FEATURE_NOT_PRESENT
        | vk::Result::ERROR_EXTENSION_NOT_PRESENT
        | vk::Result::ERROR_LAYER_NOT_PRESENT => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    };
    Error::new(kind, operation, format!("{what}: the driver says {result:?}")).with_source(result)
}
