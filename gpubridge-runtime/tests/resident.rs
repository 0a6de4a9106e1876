//! Resident memory on the null device: what is answered, what is refused and why, and what is counted.

mod held;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, Backend, ComputeMessage, Device, DeviceIndex, Error, ErrorKind, GetMetricsMessage,
    InitializeMessage, KernelId, MemoryType, NullBackend, ReleaseMessage, RingConfig, ShutdownMessage, StagedRange,
    Status, WriteMessage,
};
use gpubridge_runtime::{BatchCall, ResidentMemory, ResidentMemoryConfig, RestoredAllocation, SessionId};
use held::{HeldDevice, NEVER, allocate, open, read, session, write};

fn memory() -> ResidentMemory {
    open(&HeldDevice::new(), RingConfig { slots: 16, staging_bytes: 64, ..RingConfig::default() })
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, kind: ErrorKind, why: &str) {
    let error = answer.expect_err(why);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

fn release(memory: &ResidentMemory, session: SessionId, id: AllocationId) -> u64 {
    let message = ReleaseMessage::new(memory.envelope(), id);
    memory.release(session, &message).expect("the session is open").bytes_freed
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let memory = memory();
    let id = session(&memory);
    let block = allocate(&memory, id, 64);
    let bytes = [9; 64];
    let at = |offset_bytes, size_bytes| {
        let staged = StagedRange { offset_bytes: 0, size_bytes };
        memory.write(id, &WriteMessage::new(memory.envelope(), block.id, offset_bytes, staged), &bytes).wait()
    };
    refused(at(1, 64), ErrorKind::InvalidArgument, "bytes 1 + 64 reach beyond the allocation's 64");
    refused(at(u64::MAX, 1), ErrorKind::InvalidArgument, "reach beyond");
    refused(at(u64::MAX, 0), ErrorKind::InvalidArgument, "reach beyond");
    refused(at(0, 65), ErrorKind::InvalidArgument, "reach beyond the staging's 64");
    refused(at(0, u64::MAX), ErrorKind::InvalidArgument, "staging");
    let mut far =
        WriteMessage::new(memory.envelope(), block.id, 0, StagedRange { offset_bytes: u64::MAX, size_bytes: 1 });
    refused(memory.write(id, &far, &bytes).wait(), ErrorKind::InvalidArgument, "staging");
    (far.staged, far.size_bytes) = (StagedRange { offset_bytes: 0, size_bytes: 8 }, 9);
    refused(memory.write(id, &far, &bytes).wait(), ErrorKind::InvalidArgument, "staging");

    let foreign = session(&memory);
    refused(write(&memory, foreign, block.id, &bytes).wait(), ErrorKind::NotFound, "another grain's");
    for forged in [
        AllocationId { slot: u32::MAX, ..block.id },
        AllocationId { slot: 1, ..block.id },
        AllocationId { generation: block.id.generation + 1, ..block.id },
    ] {
        refused(write(&memory, id, forged, &bytes).wait(), ErrorKind::NotFound, "not live");
        assert_eq!(release(&memory, id, forged), 0);
    }
    let mut read_back = [1; 64];
    read(&memory, id, block.id, &mut read_back).wait().expect("the block is whole");
    assert_eq!(read_back, [0; 64]);
    assert_eq!(release(&memory, id, block.id), 64);
    assert_eq!(release(&memory, id, block.id), 0);
    refused(read(&memory, id, block.id, &mut read_back).wait(), ErrorKind::NotFound, "not live");
}

#[test]
fn allocations_are_refused_with_the_limit_and_the_numbers() {
    let memory = memory();
    let id = memory.session(0);
    let ask = |size_bytes, memory_type| {
        let mut message = AllocateMessage::new(memory.envelope(), size_bytes);
        message.memory_type = memory_type;
        memory.allocate(id, &message)
    };
    refused(ask(64, MemoryType::Default), ErrorKind::InvalidState, "Initialize");
    let mut message = InitializeMessage::new(memory.envelope());
    message.max_pool_size_bytes = 1000;
    assert_eq!(memory.initialize(id, &message).expect("it is new").pool_size_bytes, 1000);
    refused(memory.initialize(id, &message), ErrorKind::InvalidState, "initialized already");
    refused(ask(0, MemoryType::Default), ErrorKind::InvalidArgument, "0 bytes");
    refused(ask(u64::MAX, MemoryType::Default), ErrorKind::OutOfMemory, "1000 are available");
    refused(ask(8, MemoryType::Texture), ErrorKind::Unsupported, "texture");
    let first = ask(600, MemoryType::Default).expect("it fits").handle;
    refused(ask(401, MemoryType::Shared), ErrorKind::OutOfMemory, "401 bytes were requested and 400 are available");
    // What was refused is not counted, what is released is counted back.
    ask(400, MemoryType::Shared).expect("it fits exactly");
    assert_eq!(release(&memory, id, first.id), 600);
    ask(600, MemoryType::Default).expect("it fits again");
    message.device_index = Some(DeviceIndex(3));
    refused(memory.initialize(memory.session(0), &message), ErrorKind::Unsupported, "not 3");
    let mut elsewhere = AllocateMessage::new(memory.envelope(), 8);
    elsewhere.device_index = Some(DeviceIndex(3));
    refused(memory.allocate(id, &elsewhere), ErrorKind::Unsupported, "not 3");
}

#[test]
fn the_table_of_the_device_and_the_budget_are_limits_too() {
    let device = NullBackend::default().open(DeviceIndex(0)).expect("it opens");
    let ring = RingConfig { lanes: 1, slots: 16, staging_bytes: 64, allocations: 2 };
    let config = ResidentMemoryConfig { ring, memory_budget_bytes: 1 << 20, ..ResidentMemoryConfig::default() };
    let memory = ResidentMemory::open(Arc::clone(&device), config).expect("it opens");
    let id = session(&memory);
    let ask = |size_bytes| memory.allocate(id, &AllocateMessage::new(memory.envelope(), size_bytes));
    refused(ask((1 << 20) + 1), ErrorKind::OutOfMemory, "1048576 are available");
    let handles = [ask(64).expect("there are two"), ask(64).expect("there are two")];
    refused(ask(64), ErrorKind::Full, "the lane holds 2 allocations");
    assert_eq!(memory.metrics().active_allocation_count, 2);
    let [first, _] = handles.map(|response| response.handle.id);
    assert_eq!(release(&memory, id, first), 64);
    assert_ne!(ask(64).expect("one is free").handle.id, first);
    assert_eq!(release(&memory, id, first), 0);
    let too_late = ResidentMemoryConfig { epoch: 1 << 24, ..config };
    refused(ResidentMemory::open(device, too_late), ErrorKind::InvalidArgument, "24 bits");
}

#[test]
fn memory_that_the_device_refuses_costs_no_budget() {
    const BUDGET_BYTES: u64 = 1 << 20;
    let device = HeldDevice::new();
    let config = ResidentMemoryConfig { memory_budget_bytes: BUDGET_BYTES, ..ResidentMemoryConfig::default() };
    let memory = ResidentMemory::open(Arc::clone(&device) as Arc<dyn Device>, config).expect("it opens");
    let id = session(&memory);
    let ask = || memory.allocate(id, &AllocateMessage::new(memory.envelope(), BUDGET_BYTES));
    device.is_exhausted.store(true, Ordering::Relaxed);
    refused(ask(), ErrorKind::OutOfMemory, "1048576 B of a budget of 1048576 B");
    assert_eq!(memory.memory_info().reserved_bytes, 0);
    device.is_exhausted.store(false, Ordering::Relaxed);
    ask().expect("the whole budget is left");
    assert_eq!(memory.memory_info().reserved_bytes, BUDGET_BYTES);
}

/// More blocks than wait to be bound at once, used in another order, the first of them by a command of another session.
#[test]
fn blocks_are_bound_ahead_of_their_first_use_whoever_comes_first() {
    let memory = memory();
    let sessions = [session(&memory), session(&memory)];
    let blocks: Vec<_> = (0..200).map(|at| (sessions[at % 2], allocate(&memory, sessions[at % 2], 64).id)).collect();
    for (id, block) in blocks.into_iter().rev() {
        let mut bytes = [1; 64];
        read(&memory, id, block, &mut bytes).wait().expect("it is bound");
        assert_eq!(bytes, [0; 64]);
    }
}

#[test]
fn an_unknown_kernel_is_an_answer_that_says_so() {
    let memory = memory();
    let id = session(&memory);
    let message = ComputeMessage::new(memory.envelope(), KernelId(7), None, None);
    let response = memory.compute(id, &message).wait().expect("it is an answer");
    assert!(!response.success);
    assert_eq!(response.error, Some(Status::UnknownKernel));
    refused(memory.compute(id, &message).or_error().wait(), ErrorKind::NotFound, "no kernel 7");
    assert_eq!(memory.metrics().kernel_cache_size, 0);
    let mut batch = Arc::new(memory).batch(std::num::NonZeroUsize::MIN);
    let call = BatchCall { session: id, message, token: 1 };
    refused(batch.submit(&[call, call]), ErrorKind::NotFound, "no kernel 7");
    assert!(batch.is_empty() && batch.next().is_none());
}

#[test]
fn allocations_come_back_under_their_ids() {
    let memory = memory();
    let id = session(&memory);
    let taken = allocate(&memory, id, 64).id;
    let lost = RestoredAllocation {
        id: AllocationId { slot: 5, generation: 77 },
        size_bytes: 80,
        memory_type: MemoryType::Default,
        allocated_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
        contents_lost: true,
    };
    memory.restore(id, &lost).expect("slot 5 is free");
    let mut bytes = [0; 80];
    refused(read(&memory, id, lost.id, &mut bytes).wait(), ErrorKind::ContentsLost, "5#4d");
    write(&memory, id, lost.id, &[1; 79]).wait().expect("a part may be written");
    refused(read(&memory, id, lost.id, &mut bytes).wait(), ErrorKind::ContentsLost, "were lost");
    write(&memory, id, lost.id, &[2; 80]).wait().expect("the whole brings it back");
    read(&memory, id, lost.id, &mut bytes).wait().expect("it is whole");
    assert_eq!(bytes, [2; 80]);

    let live_before = memory.metrics().used_pool_size_bytes;
    refused(memory.restore(id, &lost), ErrorKind::InvalidState, "live already");
    let onto = |slot| RestoredAllocation { id: AllocationId { slot, generation: 78 }, ..lost };
    refused(memory.restore(id, &onto(taken.slot)), ErrorKind::InvalidState, "live already");
    refused(memory.restore(id, &onto(u32::MAX)), ErrorKind::InvalidArgument, "4294967295");
    assert_eq!(memory.metrics().used_pool_size_bytes, live_before);
    let listed = memory.allocations(id).expect("it is open");
    assert_eq!(listed.iter().map(|allocation| allocation.id).collect::<Vec<_>>(), [taken, lost.id]);
    assert_eq!(listed[1], RestoredAllocation { contents_lost: false, ..lost });
    // Slots that the restore passed over are used before new ones.
    let mut slots: Vec<u32> = (0..5).map(|_| allocate(&memory, id, 8).id.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2, 3, 4, 6]);
}

