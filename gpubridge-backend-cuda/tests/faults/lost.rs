//! A device that stops answering in mid-run: everybody is told, nothing waits, and the driver is left alone from then on.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, BufferUse, Device, DeviceIndex, DeviceSlot, DeviceStatus, ElementType, ErrorKind, KernelDeclaration,
    KernelId, KernelSpec, MemoryType, Placement, RingConfig, Scalars, Status, SubmitError, Taken, Ticket, Tolerance,
};
use gpubridge_backend_cuda::CudaBackend;
use gpubridge_kernels::cuda::CudaKernel;
use gpubridge_kernels::{Kernel, library};
use ringkernel_tests::lane::{Bench, GRAIN, bind, compute, echo};

use crate::device::{Gate, MIB, SOON, backend, calls, eventually, impatient, refused, try_open};
use crate::program::{Case, End};

/// A case whose fault comes when everything is set up, however long that takes, with a gate before what is beside the ring.
macro_rules! gated {
    ($fault:literal) => {
        concat!("trace={folder}/trace,armed={folder}/armed,gate=gpubridge_beside_grid:{folder}/gate,", $fault)
    };
}

pub const CASES: &[Case] = &[
    Case::new("lost::a_call_of_the_driver_says_so", gated!("fail=cuStreamQuery:400:719"), told),
    Case::new("lost::the_kernel_faults", gated!("lose=400000:700"), told),
    Case { leaves_kernel: true, ..Case::new("lost::the_heart_stops", gated!("freeze=400000"), told_by_the_heart) },
    Case::new("lost::a_launch_beside_faults", gated!("fail=cuLaunchKernel:1:719"), told),
    Case::new("lost::a_launch_beside_is_refused", gated!("fail=cuLaunchKernel:1:701"), told),
    Case::new(
        "lost::the_end_of_a_launch_beside_is_refused",
        "trace={folder}/trace,armed={folder}/armed,fail=cuLaunchKernel:2:701",
        told_without_a_gate,
    ),
    Case::new("lost::a_users_kernel_goes_astray", "", by_a_kernel),
    Case::new("lost::an_assertion_of_the_device", "fail=cuMemsetD8Async:3:710", at_a_reserve),
    Case::new("lost::an_uncorrectable_link", "fail=cuMemsetD8Async:3:220", at_a_reserve),
];

/// What is said of a device that is lost.
const ADVICE: &[&str] = &["restart the process"];

fn told(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let told = lose(folder, &backend(), || gate.close());
    drop(gate);
    told
}

/// The limit is long enough for a kernel that is slow while all is set up.
fn told_by_the_heart(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let told = lose(folder, &impatient(Duration::from_secs(2)), || gate.close());
    drop(gate);
    told
}

fn told_without_a_gate(folder: &Path) -> End {
    lose(folder, &backend(), || ())
}

fn lose(folder: &Path, backend: &CudaBackend, when_open: impl FnOnce()) -> End {
    let device = backend.open(DeviceIndex(0)).expect("the device opens");
    let config = RingConfig { lanes: 2, slots: 16, staging_bytes: 256, allocations: 64 };
    let mut bench = Bench::new(device, config);
    let other = bench.device.launch(config).expect("there is room for another ring");
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    when_open();
    File::create(folder.join("armed")).expect("the fault is armed");
    // Beside the ring, and one behind it: never answered by the device.
    let zeroing = bind(GRAIN, DeviceSlot { index: 0, generation: 1 }, buffer.address(), MIB, MIB);
    // The device may be lost before either is submitted.
    let beside = bench.lane.try_submit(&zeroing, &[]).ok();
    let behind = bench.lane.try_submit(&echo(GRAIN, 1), &[]).ok();
    submit_until_stopped(&mut bench);
    for mut ticket in beside.into_iter().chain(behind) {
        let Taken::Ready(answer) = bench.lane.look(&mut ticket) else { panic!("every pending call is answered") };
        assert_eq!(answer.status, Status::DeviceLost);
    }
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
    eventually("the other ring is lost too", || {
        other.activate(Duration::ZERO).is_err_and(|error| error.kind() == ErrorKind::DeviceLost)
    });
    for ring in [&bench.ring, &other] {
        refused(ring.activate(SOON), ErrorKind::DeviceLost, ADVICE);
        refused(ring.deactivate(SOON), ErrorKind::DeviceLost, ADVICE);
        ring.terminate(SOON).expect("there is nothing to wait for");
    }
    refused(bench.device.reserve(MIB, MemoryType::Default), ErrorKind::DeviceLost, ADVICE);
    refused(bench.device.reserve(100 * MIB, MemoryType::Pinned), ErrorKind::DeviceLost, ADVICE);
    refused(bench.device.launch(config), ErrorKind::DeviceLost, ADVICE);
    refused(try_open(), ErrorKind::DeviceLost, ADVICE);
    let before = calls(folder).len();
    drop((buffer, other, bench));
    assert_eq!(calls(folder)[before..], [], "calls of the driver after the device was lost");
    stays_lost();
    End::Passed
}

