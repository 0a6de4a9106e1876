//! What the CPU reports of itself.

use std::sync::Arc;
use std::thread;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, DeviceKind, MemoryType};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use gpubridge_kernels::{KernelLibrary, library};

pub fn open(library: KernelLibrary) -> Arc<dyn Device> {
    open_with(library, CpuConfig::default())
}

pub fn open_with(library: KernelLibrary, config: CpuConfig) -> Arc<dyn Device> {
    CpuBackend::new(library).with_config(config).open(DeviceIndex(0)).unwrap()
}

#[test]
fn the_report_is_the_processors() {
    let devices = CpuBackend::new(library()).devices().unwrap();
    let [info] = &devices[..] else { panic!("one processor is one device: {devices:?}") };
    assert_eq!(info.kind, DeviceKind::Cpu);
    assert_eq!(info.compute_units as usize, thread::available_parallelism().unwrap().get());
    assert_eq!(info.architecture, std::env::consts::ARCH);
    assert!(info.capabilities.compute && info.capabilities.persistent_kernel);
    for memory_type in MemoryType::ALL {
        let is_there = matches!(memory_type, MemoryType::Default | MemoryType::Shared);
        assert_eq!(info.capabilities.supports_memory(memory_type), is_there, "{memory_type}");
    }
}

#[test]
fn without_kernels_it_does_not_claim_to_compute() {
    let device = open(KernelLibrary::empty());
    assert!(!device.info().capabilities.compute && device.kernels().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_is_the_machines() {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert_eq!(CpuBackend::new(library()).devices().unwrap()[0].total_memory_bytes, kib * 1024);
}
