//! What the runtime promises of a lane, on the CPU ring with kernels that wait and panic.
#![cfg(feature = "cpu")]

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpubridge::kernels::{Answer, Invocation, Kernel, id, library};
use gpubridge::runtime::{Batch, BatchCall, ResidentMemory, ResidentMemoryConfig, SessionId};
use gpubridge::{
    AllocateMessage, AllocationId, BufferUse, CallShape, ComputeMessage, Device, DeviceIndex, ElementType, ErrorKind,
    GetMetricsMessage, InitializeMessage, KernelDeclaration, KernelId, Parameters, Placement, ReadMessage,
    ReleaseMessage, RingConfig, ShutdownMessage, StagedRange, Status, Tolerance, WriteMessage, backends,
};

const GATE: KernelId = KernelId::FIRST_USER;
const PANICS_IN_WORK: KernelId = KernelId(GATE.0 + 1);
const PANICS: KernelId = KernelId(GATE.0 + 2);
const GATE_IN_RING: KernelId = KernelId(GATE.0 + 3);

/// Where a kernel waits.
struct Gate {
    is_open: Mutex<bool>,
    moved: Condvar,
}

impl Gate {
    const fn new() -> Self {
        Self { is_open: Mutex::new(true), moved: Condvar::new() }
    }

    fn set(&self, open: bool) {
        *self.is_open.lock().expect("no panic") = open;
        self.moved.notify_all();
    }

    /// Waits until it is open. Not for ever: a test that fails shall end.
    fn pass(&self) {
        let closed = self.is_open.lock().expect("no panic");
        drop(self.moved.wait_timeout_while(closed, Duration::from_secs(20), |open| !*open).expect("no panic"));
    }
}

/// Those of [`GATE`] and [`GATE_IN_RING`]. The tests that close one take turns.
static BESIDE: Gate = Gate::new();
static IN_RING: Gate = Gate::new();
static CLOSING: Mutex<()> = Mutex::new(());

fn gate(_: &Invocation<'_>, _: &mut Answer) {
    BESIDE.pass();
}

fn gate_in_ring(_: &Invocation<'_>, _: &mut Answer) {
    IN_RING.pass();
}

fn alone() -> MutexGuard<'static, ()> {
    CLOSING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panics(_: &Invocation<'_>, _: &mut Answer) {
    panic!("a kernel of a test")
}

fn declaration(id: KernelId, name: &'static str, placement: Placement) -> KernelDeclaration {
    KernelDeclaration {
        id,
        name,
        summary: "for a test",
        elements: &[ElementType::F32],
        buffers: [BufferUse::None; 3],
        scalars: &[],
        constants: &[],
        in_place: false,
        stateful: false,
        placement,
        check: |_| Ok(()),
        work: |_: &CallShape| 0,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    }
}

fn device() -> Arc<dyn Device> {
    let mut library = library();
    let beside = declaration(GATE, "gate", Placement::Beside);
    library.register(Kernel::from_twins(beside, &[(ElementType::F32, gate)])).expect("the id is free");
    let mut broken = declaration(PANICS_IN_WORK, "broken", Placement::InRingUpTo(1));
    broken.work = |_| panic!("a work size of a test");
    library.register(Kernel::from_twins(broken, &[(ElementType::F32, gate)])).expect("the id is free");
    let wrong = declaration(PANICS, "wrong", Placement::InRing);
    library.register(Kernel::from_twins(wrong, &[(ElementType::F32, panics)])).expect("the id is free");
    let mut long = declaration(GATE_IN_RING, "long", Placement::InRing);
    long.work = |_| 1 << 20;
    library.register(Kernel::from_twins(long, &[(ElementType::F32, gate_in_ring)])).expect("the id is free");
    backends(library).select(Some("cpu"), Some(DeviceIndex(0))).expect("it is built in").open().expect("it opens")
}

