//! Devices and their memory.

use std::collections::HashSet;
use std::thread;

use gpubridge_abstractions::{
    Backend, DeviceBuffer, DeviceIndex, DeviceKind, DeviceSlot, DeviceStatus, ErrorKind, MemoryType, RingConfig, Status,
};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use gpubridge_kernels::KernelLibrary;

use crate::bench::{Bench, GRAIN, SMALL, open};

fn backend() -> CpuBackend {
    CpuBackend::new(KernelLibrary::empty())
}

#[test]
fn the_report_holds_true_figures() {
    let devices = backend().devices().unwrap();
    let [info] = &devices[..] else { panic!("one processor is one device: {devices:?}") };
    assert_eq!((info.kind, info.index, info.status), (DeviceKind::Cpu, DeviceIndex(0), DeviceStatus::Available));
    assert_eq!(info.compute_units as usize, thread::available_parallelism().unwrap().get());
    assert_eq!(info.architecture, std::env::consts::ARCH);
    assert!(!info.name.is_empty() && !info.id.is_empty() && !info.vendor.is_empty(), "{info:?}");
    assert!(0 < info.available_memory_bytes && info.available_memory_bytes <= info.total_memory_bytes, "{info:?}");
    assert!(info.capabilities.compute && info.capabilities.persistent_kernel);
    assert_eq!(backend().open(DeviceIndex(0)).unwrap().info().id, info.id);
    assert_eq!(backend().open(DeviceIndex(1)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_is_the_machines() {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert_eq!(backend().devices().unwrap()[0].total_memory_bytes, kib * 1024);
}

fn holds_what_is_written(size_bytes: u64, memory_type: MemoryType) {
    let mut bench = Bench::new(KernelLibrary::empty(), SMALL);
    let buffer = bench.device.reserve(size_bytes, memory_type).unwrap();
    assert_eq!((buffer.size_bytes(), buffer.memory_type()), (size_bytes, memory_type));
    assert!(buffer.address() != 0 && buffer.address().is_multiple_of(256));
    let slot = DeviceSlot { index: 0, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), size_bytes, 0), Status::Ok);
    let pattern: Vec<u8> = (0..1024_u32).map(|i| (i * 31 + 7) as u8).collect();
    for offset in [0, size_bytes / 2, size_bytes - 1024] {
        assert_eq!(bench.lane.write(slot, offset, &pattern), Status::Ok);
    }
    for offset in [0, size_bytes / 2, size_bytes - 1024] {
        let mut read = [0; 1024];
        assert_eq!(bench.lane.read(slot, offset, &mut read), Status::Ok);
        assert_eq!(read[..], pattern[..]);
    }
}

#[test]
fn device_memory_of_a_megabyte() {
    holds_what_is_written(1 << 20, MemoryType::Default);
}

#[test]
fn host_visible_memory_of_four_kilobytes() {
    holds_what_is_written(4096, MemoryType::Shared);
}

#[test]
fn a_large_piece_of_memory() {
    let total = backend().devices().unwrap()[0].total_memory_bytes;
    holds_what_is_written((512 << 20).min(total / 4), MemoryType::Default);
}

#[test]
fn fifty_reservations_at_once_are_apart() {
    let device = open(KernelLibrary::empty(), CpuConfig::default());
    let reserve = || device.reserve(16 << 10, MemoryType::Default).unwrap();
    let buffers: Vec<Box<dyn DeviceBuffer>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(reserve)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = buffers.iter().map(|buffer| buffer.address()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 50);
    assert!(addresses.windows(2).all(|pair| pair[0] + (16 << 10) <= pair[1]));
}

#[test]
fn memory_that_cannot_be_is_refused() {
    let device = open(KernelLibrary::empty(), CpuConfig::default());
    for memory_type in MemoryType::ALL {
        let reserved = device.reserve(4096, memory_type);
        match reserved {
            Ok(buffer) => assert_eq!(buffer.memory_type(), memory_type),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
        let supported = device.info().capabilities.supports_memory(memory_type);
        assert_eq!(supported, matches!(memory_type, MemoryType::Default | MemoryType::Shared), "{memory_type}");
        assert_eq!(device.reserve(4096, memory_type).is_ok(), supported, "{memory_type}");
    }
    assert_eq!(device.reserve(0, MemoryType::Default).unwrap_err().kind(), ErrorKind::InvalidArgument);
    for size_bytes in [1 << 62, u64::MAX] {
        let error = device.reserve(size_bytes, MemoryType::Default).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.message().contains(&size_bytes.to_string()), "{error}");
    }
}

#[test]
fn a_ring_that_cannot_be_is_refused() {
    let device = open(KernelLibrary::empty(), CpuConfig::default());
    for config in [
        RingConfig { lanes: 0, ..SMALL },
        RingConfig { slots: 3, ..SMALL },
        RingConfig { staging_bytes: 100, ..SMALL },
        RingConfig { allocations: 0, ..SMALL },
    ] {
        assert_eq!(device.launch(config).unwrap_err().kind(), ErrorKind::InvalidArgument, "{config:?}");
    }
}

#[test]
fn dropped_memory_is_reached_no_more() {
    let mut bench = Bench::new(KernelLibrary::empty(), SMALL);
    let (buffer, slot) = bench.bound(0, 4096);
    let address = buffer.address();
    assert_eq!(bench.lane.bind(GRAIN, slot, address, 0, 0), Status::Ok);
    drop(buffer);
    assert_eq!(bench.lane.bind(GRAIN, slot, address, 4096, 0), Status::InvalidArgument);
}
