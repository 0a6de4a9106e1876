//! What keeps a device from opening, a buffer from being reserved or a ring from being launched: each an error that says what
//! to do, after which what can go on does.

use std::path::Path;

use gpubridge_abstractions::{Backend, DeviceStatus, ErrorKind, MemoryType, RingConfig};
use ringkernel_tests::lane::Bench;

use crate::device::{MIB, RING, backend, open, refused, try_open};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case { settings: None, ..Case::new("errors::no_driver", "", no_driver) },
    Case::new("errors::no_device", "devices=0", no_device),
    Case::new("errors::the_driver_does_not_start", "init=999", does_not_start),
    Case::new("errors::the_driver_does_not_fit_its_module", "init=803", driver_mismatch),
    Case::new("errors::an_old_driver", "version=11080", old_driver),
    Case::new("errors::kernels_are_timed", "timeout=1", timed_kernels),
    Case { variables: &[("CUDA_LAUNCH_BLOCKING", "1")], ..Case::new("errors::launches_block", "", launches_block) },
    Case::new("errors::ptx_too_new", "fail=cuModuleLoadData:1:222", ptx_too_new),
    Case::new("errors::no_jit_compiler", "fail=cuModuleLoadData:1:221", no_jit_compiler),
    Case::new("errors::device_busy", "fail=cuDevicePrimaryCtxRetain:1:46", device_busy),
    Case::new("errors::out_of_memory_when_opened", "fail=cuDevicePrimaryCtxRetain:1:2", out_of_memory_when_opened),
    Case::new("errors::out_of_memory", "memory=268435456", out_of_memory),
    Case::new("errors::the_last_bytes", "memory=100663296,fail=cuMemAlloc:4:2", the_last_bytes),
    // The first call is made when the device is opened.
    Case::new("errors::pinned_out_of_memory", "fail=cuMemHostAlloc:2:2", pinned_out_of_memory),
    Case::new("errors::a_launch_fails", "fail=cuLaunchCooperativeKernel:1:701", a_launch_fails),
    Case::new("errors::rings_too_many", "sms=16", rings_too_many),
];

fn no_driver(_: &Path) -> End {
    match backend().devices() {
        Ok(_) => return End::Cannot,
        // A driver without a device is no case of this.
        Err(error) if !error.to_string().contains("libcuda.so.1") => return End::Cannot,
        error => refused(error, ErrorKind::Unsupported, &["there is no CUDA driver", "install NVIDIA's driver"]),
    };
    refused(try_open(), ErrorKind::Unsupported, &["there is no CUDA driver"]);
    End::Passed
}

/// Both ways to the driver refuse alike.
fn no_way(words: &[&str]) -> End {
    refused(backend().devices(), ErrorKind::Unsupported, words);
    refused(try_open(), ErrorKind::Unsupported, words);
    End::Passed
}

fn no_device(_: &Path) -> End {
    no_way(&["finds no device", "nvidia-smi", "CUDA_VISIBLE_DEVICES"])
}

fn does_not_start(_: &Path) -> End {
    no_way(&["does not start", "CUDA_ERROR_UNKNOWN (999)", "nvidia-smi"])
}

fn driver_mismatch(_: &Path) -> End {
    no_way(&["does not start", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "nvidia-smi"])
}

fn old_driver(_: &Path) -> End {
    no_way(&["CUDA 11.8", "12.0 or later", "install a newer driver"])
}

/// The device is listed, as one that does not open.
fn unavailable(words: &[&str]) -> End {
    let devices = backend().devices().expect("devices are listed");
    assert_eq!(devices.iter().map(|device| device.status).collect::<Vec<_>>(), [DeviceStatus::Unavailable]);
    refused(try_open(), ErrorKind::Unsupported, words);
    End::Passed
}

fn timed_kernels(_: &Path) -> End {
    unavailable(&["ends kernels that run for long", "use another device"])
}

fn launches_block(_: &Path) -> End {
    unavailable(&["CUDA_LAUNCH_BLOCKING", "unset it"])
}

/// The device does not open once, and does the next time.
fn opens_later(kind: ErrorKind, words: &[&str]) -> End {
    refused(try_open(), kind, words);
    Bench::new(open(), RING).lane.probe(1);
    End::Passed
}