/// Goal: a kernel of a user's that writes where no memory is loses the device, and every call is answered. Method: the kernel of the
/// fault drill, among echoes of another grain.
fn by_a_kernel(_: &Path) -> End {
    const NOWHERE: u64 = 0x1000;
    let declaration = KernelDeclaration {
        id: KernelId::FIRST_USER,
        name: "astray",
        summary: "writes where its caller says",
        elements: &[ElementType::U32],
        buffers: [BufferUse::None; 3],
        scalars: &["address"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: Placement::InRing,
        check: |_| Ok(()),
        work: |_| 1,
        tolerance: Tolerance::Exact,
        targets: &["cuda"],
    };
    let mut kernels = library();
    let source = include_str!("../../examples/gpu/astray.cu");
    kernels.register(Kernel::from_cuda(declaration, CudaKernel::from_source(source))).expect("its number is free");
    let device = CudaBackend::new(kernels).open(DeviceIndex(0)).expect("the device opens");
    let config = RingConfig { lanes: 2, slots: 16, staging_bytes: 256, allocations: 64 };
    let spec = KernelSpec::new(KernelId::FIRST_USER).of(ElementType::U32);
    let mut bench = Bench::with_kernels(device, config, &[spec]);
    let astray = compute(0, [DeviceSlot::NONE; 3], 1, Scalars([NOWHERE, 0, 0]));
    let mut ticket = bench.lane.try_submit(&astray, &[]).expect("the lane has room");
    submit_until_stopped(&mut bench);
    let Taken::Ready(answer) = bench.lane.look(&mut ticket) else { panic!("every pending call is answered") };
    assert_eq!(answer.status, Status::DeviceLost);
    refused(try_open(), ErrorKind::DeviceLost, ADVICE);
    End::Passed
}

/// Submits echoes until the lane refuses them; each is answered, and in order until the first that is lost.
fn submit_until_stopped(bench: &mut Bench) {
    let mut flying: Vec<(Ticket, u64)> = Vec::new();
    let mut number = 0;
    eventually("submissions are refused", || {
        let command = echo(GRAIN + 1, number);
        match bench.lane.try_submit(&command, &[]) {
            Ok(ticket) => {
                flying.push((ticket, number));
                number += 1;
            }
            Err(SubmitError::Stopped) => return true,
            Err(error) => assert_eq!(error, SubmitError::Full),
        }
        flying.retain_mut(|(ticket, number)| match bench.lane.look(ticket) {
            Taken::Ready(answer) if answer.status == Status::Ok => {
                assert_eq!(answer.payload, [*number; 7]);
                false
            }
            // Between this look and the submission before it.
            Taken::Ready(answer) => {
                assert_eq!(answer.status, Status::DeviceLost);
                false
            }
            Taken::Pending => true,
            Taken::Gone => panic!("an answer is gone"),
        });
        false
    });
    for (mut ticket, _) in flying {
        eventually("what flew is answered", || match bench.lane.look(&mut ticket) {
            Taken::Ready(answer) => {
                assert!(matches!(answer.status, Status::Ok | Status::DeviceLost), "{:?}", answer.status);
                true
            }
            _ => false,
        });
    }
}

/// Once nothing is left of the device, it does not open all the same, and is listed as what it is.
fn stays_lost() {
    refused(try_open(), ErrorKind::DeviceLost, ADVICE);
    let devices = backend().devices().expect("devices are listed");
    assert_eq!(devices[0].status, DeviceStatus::Lost);
}

/// The third time that memory is zeroed; the first is at the opening.
fn at_a_reserve(_: &Path) -> End {
    let device = try_open().expect("the device opens");
    let reserve = |device: &dyn Device| device.reserve(MIB, MemoryType::Default);
    reserve(&*device).expect("there is memory");
    refused(reserve(&*device), ErrorKind::DeviceLost, ADVICE);
    refused(reserve(&*device), ErrorKind::DeviceLost, ADVICE);
    drop(device);
    stays_lost();
    End::Passed
}
