//! What a backend and its devices report of themselves, and how devices open.

use std::collections::HashSet;

use gpubridge_abstractions::{
    DeviceIndex, DeviceInfo, DeviceSlot, DeviceStatus, ErrorKind, MemoryType, RingConfig, Status,
};

use crate::lane::{Bench, Driver, GRAIN, SMALL, echo};
use crate::rig::{KIB, SOON, kind, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("device",
    Memory {
        a_backends_name_is_one_word => "Backend::name/one-word",
        no_two_devices_have_one_id => "Backend::devices/unique",
        a_devices_index_is_its_place => "Backend::devices/in-order",
        the_list_stays_the_same => "Backend::devices/stable",
        asking_for_devices_disturbs_none => "Backend::devices/undisturbed",
        every_available_device_opens_as_listed => "Backend::open/listed",
        a_device_opens_twice => "Backend::open/twice",
        an_unknown_index_is_not_found => "Backend::open/unknown",
        devices_say_who_they_are => "DeviceInfo/named",
        no_more_memory_is_available_than_there_is => "DeviceInfo/memory",
        what_computes_has_units => "DeviceInfo/units",
        claimed_memory_types_are_honoured_and_no_others => "Capabilities/memory-types",
        who_claims_to_compute_has_kernels => "Capabilities/compute",
        a_ring_has_what_was_asked_for => "Device::launch/as-asked",
        the_largest_ring_that_may_be_asked_for_is_not_malformed => "Device::launch/refused",
        a_malformed_ring_is_refused_with_its_limit => "Device::launch/refused",
        rings_of_one_device_are_apart => "Device::launch/several",
    }
);

fn devices(context: &Context) -> Vec<DeviceInfo> {
    context.backend().devices().expect("the backend listed its devices before")
}

/// Those that open now.
fn available(context: &Context) -> Vec<DeviceInfo> {
    devices(context).into_iter().filter(|info| info.status == DeviceStatus::Available).collect()
}

/// Goal: a name that can stand in an environment variable and in a file name. Method: its characters.
pub fn a_backends_name_is_one_word(context: &Context) {
    let name = context.backend().name();
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(!name.is_empty() && name.chars().all(is_good), "the backend is called `{name}`");
}

/// Goal: an id names one device. Method: the ids as a set.
pub fn no_two_devices_have_one_id(context: &Context) {
    let devices = devices(context);
    let ids: HashSet<&str> = devices.iter().map(|info| info.id.as_str()).collect();
    assert_eq!(ids.len(), devices.len(), "{devices:?}");
}

/// Goal: what is listed third opens as 2. Method: places and indices compared.
pub fn a_devices_index_is_its_place(context: &Context) {
    for (place, info) in (0..).zip(devices(context)) {
        assert_eq!(info.index, DeviceIndex(place), "{info:?}");
    }
}

/// Goal: an index means the same device tomorrow. Method: asked again, also with every device open.
pub fn the_list_stays_the_same(context: &Context) {
    let ids = || devices(context).into_iter().map(|info| info.id).collect::<Vec<_>>();
    let before = ids();
    let open: Vec<_> = available(context).iter().map(|info| context.backend().open(info.index)).collect();
    assert_eq!(ids(), before, "with {} devices open", open.len());
    drop(open);
    assert_eq!(ids(), before);
}

/// Goal: asking what there is costs nothing that is in use. Method: the list is asked for between the commands of a running
/// ring, whose block keeps its contents.
pub fn asking_for_devices_disturbs_none(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 4 * KIB);
    let data = pattern(3, 4096);
    bench.lane.write_all(slot, &data);
    for round in 0..20 {
        assert!(!devices(context).is_empty());
        bench.lane.probe(round);
    }
    assert!(bench.lane.read_all(slot, 4096) == data, "the contents changed");
}

/// Goal: every device of the list, not only the first. Method: each that is available opens, reports what the list says
/// (but for the memory available now), and answers.
pub fn every_available_device_opens_as_listed(context: &Context) {
    let listed = available(context);
    assert!(
        listed.iter().any(|info| info.index == DeviceIndex(0)),
        "the device under test is not available: {listed:?}"
    );
    for info in listed {
        let device = context.backend().open(info.index).unwrap_or_else(|why| panic!("{} is listed: {why}", info.id));
        let now = device.info();
        let DeviceInfo { available_memory_bytes, deferred_memory_bytes, .. } = info;
        // A clock goes up and down like the memory in use.
        let clock_mhz = info.clock_mhz;
        assert_eq!(DeviceInfo { available_memory_bytes, deferred_memory_bytes, clock_mhz, ..now }, info);
        Bench::new(device, SMALL).lane.probe(u64::from(info.index.0));
    }
}

