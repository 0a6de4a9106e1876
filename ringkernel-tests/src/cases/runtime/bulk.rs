//! Large transfers through resident memory: by bulk staging where the ring has any, by slots where not, and with the same bytes.

use std::pin::Pin;
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{AllocationId, ErrorKind, ReadMessage, StagedRange, WriteMessage};
use gpubridge_grains::wait;
use gpubridge_kernels::id::FILL;
use gpubridge_runtime::{ResidentMemoryConfig, SessionId};

use crate::rig::{Joined, MIB, Rig, config, kind, pattern, staged};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("large",
    Memory {
        sizes_around_the_threshold_arrive => "ResidentMemory::write/either-route",
        large_and_small_transfers_keep_their_order => "ResidentMemory::write/either-route",
        many_grains_move_large_data_at_once => "ResidentMemory::write/either-route",
        large_calls_that_are_kept_hold_nobody_back => "ResidentMemory::write/no-chunk",
        large_calls_that_are_given_up_leave_later_ones_whole => "Call/drop",
    }
    Bulk {
        chunks_filled_in_place_arrive => "ResidentMemory::write_chunk/in-place",
        another_rings_chunk_is_refused => "ResidentMemory::write_chunk/of-this-ring",
    }
    Compute {
        kernels_between_large_transfers_see_their_bytes => "ResidentMemory::write/either-route",
    }
);

/// From here on a transfer is large.
const THRESHOLD: usize = 64 << 10;

fn roomy() -> ResidentMemoryConfig {
    ResidentMemoryConfig { memory_budget_bytes: 64 * MIB, ..config() }
}

/// Compared without printing megabytes.
#[track_caller]
fn same(seen: &[u8], expected: &[u8], what: &str) {
    let first = seen.iter().zip(expected).position(|(a, b)| a != b);
    assert!(seen.len() == expected.len() && first.is_none(), "{what}: differs from byte {first:?} on");
}

/// Goal: no size and no offset is special, whichever way a transfer goes. Method: sizes just below and above the threshold and
/// several megabytes, at odd offsets, written one way, read whole and in part, with what lies beside watched.
pub fn sizes_around_the_threshold_arrive(context: &Context) {
    const SPACE: usize = 6 << 20;
    let rig = Rig::new(context.device(), roomy());
    let session = rig.session(0);
    let id = rig.allocate(session, SPACE as u64);
    let mut model = vec![0; SPACE];
    let sizes = [THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD + 3, (2 << 20) - 1, (2 << 20) + 1, 5 << 20];
    for (round, size) in sizes.into_iter().enumerate() {
        for offset in [0, 1, 4097, SPACE - size] {
            let data = pattern((round * 10 + offset) as u64, size);
            let answer = rig.try_write(session, id, offset as u64, &data).expect("is written");
            assert_eq!(answer.bytes_written, size as u64);
            model[offset..offset + size].copy_from_slice(&data);
            same(&rig.try_read(session, id, offset as u64, size).expect("is read"), &data, "the same range");
            let (before, behind) = (offset.saturating_sub(50), (offset + size + 50).min(SPACE));
            let near = rig.try_read(session, id, before as u64, behind - before).expect("is read");
            same(&near, &model[before..behind], "what lies beside");
            // Within it, by slots.
            let middle = offset + size / 2;
            same(
                &rig.try_read(session, id, middle as u64, 999).expect("is read"),
                &model[middle..middle + 999],
                "part",
            );
        }
    }
    same(&rig.read(session, id, SPACE), &model, "all of it");
}

/// Goal: one order for transfers of every size of a session. Method: drawn writes and reads, small and large, posted without
/// waiting for their answers, against a model.
pub fn large_and_small_transfers_keep_their_order(context: &Context) {
    const SPACE: usize = 1 << 20;
    let rig = Rig::new(context.device(), roomy());
    let session = rig.session(0);
    let id = rig.allocate(session, SPACE as u64);
    let mut random = fastrand::Rng::with_seed(12);
    let mut model = vec![0; SPACE];
    for round in 0..120 {
        let size = [random.usize(..64), random.usize(..8192), random.usize(THRESHOLD..SPACE / 2)][random.usize(..3)];
        let offset = random.usize(..SPACE - size);
        if random.bool() {
            let data = pattern(round, size);
            let message = rig.write_message(id, offset as u64, size);
            // Its answer is not waited for.
            drop(rig.memory.write(session, &message, &data).post().expect("is submitted"));
            model[offset..offset + size].copy_from_slice(&data);
        } else {
            let seen = rig.try_read(session, id, offset as u64, size).expect("is read");
            same(&seen, &model[offset..offset + size], &format!("round {round}"));
        }
    }
    same(&rig.read(session, id, SPACE), &model, "all of it");
}

