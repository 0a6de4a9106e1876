//! What a device refuses, by its own look and not by the host's.

use gpubridge_abstractions::{Command, DeviceSlot, Opcode, Status, SubmitError, Taken, Transfer};
use gpubridge_kernels::KernelLibrary;

use crate::bench::{Bench, GRAIN, SMALL, bind, call, echo, transfer};

const COPIES: [Opcode; 4] = [Opcode::Write, Opcode::WriteInline, Opcode::Read, Opcode::ReadInline];

fn bench() -> Bench {
    Bench::new(KernelLibrary::empty(), SMALL)
}

#[test]
fn ranges_beyond_the_allocation() {
    let mut bench = bench();
    let (_buffer, slot) = bench.bound(0, 100);
    for opcode in COPIES {
        for (offset, size, status) in [
            (0, 8, Status::Ok),
            (92, 8, Status::Ok),
            (100, 0, Status::Ok),
            (93, 8, Status::OutOfBounds),
            (101, 0, Status::OutOfBounds),
            (u64::MAX, 1, Status::OutOfBounds),
            (u64::MAX - 7, 8, Status::OutOfBounds),
        ] {
            assert_eq!(
                bench.lane.status(&transfer(opcode, slot, offset, size)),
                status,
                "{opcode:?} {size} at {offset}"
            );
        }
    }
    for (opcode, size) in [
        (Opcode::Write, 1025),
        (Opcode::Read, u32::MAX as usize),
        (Opcode::WriteInline, Transfer::INLINE_WRITE_BYTES + 1),
        (Opcode::ReadInline, 57),
    ] {
        assert_eq!(bench.lane.status(&transfer(opcode, slot, 0, size)), Status::InvalidArgument, "{opcode:?} {size}");
    }
}

#[test]
fn names_that_are_anothers_stale_or_nobodys() {
    let mut bench = bench();
    let (buffer, slot) = bench.bound(5, 64);
    let never = DeviceSlot { index: 6, generation: 1 };
    for opcode in COPIES {
        let own = transfer(opcode, slot, 0, 8);
        assert_eq!(bench.lane.status(&own), Status::Ok);
        assert_eq!(bench.lane.status(&Command { grain: GRAIN + 1, ..own }), Status::NotOwner);
        for generation in [0, 2, u32::MAX] {
            let stale = transfer(opcode, DeviceSlot { generation, ..slot }, 0, 8);
            assert_eq!(bench.lane.status(&stale), Status::UnknownAllocation, "generation {generation}");
            // A stale name says nothing about who owns the block now.
            assert_eq!(bench.lane.status(&Command { grain: GRAIN + 1, ..stale }), Status::UnknownAllocation);
        }
        for unknown in [never, DeviceSlot::NONE, DeviceSlot { index: 1 << 20, generation: 1 }] {
            assert_eq!(bench.lane.status(&transfer(opcode, unknown, 0, 8)), Status::UnknownAllocation);
        }
    }
    let next = DeviceSlot { generation: 2, ..slot };
    assert_eq!(bench.lane.bind(GRAIN + 1, next, buffer.address(), 64, 64), Status::Ok);
    assert_eq!(bench.lane.status(&transfer(Opcode::Read, slot, 0, 8)), Status::UnknownAllocation);
    assert_eq!(bench.lane.status(&transfer(Opcode::Read, next, 0, 8)), Status::NotOwner);
    assert_eq!(bench.lane.status(&bind(GRAIN, next, 0, 0, 0)), Status::NotOwner);
    assert_eq!(bench.lane.status(&bind(GRAIN + 1, slot, 0, 0, 0)), Status::UnknownAllocation);
    assert_eq!(bench.lane.status(&bind(GRAIN + 1, next, 0, 0, 0)), Status::Ok);
    assert_eq!(bench.lane.status(&bind(GRAIN + 1, next, 0, 0, 0)), Status::UnknownAllocation);
}

#[test]
fn forged_addresses_and_slots() {
    let mut bench = bench();
    let (buffer, slot) = bench.bound(0, 8192);
    let address = buffer.address();
    for (forged, size_bytes, zero_bytes) in [
        (0, 64, 0),
        (address - 64, 64, 0),
        (address + 8192, 64, 0),
        (address + 1, 64, 0),
        (address + 32, 64, 0),
        (address, 8193, 0),
        (address, 64, 8193),
        (address + 64, 64, 8129),
        (address, u64::MAX, 0),
        (address, 64, u64::MAX),
        (!63, 64, 64),
    ] {
        let status = bench.lane.bind(GRAIN, DeviceSlot { index: 1, generation: 1 }, forged, size_bytes, zero_bytes);
        assert_eq!(status, Status::InvalidArgument, "{size_bytes} and {zero_bytes} bytes at {forged:#x}");
    }
    for index in [SMALL.allocations, u32::MAX] {
        let status = bench.lane.bind(GRAIN, DeviceSlot { index, generation: 1 }, address, 64, 0);
        assert_eq!(status, Status::OutOfBounds);
    }
    let last = DeviceSlot { index: SMALL.allocations - 1, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, last, address, 64, 0), Status::Ok);
    // A refused bind leaves what was bound before.
    assert_eq!(bench.lane.bind(GRAIN, DeviceSlot { generation: 2, ..slot }, 0, 64, 0), Status::InvalidArgument);
    assert_eq!(bench.lane.status(&transfer(Opcode::Read, slot, 0, 64)), Status::Ok);
}

#[test]
fn operations_and_kernels_that_there_are_not() {
    let mut bench = bench();
    for opcode in Opcode::Compute as u8 + 1..=u8::MAX {
        assert_eq!(bench.lane.status(&Command { opcode, ..echo(GRAIN, 0) }), Status::UnknownOpcode, "{opcode}");
    }
    for kernel in [0, 1, u16::MAX] {
        assert_eq!(bench.lane.status(&call(kernel, GRAIN, 0)), Status::UnknownKernel);
    }
    assert_eq!(bench.lane.status(&echo(GRAIN, 0)), Status::Ok);
}

#[test]
fn more_than_a_lane_holds() {
    let mut bench = Bench::inactive(KernelLibrary::empty(), SMALL);
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[0; 1025]), Err(SubmitError::TooLarge));
    let mut tickets: Vec<_> = (0..u64::from(SMALL.slots)).map(|i| bench.lane.submit(&echo(GRAIN, i))).collect();
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full));
    assert_eq!((bench.lane.0.submitter.pending(), bench.lane.0.submitter.completed_below()), (SMALL.slots, 0));
    let mut given_up = tickets.remove(3);
    bench.lane.0.completions.abandon(&mut given_up);
    assert_eq!(bench.lane.0.completions.take(&mut given_up, &mut []), Taken::Gone);
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full), "the device has it still");
    bench.ring.activate(crate::bench::HANG).unwrap();
    for (number, ticket) in [0, 1, 2, 4, 5, 6, 7].into_iter().zip(tickets) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
    // All slots are free again, the abandoned one too.
    let tickets: Vec<_> = (0..u64::from(SMALL.slots)).map(|i| bench.lane.submit(&echo(GRAIN, 90 + i))).collect();
    for (number, ticket) in (90..).zip(tickets) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
    assert_eq!(bench.lane.0.submitter.pending(), 0);
    assert_eq!(bench.lane.0.submitter.completed_below(), bench.lane.0.submitter.next_sequence());
}
