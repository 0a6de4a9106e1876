//! Initialize and Shutdown: sessions, their quotas, and what becomes of the requests that are pending.

use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{
    AllocationId, ErrorKind, GetMetricsMessage, InitializeMessage, ReleaseMessage, ShutdownMessage,
};
use gpubridge_kernels::id::SUM;
use gpubridge_runtime::SessionId;

use crate::rig::{BUDGET, Gate, Joined, KIB, MIB, OpenAtEnd, Rig, SOON, config, eventually, kind, narrow, pattern};
use crate::twins::{COUNTER, GATED, counter, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("sessions",
    Memory {
        initialize_says_what_was_granted => "ResidentMemory::initialize/granted",
        a_second_initialize_is_refused => "ResidentMemory::initialize/once",
        requests_before_initialize_are_refused => "ResidentMemory::session/closed",
        requests_after_shutdown_are_refused => "ResidentMemory::shutdown/closed",
        the_quota_is_the_sessions_own => "ResidentMemory::initialize/quota",
        the_quota_comes_back_with_a_release => "ResidentMemory::release/quota",
        draining_finishes_an_operation_in_pieces => "ResidentMemory::shutdown/drain-whole",
    }
    Twins {
        draining_finishes_what_is_pending => "ResidentMemory::shutdown/drain",
        without_draining_what_is_pending_is_cancelled => "ResidentMemory::shutdown/cancel",
        a_cancelled_call_stays_cancelled_when_its_place_is_taken => "ResidentMemory::shutdown/cancelled-for-good",
        a_shutdown_that_cannot_finish_says_so_in_time => "ResidentMemory::shutdown/deadline",
    }
);

/// Goal: Initialize answers what was really granted. Method: ask for more and for less than there is.
pub fn initialize_says_what_was_granted(context: &Context) {
    let Rig { memory } = Rig::new(context.device(), config());
    let mut message = InitializeMessage::new(memory.envelope());
    message.max_pool_size_bytes = u64::MAX;
    message.max_kernel_cache_size = u32::MAX;
    message.device_index = Some(memory.device_index());
    let granted = memory.initialize(memory.session(0), &message).expect("opens");
    assert_eq!((granted.pool_size_bytes, granted.kernel_cache_slots), (BUDGET, 100));
    assert_eq!(granted.device_index, memory.device_index());
    message.max_pool_size_bytes = 10 * KIB;
    message.max_kernel_cache_size = 5;
    let granted = memory.initialize(memory.session(0), &message).expect("opens");
    // The kernel cache is the device's.
    assert_eq!((granted.pool_size_bytes, granted.kernel_cache_slots), (10 * KIB, 100));
}

/// Goal: a session is opened once. Method: twice.
pub fn a_second_initialize_is_refused(context: &Context) {
    let Rig { memory } = Rig::new(context.device(), config());
    let session = memory.session(0);
    let message = InitializeMessage::new(memory.envelope());
    memory.initialize(session, &message).expect("opens");
    assert_eq!(kind(memory.initialize(session, &message)), ErrorKind::InvalidState);
    assert!(memory.is_open(session), "the first one holds");
}

fn all_are_refused(rig: &Rig, session: SessionId) {
    let id = AllocationId { slot: 0, generation: 1 };
    assert!(!rig.memory.is_open(session));
    assert_eq!(kind(rig.try_allocate(session, 64)), ErrorKind::InvalidState);
    assert_eq!(kind(rig.try_write(session, id, 0, &[1])), ErrorKind::InvalidState);
    assert_eq!(kind(rig.try_read(session, id, 0, 1)), ErrorKind::InvalidState);
    assert_eq!(kind(rig.compute(session, SUM.into(), None).wait()), ErrorKind::InvalidState);
    let release = ReleaseMessage::new(rig.memory.envelope(), id);
    assert_eq!(kind(rig.memory.release(session, &release)), ErrorKind::InvalidState);
    let metrics = GetMetricsMessage::new(rig.memory.envelope());
    assert_eq!(kind(rig.memory.get_metrics(session, &metrics)), ErrorKind::InvalidState);
    let shutdown = ShutdownMessage::new(rig.memory.envelope());
    assert_eq!(kind(rig.memory.shutdown(session, &shutdown, SOON)), ErrorKind::InvalidState);
}

/// Goal: operations before Initialize are typed errors. Method: every request on a session that was only named.
pub fn requests_before_initialize_are_refused(context: &Context) {
    let rig = Rig::new(context.device(), config());
    all_are_refused(&rig, rig.memory.session(0));
}

/// Goal: operations after Shutdown are typed errors, also when another session has taken the place. Method: every
/// request under the old name, before and after the place is taken.
pub fn requests_after_shutdown_are_refused(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    rig.memory.shutdown(session, &ShutdownMessage::new(rig.memory.envelope()), SOON).expect("closes");
    all_are_refused(&rig, session);
    assert_eq!(
        kind(rig.memory.initialize(session, &InitializeMessage::new(rig.memory.envelope()))),
        ErrorKind::InvalidState
    );
    let next = rig.session(0);
    assert_eq!(next.index, session.index, "the place is used again");
    all_are_refused(&rig, session);
    assert!(rig.memory.is_open(next));
}

/// Goal: max_pool_size_bytes bounds one session and no other. Method: one session to its limit, then another.
pub fn the_quota_is_the_sessions_own(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let small = rig.session_with(0, 10 * KIB);
    rig.allocate(small, 4 * KIB);
    rig.allocate(small, 6 * KIB);
    let error = rig.try_allocate(small, 1).expect_err("the quota is used up");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.message().contains("1 bytes were requested and 0 are available"), "{error}");
    assert_eq!(kind(rig.try_allocate(small, u64::MAX)), ErrorKind::OutOfMemory);
    rig.allocate(rig.session(0), MIB);
}

