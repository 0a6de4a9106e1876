//! The allocation table of a lane: binding, zeroing, names and owners.

use gpubridge_abstractions::{Command, DeviceSlot, MemoryType, Opcode, Status};

use crate::lane::{Bench, GRAIN, SMALL, bind, transfer};
use crate::rig::{KIB, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("binding",
    Memory {
        binding_zeroes_exactly_what_is_asked => "Bind/zeroes",
        a_block_may_be_zeroed_beyond_its_reach => "Bind/zeroes",
        another_owner_finds_zeros => "Bind/zeroes",
        a_slot_reaches_its_block_and_no_more => "Bind/reach",
        a_bound_index_is_bound_again => "Bind/rebind",
        no_bytes_unbind => "Bind/unbind",
        addresses_that_were_not_lent_are_refused => "Bind/address",
        every_index_of_the_table_can_be_bound => "Bind/index",
        an_index_beyond_the_table_is_refused => "Bind/index",
        a_refused_bind_changes_nothing => "Bind/refused-keeps",
        a_name_of_nothing_is_unknown => "DeviceSlot/unbound",
        a_stale_name_is_unknown_to_everybody => "DeviceSlot/stale",
        another_grains_block_is_not_reached => "DeviceSlot/owner",
    }
);

/// The commands that copy.
pub const COPIES: [Opcode; 4] = [Opcode::Write, Opcode::WriteInline, Opcode::Read, Opcode::ReadInline];
const STRANGER: u32 = GRAIN + 1;

/// What the four copies of eight bytes are answered for this grain and name.
#[track_caller]
fn expect(bench: &mut Bench, grain: u32, slot: DeviceSlot, status: Status) {
    for opcode in COPIES {
        let command = Command { grain, ..transfer(opcode, slot, 0, 8) };
        assert_eq!(bench.lane.status(&command), status, "{opcode:?} of {slot:?} for grain {grain}");
    }
}

/// Goal: no stale byte, and no other byte touched. Method: blocks of several sizes, up to some that a device may zero beside
/// the ring, full of ones; bound again with nothing, one byte, half and all zeroed, and read at once behind it.
pub fn binding_zeroes_exactly_what_is_asked(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for (index, size) in (0..).zip([64, 1000, 4096, 64 << 10, 300_001]) {
        let (buffer, slot) = bench.bound(index, size as u64);
        assert!(bench.lane.read_all(slot, size) == vec![0; size], "a new block of {size} holds something");
        bench.lane.write_all(slot, &vec![0xff; size]);
        for zero in [0, 1, size / 2, size] {
            let again = DeviceSlot { generation: slot.generation + 1 + zero as u32, ..slot };
            // The reads are under way while the zeroing may be.
            let bound = bench.lane.submit(&bind(GRAIN, again, buffer.address(), size as u64, zero as u64));
            let read = bench.lane.read_all(again, size);
            assert_eq!(bench.lane.wait(bound).status, Status::Ok);
            assert_eq!(read.iter().take_while(|byte| **byte == 0).count(), zero, "bytes zeroed of {size}");
            assert!(read[zero..].iter().all(|byte| *byte == 0xff), "{zero} of {size}");
        }
    }
}

/// Goal: a block is cleared whole although its owner reaches a part. Method: a block of 64 bytes of which 10 are reached, in
/// a buffer full of ones.
pub fn a_block_may_be_zeroed_beyond_its_reach(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, whole) = bench.bound(0, 256);
    bench.lane.write_all(whole, &[0xff; 256]);
    let part = DeviceSlot { index: 1, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, part, buffer.address() + 64, 10, 64), Status::Ok);
    assert_eq!(bench.lane.status(&transfer(Opcode::ReadInline, part, 0, 11)), Status::OutOfBounds);
    let expected: Vec<u8> = (0..256).map(|i| if (64..128).contains(&i) { 0 } else { 0xff }).collect();
    assert_eq!(bench.lane.read_all(whole, 256), expected);
}

/// Goal: an owner never sees the last one's bytes. Method: a block changes hands twenty times; each owner finds zeros and
/// leaves a pattern.
pub fn another_owner_finds_zeros(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, slot) = bench.bound(0, KIB);
    for round in 0..20 {
        let (grain, name) = (100 + round, DeviceSlot { generation: 2 + round, ..slot });
        assert_eq!(bench.lane.bind(grain, name, buffer.address(), KIB, KIB), Status::Ok);
        let copy = |opcode| Command { grain, ..transfer(opcode, name, 0, 1024) };
        let mut bytes = vec![0xa5; 1024];
        let ticket = bench.lane.submit(&copy(Opcode::Read));
        assert_eq!(bench.lane.wait_into(ticket, &mut bytes).status, Status::Ok);
        assert!(bytes.iter().all(|byte| *byte == 0), "owner {round} sees the bytes of the one before");
        let ticket = bench.lane.try_submit(&copy(Opcode::Write), &pattern(u64::from(round), 1024)).expect("a slot");
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
    }
}

