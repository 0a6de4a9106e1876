//! Bulk copies that do not end, or fail: whose a chunk is meanwhile, and that every call is answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gpubridge_abstractions::{
    AllocateMessage, BulkStaging, Chunk, Command, DeviceBuffer, DeviceSlot, ErrorKind, InitializeMessage, MemoryType,
    Opcode, ShutdownMessage, StagedRange, Status, Ticket, Transfer, WriteMessage,
};
use gpubridge_runtime::{ResidentMemory, ResidentMemoryConfig, wait};
use ringkernel_tests::lane::{Bench, GRAIN, echo};

use crate::device::{Gate, MIB, RING, SOON, calls, eventually, open, refused};
use crate::program::{Case, End};

/// What tells a command's executor that the copy is done stands behind a gate.
const GATED: &str = "gate=gpubridge_beside_finish:{folder}/gate,trace={folder}/trace";

pub const CASES: &[Case] = &[
    Case::new("bulk::a_chunk_in_flight_is_nobodys", GATED, in_flight),
    Case::new("bulk::a_future_that_is_given_up_frees_no_chunk", GATED, given_up),
    Case::new("bulk::terminated_with_copies_in_flight", GATED, terminated),
    Case::new("bulk::no_window_before_the_copy_is_done", GATED, no_window),
    Case::new("bulk::blocks_in_the_hosts_memory", "trace={folder}/trace", in_the_hosts_memory),
    Case::new("bulk::a_copy_is_refused", "fail=cuMemcpyAsync:4:1", lost),
    Case::new("bulk::a_copy_faults", "fail=cuMemcpyAsync:4:700", lost),
    Case::new("bulk::windows_between_copies", "", windows),
];

/// A ring with a block, its chunks, and a gate that is closed.
struct Closed {
    bench: Bench,
    staging: Arc<dyn BulkStaging>,
    slot: DeviceSlot,
    size: usize,
    gate: Gate,
    buffer: Box<dyn DeviceBuffer>,
}

fn closed(folder: &Path) -> Closed {
    let gate = Gate::new(folder);
    let mut bench = Bench::new(open(), RING);
    let staging = bench.ring.bulk_staging().expect("a ring on CUDA has bulk staging");
    let size = staging.chunk_bytes();
    // Bound without zeroing, which would go beside the ring.
    let buffer = bench.device.reserve(size as u64, MemoryType::Default).expect("there is memory");
    let slot = DeviceSlot { index: 0, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), size as u64, 0), Status::Ok);
    gate.close();
    Closed { bench, staging, slot, size, gate, buffer }
}

fn bulk(opcode: Opcode, slot: DeviceSlot, size_bytes: usize, chunk: &Chunk) -> Command {
    let transfer = Transfer { slot, offset_bytes: 0, size_bytes: size_bytes as u32 };
    Command::new(opcode, GRAIN, transfer.to_payload([u64::from(chunk.number()), 0, 0, 0]))
}

/// Waits until so many copies are under way; two were made when the device was opened.
fn under_way(folder: &Path, copies: usize) {
    let begun = || calls(folder).iter().filter(|(function, _)| function == "cuMemcpyAsync").count();
    eventually("the copies begin", || begun() == 2 + copies);
}

fn take_all(staging: &Arc<dyn BulkStaging>) -> Vec<Chunk> {
    std::iter::from_fn(|| Arc::clone(staging).take()).collect()
}

/// Goal: from submission to answer a chunk is the device's: not to be had when it was dropped, not to be reached by who holds
/// it, not to be named again. Method: two copies whose end stands behind a gate.
fn in_flight(folder: &Path) -> End {
    let Closed { mut bench, staging, slot, size, gate, buffer } = closed(folder);
    let mut chunks = take_all(&staging);
    let (mut held, dropped) = (chunks.remove(0), chunks.remove(0));
    held.write(&vec![1; size]);
    let dropped_number = dropped.number();
    let first = bench.lane.submit(&bulk(Opcode::WriteBulk, slot, size, &held));
    let second = bench.lane.submit(&bulk(Opcode::ReadBulk, slot, size, &dropped));
    drop((dropped, chunks));
    let free = take_all(&staging);
    assert_eq!(free.len() as u32, staging.chunks() - 2, "what is free is what no command has");
    assert!(free.iter().all(|chunk| chunk.number() != dropped_number && chunk.number() != held.number()));
    let reaches: [&dyn Fn(&mut Chunk); 3] =
        [&|chunk| chunk.write(&[9]), &|chunk| chunk.read(&mut [0]), &|chunk| chunk.fill(|_| ())];
    // Panics are what is looked for, and not to be said.
    std::panic::set_hook(Box::new(|_| ()));
    for reach in reaches {
        let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reach(&mut held)));
        assert!(reached.is_err(), "the holder reaches a chunk of the device's");
    }
    drop(std::panic::take_hook());
    // By another grain, which does not wait behind the first.
    let (other, others) = (GRAIN + 1, DeviceSlot { index: 1, generation: 1 });
    assert_eq!(bench.lane.bind(other, others, buffer.address(), 64, 0), Status::Ok);
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        let command = Command { grain: other, ..bulk(opcode, others, 8, &held) };
        assert_eq!(bench.lane.status(&command), Status::InvalidArgument, "named again while in flight");
    }
    assert!(![&first, &second].into_iter().any(|ticket| bench.lane.is_complete(ticket)), "answered before the end");
    gate.open();
    for ticket in [first, second] {
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
    }
    held.fill(|bytes| assert!(bytes.iter().all(|byte| *byte == 1), "a chunk in flight was changed"));
    let again = take_all(&staging);
    assert_eq!(again.iter().map(Chunk::number).collect::<Vec<_>>(), [dropped_number]);
    let mut read = vec![0; size];
    again[0].read(&mut read);
    assert!(read == vec![1; size], "the read ran behind the write");
    End::Passed
}

