//! Calls as futures: awaited anywhere, dropped, leaked, late.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, GpuMemoryHandle, KernelId, KernelSpec};
use gpubridge_grains::{GrainRef, Silo, wait};
use gpubridge_kernels::id::FILL;

use crate::rig::{
    Gate, KIB, OpenAtEnd, Rig, allocate, config, kept, kind, narrow, pattern, silo_config, silo_on, stop,
};
use crate::twins::{COUNTER, GATED, counter, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("futures",
    Memory {
        calls_are_awaited_on_a_runtime_of_many_threads => "Call/any-runtime",
        calls_are_awaited_on_a_runtime_of_one_thread => "Call/one-thread",
        a_call_does_nothing_before_it_is_polled => "Call/lazy",
        calls_dropped_after_a_poll_stall_nobody => "Call/drop",
        leaked_calls_stall_nobody => "Call/leak",
        posted_data_is_captured => "Call::post/captured",
        a_call_that_was_posted_may_be_dropped => "Call::post/dropped",
        a_dropped_call_in_pieces_frees_its_grain_at_once => "Call/drop-in-pieces",
    }
    Compute {
        a_post_that_is_refused_is_an_error => "Call::post/refused",
    }
    Twins {
        a_leaked_call_in_pieces_holds_its_grain_until_its_deadline => "Call/leak-in-pieces",
        a_deadline_that_passes_is_a_timeout_and_the_staging_stays => "Call::with_deadline/timeout",
        deadlines_pass_for_tasks_and_threads_alike => "Call::with_deadline/wakes",
        a_call_may_be_dropped_while_its_kernel_runs => "Call/drop-under-way",
    }
);

fn narrow_silo(context: &Context) -> Silo {
    silo_on(context.device(), Arc::new(gpubridge_grains::storage::MemoryStorage::new()), silo_config(narrow(8)))
}

/// Writes and reads numbers, each compared.
async fn write_and_read(grain: GrainRef, rounds: u32) -> u32 {
    let handle = grain.allocate(400, Default::default()).await.expect("there is room");
    for round in 0..rounds {
        let sent: Vec<u32> = (round..round + 100).collect();
        grain.write(handle, &sent, 0).await.expect("is written");
        assert_eq!(grain.read::<u32>(handle, 0, 100).await.expect("is read"), sent);
    }
    rounds
}

fn on_runtime(context: &Context, runtime: &tokio::runtime::Runtime) {
    let silo = narrow_silo(context);
    let total = runtime.block_on(async {
        let tasks: Vec<_> = (0..20_u64)
            .map(|key| tokio::spawn(write_and_read(silo.grain(key).expect("the key is good"), 50)))
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.expect("no panic");
        }
        total
    });
    assert_eq!(total, 1000);
    runtime.block_on(async { assert!(silo.shutdown(crate::rig::SOON).await.is_clean()) });
}

/// Goal: calls need no runtime and work on any. Method: twenty tasks on four threads, through a lane of eight slots.
pub fn calls_are_awaited_on_a_runtime_of_many_threads(context: &Context) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("a runtime");
    on_runtime(context, &runtime);
}

/// Goal: as above where nobody else can drive what a task waits for. Method: the same on one thread, without timers.
pub fn calls_are_awaited_on_a_runtime_of_one_thread(context: &Context) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    on_runtime(context, &runtime);
}

fn poll_once<F: Future>(future: F) {
    let _ = pin!(future).poll(&mut TaskContext::from_waker(Waker::noop()));
}

/// Goal: making a call is not doing it. Method: writes that are never polled leave no trace.
pub fn a_call_does_nothing_before_it_is_polled(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    let before = rig.processed();
    for _ in 0..100 {
        let message = rig.write_message(id, 0, 64);
        drop(rig.memory.write(session, &message, &[9; 64]));
        std::mem::forget(rig.memory.write(session, &message, &[9; 64]));
    }
    assert_eq!(rig.processed(), before);
    assert_eq!(rig.read(session, id, 64), [0; 64]);
}