fn memory(slots: u32) -> Arc<ResidentMemory> {
    memory_with(slots, Duration::from_secs(60))
}

fn memory_with(slots: u32, call_deadline: Duration) -> Arc<ResidentMemory> {
    let ring = RingConfig { lanes: 1, slots, staging_bytes: 64, allocations: 1024 };
    let config = ResidentMemoryConfig { ring, call_deadline, ..Default::default() };
    Arc::new(ResidentMemory::open(device(), config).expect("it opens"))
}

fn session(memory: &ResidentMemory) -> SessionId {
    let session = memory.session(0);
    memory.initialize(session, &InitializeMessage::new(memory.envelope())).expect("it is new");
    session
}

fn allocate(memory: &ResidentMemory, session: SessionId, size_bytes: u64) -> AllocationId {
    let message = AllocateMessage::new(memory.envelope(), size_bytes);
    memory.allocate(session, &message).expect("there is memory").handle.id
}

fn compute(memory: &ResidentMemory, kernel: KernelId) -> ComputeMessage {
    ComputeMessage::new(memory.envelope(), kernel, None, None)
}

/// Commands that entered the lane before a release find their block, whatever others are given meanwhile.
#[test]
fn what_was_submitted_before_a_release_finishes_with_the_block() {
    let _alone = alone();
    let memory = memory(256);
    let (slow, other) = (session(&memory), session(&memory));
    let block = allocate(&memory, slow, 64);
    let staged = StagedRange { offset_bytes: 0, size_bytes: 64 };
    let write = WriteMessage::new(memory.envelope(), block, 0, staged);
    memory.write(slow, &write, &[7; 64]).wait().expect("it is within");
    BESIDE.set(false);
    let waiting = memory.compute(slow, &compute(&memory, GATE)).post().expect("there is room");
    let mut bytes = [0; 64];
    let read = ReadMessage::new(memory.envelope(), block, 0, staged);
    let behind = memory.read(slow, &read, &mut bytes).post().expect("there is room");
    memory.release(slow, &ReleaseMessage::new(memory.envelope(), block)).expect("it is open");
    // The other's commands overtake those that wait behind the gate.
    for _ in 0..8 {
        let taken = allocate(&memory, other, 64);
        let write = WriteMessage::new(memory.envelope(), taken, 0, staged);
        memory.write(other, &write, &[1; 64]).wait().expect("nobody holds it back");
    }
    BESIDE.set(true);
    assert!(waiting.wait().expect("the gate is open").success);
    assert_eq!(behind.wait().expect("its block was still its own").bytes_read, 64);
    assert_eq!(bytes, [7; 64]);
}

