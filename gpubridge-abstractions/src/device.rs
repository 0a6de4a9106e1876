//! Backends and devices: the control plane that a backend author implements.

use std::fmt;
use std::sync::Arc;

use crate::{DeviceBuffer, DeviceIndex, Error, KernelDeclaration, KernelSpec, MemoryType, Ring, RingConfig};

/// The kind of a device. A backend says what it is; nobody asks for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The host's own processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// Nothing that computes: answers, but runs no kernel.
    Null,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Null => "null",
        })
    }
}

/// Whether a device can be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceStatus {
    /// It can be opened.
    Available,
    /// It is there but cannot be opened now.
    Unavailable,
    /// It stopped answering.
    Lost,
}

/// What a device can do beyond copying and running its declared kernels. The suite and the grains read these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Commands are consumed by a kernel that never ends, not by launches.
    pub persistent_kernel: bool,
    /// Runs kernels at all.
    pub compute: bool,
    /// One bit per [`MemoryType`], by its number, that the device honours.
    pub memory_types: u8,
}

impl Capabilities {
    /// Whether allocations of this type can be had.
    pub fn supports_memory(&self, memory_type: MemoryType) -> bool {
        self.memory_types >> (memory_type as u8) & 1 == 1
    }

    /// The same with these memory types.
    #[must_use]
    pub fn with_memory_types(mut self, types: &[MemoryType]) -> Self {
        self.memory_types = types.iter().fold(0, |bits, &memory_type| bits | 1 << memory_type as u8);
        self
    }
}

/// What a device reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Unique among the devices of the machine, stable across restarts (for example `cpu:0`).
    pub id: String,
    /// Its index within its backend.
    pub index: DeviceIndex,
    /// Its name as its maker gives it.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Its maker.
    pub vendor: String,
    /// Its architecture (instruction set, compute capability).
    pub architecture: String,
    /// All of its memory, in bytes.
    pub total_memory_bytes: u64,
    /// The part that is free now, in bytes.
    pub available_memory_bytes: u64,
    /// Cores or multiprocessors that this process may use.
    pub compute_units: u32,
    /// Clock in MHz; 0 when the device does not say.
    pub clock_mhz: u32,
    /// The most threads in a block.
    pub max_threads_per_block: u32,
    /// The largest work group per dimension.
    pub max_work_group: [u32; 3],
    /// Threads that run in step.
    pub warp_size: u32,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether it can be opened.
    pub status: DeviceStatus,
}

/// A way to reach devices: one device API each. The registry asks backends in order of preference.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The name by which it is chosen (`cpu`, `cuda`, `vulkan`), lower case.
    fn name(&self) -> &str;

    /// The devices there are, without opening any.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot work here at all; the message says what is missing.
    fn devices(&self) -> Result<Vec<DeviceInfo>, Error>;

    /// Opens a device.
    ///
    /// # Errors
    /// `NotFound` when there is no such device; otherwise what kept it from opening.
    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error>;
}

/// An open device: memory in large pieces, kernels by slot, and rings.
pub trait Device: Send + Sync + fmt::Debug {
    /// What it reports of itself, with the memory available now.
    fn info(&self) -> DeviceInfo;

    /// Reserves `size_bytes` of memory from the driver. Slow: the runtime calls it for large chunks only.
    ///
    /// # Behavior
    /// 1. The address is a multiple of 256 and the memory is reachable by every ring of the device.
    /// 2. Dropping the buffer gives the memory back.
    ///
    /// # Errors
    /// `Unsupported` for a memory type the device does not honour; `OutOfMemory` with requested and available bytes;
    /// `InvalidArgument` for 0 bytes.
    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error>;

    /// The kernels that this device can run.
    fn kernels(&self) -> &[KernelDeclaration];

    /// Compiles `spec` into kernel slot `slot`, replacing what was there. Commands submitted after it returns use the
    /// new kernel.
    ///
    /// # Errors
    /// `NotFound` for an unknown kernel; `Unsupported` when it has no variant for this device, naming those there are;
    /// `KernelBuild` with the compiler's text. The slot is unchanged then.
    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error>;

    /// Launches a ring kernel, inactive.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that cannot be; `OutOfMemory`; `Unsupported`.
    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error>;
}
