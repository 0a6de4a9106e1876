//! What the runtime promises of a lane: batches that share it, deadlines in it, blocks that leave it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    AllocationId, ComputeMessage, ErrorKind, GetMetricsMessage, KernelId, KernelSpec, Parameters, ReadMessage,
    ShutdownMessage, Status,
};
use gpubridge_kernels::id::{FILL, SUM};
use gpubridge_runtime::{Batch, BatchCall, SessionId};

use crate::rig::{Gate, Joined, OpenAtEnd, Rig, SOON, narrow, staged};
use crate::twins::{FAULTY, FAULTY_BESIDE, FAULTY_WORK, GATED, all_faulty, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("lanes",
    Compute {
        batches_that_fill_a_lane_together_go_on_and_lose_no_answer => "Batch/full-lane",
        a_batch_that_is_dropped_leaves_no_slot_occupied => "Batch/dropped",
    }
    Twins {
        what_was_submitted_before_a_release_finishes_with_the_block => "ResidentMemory::release/under-way",
        a_kernel_that_fails_anywhere_fails_alone => "ResidentMemory::compute/panic",
        a_batch_counts_the_kernels_that_it_compiles => "Batch/compiles",
        a_batch_outlives_a_deadline => "Batch/deadline",
        a_batch_is_told_of_a_session_that_is_shut_down => "Batch/cancelled",
    }
);

fn batch(rig: &Rig, depth: usize) -> Batch {
    rig.memory.batch(NonZeroUsize::new(depth).expect("it is not 0"))
}

fn call(rig: &Rig, session: SessionId, kernel: KernelSpec, token: u64) -> BatchCall {
    BatchCall { session, message: ComputeMessage::new(rig.memory.envelope(), kernel, None, None), token }
}

fn fill_call(rig: &Rig, session: SessionId, block: AllocationId, token: u64) -> BatchCall {
    let mut message = ComputeMessage::new(rig.memory.envelope(), FILL, None, Some(block));
    message.parameters = Parameters::new().with_f32(1.0);
    BatchCall { session, message, token }
}

/// Submits all of them, which fit.
fn submit_all(batch: &mut Batch, calls: &[BatchCall]) {
    let mut left = calls;
    while !left.is_empty() {
        left = &left[batch.submit(left).expect("they compile")..];
    }
}

/// Fills `blocks` one after the other; returns the tokens that were answered.
fn fill(rig: &Rig, batch: &mut Batch, session: SessionId, blocks: &[AllocationId], first_token: u64) -> Vec<u64> {
    let calls: Vec<_> =
        (first_token..).zip(blocks).map(|(token, block)| fill_call(rig, session, *block, token)).collect();
    let mut tokens = Vec::new();
    let mut left = &calls[..];
    while !left.is_empty() {
        let submitted = batch.submit(left).expect("there is room in time");
        left = &left[submitted..];
        if submitted == 0 {
            let (token, response) = batch.next().expect("the pipeline is full");
            assert!(response.expect("it fills").success);
            tokens.push(token);
        }
    }
    tokens
}

/// Goal: pipelines that together fill the lane with answers nobody has taken go on: each makes room with its own. Method: two
/// of more depth than the lane has slots; an error between costs no answer.
pub fn batches_that_fill_a_lane_together_go_on_and_lose_no_answer(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    let session = rig.session(0);
    let blocks = [rig.allocate(session, 64), rig.allocate(session, 64)];
    let mut batches = [batch(&rig, 100), batch(&rig, 100)];
    let mut tokens = [Vec::new(), Vec::new()];
    for round in 0..100 {
        for (batch, tokens) in batches.iter_mut().zip(&mut tokens) {
            tokens.extend(fill(&rig, batch, session, &blocks, round * 2));
        }
    }
    while batches[0].room() == 0 {
        tokens[0].extend(batches[0].next().map(|(token, _)| token));
    }
    let unknown = call(&rig, session, KernelSpec::new(KernelId(u32::MAX)), 999);
    assert_eq!(batches[0].submit(&[unknown]).expect_err("there is none").kind(), ErrorKind::NotFound);
    for (batch, tokens) in batches.iter_mut().zip(&mut tokens) {
        while let Some((token, response)) = batch.next() {
            assert!(response.expect("it fills").success);
            tokens.push(token);
        }
        assert!(batch.is_empty());
        assert!(tokens.iter().copied().eq(0..200), "{tokens:?}");
    }
}

/// Goal: answers that nobody takes are given up with their batch. Method: more batches than slots are dropped with a call in
/// flight; then there is a slot for another call.
pub fn a_batch_that_is_dropped_leaves_no_slot_occupied(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    let session = rig.session(0);
    let block = rig.allocate(session, 64);
    for token in 0..50 {
        let call = fill_call(&rig, session, block, token);
        assert_eq!(batch(&rig, 2).submit(&[call]).expect("there is room in time"), 1);
    }
    let message = fill_call(&rig, session, block, 0).message;
    assert!(rig.memory.compute(session, &message).wait().expect("there is room").success);
}

/// Goal: commands that entered the lane before a release find their block, whatever others are given meanwhile. Method: a read
/// waits behind a gate while its block is released, and eight others allocate and write in the same lane.
pub fn what_was_submitted_before_a_release_finishes_with_the_block(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(256));
    let (slow, other) = (rig.session(0), rig.session(0));
    let block = rig.allocate(slow, 64);
    rig.write(slow, block, &[7; 64]);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(slow, GATED, None).post().expect("there is room");
    gate.wait_arrived(1);
    let mut bytes = [0; 64];
    let read = ReadMessage::new(rig.memory.envelope(), block, 0, staged(64));
    let behind = rig.memory.read(slow, &read, &mut bytes).post().expect("there is room");
    rig.release(slow, block);
    // The other's commands overtake those that wait behind the gate.
    for _ in 0..8 {
        let taken = rig.allocate(other, 64);
        rig.write(other, taken, &[1; 64]);
    }
    gate.open();
    assert!(waiting.wait().expect("the gate is open").success);
    assert_eq!(behind.wait().expect("its block was still its own").bytes_read, 64);
    assert_eq!(bytes, [7; 64]);
}