/// Goal: what is released may be allocated again. Method: many rounds at the limit.
pub fn the_quota_comes_back_with_a_release(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session_with(0, 10 * KIB);
    for _ in 0..100 {
        let id = rig.allocate(session, 10 * KIB);
        assert_eq!(kind(rig.try_allocate(session, 1)), ErrorKind::OutOfMemory);
        rig.release(session, id);
    }
}

/// Goal: draining finishes an operation in pieces that has begun. Method: a write of many pieces on one thread, the
/// shutdown on another while it is under way: it is written as a whole, or refused before its first piece.
pub fn draining_finishes_an_operation_in_pieces(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    for round in 0..20 {
        let session = rig.session(0);
        let id = rig.allocate(session, 64 * KIB);
        let data = pattern(round, 64 << 10);
        let begun = rig.processed();
        let written = thread::scope(|scope| {
            let writer = scope.spawn(|| rig.try_write(session, id, 0, &data));
            if round % 2 == 0 {
                eventually("the write begins or ends", || {
                    rig.memory.metrics().pending_message_count > 0 || rig.processed() > begun || writer.is_finished()
                });
            }
            let message = ShutdownMessage::new(rig.memory.envelope());
            rig.memory.shutdown(session, &message, SOON).expect("closes");
            let writes = rig.memory.metrics().pending_message_count;
            assert_eq!(writes, 0, "something goes on after the shutdown");
            writer.joined()
        });
        match written {
            Ok(response) => assert_eq!(response.bytes_written, 64 * KIB),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidState);
                assert_eq!(rig.processed() - begun, 1, "a write that was cut off had begun");
            }
        }
    }
}

/// Goal: draining finishes what is queued. Method: a kernel waits at a gate, twenty calls behind it; the shutdown begins,
/// the gate opens, and every call is answered with its work done.
pub fn draining_finishes_what_is_pending(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[counter(), gated(&gate)]), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    rig.run(session, COUNTER, Some(id));
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let calls: Vec<_> =
        (0..20).map(|_| rig.compute(session, COUNTER, Some(id)).post().expect("is submitted")).collect();
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| {
            rig.memory.shutdown(session, &ShutdownMessage::new(rig.memory.envelope()), SOON).expect("closes")
        });
        eventually("the shutdown begins", || !rig.memory.is_open(session));
        assert!(!shutdown.is_finished(), "it waits for what is pending");
        gate.open();
        let response = shutdown.joined();
        assert_eq!((response.messages_drained, response.messages_cancelled), (21, 0));
    });
    assert!(waiting.wait().expect("is answered").success);
    let sums: Vec<_> = calls.into_iter().map(|call| call.wait().expect("is answered").result.u32_at(0)).collect();
    assert_eq!(sums, (2..=21).map(Some).collect::<Vec<_>>());
}

/// Goal: without draining every pending request is answered "cancelled", while its kernel still runs. Method: as above,
/// with callers that wait and calls that nobody polls; only then the gate opens.
pub fn without_draining_what_is_pending_is_cancelled(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[counter(), gated(&gate)]), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let calls: Vec<_> =
        (0..20).map(|_| rig.compute(session, COUNTER, Some(id)).post().expect("is submitted")).collect();
    let mut message = ShutdownMessage::new(rig.memory.envelope());
    message.drain_pending_messages = false;
    thread::scope(|scope| {
        let waiter = scope.spawn(|| kind(waiting.wait()));
        let shutdown = scope.spawn(|| rig.memory.shutdown(session, &message, SOON).expect("closes"));
        // While the kernel is still at the gate.
        assert_eq!(waiter.joined(), ErrorKind::Cancelled);
        for call in calls {
            assert_eq!(kind(call.wait()), ErrorKind::Cancelled);
        }
        assert!(!shutdown.is_finished(), "memory is not given back under a kernel");
        gate.open();
        let response = shutdown.joined();
        assert_eq!((response.messages_drained, response.messages_cancelled), (0, 21));
    });
}

/// Goal: a call that was answered "cancelled" by count is so by answer, however late it is asked. Method: the call is not
/// polled before another session has taken the place of its own.
pub fn a_cancelled_call_stays_cancelled_when_its_place_is_taken(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(8));
    let session = rig.session(0);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let mut message = ShutdownMessage::new(rig.memory.envelope());
    message.drain_pending_messages = false;
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| rig.memory.shutdown(session, &message, SOON).expect("closes"));
        eventually("the shutdown begins", || !rig.memory.is_open(session));
        gate.open();
        assert_eq!(shutdown.joined().messages_cancelled, 1);
    });
    let next = rig.session(0);
    assert_eq!(next.index, session.index, "the place is taken");
    assert_eq!(kind(waiting.wait()), ErrorKind::Cancelled);
}

/// Goal: a shutdown behind a kernel that does not end says so at its deadline. Method: the gate stays closed until it has.
pub fn a_shutdown_that_cannot_finish_says_so_in_time(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), config());
    let session = rig.session(0);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let message = ShutdownMessage::new(rig.memory.envelope());
    assert_eq!(kind(rig.memory.shutdown(session, &message, Duration::from_millis(20))), ErrorKind::Timeout);
    assert!(!rig.memory.is_open(session), "it stays closed");
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
}
