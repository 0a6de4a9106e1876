//! Writes and reads: bounds, kinds of data, sizes from nothing to 64 MiB, and one turn each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytemuck::{Pod, Zeroable};
use gpubridge_abstractions::{AllocationId, ErrorKind, MemoryType, StagedRange, WriteMessage};
use gpubridge_grains::wait;
use gpubridge_runtime::{ResidentMemoryConfig, SessionId};

use crate::rig::{Gate, Joined, KIB, MIB, OpenAtEnd, Rig, allocate, config, kind, narrow, pattern, silo, stop};
use crate::twins::{GATED, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("transfers",
    Memory {
        offsets_that_are_not_aligned_arrive => "ResidentMemory::write/any-range",
        ranges_beyond_an_end_are_refused_and_change_nothing => "ResidentMemory::write/bounds",
        staged_ranges_beyond_the_staging_are_refused => "ResidentMemory::write/staged-range",
        nothing_may_be_written_and_read => "ResidentMemory::write/nothing",
        any_plain_data_travels => "ResidentMemory::write/any-data",
        a_source_or_target_need_not_be_aligned => "ResidentMemory::write/any-range",
        sixty_four_mib_are_one_turn => "ResidentMemory::write/one-turn",
        a_released_handle_is_refused => "ResidentMemory::release/stale-handle",
        another_grains_handle_is_refused => "ResidentMemory::write/owner",
    }
    Twins {
        other_grains_go_on_during_a_long_transfer => "ResidentMemory::write/others-go-on",
    }
);

/// Goal: the last byte of an allocation of odd size. Method: 1,001 bytes, each written alone from the end.
pub fn offsets_that_are_not_aligned_arrive(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 1001);
    let data = pattern(5, 1001);
    for at in (0..1001).rev() {
        rig.try_write(session, id, at as u64, &data[at..=at]).expect("is written");
    }
    assert_eq!(rig.read(session, id, 1001), data);
}

/// Goal: bounds are checked and typed. Method: ranges one byte beyond, far beyond, and beyond all numbers.
pub fn ranges_beyond_an_end_are_refused_and_change_nothing(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 100);
    rig.write(session, id, &pattern(1, 100));
    for (offset, size) in [(0, 101), (100, 1), (99, 2), (1 << 40, 1), (u64::MAX, 1), (u64::MAX - 3, 8), (101, 0)] {
        let error = rig.try_write(session, id, offset, &vec![9; size]).expect_err("is beyond the end");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{offset} + {size}: {error}");
        assert_eq!(kind(rig.try_read(session, id, offset, size)), ErrorKind::InvalidArgument);
    }
    assert_eq!(rig.read(session, id, 100), pattern(1, 100));
    let silo = silo(context);
    let grain = silo.grain("bounds").expect("the key is good");
    let handle = allocate(&grain, 100);
    assert_eq!(kind(grain.write(handle, &[1_u32], 25).wait()), ErrorKind::InvalidArgument);
    assert_eq!(kind(grain.write(handle, &[1_u64], u64::MAX).wait()), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.read::<u32>(handle, 24, 2))), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.read::<u32>(handle, 0, 26))), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.read::<u8>(handle, 0, usize::MAX))), ErrorKind::InvalidArgument);
    stop(silo);
}

/// Goal: a message cannot reach beyond the staging it is handed with. Method: ranges beyond its end, and sizes beyond the
/// range.
pub fn staged_ranges_beyond_the_staging_are_refused(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 100);
    let data = [1; 50];
    for (offset_bytes, size_bytes) in [(0, 51), (50, 1), (u64::MAX, 1), (1, u64::MAX)] {
        let range = StagedRange { offset_bytes, size_bytes };
        let message = WriteMessage::new(rig.memory.envelope(), id, 0, range);
        assert_eq!(kind(rig.memory.write(session, &message, &data).wait()), ErrorKind::InvalidArgument);
    }
    let range = StagedRange { offset_bytes: 0, size_bytes: 10 };
    let message = WriteMessage { size_bytes: 11, ..WriteMessage::new(rig.memory.envelope(), id, 0, range) };
    assert_eq!(kind(rig.memory.write(session, &message, &data).wait()), ErrorKind::InvalidArgument);
    assert_eq!(rig.read(session, id, 100), [0; 100]);
}