/// Calls of another grain, through many laps of the lane.
fn others_go_on(grain: &GrainRef, handle: GpuMemoryHandle) {
    for round in 0..1000_u32 {
        let sent = [round; 50];
        grain.write(handle, &sent, 0).wait().expect("others are not held up");
        assert_eq!(wait(grain.read::<u32>(handle, 0, 50)).expect("others are not held up"), sent);
    }
}

/// Goal: a future dropped after one poll gives up its answer and holds nobody back. Method: many more of them than
/// slots, then others through many laps.
pub fn calls_dropped_after_a_poll_stall_nobody(context: &Context) {
    let silo = narrow_silo(context);
    let (grain, other) = (silo.grain("drops").expect("good"), silo.grain("other").expect("good"));
    let (handle, others) = (allocate(&grain, 400), allocate(&other, 400));
    for round in 0..500_u32 {
        poll_once(grain.write(handle, &[round; 50], 0));
        poll_once(grain.read_into(handle, 0, &mut [0_u32; 50]));
    }
    others_go_on(&other, others);
    // Each was one command: dropped, it is done or not, never in part.
    let read = wait(grain.read::<u32>(handle, 0, 50)).expect("is read");
    assert!(read.iter().all(|x| *x == read[0]), "a dropped write was torn");
    stop(silo);
}

/// Goal: a future that is polled once and leaked holds one slot, and nobody back. Method: all slots but two of a lane
/// leaked, then others through many laps.
pub fn leaked_calls_stall_nobody(context: &Context) {
    let silo = narrow_silo(context);
    let (grain, other) = (silo.grain("leaks").expect("good"), silo.grain("other").expect("good"));
    let (handle, others) = (allocate(&grain, 400), allocate(&other, 400));
    for _ in 0..6 {
        let call = grain.write(handle, &[7_u32; 50], 0).post().expect("is submitted");
        std::mem::forget(call);
    }
    others_go_on(&other, others);
    others_go_on(&grain, handle);
    stop(silo);
}

/// Goal: post captures the data. Method: the buffer is overwritten as soon as post returns, and the call goes on.
pub fn posted_data_is_captured(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, 4 * KIB);
    for size in [1, 32, 33, 256, 257, 4096] {
        let mut data = pattern(size as u64, size);
        let message = rig.write_message(id, 0, size);
        drop(rig.memory.write(session, &message, &data).post().expect("is submitted"));
        data.fill(0);
        assert_eq!(rig.read(session, id, size), pattern(size as u64, size));
    }
}

/// Goal: what was posted takes effect in order, taken or not. Method: a thousand posts, each dropped, then a read.
pub fn a_call_that_was_posted_may_be_dropped(context: &Context) {
    let silo = narrow_silo(context);
    let grain = silo.grain("posts").expect("good");
    let handle = allocate(&grain, 4);
    for round in 0..1000_u32 {
        drop(grain.write(handle, &[round], 0).post().expect("is submitted"));
        if round % 100 == 99 {
            assert_eq!(kept(&grain, handle).expect("is read"), round);
        }
    }
    stop(silo);
}

/// Goal: a refused computation is no posted one, though its refusal would be a response. Method: an unknown kernel, and
/// a buffer that is not live.
pub fn a_post_that_is_refused_is_an_error(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let released = rig.allocate(session, 16);
    rig.release(session, released);
    for (kernel, output) in [(KernelSpec::new(KernelId(9999)), None), (KernelSpec::new(FILL), Some(released))] {
        assert!(!rig.compute(session, kernel, output).wait().expect("is answered").success);
        assert_eq!(kind(rig.compute(session, kernel, output).post()), ErrorKind::NotFound, "{kernel:?}");
    }
}

