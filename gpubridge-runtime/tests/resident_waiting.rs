//! Calls that wait: for a device that is held back, for a turn, for a shutdown.

mod held;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{AllocationId, ErrorKind, GetMetricsMessage, ReleaseMessage, RingConfig, ShutdownMessage};
use gpubridge_runtime::{ResidentMemory, SessionId};
use held::{HeldDevice, NEVER, allocate, open, read, session, write};

/// Pieces of 64 bytes.
const SMALL: RingConfig = RingConfig { lanes: 1, slots: 8, staging_bytes: 64, allocations: 64 };

/// A waker that remembers, and tells a channel.
struct Told(AtomicBool, Mutex<std::sync::mpsc::Sender<()>>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        // Whoever no longer listens needs no wake-up.
        let _ = self.1.lock().expect("no panic").send(());
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn no_drain(memory: &ResidentMemory) -> ShutdownMessage {
    let mut message = ShutdownMessage::new(memory.envelope());
    message.drain_pending_messages = false;
    message
}

/// The slot of an answer that was taken goes to the next command at once. Its waker must survive what the first call
/// still has to tidy up.
#[test]
fn a_call_that_takes_over_a_slot_keeps_its_waker() {
    let device = HeldDevice::new();
    // Leaked: the call that the hook polls must outlive this frame.
    let memory: &'static ResidentMemory = Box::leak(Box::new(open(&device, RingConfig { slots: 2, ..SMALL })));
    let id = session(memory);
    let block = allocate(memory, id, 48).id;
    let (mut one, mut two) = ([0; 48], [0; 48]);
    // The block is bound ahead of its first use, which would take a slot.
    read(memory, id, block, &mut one).wait().expect("it is allocated");
    device.hold();
    let mut keeps_its_slot = read(memory, id, block, &mut one);
    let mut first = read(memory, id, block, &mut two);
    assert!(poll(&mut keeps_its_slot).is_pending() && poll(&mut first).is_pending());
    device.go_on();
    device.hold();
    let (told, woken) = channel();
    let (hand_over, handed_over) = channel();
    device.after_take.set(move || {
        let mut second = read(memory, id, block, Box::leak(Box::new([0; 48])));
        let waker = Waker::from(Arc::new(Told(AtomicBool::new(false), Mutex::new(told))));
        assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&waker)).is_pending());
        hand_over.send(second).expect("the test listens");
    });
    assert!(poll(&mut first).is_ready());
    let second = handed_over.recv().expect("the hook ran");
    device.go_on();
    woken.recv_timeout(Duration::from_secs(60)).expect("the second call is woken");
    assert_eq!(second.wait().expect("it is answered").bytes_read, 48);
    assert!(poll(&mut keeps_its_slot).is_ready());
}

#[test]
fn a_turn_that_nobody_goes_on_with_is_forfeit_with_its_deadline() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let block = allocate(&memory, id, 256).id;
    device.hold();
    let data = [1; 256];
    let mut forgotten = write(&memory, id, block, &data).with_deadline(Duration::from_millis(20));
    assert!(poll(&mut forgotten).is_pending());
    device.go_on();
    // Never polled again, it has the turn: three pieces are missing.
    assert_eq!(write(&memory, id, block, &[2; 256]).wait().expect("the turn comes free").bytes_written, 256);
    let Poll::Ready(Err(error)) = poll(&mut forgotten) else { panic!("its turn is lost") };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let mut bytes = [0; 256];
    read(&memory, id, block, &mut bytes).wait().expect("the block is there");
    assert_eq!(bytes, [2; 256]);
}

#[test]
fn a_failed_operation_in_pieces_gives_its_turn_up_while_it_is_kept() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let (block, other) = (allocate(&memory, id, 256).id, allocate(&memory, id, 256).id);
    device.hold();
    let data = [1; 256];
    let mut failing = write(&memory, id, block, &data);
    assert!(poll(&mut failing).is_pending());
    device.go_on();
    let release = gpubridge_abstractions::ReleaseMessage::new(memory.envelope(), block);
    assert_eq!(memory.release(id, &release).expect("the session is open").bytes_freed, 256);
    let Poll::Ready(Err(error)) = poll(&mut failing) else { panic!("the block is gone") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(write(&memory, id, other, &data).wait().expect("the turn is free").bytes_written, 256);
    drop(failing);
}

#[test]
fn draining_waits_for_the_last_piece() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let block = allocate(&memory, id, 256).id;
    device.hold();
    let data = [7; 256];
    let mut pieces = write(&memory, id, block, &data);
    assert!(poll(&mut pieces).is_pending());
    device.go_on();
    let message = ShutdownMessage::new(memory.envelope());
    let error = memory.shutdown(id, &message, Duration::ZERO).expect_err("three pieces are missing");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(memory.is_open(id), "the pieces can follow");
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| memory.shutdown(id, &message, NEVER));
        assert_eq!(pieces.wait().expect("it is drained").bytes_written, 256);
        shutdown.join().expect("no panic").expect("the session is open");
    });
    assert!(!memory.is_open(id));
}