/// Goal: a kernel of a user's that fails is a fault of its own call, wherever it fails. Method: kernels that panic in the ring,
/// beside it and when their work is asked for; another session goes on, and the memory can be terminated.
pub fn a_kernel_that_fails_anywhere_fails_alone(context: &Context) {
    let rig = Rig::new(context.device_with(&all_faulty()), narrow(16));
    let (faulty, other) = (rig.session(0), rig.session(0));
    for kernel in [FAULTY, FAULTY_BESIDE, FAULTY_WORK] {
        for _ in 0..3 {
            let response = rig.compute(faulty, kernel, None).wait().expect("it is answered");
            assert_eq!((response.success, response.error), (false, Some(Status::KernelFault)), "{kernel:?}");
        }
        let block = rig.allocate(other, 64);
        rig.write(other, block, &[1; 8]);
    }
    rig.memory.terminate(Duration::MAX).expect("the ring is alive");
}

/// Goal: a call whose kernel had to be compiled is a miss, also when it found no room afterwards. Method: a batch compiles for
/// a lane that is full behind a gate, and submits the same call later.
pub fn a_batch_counts_the_kernels_that_it_compiles(context: &Context) {
    let gate = Gate::opened();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(8));
    let (slow, id) = (rig.session(0), rig.session(0));
    let block = rig.allocate(id, 64);
    let misses = || {
        let message = GetMetricsMessage::new(rig.memory.envelope());
        rig.memory.get_metrics(id, &message).expect("it is open").kernel_cache_miss_count
    };
    let mut batch = batch(&rig, 4);
    let _open = OpenAtEnd(&gate);
    assert_eq!(batch.submit(&[fill_call(&rig, id, block, 1)]).expect("it compiles"), 1);
    rig.run(slow, GATED, None);
    let before = misses();
    gate.close();
    let full: Vec<_> = (0..7).map(|_| rig.compute(slow, GATED, None).post().expect("there is room")).collect();
    let message = ComputeMessage::new(rig.memory.envelope(), SUM, Some(block), None);
    let sum = BatchCall { session: id, message, token: 2 };
    assert_eq!(batch.submit(&[sum]).expect("it compiles"), 0, "the lane is full");
    gate.open();
    assert!(full.into_iter().all(|call| call.wait().expect("the gate is open").success));
    assert_eq!(batch.submit(&[sum]).expect("there is room"), 1);
    let hits =
        [batch.next(), batch.next()].map(|answered| answered.expect("in flight").1.expect("it runs").is_cache_hit);
    assert_eq!((hits, misses()), ([false; 2], before + 1));
}