/// Goal: whoever gives up a large write frees its chunk when it is answered, not before. Method: one that is dropped, one that is
/// late, one whose session is shut down without draining; each copy's end stands behind a gate.
fn given_up(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let memory = ResidentMemory::open(open(), ResidentMemoryConfig::default()).expect("the memory opens");
    let take_all = || std::iter::from_fn(|| memory.chunk()).collect::<Vec<_>>();
    let all = take_all().len();
    let size = MIB as usize;
    let whole = StagedRange { offset_bytes: 0, size_bytes: MIB };
    for (way, before) in ["dropped", "late", "cancelled"].into_iter().zip(0..) {
        let session = memory.session(0);
        memory.initialize(session, &InitializeMessage::new(memory.envelope())).expect("a new session opens");
        let allocate = AllocateMessage::new(memory.envelope(), MIB);
        let id = memory.allocate(session, &allocate).expect("there is room").handle.id;
        let message = WriteMessage::new(memory.envelope(), id, 0, whole);
        // Bound, and zeroed, before the gate closes.
        let (zeros, data) = (vec![0; size], vec![7; size]);
        memory.write(session, &message, &zeros).wait().expect("is written");
        gate.close();
        let deadline = if way == "late" { Duration::ZERO } else { SOON };
        let mut write = Box::pin(memory.write(session, &message, &data).with_deadline(deadline));
        match (way, write.as_mut().poll(&mut Context::from_waker(Waker::noop()))) {
            ("late", Poll::Ready(answer)) => drop(refused(answer, ErrorKind::Timeout, &[])),
            (_, polled) => assert!(polled.is_pending() && way != "late", "{way}: {polled:?}"),
        }
        under_way(folder, 2 * before + 2);
        if way == "cancelled" {
            let mut shutdown = ShutdownMessage::new(memory.envelope());
            shutdown.drain_pending_messages = false;
            refused(memory.shutdown(session, &shutdown, Duration::ZERO), ErrorKind::Timeout, &[]);
            refused(wait(write), ErrorKind::Cancelled, &[]);
        } else {
            drop(write);
        }
        assert_eq!(take_all().len(), all - 1, "{way}: its chunk is the device's");
        gate.open();
        eventually("the chunk comes back", || take_all().len() == all);
    }
    End::Passed
}

/// Goal: a termination waits for the copy under way, cancels what waits, and gives every chunk back.
fn terminated(folder: &Path) -> End {
    let Closed { mut bench, staging, slot, size, gate, .. } = closed(folder);
    let chunks = take_all(&staging);
    let mut tickets: Vec<Ticket> =
        chunks.iter().map(|chunk| bench.lane.submit(&bulk(Opcode::WriteBulk, slot, size, chunk))).collect();
    drop(chunks);
    under_way(folder, 1);
    refused(bench.ring.terminate(Duration::from_millis(20)), ErrorKind::Timeout, &["still at work"]);
    for ticket in tickets.drain(1..) {
        assert_eq!(bench.lane.wait(ticket).status, Status::Cancelled);
    }
    assert_eq!(take_all(&staging).len() as u32, staging.chunks() - 1, "all but the one that is under way");
    gate.open();
    bench.ring.terminate(SOON).expect("it ends");
    assert_eq!(bench.lane.wait(tickets.remove(0)).status, Status::Ok, "what was started is finished");
    assert_eq!(take_all(&staging).len() as u32, staging.chunks());
    End::Passed
}