/// Goal: nothing is a size too. Method: writes and reads of 0 elements, also at the very end.
pub fn nothing_may_be_written_and_read(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("nothing").expect("the key is good");
    let handle = allocate(&grain, 16);
    for offset in [0, 4] {
        assert_eq!(grain.write::<u32>(handle, &[], offset).wait().expect("is written").bytes_written, 0);
        assert_eq!(wait(grain.read::<u32>(handle, offset, 0)).expect("is read"), []);
    }
    assert_eq!(kind(wait(grain.allocate(0, MemoryType::Default))), ErrorKind::InvalidArgument);
    stop(silo);
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Reading {
    at: u64,
    value: f64,
    sensor: u32,
    flags: [u8; 4],
}

/// Goal: any plain data. Method: f64 with every odd value, bytes, and a struct, at element offsets.
pub fn any_plain_data_travels(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("plain").expect("the key is good");
    let doubles = [0.0, -0.0, f64::MIN_POSITIVE, f64::INFINITY, f64::NAN, f64::MAX, -1.5, 1e-300];
    let handle = allocate(&grain, 128);
    grain.write(handle, &doubles, 8).wait().expect("is written");
    let read = wait(grain.read::<f64>(handle, 8, 8)).expect("is read");
    assert_eq!(read.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), doubles.map(f64::to_bits));
    let bytes: Vec<u8> = (0..=127).rev().collect();
    grain.write(handle, &bytes, 0).wait().expect("is written");
    assert_eq!(wait(grain.read::<u8>(handle, 3, 125)).expect("is read"), bytes[3..]);
    let readings: Vec<Reading> =
        (0..5).map(|i| Reading { at: u64::MAX - i, value: i as f64, sensor: i as u32, flags: [i as u8; 4] }).collect();
    grain.write(handle, &readings, 0).wait().expect("is written");
    assert_eq!(wait(grain.read::<Reading>(handle, 1, 4)).expect("is read"), readings[1..]);
    stop(silo);
}

/// Goal: a slice of bytes at any address. Method: odd starts within a buffer, both ways.
pub fn a_source_or_target_need_not_be_aligned(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("odd").expect("the key is good");
    let handle = allocate(&grain, 1000);
    let source = pattern(2, 1100);
    for start in 0..9 {
        grain.write(handle, &source[start..start + 1000], 0).wait().expect("is written");
        let mut target = vec![0; 1100];
        grain.read_into(handle, 0, &mut target[start..start + 1000]).wait().expect("is read");
        assert_eq!(target[start..start + 1000], source[start..start + 1000]);
    }
    stop(silo);
}

/// A configuration whose pieces are as large as they may be, so that 64 MiB are some 256 of them.
fn wide() -> ResidentMemoryConfig {
    let mut config = ResidentMemoryConfig { memory_budget_bytes: 256 * MIB, ..narrow(16) };
    config.ring.staging_bytes = 256 << 10;
    config
}

/// What a read sees while the whole is overwritten again and again: all of one round, never of two.
fn reads_see_one_round(rig: &Rig, session: SessionId, id: AllocationId, size: usize, stop: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::Acquire) {
        let bytes = rig.try_read(session, id, 0, size).expect("is read");
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a read saw half of a write");
        rounds += 1;
    }
    rounds
}