fn ptx_too_new(_: &Path) -> End {
    opens_later(ErrorKind::Unsupported, &["CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)", "newer driver"])
}

fn no_jit_compiler(_: &Path) -> End {
    opens_later(ErrorKind::Unsupported, &["CUDA_ERROR_JIT_COMPILER_NOT_FOUND (221)", "libnvidia-ptxjitcompiler"])
}

fn device_busy(_: &Path) -> End {
    opens_later(ErrorKind::Unsupported, &["CUDA_ERROR_DEVICE_UNAVAILABLE (46)", "another program", "nvidia-smi"])
}

fn out_of_memory_when_opened(_: &Path) -> End {
    opens_later(ErrorKind::OutOfMemory, &["CUDA_ERROR_OUT_OF_MEMORY (2)", "end other programs"])
}

/// Goal: a reserve that does not fit says the numbers, and takes nothing: neither memory nor the report of it.
fn out_of_memory(_: &Path) -> End {
    let device = open();
    let reserve = |size_bytes| device.reserve(size_bytes, MemoryType::Default);
    drop(reserve(80 * MIB).expect("it fits"));
    let before = device.info().available_memory_bytes;
    for _ in 0..3 {
        let too_much = (300 * MIB).to_string();
        let error = refused(reserve(300 * MIB), ErrorKind::OutOfMemory, &[&too_much, "bytes were asked for"]);
        assert!(error.message().contains(&before.to_string()), "what is available is {before}: {error}");
        assert_eq!(device.info().available_memory_bytes, before);
    }
    let buffers = [reserve(100 * MIB).expect("it fits"), reserve(100 * MIB).expect("it fits")];
    refused(reserve(100 * MIB), ErrorKind::OutOfMemory, &["bytes were asked for"]);
    assert_eq!(device.info().available_memory_bytes, before - 200 * MIB);
    drop(buffers);
    assert_eq!(device.info().available_memory_bytes, before);
    reserve(before / 4096 * 4096).expect("all of it fits");
    End::Passed
}

/// Goal: what is asked for is had where a large piece around it is not.
fn the_last_bytes(_: &Path) -> End {
    let device = open();
    let first = device.reserve(70 * MIB, MemoryType::Default).expect("it fits");
    // The third request of the driver's memory, a kernel's record being the first, is for all that is left.
    let second = device.reserve(MIB, MemoryType::Default).expect("it fits");
    assert_ne!(first.address(), second.address());
    End::Passed
}

fn pinned_out_of_memory(_: &Path) -> End {
    let device = open();
    let before = device.info().available_memory_bytes;
    let words = [(70 * MIB).to_string(), "page-locked".to_owned()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refused(device.reserve(70 * MIB, MemoryType::Pinned), ErrorKind::OutOfMemory, &words);
    drop(device.reserve(70 * MIB, MemoryType::Pinned).expect("it fits"));
    assert_eq!(device.info().available_memory_bytes, before, "the host's memory is none of the device's");
    End::Passed
}

fn a_launch_fails(_: &Path) -> End {
    let device = open();
    let before = device.info().available_memory_bytes;
    refused(device.launch(RING), ErrorKind::Io, &["launching a kernel", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)"]);
    assert_eq!(device.info().available_memory_bytes, before);
    Bench::new(device, RING).lane.probe(1);
    End::Passed
}

fn rings_too_many(_: &Path) -> End {
    let device = open();
    let config = RingConfig { lanes: 2, ..RING };
    let mut rings = Vec::new();
    let error = loop {
        match device.launch(config) {
            Ok(ring) => rings.push(ring),
            Err(error) => break error,
        }
        assert!(rings.len() < 1000, "rings are bounded");
    };
    let words = ["a ring of 2 blocks", "terminate another ring, or use fewer lanes"];
    refused(Err::<(), _>(error), ErrorKind::OutOfMemory, &words);
    let free = device.info().available_memory_bytes;
    refused(device.launch(config), ErrorKind::OutOfMemory, &words);
    assert_eq!(device.info().available_memory_bytes, free, "what a refused ring took is given back");
    drop(rings.pop());
    rings.push(device.launch(config).expect("there is room for one again"));
    End::Passed
}