#[test]
fn a_takeover_leaves_the_old_name_without_rights() {
    let memory = memory();
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    write(&memory, id, block, &[3; 64]).wait().expect("it is open");
    let sealed = memory.seal(id).expect("nobody has the turn");
    refused(write(&memory, id, block, &[4; 64]).wait(), ErrorKind::InvalidState, "not open");
    refused(memory.seal(id), ErrorKind::InvalidState, "not open");
    refused(memory.totals(id), ErrorKind::InvalidState, "not open");
    let message = ShutdownMessage::new(memory.envelope());
    refused(memory.shutdown(id, &message, NEVER), ErrorKind::InvalidState, "not open");
    let mut bytes = [0; 64];
    read(&memory, sealed, block, &mut bytes).wait().expect("the new name goes on");
    assert_eq!(bytes, [3; 64]);
    assert_eq!(memory.totals(sealed).expect("it is open").writes.count, 1);
    memory.shutdown(sealed, &message, Duration::MAX).expect("it is open");
    // The index has a new session, which knows nothing of the old one.
    let next = session(&memory);
    assert_eq!(next.index, id.index);
    assert!(memory.allocations(next).expect("it is open").is_empty());
    refused(read(&memory, sealed, block, &mut bytes).wait(), ErrorKind::InvalidState, "not open");
    refused(read(&memory, next, block, &mut bytes).wait(), ErrorKind::NotFound, "not live");
}

