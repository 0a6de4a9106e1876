//! Memory that a device lends: what a buffer is, and what is refused.

use std::thread;

use gpubridge_abstractions::{DeviceBuffer, DeviceSlot, ErrorKind, MemoryType, RingConfig, Status};

use crate::lane::{Bench, Driver, GRAIN, SMALL};
use crate::rig::{Joined, KIB, MIB, SOON, eventually, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("memory",
    Memory {
        buffers_are_what_was_asked_for => "Device::reserve/as-asked",
        a_large_piece_holds_what_is_written => "Device::reserve/as-asked",
        addresses_are_aligned => "Device::reserve/aligned",
        new_memory_reads_as_zeros => "Device::reserve/zeroed",
        fifty_reservations_at_once_are_apart => "Device::reserve/apart",
        neighbours_do_not_see_each_others_bytes => "Device::reserve/apart",
        every_lane_of_every_ring_reaches_a_buffer => "Device::reserve/every-ring",
        dropped_memory_comes_back => "Device::reserve/given-back",
        nothing_is_no_size => "Device::reserve/no-bytes",
        too_much_says_how_much_there_is => "Device::reserve/too-large",
        a_type_that_is_not_honoured_is_refused => "Device::reserve/no-substitute",
        dropped_memory_cannot_be_bound => "DeviceBuffer/dropped",
    }
);

const SLOT: DeviceSlot = DeviceSlot { index: 0, generation: 1 };

fn reserve(bench: &Bench, size_bytes: u64) -> Box<dyn DeviceBuffer> {
    bench.device.reserve(size_bytes, MemoryType::Default).expect("there is memory")
}

/// Goal: no rounding that a caller sees. Method: small, odd and larger sizes of every memory type that the device has.
pub fn buffers_are_what_was_asked_for(context: &Context) {
    let device = context.device();
    let capabilities = device.info().capabilities;
    for memory_type in MemoryType::ALL.into_iter().filter(|memory_type| capabilities.supports_memory(*memory_type)) {
        for size_bytes in [1, 63, 64, 100, 4096, MIB, MIB + 1] {
            let buffer = device.reserve(size_bytes, memory_type).expect("there is memory");
            assert_eq!((buffer.size_bytes(), buffer.memory_type()), (size_bytes, memory_type));
        }
    }
}

/// Goal: all of a large piece is there. Method: the smaller of 512 MiB and a quarter of the device's memory, written and read
/// at its start, its middle and its end.
pub fn a_large_piece_holds_what_is_written(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let size_bytes = (512 * MIB).min(bench.device.info().total_memory_bytes / 4);
    let buffer = reserve(&bench, size_bytes);
    assert_eq!(buffer.size_bytes(), size_bytes);
    assert_eq!(bench.lane.bind(GRAIN, SLOT, buffer.address(), size_bytes, 0), Status::Ok);
    let places = [0, size_bytes / 2, size_bytes - 1024];
    for (seed, offset) in (0..).zip(places) {
        assert_eq!(bench.lane.write(SLOT, offset, &pattern(seed, 1024)), Status::Ok);
    }
    for (seed, offset) in (0..).zip(places) {
        let mut bytes = [0; 1024];
        assert_eq!(bench.lane.read(SLOT, offset, &mut bytes), Status::Ok);
        assert!(bytes[..] == pattern(seed, 1024), "other bytes at {offset}");
    }
}

/// Goal: blocks may be cut from a buffer at multiples of 256. Method: buffers of odd sizes side by side.
pub fn addresses_are_aligned(context: &Context) {
    let device = context.device();
    let buffers: Vec<_> =
        (0..40).map(|i| device.reserve(1 + i * 37, MemoryType::Default).expect("there is memory")).collect();
    for address in buffers.iter().map(|buffer| buffer.address()) {
        assert!(address != 0 && address.is_multiple_of(256), "{address:#x}");
    }
}

/// Goal: nobody sees what the memory held before. Method: buffers of some sizes are filled and dropped, and reserved again
/// and again; each reads as zeros although it was bound without zeroing.
pub fn new_memory_reads_as_zeros(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for round in 0..4 {
        for size in [100_usize, 4096, 64 << 10] {
            let buffer = reserve(&bench, size as u64);
            assert_eq!(bench.lane.bind(GRAIN, SLOT, buffer.address(), size as u64, 0), Status::Ok);
            let bytes = bench.lane.read_all(SLOT, size);
            assert!(bytes.iter().all(|byte| *byte == 0), "round {round}: a new buffer of {size} holds something");
            bench.lane.write_all(SLOT, &vec![0xff; size]);
            assert_eq!(bench.lane.bind(GRAIN, SLOT, 0, 0, 0), Status::Ok);
        }
    }
}

/// Goal: threads that reserve at once get memory of their own. Method: fifty threads, 16 KiB each, ranges compared.
pub fn fifty_reservations_at_once_are_apart(context: &Context) {
    const SIZE: u64 = 16 * KIB;
    let device = context.device();
    let reserve = || device.reserve(SIZE, MemoryType::Default).expect("there is memory");
    let buffers: Vec<Box<dyn DeviceBuffer>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(reserve)).collect();
        threads.into_iter().map(|thread| thread.joined()).collect()
    });
    let mut addresses: Vec<_> = buffers.iter().map(|buffer| buffer.address()).collect();
    addresses.sort_unstable();
    assert!(addresses.windows(2).all(|pair| pair[0] + SIZE <= pair[1]), "{addresses:x?}");
}