/// Writes and reads several megabytes again and again, each compared.
fn rounds(rig: &Rig, session: SessionId, id: AllocationId, seed: u64, size: usize) {
    for round in 0..4 {
        let data = pattern(seed * 100 + round, size);
        rig.write(session, id, &data);
        same(&rig.read(session, id, size), &data, &format!("session {seed}, round {round}"));
    }
}

/// Goal: more large transfers at once than there are chunks. Method: sessions of both lanes on threads of their own.
pub fn many_grains_move_large_data_at_once(context: &Context) {
    const SIZE: usize = (2 << 20) + 77;
    let rig = Rig::new(context.device(), roomy());
    let sessions: Vec<_> = (0..10_u64)
        .map(|seed| {
            let session = rig.session(seed);
            (seed, session, rig.allocate(session, SIZE as u64))
        })
        .collect();
    thread::scope(|scope| {
        let rig = &rig;
        let start = |&(seed, session, id): &_| scope.spawn(move || rounds(rig, session, id, seed, SIZE));
        let threads: Vec<_> = sessions.iter().map(start).collect();
        threads.into_iter().for_each(Joined::joined);
    });
}

/// Goal: whoever keeps staging without going on holds up nobody but its own session. Method: more large writes and reads than
/// there are chunks are polled once and kept; other sessions move large data; then what was kept is finished.
pub fn large_calls_that_are_kept_hold_nobody_back(context: &Context) {
    const SIZE: usize = 3 << 20;
    let rig = Rig::new(context.device(), roomy());
    let mut idle = TaskContext::from_waker(Waker::noop());
    let sessions = [0; 6].map(|hash| rig.session(hash));
    let ids = sessions.map(|session| rig.allocate(session, SIZE as u64));
    let data = pattern(5, SIZE);
    let messages = ids.map(|id| rig.write_message(id, 0, SIZE));
    let mut kept: Vec<_> = (0..6).map(|i| Box::pin(rig.memory.write(sessions[i], &messages[i], &data))).collect();
    kept.iter_mut().for_each(|call| drop(call.as_mut().poll(&mut idle)));
    let other = rig.session(0);
    let id = rig.allocate(other, SIZE as u64);
    rounds(&rig, other, id, 7, SIZE);
    for (call, (session, id)) in kept.into_iter().zip(sessions.into_iter().zip(ids)) {
        assert_eq!(wait(call).expect("is written").bytes_written, SIZE as u64);
        same(&rig.read(session, id, SIZE), &data, "a write that was kept");
    }
}

/// Goal: a large call that is dropped or late writes no later call's bytes, and loses no staging. Method: writes and reads of
/// both ends, again and again; behind each a whole write, which is read back.
pub fn large_calls_that_are_given_up_leave_later_ones_whole(context: &Context) {
    const SIZE: usize = 3 << 20;
    let rig = Rig::new(context.device(), roomy());
    let session = rig.session(0);
    let id = rig.allocate(session, SIZE as u64);
    let stray = vec![0xee; SIZE];
    let mut idle = TaskContext::from_waker(Waker::noop());
    for round in 0..8_u64 {
        let (message, mut target) = (rig.write_message(id, 0, SIZE), vec![0; SIZE]);
        if round % 2 == 0 {
            let mut write = rig.memory.write(session, &message, &stray);
            drop(Pin::new(&mut write).poll(&mut idle));
        } else {
            let late = rig.memory.write(session, &message, &stray).with_deadline(Duration::ZERO);
            // It may be done before anybody looks at the clock.
            if let Err(error) = late.wait() {
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            }
        }
        let read = ReadMessage::new(rig.memory.envelope(), id, 0, staged(SIZE));
        let mut call = rig.memory.read(session, &read, &mut target);
        drop(Pin::new(&mut call).poll(&mut idle));
        drop(call);
        let data = pattern(round, SIZE);
        rig.write(session, id, &data);
        same(&rig.read(session, id, SIZE), &data, &format!("round {round}"));
    }
    assert_eq!(kind(rig.try_write(session, id, 1, &stray)), ErrorKind::InvalidArgument);
    same(&rig.read(session, id, SIZE), &pattern(7, SIZE), "behind a refusal");
}

