//! What a device reports of itself, without being opened.

use std::env;

use gpubridge_abstractions::{Capabilities, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, MemoryType};

use crate::backend::CudaConfig;
use crate::driver::{DeviceAttribute as Attribute, DeviceHandle, Driver};
use crate::gpu::Gpu;

/// The report of the device with this number, as it is used, for a library that has kernels, or has none.
pub(crate) fn device_info(
    driver: Driver,
    ordinal: u32,
    config: CudaConfig,
    has_kernels: bool,
) -> Result<DeviceInfo, Error> {
    let device = driver.device(ordinal)?;
    let attribute = |attribute| device.attribute(attribute);
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let total_memory_bytes = device.total_memory_bytes()?;
    let mut capabilities = Capabilities::default().with_memory_types(&[MemoryType::Default, MemoryType::Pinned]);
    capabilities.persistent_kernel = true;
    capabilities.compute = has_kernels;
    capabilities.bulk_staging = config.has_bulk_staging();
    let [available_memory_bytes, deferred_memory_bytes] =
        Gpu::if_open(ordinal).map_or([total_memory_bytes, 0], |gpu| gpu.available_and_deferred_bytes());
    let uuid = device.uuid()?;
    Ok(DeviceInfo {
        id: format!("cuda:{}", uuid_text(uuid)),
        uuid: Some(uuid),
        index: DeviceIndex(ordinal),
        name: device.name()?,
        kind: DeviceKind::Gpu,
        vendor: "NVIDIA".to_owned(),
        architecture: format!("compute capability {major}.{minor}"),
        total_memory_bytes,
        available_memory_bytes,
        deferred_memory_bytes,
        compute_units: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        clock_mhz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).unwrap_or(0) / 1000,
        max_threads_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        max_work_group: [
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?,
        ],
        warp_size: attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        capabilities,
        status: match why_unusable(device, config)? {
            _ if Gpu::is_lost(ordinal) => DeviceStatus::Lost,
            Some(_) => DeviceStatus::Unavailable,
            None => DeviceStatus::Available,
        },
    })
}

/// What keeps a ring from running on the device, as it is used, with what to do about it.
pub(crate) fn why_unusable(device: DeviceHandle, config: CudaConfig) -> Result<Option<&'static str>, Error> {
    let has = |attribute| device.attribute(attribute).map(|value| value != 0);
    let major = device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    if (major, minor) < (7, 5) {
        return Ok(Some("its compute capability is below 7.5, for which the kernels are made: use a later device"));
    }
    if has(Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)? {
        return Ok(Some("it ends kernels that run for long, as one does that drives a display: use another device"));
    }
    if !has(Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY)? {
        return Ok(Some("it cannot map host memory"));
    }
    if !has(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? {
        return Ok(Some("it cannot promise that all blocks of a kernel run at once"));
    }
    if config.max_commands.is_none() && env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value != "0") {
        let why = "CUDA_LAUNCH_BLOCKING is set, under which the launch of a ring never returns: unset it, or set \
                   CudaConfig::max_commands or GPUBRIDGE_CUDA_MAX_COMMANDS";
        return Ok(Some(why));
    }
    // CU_COMPUTEMODE_PROHIBITED.
    if device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)? == 2 {
        return Ok(Some("its compute mode is `prohibited`: change it with nvidia-smi"));
    }
    Ok(None)
}

fn uuid_text(uuid: [u8; 16]) -> String {
    uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}