/// Goal: two users of one device do not meet. Method: the same device twice, each with a block under the same name; one
/// goes, the other keeps its ring and its bytes.
pub fn a_device_opens_twice(context: &Context) {
    let mut benches = [(); 2].map(|()| Bench::new(context.device(), SMALL));
    let blocks = benches.each_mut().map(|bench| bench.bound(3, KIB));
    for (seed, (bench, (_, slot))) in (0..).zip(benches.iter_mut().zip(&blocks)) {
        bench.lane.write_all(*slot, &pattern(seed, 1024));
    }
    let [first, mut second] = benches;
    let [(first_buffer, first_slot), (_second_buffer, second_slot)] = blocks;
    let mut first = first;
    assert_eq!(first.lane.read_all(first_slot, 1024), pattern(0, 1024));
    drop(first_buffer);
    drop(first);
    assert_eq!(second.lane.read_all(second_slot, 1024), pattern(1, 1024));
}

/// Goal: an index out of the list is an error that names it. Method: the first beyond, and the largest.
pub fn an_unknown_index_is_not_found(context: &Context) {
    let beyond = devices(context).len() as u32;
    for index in [beyond, u32::MAX] {
        let error = context.backend().open(DeviceIndex(index)).expect_err("there is no such device");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains(&index.to_string()), "does not say which: {error}");
    }
}

/// Goal: a report that a person can read. Method: no text of it is empty.
pub fn devices_say_who_they_are(context: &Context) {
    for info in devices(context) {
        let texts = [&info.id, &info.name, &info.vendor, &info.architecture];
        assert!(texts.iter().all(|text| !text.trim().is_empty()), "{info:?}");
    }
}

/// Goal: figures that placement can use. Method: available against total, in the list and of an open device that lent some.
pub fn no_more_memory_is_available_than_there_is(context: &Context) {
    let device = context.device();
    let lent = device.reserve(1 << 20, MemoryType::Default).expect("a megabyte is there");
    for info in devices(context).into_iter().chain([device.info()]) {
        assert!(info.total_memory_bytes > 0 && info.available_memory_bytes <= info.total_memory_bytes, "{info:?}");
        assert!(info.deferred_memory_bytes <= info.available_memory_bytes, "{info:?}");
    }
    drop(lent);
}

/// Goal: no zero where a user divides. Method: the figures of every device that claims to compute.
pub fn what_computes_has_units(context: &Context) {
    for info in devices(context).into_iter().filter(|info| info.capabilities.compute) {
        let DeviceInfo { compute_units, max_threads_per_block, max_work_group, warp_size, .. } = info;
        let threads = [max_threads_per_block, max_work_group[0], max_work_group[1], max_work_group[2], warp_size];
        assert!(compute_units > 0 && threads.iter().all(|&most| most > 0), "{info:?}");
    }
}

/// Goal: the claim is the truth, both ways. Method: every memory type is asked for; what is had can be bound and used.
pub fn claimed_memory_types_are_honoured_and_no_others(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let capabilities = bench.device.info().capabilities;
    assert!(capabilities.supports_memory(MemoryType::Default), "there is no default memory: {capabilities:?}");
    for (index, memory_type) in (0..).zip(MemoryType::ALL) {
        let reserved = bench.device.reserve(4 * KIB, memory_type);
        assert_eq!(reserved.is_ok(), capabilities.supports_memory(memory_type), "{memory_type}: {reserved:?}");
        let Ok(buffer) = reserved else { continue };
        let slot = DeviceSlot { index, generation: 1 };
        assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), 4 * KIB, 0), Status::Ok, "{memory_type}");
        let data = pattern(u64::from(index), 4096);
        bench.lane.write_all(slot, &data);
        assert!(bench.lane.read_all(slot, 4096) == data, "{memory_type} memory does not hold what was written");
    }
}