/// Goal: a slot is a window. Method: windows of odd sizes at offsets in one buffer; what is written through each, up to its
/// last byte, appears there and nowhere else.
pub fn a_slot_reaches_its_block_and_no_more(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, whole) = bench.bound(0, 1024);
    let mut model = vec![0; 1024];
    for (index, (offset, size)) in (1..).zip([(0, 1), (64, 63), (128, 64), (256, 100), (512, 512)]) {
        let window = DeviceSlot { index, generation: 1 };
        assert_eq!(bench.lane.bind(GRAIN, window, buffer.address() + offset as u64, size as u64, 0), Status::Ok);
        let data = pattern(u64::from(index), size);
        bench.lane.write_all(window, &data);
        model[offset..offset + size].copy_from_slice(&data);
        assert!(bench.lane.read_all(whole, 1024) == model, "a window of {size} at {offset}");
        for opcode in COPIES {
            let beyond = transfer(opcode, window, size as u64, 1);
            assert_eq!(bench.lane.status(&beyond), Status::OutOfBounds, "{opcode:?} behind {size} at {offset}");
        }
    }
}

/// Goal: an index names what it was bound to last. Method: one index bound to three blocks in turn, once by another grain,
/// without being unbound; contents tell which.
pub fn a_bound_index_is_bound_again(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let blocks: Vec<_> = (0..3).map(|index| bench.bound(index, 64)).collect();
    for (seed, (_, slot)) in (0..).zip(&blocks) {
        bench.lane.write_all(*slot, &pattern(seed, 64));
    }
    let mut before = DeviceSlot { index: 9, generation: 0 };
    for (seed, (buffer, _)) in (0..).zip(&blocks) {
        let name = DeviceSlot { generation: before.generation + 1, ..before };
        assert_eq!(bench.lane.bind(GRAIN, name, buffer.address(), 64, 0), Status::Ok);
        assert_eq!(bench.lane.read_all(name, 64), pattern(seed, 64), "{name:?}");
        expect(&mut bench, GRAIN, before, Status::UnknownAllocation);
        before = name;
    }
    let next = DeviceSlot { generation: 9, ..before };
    assert_eq!(bench.lane.bind(STRANGER, next, blocks[0].0.address(), 64, 64), Status::Ok);
    expect(&mut bench, GRAIN, before, Status::UnknownAllocation);
    expect(&mut bench, STRANGER, next, Status::Ok);
}

/// Goal: a name ends when its owner says so. Method: unbinding by a stranger and by a stale name is refused and changes
/// nothing; the owner's ends it, whatever else the command carries; a second time there is nothing to end.
pub fn no_bytes_unbind(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, slot) = bench.bound(5, 64);
    let stale = DeviceSlot { generation: 9, ..slot };
    assert_eq!(bench.lane.bind(STRANGER, slot, 0, 0, 0), Status::NotOwner);
    assert_eq!(bench.lane.bind(GRAIN, stale, 0, 0, 0), Status::UnknownAllocation);
    assert_eq!(bench.lane.bind(STRANGER, stale, 0, 0, 0), Status::UnknownAllocation);
    expect(&mut bench, GRAIN, slot, Status::Ok);
    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address() + 1, 0, u64::MAX), Status::Ok);
    expect(&mut bench, GRAIN, slot, Status::UnknownAllocation);
    assert_eq!(bench.lane.bind(GRAIN, slot, 0, 0, 0), Status::UnknownAllocation);
    assert_eq!(bench.lane.bind(STRANGER, slot, buffer.address(), 64, 64), Status::Ok);
    expect(&mut bench, STRANGER, slot, Status::Ok);
}

/// Goal: the device looks for itself at what the host says. Method: addresses before, behind, within and across the end of a
/// buffer, and far from any; ranges that wrap.
pub fn addresses_that_were_not_lent_are_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, _) = bench.bound(0, 8192);
    let address = buffer.address();
    let forged = DeviceSlot { index: 1, generation: 1 };
    for (at, size_bytes, zero_bytes) in [
        (0, 64, 0),
        (address + 1, 64, 0),
        (address + 32, 64, 0),
        (address, 8193, 0),
        (address, 64, 8193),
        (address + 64, 64, 8129),
        (address + 8128, 65, 0),
        (address, u64::MAX, 0),
        (address, 64, u64::MAX),
        (address, 1 << 63, 1 << 63),
        (!63, 64, 64),
        (!63, 63, 0),
    ] {
        let status = bench.lane.bind(GRAIN, forged, at, size_bytes, zero_bytes);
        assert_eq!(status, Status::InvalidArgument, "{size_bytes} and {zero_bytes} bytes at {at:#x} of {address:#x}");
        expect(&mut bench, GRAIN, forged, Status::UnknownAllocation);
    }
    // The last 64 bytes are lent.
    assert_eq!(bench.lane.bind(GRAIN, forged, address + 8128, 64, 64), Status::Ok);
}