#[test]
fn without_draining_what_is_pending_is_cancelled_even_when_the_index_is_used_again() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let block = allocate(&memory, id, 256).id;
    device.hold();
    let data = [7; 256];
    let (mut whole, mut pieces) = (write(&memory, id, block, &data[..8]), write(&memory, id, block, &data));
    assert!(poll(&mut whole).is_pending() && poll(&mut pieces).is_pending());
    // A name from before a takeover is the session's as well.
    let error = memory.seal(id).expect_err("pieces are missing");
    assert_eq!(error.kind(), ErrorKind::Full);
    let response = thread::scope(|scope| {
        let shutdown = scope.spawn(|| memory.shutdown(id, &no_drain(&memory), NEVER));
        while memory.is_open(id) {
            thread::yield_now();
        }
        device.go_on();
        shutdown.join().expect("no panic").expect("the session is open")
    });
    assert_eq!((response.messages_drained, response.messages_cancelled), (0, 1));
    assert_eq!(session(&memory).index, id.index);
    for mut call in [whole, pieces] {
        let Poll::Ready(Err(error)) = poll(&mut call) else { panic!("it is answered") };
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn calls_from_before_a_takeover_are_cancelled_with_the_session() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    device.hold();
    let mut early = write(&memory, id, block, &[1; 8]);
    assert!(poll(&mut early).is_pending());
    let sealed = memory.seal(id).expect("nobody has the turn");
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| memory.shutdown(sealed, &no_drain(&memory), NEVER));
        while memory.is_open(sealed) {
            thread::yield_now();
        }
        device.go_on();
        shutdown.join().expect("no panic").expect("the session is open");
    });
    let Poll::Ready(Err(error)) = poll(&mut early) else { panic!("it is answered") };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn a_shutdown_that_came_too_early_may_be_repeated() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let other = session(&memory);
    let block = allocate(&memory, id, 64).id;
    device.hold();
    let mut pending = write(&memory, id, block, &[1; 8]);
    assert!(poll(&mut pending).is_pending());
    let message = ShutdownMessage::new(memory.envelope());
    let error = memory.shutdown(id, &message, Duration::ZERO).expect_err("the device is held");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    device.go_on();
    assert!(poll(&mut pending).is_ready());
    memory.shutdown(id, &message, NEVER).expect("it finishes now");
    let error = memory.shutdown(id, &message, NEVER).expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let metrics = memory.get_metrics(other, &GetMetricsMessage::new(memory.envelope())).expect("it is open");
    assert_eq!(metrics.active_allocation_count, 0);
}

#[test]
fn a_deadline_is_kept_by_a_waiting_thread_and_by_a_future_alike() {
    let device = HeldDevice::new();
    let memory = open(&device, SMALL);
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    device.hold();
    let soon = Duration::from_millis(5);
    let error = write(&memory, id, block, &[1; 8]).with_deadline(soon).wait().expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let (told, woken) = channel();
    let waker = Waker::from(Arc::new(Told(AtomicBool::new(false), Mutex::new(told))));
    let mut call = write(&memory, id, block, &[1; 8]).with_deadline(soon);
    // The driver wakes it when its deadline passes, if that has not passed before the first poll's end.
    while Pin::new(&mut call).poll(&mut Context::from_waker(&waker)).is_pending() {
        woken.recv_timeout(Duration::from_secs(60)).expect("the driver wakes it");
    }
    // The longest deadline there is is no overflow.
    let mut call = write(&memory, id, block, &[2; 8]).with_deadline(Duration::MAX);
    assert!(poll(&mut call).is_pending());
    device.go_on();
    assert!(matches!(poll(&mut call), Poll::Ready(Ok(_))));
}

/// A device of two slots that answers nothing more, and a session with one block.
fn held_with_two_slots() -> (Arc<HeldDevice>, ResidentMemory, SessionId, AllocationId) {
    let device = HeldDevice::new();
    let memory = open(&device, RingConfig { slots: 2, ..SMALL });
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    write(&memory, id, block, &[0; 8]).wait().expect("it is allocated");
    device.hold();
    (device, memory, id, block)
}

#[test]
fn a_full_lane_takes_one_block_for_one_allocation_however_long_it_waits() {
    let (device, memory, id, block) = held_with_two_slots();
    let (mut one, mut two) = (write(&memory, id, block, &[1; 8]), write(&memory, id, block, &[2; 8]));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    // As many blocks as the lane has slots may wait to be bound; the next has to wait for room.
    let unbound = [(); 2].map(|()| allocate(&memory, id, 64).id);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| allocate(&memory, id, 64));
        // It holds its block before it finds the lane full, and no second one for any later look.
        while memory.metrics().active_allocation_count < 4 {
            thread::yield_now();
        }
        for _ in 0..1000 {
            assert_eq!(memory.metrics().pool_hit_count + memory.metrics().pool_miss_count, 4);
            thread::yield_now();
        }
        device.go_on();
        // Untaken answers keep their slots.
        assert!(poll(&mut one).is_ready() && poll(&mut two).is_ready());
        waiting.join().expect("no panic");
    });
    assert_eq!(memory.totals(id).expect("it is open").allocations.count, 4);
    for block in unbound {
        write(&memory, id, block, &[3; 64]).wait().expect("they were bound");
    }
}

/// A block is bound ahead of its first use, so one that is not used costs the lane nothing.
#[test]
fn a_block_that_is_released_unused_takes_no_room_in_the_lane() {
    let (device, memory, id, block) = held_with_two_slots();
    let (mut one, mut two) = (write(&memory, id, block, &[1; 8]), write(&memory, id, block, &[2; 8]));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    for _ in 0..100 {
        let unused = allocate(&memory, id, 64).id;
        let message = ReleaseMessage::new(memory.envelope(), unused);
        assert_eq!(memory.release(id, &message).expect("it is open").bytes_freed, 64);
    }
    device.go_on();
    assert!(poll(&mut one).is_ready() && poll(&mut two).is_ready());
    assert_eq!(memory.totals(id).expect("it is open").releases.count, 100);
}