#[test]
fn every_request_is_counted_once() {
    let memory = memory();
    let id = session(&memory);
    let blocks: Vec<_> = (0..3).map(|_| allocate(&memory, id, 200).id).collect();
    // Four pieces each, and refusals that count for nothing.
    for block in &blocks {
        write(&memory, id, *block, &[1; 200]).wait().expect("it is within");
        write(&memory, id, *block, &[1; 201]).wait().expect_err("it is not");
    }
    let mut bytes = [0; 8];
    read(&memory, id, blocks[0], &mut bytes).wait().expect("it is within");
    assert_eq!(release(&memory, id, blocks[0]), 200);
    assert!(allocate(&memory, id, 201).id != blocks[0]);
    let mut request = GetMetricsMessage::new(memory.envelope());
    request.include_details = true;
    let metrics = memory.get_metrics(id, &request).expect("it is open");
    // Initialize, 4 × allocate, 3 × write, read, release, metrics.
    assert_eq!(metrics.total_messages_processed, 11);
    assert_eq!((metrics.pool_hit_count, metrics.pool_miss_count), (1, 3));
    assert_eq!(metrics.active_allocation_count, 3);
    let details = &metrics.details[0];
    assert_eq!((details.live_block_count, details.hit_count, details.miss_count), (3, 1, 3));
    assert_eq!(metrics.total_allocated_bytes, 3 * details.block_size_bytes);
    let whole = memory.metrics();
    assert_eq!(whole.used_pool_size_bytes, 601);
    assert_eq!((whole.total_messages_processed, whole.pending_message_count), (11, 0));
    let totals = memory.totals(id).expect("it is open");
    assert_eq!((totals.writes.count, totals.writes.bytes), (3, 600));
    assert_eq!((totals.allocations.count, totals.allocations.bytes, totals.allocations.pool_hit_count), (4, 801, 1));
    assert_eq!((totals.reads.count, totals.releases.count, totals.releases.bytes), (1, 1, 200));
    memory.shutdown(id, &ShutdownMessage::new(memory.envelope()), NEVER).expect("it is open");
    let after = memory.metrics();
    assert_eq!((after.active_allocation_count, after.used_pool_size_bytes), (0, 0));
    assert_eq!(after.total_messages_processed, 12);
    assert_eq!(after.total_allocated_bytes, metrics.total_allocated_bytes);
}

