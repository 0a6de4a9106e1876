//! Commands that are posted to the device's memory, and what becomes of them where that is not to be had.

use std::path::Path;
use std::sync::Arc;

use gpubridge_abstractions::{Backend, DeviceIndex, ErrorKind, Opcode, RingConfig, Status};
use gpubridge_backend_cuda::CudaConfig;
use ringkernel_tests::lane::{Bench, Driver, GRAIN, echo, transfer};

use crate::device::{RING, SOON, backend, calls, open, refused, try_open};
use crate::program::{Case, End};
use crate::windows;

pub const CASES: &[Case] = &[
    Case::new("posted::windows_under_load", "mapping=whole,trace={folder}/trace", windows::under_load),
    Case::new("posted::lap_for_lap", "mapping=whole,trace={folder}/trace", lap_for_lap),
    Case::new("posted::the_device_reads_its_own_memory_or_none", "mapping=lapsing", room),
    Case::new("posted::several_rings", "mapping=whole,trace={folder}/trace", several_rings),
    Case::new("posted::not_asked_for", "mapping=lapsing", not_asked_for),
    Case::new("posted::the_driver_knows_no_mapping", "", by_page_locked_memory),
    Case::new(
        "posted::the_trial_is_refused",
        "mapping=whole,fail=cuMemGetHandleForAddressRange:1:801",
        by_page_locked_memory,
    ),
    Case::new("posted::what_is_mapped_is_other_memory", "mapping=stale", by_page_locked_memory),
    Case::new("posted::the_trial_loses_the_device", "mapping=whole,fail=cuMemGetHandleForAddressRange:1:719", lost),
];

fn mappings(folder: &Path) -> usize {
    calls(folder).iter().filter(|(function, _)| function == "cuMemGetHandleForAddressRange").count()
}

/// Staged writes and the numbers that they wrote, for several laps of the lane.
fn works(bench: &mut Bench) {
    let (_buffer, slot) = bench.bound(0, 4096);
    for number in 0..u64::from(RING.slots) * 5 {
        let write = transfer(Opcode::Write, slot, number % 64 * 8, 8);
        let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ticket = bench.lane.try_submit(&write, &value.to_le_bytes()).expect("there is room");
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
        let read = transfer(Opcode::ReadInline, slot, number % 64 * 8, 8);
        assert_eq!(bench.lane.run(&read).payload[0], value);
        bench.lane.probe(value);
    }
}

/// Goal: a ring whose commands are posted does as any other.
fn lap_for_lap(folder: &Path) -> End {
    works(&mut Bench::new(open(), RING));
    assert_eq!(mappings(folder), 1);
    End::Passed
}

/// Checks that the device reads commands where they are posted, and nowhere else. The memory is no longer mapped by now, and the device
/// looks at its lanes each time that it is told to run.
fn reads_its_own_memory(bench: &mut Bench) {
    let ticket = bench.lane.submit(&echo(GRAIN, 1));
    for _ in 0..100 {
        bench.ring.deactivate(SOON).expect("it holds");
        bench.ring.activate(SOON).expect("it goes on");
    }
    assert!(!bench.lane.is_complete(&ticket));
    bench.ring.terminate(SOON).expect("it ends");
    assert_eq!(bench.lane.wait(ticket).status, Status::Cancelled);
}

/// Goal: a ring whose commands find no room in the device's memory does without, and those that follow find it again. Method: a ring
/// with more slots than there is room for, then one by one some that take half of it.
fn room(_: &Path) -> End {
    let device = open();
    works(&mut Bench::new(Arc::clone(&device), RingConfig { lanes: 3, slots: 1 << 15, ..RING }));
    for _ in 0..3 {
        reads_its_own_memory(&mut Bench::new(Arc::clone(&device), RingConfig { slots: 1 << 15, ..RING }));
    }
    End::Passed
}

/// Goal: each lane of each ring has slots of its own, and a ring that is launched beside others leaves theirs as they are.
fn several_rings(folder: &Path) -> End {
    let device = open();
    let config = RingConfig { lanes: 3, ..RING };
    let (mut rings, mut lanes) = (Vec::new(), Vec::new());
    for number in 0..3_u64 {
        let ring = device.launch(config).expect("there is room");
        ring.activate(SOON).expect("it starts");
        lanes.extend((0..config.lanes).map(|lane| Driver::take(&*ring, lane)));
        rings.push(ring);
        for round in 0..u64::from(RING.slots) * 3 {
            (0..).zip(&mut lanes).for_each(|(lane, driver)| driver.probe(number << 32 | round << 16 | lane));
        }
    }
    assert_eq!(mappings(folder), 1);
    End::Passed
}

/// Goal: who wants none gets none.
fn not_asked_for(_: &Path) -> End {
    let mut config = CudaConfig::default();
    config.posts_commands = false;
    let device = backend().with_config(config).open(DeviceIndex(0)).expect("the device opens");
    works(&mut Bench::new(device, RING));
    End::Passed
}

/// Goal: where the device's memory is not to be mapped, or what is mapped is not it, commands go by page-locked memory.
fn by_page_locked_memory(_: &Path) -> End {
    works(&mut Bench::new(open(), RING));
    End::Passed
}

/// Goal: a driver that loses the device when it is asked is no reason to go on by page-locked memory.
fn lost(_: &Path) -> End {
    refused(try_open(), ErrorKind::DeviceLost, &["restart the process"]);
    End::Passed
}