/// Goal: a device that computes can be asked for something, and no other. Method: the claim against the declarations.
pub fn who_claims_to_compute_has_kernels(context: &Context) {
    for info in available(context) {
        let device = context.backend().open(info.index).expect("it is available");
        let kernels: Vec<_> = device.kernels().iter().map(|declaration| declaration.name).collect();
        assert_eq!(info.capabilities.compute, !kernels.is_empty(), "{}: {kernels:?}", info.id);
    }
}

/// Goal: nothing is rounded. Method: rings of several shapes report the shape, hand out that many lanes, and fill at that
/// many commands.
pub fn a_ring_has_what_was_asked_for(context: &Context) {
    let device = context.device();
    for config in [
        RingConfig { lanes: 1, slots: 2, staging_bytes: 64, allocations: 1 },
        RingConfig { lanes: 3, slots: 16, staging_bytes: 192, allocations: 5 },
        RingConfig { lanes: 2, ..SMALL },
    ] {
        let ring = device.launch(config).expect("a small ring is granted");
        assert_eq!(ring.config(), config);
        for lane in 0..config.lanes {
            let mut lane = Driver::take(&*ring, lane);
            let full = (0..config.slots).all(|i| lane.try_submit(&echo(GRAIN, u64::from(i)), &[]).is_ok());
            assert!(full && lane.try_submit(&echo(GRAIN, 0), &[]).is_err(), "{config:?} has other slots");
        }
        assert!(ring.take_lane(config.lanes).is_none(), "{config:?} has more lanes");
    }
}

/// Goal: whoever asks for what may be asked gets it, or hears what is missing. Method: each field at its limit, the others
/// small; the ring comes up and answers, or the error is no `InvalidArgument`.
pub fn the_largest_ring_that_may_be_asked_for_is_not_malformed(context: &Context) {
    let device = context.device();
    for config in [
        RingConfig { lanes: RingConfig::LANES_MAX, ..SMALL },
        RingConfig { slots: RingConfig::SLOTS_MAX, staging_bytes: 64, ..SMALL },
        RingConfig { staging_bytes: RingConfig::STAGING_BYTES_MAX, slots: 2, ..SMALL },
        RingConfig { allocations: u32::MAX, ..SMALL },
    ] {
        match device.launch(config) {
            Ok(ring) => {
                ring.activate(SOON).expect("the ring starts");
                Driver::take(&*ring, config.lanes - 1).probe(1);
            }
            Err(why) => assert_ne!(why.kind(), ErrorKind::InvalidArgument, "{config:?}: {why}"),
        }
    }
}

/// Goal: bad configurations are refused with the value that was asked for. Method: each field beyond each of its limits.
pub fn a_malformed_ring_is_refused_with_its_limit(context: &Context) {
    let device = context.device();
    for (bad, value) in crate::cases::plain::commands::malformed(SMALL) {
        let error = device.launch(bad).expect_err("no device can grant this");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}: {error}");
        assert!(error.message().contains(&value.to_string()), "does not say what was asked for: {error}");
    }
    Bench::new(device, SMALL).lane.probe(1);
}

/// Goal: a device may have several rings. Method: three with the same names bound to blocks of their own; one is
/// deactivated, one terminated, and the third notices nothing.
pub fn rings_of_one_device_are_apart(context: &Context) {
    let device = context.device();
    let mut benches = [(); 3].map(|()| Bench::new(device.clone(), SMALL));
    let blocks = benches.each_mut().map(|bench| bench.bound(0, KIB));
    for (seed, (bench, (_, slot))) in (0..).zip(benches.iter_mut().zip(&blocks)) {
        bench.lane.write_all(*slot, &pattern(seed, 1024));
    }
    let [mut idle, ended, mut going] = benches;
    idle.ring.deactivate(SOON).expect("the ring follows");
    let waiting = idle.lane.submit(&echo(GRAIN, 1));
    ended.ring.terminate(SOON).expect("the ring ends");
    assert_eq!(kind(ended.ring.activate(SOON)), ErrorKind::InvalidState);
    for round in 0..100 {
        going.lane.probe(round);
    }
    assert_eq!(going.lane.read_all(blocks[2].1, 1024), pattern(2, 1024));
    assert!(!idle.lane.is_complete(&waiting), "another ring's activity woke an inactive one");
    drop(ended);
    idle.ring.activate(SOON).expect("the ring follows");
    assert_eq!(idle.lane.wait(waiting).payload, [1; 7]);
    assert_eq!(idle.lane.read_all(blocks[0].1, 1024), pattern(0, 1024));
}