/// Goal: a write or read of 64 MiB is one turn: others of its grain see all or nothing. Method: one thread overwrites the
/// whole, the other reads the whole, and small reads at both ends come between.
pub fn sixty_four_mib_are_one_turn(context: &Context) {
    const SIZE: usize = 64 << 20;
    let rig = Rig::new(context.device(), wide());
    let session = rig.session(0);
    let id = rig.allocate(session, SIZE as u64);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=2_u8 {
                rig.write(session, id, &vec![round; SIZE]);
            }
            done.store(true, Ordering::Release);
        });
        let ends = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Acquire) {
                let first = rig.try_read(session, id, 0, 1).expect("is read")[0];
                let end = rig.try_read(session, id, SIZE as u64 - 1, 1).expect("is read")[0];
                // The end is read later, so it is of the same round or of a later one.
                assert!(last <= first && first <= end, "{last}, {first}, {end}");
                last = end;
            }
        });
        reads_see_one_round(&rig, session, id, SIZE, &done);
        writer.joined();
        ends.joined();
    });
    assert_eq!(rig.try_read(session, id, SIZE as u64 - 1, 1).expect("is read"), [2]);
}

/// Goal: one grain's long transfer does not hold up another. Method: in the same lane, another session completes many
/// writes while the first piece of a long one stands behind a gate.
pub fn other_grains_go_on_during_a_long_transfer(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(8));
    let (long, other) = (rig.session(0), rig.session(0));
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(long, GATED, None).post().expect("is submitted");
    let big = rig.allocate(long, 64 * KIB);
    let small = rig.allocate(other, 64);
    let data = pattern(1, 64 << 10);
    let message = rig.write_message(big, 0, data.len());
    let mut call = Box::pin(rig.memory.write(long, &message, &data));
    let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(call.as_mut().poll(&mut idle).is_pending());
    for round in 0..200 {
        rig.write(other, small, &pattern(round, 64));
        assert_eq!(rig.read(other, small, 64), pattern(round, 64));
    }
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    assert_eq!(wait(call).expect("is written").bytes_written, 64 * KIB);
    assert_eq!(rig.read(long, big, 64 << 10), data);
}

/// Goal: a handle that was released never reaches another block. Method: its block is given to the next allocation; the
/// old handle is refused by every operation.
pub fn a_released_handle_is_refused(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("released").expect("the key is good");
    let old = allocate(&grain, 64);
    wait(grain.release(old, true)).expect("is answered");
    let new = allocate(&grain, 64);
    assert!(old.id.slot == new.id.slot && old.id != new.id, "the slot is used again under another generation");
    assert_eq!(kind(grain.write(old, &[9_u8; 64], 0).wait()), ErrorKind::NotFound);
    assert_eq!(kind(wait(grain.read::<u8>(old, 0, 1))), ErrorKind::NotFound);
    assert_eq!(wait(grain.release(old, true)).expect("is answered").bytes_freed, 0);
    grain.write(new, &[1_u8; 64], 0).wait().expect("the new one is live");
    stop(silo);
}

/// Goal: a handle works for its own grain only. Method: two grains with one allocation each, handles exchanged.
pub fn another_grains_handle_is_refused(context: &Context) {
    let silo = silo(context);
    let grains = ["a", "b"].map(|key| silo.grain(key).expect("the key is good"));
    let handles = [allocate(&grains[0], 64), allocate(&grains[1], 64)];
    assert_ne!(handles[0].id, handles[1].id, "ids are unique in a silo");
    for (grain, handle) in [(&grains[0], handles[1]), (&grains[1], handles[0])] {
        assert_eq!(kind(grain.write(handle, &[9_u8; 64], 0).wait()), ErrorKind::NotFound);
        assert_eq!(kind(wait(grain.read::<u8>(handle, 0, 64))), ErrorKind::NotFound);
        assert_eq!(wait(grain.release(handle, true)).expect("is answered").bytes_freed, 0);
    }
    for (grain, handle) in grains.iter().zip(handles) {
        assert_eq!(wait(grain.read::<u8>(handle, 0, 64)).expect("its own"), [0; 64]);
    }
    stop(silo);
}