/// Goal: what is filled in place arrives like any other write. Method: drawn sizes at odd offsets, posted two at a time amid
/// small writes, against a model; ranges that are refused change nothing.
pub fn chunks_filled_in_place_arrive(context: &Context) {
    const SPACE: usize = 1 << 20;
    let rig = Rig::new(context.device(), roomy());
    let session = rig.session(0);
    let id = rig.allocate(session, SPACE as u64);
    let mut random = fastrand::Rng::with_seed(3);
    let mut model = vec![0; SPACE];
    for round in 0..20_u64 {
        let calls = [0, 1].map(|which| {
            let (size, offset) = (random.usize(1..SPACE / 2), random.usize(..SPACE / 2));
            let data = pattern(round * 2 + which, size);
            let mut chunk = rig.memory.chunk().expect("a chunk is free");
            chunk.fill(|bytes| bytes[..size].copy_from_slice(&data));
            model[offset..offset + size].copy_from_slice(&data);
            let message = rig.write_message(id, offset as u64, size);
            (rig.memory.write_chunk(session, &message, chunk).post().expect("is submitted"), size)
        });
        let small = random.usize(..SPACE - 9);
        rig.try_write(session, id, small as u64, &[round as u8; 9]).expect("is written");
        model[small..small + 9].fill(round as u8);
        for (call, size) in calls {
            assert_eq!(call.wait().expect("is written").bytes_written, size as u64);
        }
        same(&rig.read(session, id, SPACE), &model, &format!("round {round}"));
    }
    for (offset, staged) in [(SPACE as u64, (0, 1)), (0, (1, 8)), (0, (0, u64::MAX))] {
        let range = StagedRange { offset_bytes: staged.0, size_bytes: staged.1 };
        let message = WriteMessage::new(rig.memory.envelope(), id, offset, range);
        let chunk = rig.memory.chunk().expect("a chunk is free");
        let refused = rig.memory.write_chunk(session, &message, chunk).wait();
        assert_eq!(kind(refused), ErrorKind::InvalidArgument, "{message:?}");
    }
    same(&rig.read(session, id, SPACE), &model, "behind refusals");
}

/// Goal: numbers of chunks mean something else on each ring. Method: a chunk of one memory handed to another, whose own chunk of
/// the same number is somebody's.
pub fn another_rings_chunk_is_refused(context: &Context) {
    let [rig, other] = [0; 2].map(|_: u8| Rig::new(context.device(), roomy()));
    let session = rig.session(0);
    let id = rig.allocate(session, 4096);
    let mut own = rig.memory.chunk().expect("a chunk is free");
    own.write(&[0xee; 4096]);
    let message = rig.write_message(id, 0, 4096);
    let stray = other.memory.chunk().expect("a chunk is free");
    let refused = rig.memory.write_chunk(session, &message, stray).wait();
    assert_eq!(kind(refused), ErrorKind::InvalidArgument);
    same(&rig.read(session, id, 4096), &[0; 4096], "behind a refusal");
}

/// Goal: a kernel behind a large write works on what it wrote, and a large read behind the kernel brings the result. Method: a
/// fill of part of what was written, nothing waited for in between.
pub fn kernels_between_large_transfers_see_their_bytes(context: &Context) {
    const SIZE: usize = 1 << 20;
    let rig = Rig::new(context.device(), roomy());
    let session = rig.session(0);
    let id = rig.allocate(session, SIZE as u64);
    for round in 0..6_u64 {
        let data = pattern(round, SIZE);
        let message = rig.write_message(id, 0, SIZE);
        let written = rig.memory.write(session, &message, &data).post().expect("is submitted");
        let filled = rig.compute(session, FILL.into(), Some(id)).post().expect("is submitted");
        let seen = rig.read(session, id, SIZE);
        assert!(written.wait().is_ok() && filled.wait().expect("is answered").success);
        same(&seen, &vec![0; SIZE], "filled with zeros");
    }
}
