//! What the CPU reports of itself.

use std::num::NonZero;
use std::thread;

use gpubridge_abstractions::{
    Capabilities, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind, MemoryType,
};
use sysinfo::{Cpu, CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What the CPU can do with a library that has kernels, or has none.
pub(crate) fn capabilities(has_kernels: bool) -> Capabilities {
    let mut capabilities = Capabilities::default().with_memory_types(&[MemoryType::Default, MemoryType::Shared]);
    capabilities.persistent_kernel = true;
    capabilities.compute = has_kernels;
    capabilities
}

/// The report of a device that is opened with kernels, or with none.
///
/// # Errors
/// `Unsupported` where the operating system does not say what processor and memory there are.
pub(crate) fn device_info(has_kernels: bool) -> Result<DeviceInfo, Error> {
    let refresh = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_frequency())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh).map_err(|error| {
        let why = "the operating system does not say what processor and memory there are";
        Error::new(ErrorKind::Unsupported, "cpu.devices", why).with_source(error.to_string())
    })?;
    let first = system.cpus().first();
    let text = |of: fn(&Cpu) -> &str| first.map_or("unknown", of).trim().to_owned();
    Ok(DeviceInfo {
        id: "cpu:0".to_owned(),
        uuid: None,
        index: DeviceIndex(0),
        name: text(Cpu::brand),
        kind: DeviceKind::Cpu,
        vendor: text(Cpu::vendor_id),
        architecture: std::env::consts::ARCH.to_owned(),
        total_memory_bytes: system.total_memory(),
        available_memory_bytes: system.available_memory(),
        deferred_memory_bytes: 0,
        compute_units: cores() as u32,
        clock_mhz: first.map_or(0, |cpu| cpu.frequency() as u32),
        // A kernel's twin is one thread that walks all elements.
        max_threads_per_block: 1,
        max_work_group: [1, 1, 1],
        warp_size: 1,
        capabilities: capabilities(has_kernels),
        status: DeviceStatus::Available,
    })
}

/// The memory available now, in bytes; `None` where the operating system does not say.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory)).ok()?;
    Some(system.available_memory())
}