/// Goal: apart in the device, not only by their addresses. Method: eight buffers of odd size, each filled with its own bytes
/// to the last, then all compared.
pub fn neighbours_do_not_see_each_others_bytes(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let blocks: Vec<_> = (0..8).map(|i| bench.bound(i, 1001 + u64::from(i))).collect();
    for (seed, (buffer, slot)) in (0..).zip(&blocks) {
        bench.lane.write_all(*slot, &pattern(seed, buffer.size_bytes() as usize));
    }
    for (seed, (buffer, slot)) in (0..).zip(&blocks) {
        let size = buffer.size_bytes() as usize;
        assert!(bench.lane.read_all(*slot, size) == pattern(seed, size), "{slot:?} holds another's bytes");
    }
}

/// Goal: a buffer belongs to the device, not to a ring. Method: what one lane writes, every lane of two rings reads.
pub fn every_lane_of_every_ring_reaches_a_buffer(context: &Context) {
    let device = context.device();
    let buffer = device.reserve(KIB, MemoryType::Default).expect("there is memory");
    let rings = [(); 2].map(|()| device.launch(RingConfig { lanes: 2, ..SMALL }).expect("there is room for two"));
    let mut lanes = Vec::new();
    for ring in &rings {
        ring.activate(SOON).expect("the ring starts");
        lanes.extend((0..2).map(|lane| Driver::take(&**ring, lane)));
    }
    for writer in 0..lanes.len() {
        let data = pattern(writer as u64, 1024);
        assert_eq!(lanes[writer].bind(GRAIN, SLOT, buffer.address(), KIB, KIB), Status::Ok);
        lanes[writer].write_all(SLOT, &data);
        for reader in &mut lanes {
            assert_eq!(reader.bind(GRAIN, SLOT, buffer.address(), KIB, 0), Status::Ok);
            assert!(reader.read_all(SLOT, 1024) == data, "lane {writer} of 4 wrote, another one reads otherwise");
        }
    }
}

/// Goal: no leak in the device. Method: pieces are reserved and dropped one after the other, some of them bound and unbound: in
/// sum 2 GiB or more than the device has; afterwards the sum is not missing from what is available.
pub fn dropped_memory_comes_back(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let before = bench.device.info();
    let piece = (64 * MIB).min(before.total_memory_bytes / 4);
    let rounds = (before.total_memory_bytes / piece + 2).min(32);
    for round in 0..rounds {
        let buffer = match bench.device.reserve(piece, MemoryType::Default) {
            Ok(buffer) => buffer,
            Err(why) => panic!("after {round} pieces of {piece} bytes, each dropped before the next: {why}"),
        };
        if round % 2 == 0 {
            assert_eq!(bench.lane.bind(GRAIN, SLOT, buffer.address(), piece, 64), Status::Ok);
            assert_eq!(bench.lane.bind(GRAIN, SLOT, 0, 0, 0), Status::Ok);
        }
    }
    // Others may use the device for a while, but not for ever.
    let least = before.available_memory_bytes.saturating_sub(rounds * piece / 2);
    eventually("what was dropped is available", || bench.device.info().available_memory_bytes >= least);
}

/// Goal: a size that is none is an error of the caller. Method: 0 bytes of each memory type that the device has.
pub fn nothing_is_no_size(context: &Context) {
    let device = context.device();
    let capabilities = device.info().capabilities;
    for memory_type in MemoryType::ALL.into_iter().filter(|memory_type| capabilities.supports_memory(*memory_type)) {
        let error = device.reserve(0, memory_type).expect_err("nothing is no size");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{memory_type}: {error}");
    }
}

/// Goal: an error that tells what would fit. Method: sizes beyond any memory; the message's figures are the size asked for
/// and one that the device may have; afterwards a small piece is still to be had.
pub fn too_much_says_how_much_there_is(context: &Context) {
    let device = context.device();
    let total = device.info().total_memory_bytes;
    for size_bytes in [1 << 60, 1 << 62, u64::MAX - 4096, u64::MAX] {
        let error = device.reserve(size_bytes, MemoryType::Default).expect_err("no device has so much");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let figures: Vec<u64> =
            error.message().split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
        assert!(figures.contains(&size_bytes), "does not say what was asked for: {error}");
        assert!(figures.iter().any(|&bytes| bytes <= total), "does not say what is available: {error}");
    }
    assert!(device.reserve(4 * KIB, MemoryType::Default).is_ok());
}

/// Goal: a type is an error or the truth, never a substitute. Method: every type that the device does not claim.
pub fn a_type_that_is_not_honoured_is_refused(context: &Context) {
    let device = context.device();
    let capabilities = device.info().capabilities;
    for memory_type in MemoryType::ALL.into_iter().filter(|memory_type| !capabilities.supports_memory(*memory_type)) {
        for size_bytes in [1, 4 * KIB] {
            let error = device.reserve(size_bytes, memory_type).expect_err("it is not claimed");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains(&memory_type.to_string()), "does not say which type: {error}");
        }
    }
}

/// Goal: what was given back is out of reach. Method: a buffer that was bound and unbound is dropped; its address is refused.
pub fn dropped_memory_cannot_be_bound(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, slot) = bench.bound(0, 4 * KIB);
    let address = buffer.address();
    assert_eq!(bench.lane.bind(GRAIN, slot, 0, 0, 0), Status::Ok);
    drop(buffer);
    for size_bytes in [64, 4 * KIB] {
        assert_eq!(bench.lane.bind(GRAIN, slot, address, size_bytes, 0), Status::InvalidArgument);
    }
}
