//! What a device reports of itself, without being opened.

use ash::vk;
use gpubridge_abstractions::{Capabilities, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, MemoryType};

use crate::gpu::Physical;

/// The memory types that a device honours.
pub(crate) const MEMORY_TYPES: [MemoryType; 2] = [MemoryType::Default, MemoryType::Pinned];

/// The report of a device at this place of the list, for a library that has kernels, or has none.
pub(crate) fn device_info(device: &Physical, index: u32, has_kernels: bool) -> DeviceInfo {
    let properties = &device.properties;
    let mut capabilities = Capabilities::default().with_memory_types(&MEMORY_TYPES);
    capabilities.compute = has_kernels;
    let total_memory_bytes = device.memory.memory_heaps[device.device_heap()].size;
    let version = properties.api_version;
    let name = properties.device_name_as_c_str().map_or_else(|_| "unnamed".into(), |name| name.to_string_lossy());
    DeviceInfo {
        id: format!("vulkan:{}", device.uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        uuid: Some(device.uuid),
        index: DeviceIndex(index),
        name: name.into_owned(),
        kind: if device.is_processor() { DeviceKind::Cpu } else { DeviceKind::Gpu },
        vendor: vendor(properties.vendor_id),
        architecture: format!("Vulkan {}.{}", vk::api_version_major(version), vk::api_version_minor(version)),
        total_memory_bytes,
        available_memory_bytes: total_memory_bytes,
        deferred_memory_bytes: 0,
        // Vulkan does not say how many there are.
        compute_units: 1,
        clock_mhz: 0,
        max_threads_per_block: properties.limits.max_compute_work_group_invocations,
        max_work_group: properties.limits.max_compute_work_group_size,
        warp_size: device.subgroup_size,
        capabilities,
        status: if device.lacks().is_none() { DeviceStatus::Available } else { DeviceStatus::Unavailable },
    }
}

fn vendor(id: u32) -> String {
    match id {
        0x1002 => "AMD".to_owned(),
        0x106b => "Apple".to_owned(),
        0x10de => "NVIDIA".to_owned(),
        0x13b5 => "Arm".to_owned(),
        0x5143 => "Qualcomm".to_owned(),
        0x8086 => "Intel".to_owned(),
        0x10005 => "Mesa".to_owned(),
        other => format!("vendor {other:#x}"),
    }
}