/// Goal: the table has as many places as were asked for. Method: every index of a table is bound to a window of its own and
/// keeps its contents.
pub fn every_index_of_the_table_can_be_bound(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let places = SMALL.allocations;
    let buffer = bench.device.reserve(u64::from(places) * 64, MemoryType::Default).expect("there is memory");
    let name = |index| DeviceSlot { index, generation: index ^ 0xffff };
    // From the last on, so that a table that grows does so at once.
    for index in (0..places).rev() {
        let status = bench.lane.bind(GRAIN, name(index), buffer.address() + u64::from(index) * 64, 64, 64);
        assert_eq!(status, Status::Ok, "{index} of {places}");
        bench.lane.write_all(name(index), &pattern(u64::from(index), 64));
    }
    for index in 0..places {
        assert!(bench.lane.read_all(name(index), 64) == pattern(u64::from(index), 64), "{index} of {places}");
    }
}

/// Goal: an index that is none is refused. Method: the first beyond the table and the largest, bound and unbound.
pub fn an_index_beyond_the_table_is_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, slot) = bench.bound(0, 64);
    for index in [SMALL.allocations, SMALL.allocations + 1, u32::MAX] {
        let beyond = DeviceSlot { index, generation: 1 };
        for size_bytes in [64, 0] {
            let status = bench.lane.bind(GRAIN, beyond, buffer.address(), size_bytes, 64);
            assert_eq!(status, Status::OutOfBounds, "{index}");
        }
        expect(&mut bench, GRAIN, beyond, Status::UnknownAllocation);
    }
    expect(&mut bench, GRAIN, slot, Status::Ok);
}

/// Goal: a refusal is no half of a bind. Method: refused binds over a bound index, with zeroing that would be seen.
pub fn a_refused_bind_changes_nothing(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, slot) = bench.bound(0, 256);
    bench.lane.write_all(slot, &pattern(1, 256));
    let next = DeviceSlot { generation: 2, ..slot };
    for (address, size_bytes, zero_bytes) in
        [(0, 64, 64), (buffer.address() + 1, 64, 64), (buffer.address(), 257, 256), (buffer.address(), 64, 257)]
    {
        let status = bench.lane.bind(GRAIN, next, address, size_bytes, zero_bytes);
        assert_eq!(status, Status::InvalidArgument);
        expect(&mut bench, GRAIN, next, Status::UnknownAllocation);
        assert_eq!(bench.lane.bind(STRANGER, next, 0, 0, zero_bytes), Status::UnknownAllocation);
        assert!(bench.lane.read_all(slot, 256) == pattern(1, 256), "{zero_bytes} bytes were zeroed");
    }
}

/// Goal: a name that was never given reaches nothing. Method: indices within the table and beyond it, all copies.
pub fn a_name_of_nothing_is_unknown(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(5, 64);
    let far = DeviceSlot { index: 1 << 20, generation: 1 };
    for unknown in [DeviceSlot { index: 6, ..slot }, DeviceSlot { index: 4, generation: 0 }, DeviceSlot::NONE, far] {
        expect(&mut bench, GRAIN, unknown, Status::UnknownAllocation);
    }
    expect(&mut bench, GRAIN, slot, Status::Ok);
}

/// Goal: a stale name tells nothing about whose the block is now. Method: other generations, for the owner and for a stranger.
pub fn a_stale_name_is_unknown_to_everybody(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(5, 64);
    for generation in [0, 2, 1 << 31, u32::MAX] {
        for grain in [GRAIN, STRANGER] {
            expect(&mut bench, grain, DeviceSlot { generation, ..slot }, Status::UnknownAllocation);
        }
    }
    expect(&mut bench, GRAIN, slot, Status::Ok);
}

/// Goal: a block is its grain's alone. Method: other grains, near and far, use the right name; the bytes stay.
pub fn another_grains_block_is_not_reached(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(5, 64);
    bench.lane.write_all(slot, &pattern(1, 64));
    for grain in [0, GRAIN - 1, GRAIN + 1, GRAIN + (1 << 16), GRAIN + (1 << 31), u32::MAX] {
        expect(&mut bench, grain, slot, Status::NotOwner);
    }
    assert_eq!(bench.lane.read_all(slot, 64), pattern(1, 64));
}
