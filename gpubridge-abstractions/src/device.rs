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
///
/// # Behavior
/// - **memory-types**: Memory of each type that is claimed can be reserved, and of no other. Every device has
///   [`MemoryType::Default`].
/// - **compute**: A device that claims to compute declares kernels, and one that does not declares none.
/// - **bulk-staging**: The rings of a device that claims it have bulk staging, and those of any other have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Commands are consumed by a kernel that never ends, not by launches.
    pub persistent_kernel: bool,
    /// Runs kernels at all.
    pub compute: bool,
    /// Its rings have chunks for large transfers: [`crate::Ring::bulk_staging`].
    pub bulk_staging: bool,
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
///
/// # Behavior
/// - **named**: Id, name, vendor and architecture are not empty.
/// - **memory**: A device has memory, no more of it is available than there is, and no more is deferred than is available.
/// - **units**: A device that computes has compute units, and runs at least one thread in each dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Unique among the devices of the machine, stable across restarts (for example `cpu:0`).
    pub id: String,
    /// What names the physical device in every API that reaches it, so that two backends' reports of one device can be told from
    /// those of two: NVIDIA's drivers give the same bytes in CUDA and Vulkan. `None` for a device that has none, or that only
    /// this backend reaches.
    pub uuid: Option<[u8; 16]>,
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
    /// What of that the backend could give back to the system whole, and keeps from other programs until it does, in bytes; 0 where
    /// releasing gives back at once.
    pub deferred_memory_bytes: u64,
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
    /// The name by which it is chosen (`cpu`, `cuda`, `vulkan`).
    ///
    /// # Behavior
    /// - **one-word**: It is not empty, and holds lower-case letters, digits and hyphens only.
    fn name(&self) -> &str;

    /// The devices there are, without opening any.
    ///
    /// # Behavior
    /// - **unique**: No two have the same id.
    /// - **in-order**: A device's index is its place in the list, counted from 0.
    /// - **stable**: Asking again gives the same devices in the same order.
    /// - **undisturbed**: Asking leaves open devices, their memory and their rings as they are.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot work here at all; the message says what is missing.
    fn devices(&self) -> Result<Vec<DeviceInfo>, Error>;

    /// Opens a device.
    ///
    /// # Behavior
    /// - **listed**: Each listed device whose status is [`DeviceStatus::Available`] opens under its index, and reports what
    ///   the list says of it.
    /// - **twice**: A device may be open several times. Each has kernel slots and rings of its own, and goes on when another
    ///   is dropped.
    /// - **unknown**: An index that is not listed is `NotFound`; the message names it.
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
    /// - **as-asked**: The buffer has the size and the memory type that were asked for.
    /// - **aligned**: Its address is a multiple of 256, and not 0.
    /// - **zeroed**: It reads as zeros, whatever the memory held before.
    /// - **apart**: No two buffers overlap, also when several threads reserve at once.
    /// - **every-ring**: Every lane of every ring of the device reaches it.
    /// - **given-back**: Dropping the buffer gives the memory back.
    /// - **no-bytes**: 0 bytes are `InvalidArgument`.
    /// - **too-large**: More than the device can give is `OutOfMemory`; the message says how many bytes were requested and
    ///   how many are available.
    /// - **no-substitute**: A memory type that the device does not honour is `Unsupported`; the message names it.
    ///
    /// # Errors
    /// `Unsupported` for a memory type the device does not honour; `OutOfMemory` with requested and available bytes;
    /// `InvalidArgument` for 0 bytes.
    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error>;

    /// The kernels that this device can run.
    ///
    /// # Behavior
    /// - **compiles**: Each of them compiles for each of its element types. Their ids and their names are unique.
    fn kernels(&self) -> &[KernelDeclaration];

    /// Compiles `spec` into kernel slot `slot`, replacing what was there. No command that names the slot is pending.
    ///
    /// # Behavior
    /// - **next-command**: Commands submitted after it returns use the new kernel, on every ring of the device.
    /// - **unknown**: A kernel that the device does not have is `NotFound`; the message names it.
    /// - **no-variant**: An element type that the kernel does not come in is `Unsupported`; the message names those it has.
    /// - **build-text**: A kernel that does not build is `KernelBuild`, with the compiler's text.
    /// - **unchanged**: A call that fails leaves the slot as it was.
    ///
    /// # Errors
    /// `NotFound` for an unknown kernel; `Unsupported` when it has no variant for this device, naming those there are;
    /// `KernelBuild` with the compiler's text.
    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error>;

    /// Launches a ring kernel, inactive.
    ///
    /// # Behavior
    /// - **as-asked**: The ring has exactly the lanes, slots, staging and allocations that were asked for.
    /// - **inactive**: It executes nothing before it is activated.
    /// - **several**: A device may have several rings at once. Each has lanes and allocation tables of its own, and none
    ///   notices the others' lifecycle.
    /// - **refused**: A configuration that [`RingConfig::check`] refuses is refused, with the limit that is missed.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that cannot be; `OutOfMemory`; `Unsupported`.
    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error>;
}