/// Goal: an answer that does not come in time is given up, is no latency, and what comes behind it is answered. Method: more
/// late answers than the lane has slots, so that theirs are used again.
pub fn a_batch_outlives_a_deadline(context: &Context) {
    let gate = Gate::closed();
    let mut config = narrow(8);
    config.call_deadline = Duration::from_millis(300);
    let rig = Rig::new(context.device_with(&[gated(&gate)]), config);
    let (slow, quick) = (rig.session(0), rig.session(0));
    let block = rig.allocate(quick, 64);
    let mut batch = batch(&rig, 4);
    let _open = OpenAtEnd(&gate);
    for round in 0..3 {
        gate.close();
        for _ in 0..3 {
            assert_eq!(batch.submit(&[call(&rig, slow, GATED, 1)]).expect("it compiles"), 1, "round {round}");
            let late = batch.next().expect("it is in flight").1.expect_err("the gate is closed");
            assert_eq!(late.kind(), ErrorKind::Timeout);
        }
        assert!(round > 0 || rig.memory.metrics().average_message_latency_ns == 0.0, "nothing was answered");
        // The device may be others' too, for whom it holds its rings up now and then: what comes too late for that is repeated.
        let since = Instant::now();
        let mut fill = || {
            let submitted = batch.submit(&[fill_call(&rig, quick, block, 2)]).map_err(|error| error.kind())?;
            if submitted == 0 {
                return Err(ErrorKind::Full);
            }
            batch.next().expect("it is in flight").1.map_err(|error| error.kind())
        };
        let filled = loop {
            match fill() {
                Err(ErrorKind::Full | ErrorKind::Timeout) if since.elapsed() < SOON => thread::yield_now(),
                answered => break answered,
            }
        };
        assert!(filled.expect("the gate holds nobody else up").success);
        gate.open();
        let open = rig.compute(slow, GATED, None).with_deadline(SOON).wait();
        assert!(open.expect("the gate is open").success);
    }
}

/// Goal: shutting a session down without draining cancels what a batch has in flight there, and nothing else. Method: one
/// session with calls at a gate and one without, in one batch.
pub fn a_batch_is_told_of_a_session_that_is_shut_down(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate)]), narrow(16));
    let (slow, other) = (rig.session(0), rig.session(0));
    let block = rig.allocate(other, 64);
    let mut batch = batch(&rig, 8);
    let _open = OpenAtEnd(&gate);
    let calls = [call(&rig, slow, GATED, 1), call(&rig, slow, GATED, 2), fill_call(&rig, other, block, 3)];
    submit_all(&mut batch, &calls);
    let mut shutdown = ShutdownMessage::new(rig.memory.envelope());
    shutdown.drain_pending_messages = false;
    let opener = thread::spawn({
        let gate = Arc::clone(&gate);
        move || gate.open()
    });
    rig.memory.shutdown(slow, &shutdown, SOON).expect("it is open");
    opener.joined();
    let kinds =
        std::iter::from_fn(|| batch.next()).map(|(token, answer)| (token, answer.err().map(|error| error.kind())));
    let cancelled = Some(ErrorKind::Cancelled);
    assert_eq!(kinds.collect::<Vec<_>>(), [(1, cancelled), (2, cancelled), (3, None)]);
}