#[test]
fn pending_requests_are_counted_until_they_are_answered() {
    let device = HeldDevice::new();
    let memory = open(&device, RingConfig { slots: 16, staging_bytes: 64, ..RingConfig::default() });
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    device.hold();
    let posted = write(&memory, id, block, &[1; 64]).post().expect("there is room");
    let before = memory.metrics();
    assert_eq!((before.total_messages_processed, before.pending_message_count), (2, 1));
    device.go_on();
    let after = memory.metrics();
    assert_eq!((after.total_messages_processed, after.pending_message_count), (3, 0));
    assert_eq!(posted.wait().expect("it is answered").bytes_written, 64);
}

#[test]
fn after_the_end_every_call_says_so() {
    let memory = memory();
    let id = session(&memory);
    let block = allocate(&memory, id, 64).id;
    memory.terminate(NEVER).expect("the null ring ends");
    memory.terminate(NEVER).expect("twice is once");
    refused(write(&memory, id, block, &[1; 64]).wait(), ErrorKind::InvalidState, "the ring is stopped");
    refused(memory.allocate(id, &AllocateMessage::new(memory.envelope(), 8)), ErrorKind::InvalidState, "stopped");
    assert_eq!(memory.metrics().active_allocation_count, 1);
    assert_eq!(release(&memory, id, block), 64);
    memory.shutdown(id, &ShutdownMessage::new(memory.envelope()), NEVER).expect("there is nothing to wait for");
}
