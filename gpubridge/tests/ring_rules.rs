//! What the runtime promises of a lane, on the CPU ring with kernels that wait and panic.
#![cfg(feature = "cpu")]

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gpubridge::kernels::{Answer, Invocation, Kernel, id, library};
use gpubridge::runtime::{Batch, BatchCall, ResidentMemory, ResidentMemoryConfig, SessionId};
use gpubridge::{
    AllocateMessage, AllocationId, BufferUse, CallShape, ComputeMessage, Device, DeviceIndex, ElementType, ErrorKind,
    InitializeMessage, KernelDeclaration, KernelId, Parameters, Placement, ReadMessage, ReleaseMessage, RingConfig,
    StagedRange, Status, Tolerance, WriteMessage, backends,
};

const GATE: KernelId = KernelId::FIRST_USER;
const PANICS_IN_WORK: KernelId = KernelId(GATE.0 + 1);
const PANICS: KernelId = KernelId(GATE.0 + 2);

/// Where [`GATE`] waits; one test uses it.
static GATE_IS_OPEN: Mutex<bool> = Mutex::new(true);
static GATE_MOVED: Condvar = Condvar::new();

fn set_gate(open: bool) {
    *GATE_IS_OPEN.lock().expect("no panic") = open;
    GATE_MOVED.notify_all();
}

fn gate(_: &Invocation<'_>, _: &mut Answer) {
    drop(GATE_MOVED.wait_while(GATE_IS_OPEN.lock().expect("no panic"), |open| !*open).expect("no panic"));
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
    backends(library).select(Some("cpu"), Some(DeviceIndex(0))).expect("it is built in").open().expect("it opens")
}

fn memory(slots: u32) -> Arc<ResidentMemory> {
    let ring = RingConfig { lanes: 1, slots, staging_bytes: 64, allocations: 1024 };
    let config = ResidentMemoryConfig { ring, call_deadline: Duration::from_secs(60), ..Default::default() };
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
    let memory = memory(256);
    let (slow, other) = (session(&memory), session(&memory));
    let block = allocate(&memory, slow, 64);
    let staged = StagedRange { offset_bytes: 0, size_bytes: 64 };
    let write = WriteMessage::new(memory.envelope(), block, 0, staged);
    memory.write(slow, &write, &[7; 64]).wait().expect("it is within");
    set_gate(false);
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
    set_gate(true);
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