/// Goal: no ring is parked over a copy: the driver is asked for memory when it is done.
fn no_window(folder: &Path) -> End {
    let Closed { mut bench, staging, slot, size, gate, .. } = closed(folder);
    let mut chunk = Arc::clone(&staging).take().expect("all are free");
    chunk.write(&vec![3; size]);
    let ticket = bench.lane.submit(&bulk(Opcode::WriteBulk, slot, size, &chunk));
    under_way(folder, 1);
    let device = Arc::clone(&bench.device);
    let reserving = std::thread::spawn(move || device.reserve(100 * MIB, MemoryType::Default).map(drop));
    let other = bench.lane.submit(&echo(GRAIN + 1, 1));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!reserving.is_finished() && !bench.lane.is_complete(&ticket), "a window under a copy");
    gate.open();
    reserving.join().expect("it does not panic").expect("there is memory");
    assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
    assert_eq!(bench.lane.wait(other).status, Status::Ok);
    assert_eq!(bench.lane.status(&bulk(Opcode::ReadBulk, slot, size, &chunk)), Status::Ok);
    chunk.fill(|bytes| assert!(bytes.iter().all(|byte| *byte == 3)));
    End::Passed
}

/// Goal: a block in page-locked memory is copied without the driver, which would not return before the copy is done. Method: whole
/// and odd pieces, both ways.
fn in_the_hosts_memory(folder: &Path) -> End {
    let mut bench = Bench::new(open(), RING);
    let staging = bench.ring.bulk_staging().expect("a ring on CUDA has bulk staging");
    let buffer = bench.device.reserve(MIB, MemoryType::Pinned).expect("there is memory");
    let slot = DeviceSlot { index: 0, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), MIB, 0), Status::Ok);
    let mut chunk = Arc::clone(&staging).take().expect("all are free");
    let result = Arc::clone(&staging).take().expect("all are free");
    let mut expected = vec![0; MIB as usize];
    for (round, (offset_bytes, size)) in (1..).zip([(0, MIB as usize), (3, 100_001), (8, 65_536), (1, 7)]) {
        let written: Vec<u8> = (0..size).map(|i| (i % 251) as u8 ^ round).collect();
        chunk.write(&written);
        expected[offset_bytes..][..size].copy_from_slice(&written);
        let transfer = Transfer { slot, offset_bytes: offset_bytes as u64, size_bytes: size as u32 };
        let payload = transfer.to_payload([u64::from(chunk.number()), 0, 0, 0]);
        assert_eq!(bench.lane.status(&Command::new(Opcode::WriteBulk, GRAIN, payload)), Status::Ok);
        assert_eq!(bench.lane.status(&bulk(Opcode::ReadBulk, slot, MIB as usize, &result)), Status::Ok);
        let mut read = vec![0xee; MIB as usize];
        result.read(&mut read);
        assert!(read == expected, "round {round}");
    }
    under_way(folder, 0);
    End::Passed
}

/// Goal: a copy that the driver refuses, or that loses the device, answers every call, and no chunk is handed out over what the
/// copy engine may still be at.
fn lost(_: &Path) -> End {
    let mut bench = Bench::new(open(), RING);
    let staging = bench.ring.bulk_staging().expect("a ring on CUDA has bulk staging");
    let (_buffer, slot) = bench.bound(0, MIB);
    let chunks = take_all(&staging);
    // Two copies were made when the device was opened.
    let copies = chunks.iter().map(|chunk| bulk(Opcode::WriteBulk, slot, MIB as usize, chunk));
    let tickets: Vec<Ticket> = copies.chain([echo(GRAIN, 1)]).map(|command| bench.lane.submit(&command)).collect();
    let mut answers: Vec<Status> = tickets.into_iter().map(|ticket| bench.lane.wait(ticket).status).collect();
    assert_eq!(answers.remove(0), Status::Ok);
    assert!(answers.iter().all(|status| *status == Status::DeviceLost), "{answers:?}");
    drop(chunks);
    assert_eq!(take_all(&staging).len(), 0);
    refused(bench.ring.activate(SOON), ErrorKind::DeviceLost, &["restart the process"]);
    End::Passed
}

/// Goal: windows between bulk copies lose nothing. Method: copies both ways while the driver is asked for memory again and
/// again.
fn windows(_: &Path) -> End {
    let mut bench = Bench::new(open(), RING);
    let staging = bench.ring.bulk_staging().expect("a ring on CUDA has bulk staging");
    let size = staging.chunk_bytes();
    let (_buffer, slot) = bench.bound(0, size as u64);
    let mut written = Arc::clone(&staging).take().expect("all are free");
    let result = Arc::clone(&staging).take().expect("all are free");
    let device = Arc::clone(&bench.device);
    let done = Arc::new(AtomicBool::new(false));
    let asking = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut windows = 0;
            while !done.load(Ordering::Relaxed) {
                drop(device.reserve(u64::MAX / 4, MemoryType::Default).expect_err("so much there is not"));
                windows += 1;
            }
            windows
        })
    };
    for round in 0..40_u8 {
        written.write(&vec![round; size]);
        let copies = [(Opcode::WriteBulk, &written), (Opcode::ReadBulk, &result)]
            .map(|(opcode, chunk)| bench.lane.submit(&bulk(opcode, slot, size, chunk)));
        for ticket in copies {
            assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
        }
        let mut bytes = vec![0xee; size];
        result.read(&mut bytes);
        assert!(bytes == vec![round; size], "round {round}");
    }
    done.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("it does not panic") > 0);
    End::Passed
}