/// Goal: a call in pieces that is polled once and never again does not hold its grain for ever. Method: begun
/// behind a gate with a short deadline; the next call of the grain, with a long one, goes through.
pub fn a_leaked_call_in_pieces_holds_its_grain_until_its_deadline(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(8));
    let session = rig.session(0);
    let _open = OpenAtEnd(&gate);
    poll_once(rig.compute(session, GATED, None));
    let id = rig.allocate(session, 64 * KIB);
    // In pieces also where more would go in one.
    let data = vec![1; 60 << 10];
    let message = rig.write_message(id, 0, data.len());
    let call = rig.memory.write(session, &message, &data).with_deadline(Duration::from_millis(50));
    let mut call = Box::pin(call);
    assert!(call.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
    gate.open();
    rig.write(session, id, &[2; 64]);
    assert_eq!(rig.read(session, id, 64), [2; 64]);
    // The late one is told, and does not go on.
    assert_eq!(kind(wait(call)), ErrorKind::Timeout);
    assert_eq!(rig.read(session, id, 64), [2; 64]);
}

/// Goal: dropping a call in pieces frees its grain. Method: polled once, dropped; the next call needs no deadline.
pub fn a_dropped_call_in_pieces_frees_its_grain_at_once(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, 64 * KIB);
    let data = vec![1; 64 << 10];
    for round in 0..50 {
        let message = rig.write_message(id, 0, data.len());
        poll_once(rig.memory.write(session, &message, &data));
        rig.write(session, id, &pattern(round, 64));
        assert_eq!(rig.read(session, id, 64), pattern(round, 64));
    }
}

/// Goal: a deadline that passes is a typed error, and the device keeps the call's staging until it has answered. Method:
/// a staged write behind a kernel at a gate times out; others write other bytes through every slot; the gate opens, and
/// the late write arrives whole.
pub fn a_deadline_that_passes_is_a_timeout_and_the_staging_stays(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(8));
    let (session, other) = (rig.session(0), rig.session(0));
    let (id, others) = (rig.allocate(session, 200), rig.allocate(other, 200));
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let late = pattern(42, 200);
    let message = rig.write_message(id, 0, 200);
    let timed_out = rig.memory.write(session, &message, &late).with_deadline(Duration::from_millis(20)).wait();
    assert_eq!(kind(timed_out), ErrorKind::Timeout);
    for round in 0..200 {
        rig.write(other, others, &pattern(round, 200));
    }
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    assert_eq!(rig.read(session, id, 200), late, "its staging was used again under it");
    assert_eq!(rig.read(other, others, 200), pattern(199, 200));
}

/// Goal: a deadline wakes whoever waits: a parked thread, a task, a blocked call of a full lane. Method: each behind a
/// kernel at a gate.
pub fn deadlines_pass_for_tasks_and_threads_alike(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), narrow(4));
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let short = Duration::from_millis(30);
    let call = || rig.compute(session, COUNTER, Some(id)).with_deadline(short);
    assert_eq!(kind(call().wait()), ErrorKind::Timeout);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(kind(runtime.block_on(async { call().await })), ErrorKind::Timeout);
    // Two slots are left to the device by those; one more call, and the lane is full.
    assert_eq!(
        kind(thread::scope(|scope| scope.spawn(|| call().wait()).join()).expect("no panic")),
        ErrorKind::Timeout
    );
    assert_eq!(kind(call().post()), ErrorKind::Timeout, "there is no room to post");
    assert_eq!(kind(runtime.block_on(async { call().await })), ErrorKind::Timeout);
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    let sum = rig.run(session, COUNTER, Some(id)).result.u32_at(0);
    assert_eq!(sum, Some(4), "three calls timed out after they were submitted, none was counted twice");
}

/// Goal: dropping a call does not wait for the device, and what it began is finished under memory that is still there.
/// Method: dropped while its kernel stands at the gate; its grain's later calls come after it.
pub fn a_call_may_be_dropped_while_its_kernel_runs(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    poll_once(rig.compute(session, GATED, None));
    gate.wait_arrived(1);
    poll_once(rig.compute(session, COUNTER, Some(id)));
    rig.release(session, id);
    let next = rig.allocate(rig.session(0), 4);
    gate.open();
    let after = rig.allocate(session, 4);
    assert!(rig.run(session, COUNTER, Some(after)).result.u32_at(0).is_some_and(|sum| sum <= 2));
    assert_ne!(next, after);
}
