//! Memory: types, handles, and the trait by which a device lends its memory in large pieces.

use std::fmt;
use std::time::SystemTime;

use crate::{AllocationId, DeviceIndex};

/// The kind of memory an allocation lives in. A type that a device cannot honour is an error, never a substitute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemoryType {
    /// Device-local memory.
    #[default]
    Default = 0,
    /// Page-locked host memory that the device can address.
    Pinned = 1,
    /// Memory that host and device both address.
    Shared = 2,
    /// Memory bound to texture units.
    Texture = 3,
    /// Memory bound to constant caches.
    Constant = 4,
}

impl MemoryType {
    /// All types, in the order of their numbers.
    pub const ALL: [MemoryType; 5] = [Self::Default, Self::Pinned, Self::Shared, Self::Texture, Self::Constant];

    /// The type with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Pinned => "pinned",
            Self::Shared => "shared",
            Self::Texture => "texture",
            Self::Constant => "constant",
        })
    }
}

/// Names one allocation of a grain. Plain data: it may be copied, kept and sent; it stays valid through deactivation
/// and restart, and is refused, never misread, once the allocation is released or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GpuMemoryHandle {
    /// Names the allocation among all that its owner ever had.
    pub id: AllocationId,
    /// The size asked for, in bytes.
    pub size_bytes: u64,
    /// The kind of memory.
    pub memory_type: MemoryType,
    /// The device that holds it.
    pub device_index: DeviceIndex,
    /// When it was allocated.
    pub allocated_at: SystemTime,
}

/// The state of a device's memory as one grain's device reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuMemoryInfo {
    /// The budget: the most that may be reserved from the device, in bytes.
    pub total_bytes: u64,
    /// Bytes in live and idle blocks.
    pub allocated_bytes: u64,
    /// Bytes of the budget that are not allocated.
    pub free_bytes: u64,
    /// Bytes reserved from the device's driver.
    pub reserved_bytes: u64,
    /// Bytes that the rings themselves occupy (slots, completions, control words).
    pub ring_kernel_bytes: u64,
    /// Bytes of staging buffers.
    pub buffer_bytes: u64,
    /// Part of the reserved memory that is free but not in one piece: 1 − largest free piece / free bytes; 0 when
    /// nothing is free.
    pub fragmentation: f64,
    /// Bytes in live blocks / `total_bytes`.
    pub utilization: f64,
    /// The device.
    pub device_index: DeviceIndex,
    /// Its name.
    pub device_name: String,
    /// When this was read.
    pub timestamp: SystemTime,
}

/// A piece of device memory, reserved from the driver. Dropping it gives it back.
///
/// The host never touches the bytes: they are reached by commands on the ring alone. Unbind its slots before dropping it.
///
/// # Behavior
/// - **dropped**: The address of a dropped buffer cannot be bound until it is given out again.
pub trait DeviceBuffer: Send + Sync + fmt::Debug {
    /// The device address of the first byte, a multiple of 256.
    fn address(&self) -> u64;
    /// Its size in bytes.
    fn size_bytes(&self) -> u64;
    /// The kind of memory.
    fn memory_type(&self) -> MemoryType;
}