/// Fills `blocks` one after the other; returns the tokens that were answered.
fn fill(batch: &mut Batch, session: SessionId, blocks: &[AllocationId], first_token: u64) -> Vec<u64> {
    let mut calls: Vec<BatchCall> = Vec::new();
    for (token, block) in (first_token..).zip(blocks) {
        let mut message = ComputeMessage::new(batch.envelope(), id::FILL, None, Some(*block));
        message.parameters = Parameters::new().with_f32(1.0);
        calls.push(BatchCall { session, message, token });
    }
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

/// Two pipelines that together fill the lane with answers nobody has taken: each makes room with its own.
#[test]
fn batches_that_fill_a_lane_together_go_on_and_lose_no_answer() {
    let memory = memory(4);
    let session = session(&memory);
    let blocks = [allocate(&memory, session, 64), allocate(&memory, session, 64)];
    let depth = NonZeroUsize::new(100).expect("it is not 0");
    let mut batches = [memory.batch(depth), memory.batch(depth)];
    let mut tokens = [Vec::new(), Vec::new()];
    for round in 0..100 {
        for (batch, tokens) in batches.iter_mut().zip(&mut tokens) {
            tokens.extend(fill(batch, session, &blocks, round * 2));
        }
    }
    // An error costs no answer.
    let unknown = compute(&memory, KernelId(u32::MAX));
    let unknown = BatchCall { session, message: unknown, token: 999 };
    while batches[0].room() == 0 {
        tokens[0].extend(batches[0].next().map(|(token, _)| token));
    }
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

#[test]
fn a_kernel_that_panics_fails_alone_wherever_it_does() {
    let memory = memory(16);
    let (faulty, other) = (session(&memory), session(&memory));
    for kernel in [PANICS, PANICS_IN_WORK] {
        for _ in 0..3 {
            let response = memory.compute(faulty, &compute(&memory, kernel)).wait().expect("it is answered");
            assert_eq!((response.success, response.error), (false, Some(Status::KernelFault)));
        }
        let block = allocate(&memory, other, 64);
        let staged = StagedRange { offset_bytes: 0, size_bytes: 8 };
        let write = WriteMessage::new(memory.envelope(), block, 0, staged);
        memory.write(other, &write, &[1; 8]).wait().expect("the lane goes on");
    }
    memory.terminate(Duration::MAX).expect("the ring's threads are alive");
}

fn call(memory: &ResidentMemory, session: SessionId, kernel: KernelId, token: u64) -> BatchCall {
    BatchCall { session, message: compute(memory, kernel), token }
}

fn fill_call(memory: &ResidentMemory, session: SessionId, block: AllocationId, token: u64) -> BatchCall {
    let mut message = ComputeMessage::new(memory.envelope(), id::FILL, None, Some(block));
    message.parameters = Parameters::new().with_f32(1.0);
    BatchCall { session, message, token }
}

/// Answers of short commands are written together, but not behind a long one.
#[test]
fn a_short_command_is_answered_before_a_long_one_behind_it() {
    let _alone = alone();
    let memory = memory(64);
    let (short, long) = (session(&memory), session(&memory));
    let block = allocate(&memory, short, 64);
    let mut batch = memory.batch(NonZeroUsize::new(8).expect("it is not 0"));
    for round in 0..50 {
        // Mostly both are there when the ring thread looks.
        IN_RING.set(round == 0);
        let calls = [fill_call(&memory, short, block, 1), call(&memory, long, GATE_IN_RING, 2)];
        let mut left = &calls[..];
        while !left.is_empty() {
            left = &left[batch.submit(left).expect("both compile")..];
        }
        let (token, answer) = batch.next().expect("it is in flight");
        assert!(token == 1 && answer.expect("it fills").success);
        let waited = memory.metrics().pending_message_count;
        assert!(round == 0 || waited == 1, "round {round}: the long one is done before the short one is answered");
        IN_RING.set(true);
        assert_eq!(batch.next().map(|(token, answer)| (token, answer.is_ok())), Some((2, true)));
    }
}

/// A call whose kernel had to be compiled is a miss, also when it found no room afterwards.
#[test]
fn a_batch_counts_the_kernels_that_it_compiles() {
    let _alone = alone();
    let memory = memory(8);
    let (slow, id) = (session(&memory), session(&memory));
    let block = allocate(&memory, id, 64);
    let misses =
        || memory.get_metrics(id, &GetMetricsMessage::new(memory.envelope())).expect("open").kernel_cache_miss_count;
    let mut batch = memory.batch(NonZeroUsize::new(4).expect("it is not 0"));
    assert_eq!(batch.submit(&[fill_call(&memory, id, block, 1)]).expect("it compiles"), 1);
    memory.compute(slow, &compute(&memory, GATE)).wait().expect("the gate is open");
    let before = misses();
    BESIDE.set(false);
    let full: Vec<_> = (0..7).map(|_| memory.compute(slow, &compute(&memory, GATE)).post().expect("room")).collect();
    let sum = ComputeMessage::new(memory.envelope(), id::SUM, Some(block), None);
    let sum = BatchCall { session: id, message: sum, token: 2 };
    assert_eq!(batch.submit(&[sum]).expect("it compiles"), 0, "the lane is full");
    BESIDE.set(true);
    assert!(full.into_iter().all(|call| call.wait().expect("the gate is open").success));
    assert_eq!(batch.submit(&[sum]).expect("there is room"), 1);
    let hits =
        [batch.next(), batch.next()].map(|answered| answered.expect("in flight").1.expect("it runs").is_cache_hit);
    assert_eq!((hits, misses()), ([false; 2], before + 1));
}

/// Answers that nobody takes are given up with their batch: its slots go to others.
#[test]
fn a_batch_that_is_dropped_leaves_no_slot_occupied() {
    let memory = memory(4);
    let session = session(&memory);
    let block = allocate(&memory, session, 64);
    for token in 0..50 {
        let mut batch = memory.batch(NonZeroUsize::new(2).expect("it is not 0"));
        assert_eq!(batch.submit(&[fill_call(&memory, session, block, token)]).expect("there is room in time"), 1);
    }
    assert!(memory.compute(session, &fill_call(&memory, session, block, 0).message).wait().expect("room").success);
}

/// An answer that does not come in time is given up, is no latency, and what comes behind it is answered.
#[test]
fn a_batch_outlives_a_deadline() {
    let _alone = alone();
    let memory = memory_with(8, Duration::from_millis(300));
    let (slow, quick) = (session(&memory), session(&memory));
    let block = allocate(&memory, quick, 64);
    let mut batch = memory.batch(NonZeroUsize::new(4).expect("it is not 0"));
    // More of them than the lane has slots: those of the late ones are used again.
    for round in 0..3 {
        BESIDE.set(false);
        for _ in 0..3 {
            assert_eq!(batch.submit(&[call(&memory, slow, GATE, 1)]).expect("it compiles"), 1, "round {round}");
            let late = batch.next().expect("it is in flight").1.expect_err("the gate is closed");
            assert_eq!(late.kind(), ErrorKind::Timeout);
        }
        assert!(round > 0 || memory.metrics().average_message_latency_ns == 0.0, "nothing was answered");
        assert_eq!(batch.submit(&[fill_call(&memory, quick, block, 2)]).expect("there is room"), 1);
        assert!(batch.next().expect("it is in flight").1.expect("it fills").success);
        BESIDE.set(true);
        let open = memory.compute(slow, &compute(&memory, GATE)).with_deadline(Duration::from_secs(60)).wait();
        assert!(open.expect("the gate is open").success);
    }
}

/// Shutting a session down without draining cancels what a batch has in flight there, and nothing else.
#[test]
fn a_batch_is_told_of_a_session_that_is_shut_down() {
    let _alone = alone();
    let memory = memory(16);
    let (slow, other) = (session(&memory), session(&memory));
    let block = allocate(&memory, other, 64);
    let mut batch = memory.batch(NonZeroUsize::new(8).expect("it is not 0"));
    BESIDE.set(false);
    let calls = [call(&memory, slow, GATE, 1), call(&memory, slow, GATE, 2), fill_call(&memory, other, block, 3)];
    let mut left = &calls[..];
    while !left.is_empty() {
        left = &left[batch.submit(left).expect("they compile")..];
    }
    let mut shutdown = ShutdownMessage::new(memory.envelope());
    shutdown.drain_pending_messages = false;
    let opener = std::thread::spawn(|| BESIDE.set(true));
    memory.shutdown(slow, &shutdown, Duration::from_secs(60)).expect("it is open");
    opener.join().expect("no panic");
    let kinds =
        std::iter::from_fn(|| batch.next()).map(|(token, answer)| (token, answer.err().map(|error| error.kind())));
    let cancelled = Some(ErrorKind::Cancelled);
    assert_eq!(kinds.collect::<Vec<_>>(), [(1, cancelled), (2, cancelled), (3, None)]);
}
