//! Messages: they carry what they were given, they are unique, and a response finds its request.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpubridge_abstractions::{
    AllocateMessage, AllocateResponse, AllocationId, ComputeMessage, ComputeResponse, DeviceIndex, Envelope, Error,
    ErrorKind, GetMetricsMessage, GpuMemoryHandle, InitializeMessage, InitializeResponse, InlineResult, KernelId,
    MemoryType, Message, MetricsResponse, Parameters, ReadMessage, ReadResponse, ReleaseMessage, ReleaseResponse,
    RequestId, Response, ShutdownMessage, ShutdownResponse, SizeClassMetrics, StagedRange, Status, WriteMessage,
    WriteResponse,
};

use crate::Case;
use crate::rig::Joined;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("messages":
    request_ids_are_unique => "Envelope::now/unique-id",
    timestamps_lie_between_before_and_after => "Envelope::now/timestamp",
    a_batch_shares_a_timestamp_and_no_id => "Envelope::at/shared-reading",
    allocate_keeps_its_parameters => "AllocateMessage/kept",
    allocate_defaults_to_device_memory_anywhere => "AllocateMessage/defaults",
    allocate_response_keeps_handle_and_hit => "AllocateResponse/kept",
    replies_out_of_order_find_their_requests => "Response::original_request_id/any-order",
    write_keeps_its_staged_range_and_offset => "WriteMessage/staged",
    read_keeps_its_staged_range_and_offset => "ReadMessage/staged",
    transfer_responses_keep_bytes_and_time => "WriteResponse/exact",
    compute_keeps_kernel_buffers_and_parameters => "ComputeMessage/kept",
    compute_parameters_that_overflow_are_an_error => "Parameters::words/overflow",
    compute_response_keeps_times_and_cache_flag => "ComputeResponse/times",
    compute_response_keeps_its_inline_result => "InlineResult/length",
    compute_error_path_says_why => "ComputeResponse/failure",
    release_returns_to_the_pool_unless_told => "ReleaseMessage/to-pool",
    release_response_keeps_bytes_and_pool_flag => "ReleaseResponse/kept",
    metrics_response_keeps_all_nine_values => "MetricsResponse/nine-values",
    details_come_only_if_asked_for => "GetMetricsMessage/details",
    initialize_keeps_its_configuration => "InitializeMessage/defaults",
    initialize_response_says_what_was_granted => "InitializeResponse/granted",
    shutdown_drains_unless_told => "ShutdownMessage/drains",
);

const ALLOCATION: AllocationId = AllocationId { slot: 7, generation: 0x1_0000_0009 };
const OTHER: AllocationId = AllocationId { slot: 8, generation: 0x1_0000_000a };

/// What arrives after the message has travelled: nothing may get lost or change on the way.
fn sent<M: Message>(message: &M) -> M {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("the message fits");
    M::decode(&bytes).expect("what was encoded decodes")
}

fn handle(id: AllocationId, size_bytes: u64) -> GpuMemoryHandle {
    GpuMemoryHandle {
        id,
        size_bytes,
        memory_type: MemoryType::Pinned,
        device_index: DeviceIndex(3),
        allocated_at: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
    }
}

/// 80 000 envelopes made by eight threads at once have 80 000 ids.
pub fn request_ids_are_unique() {
    let ids: Vec<RequestId> = std::thread::scope(|scope| {
        let make = || (0..10_000).map(|_| Envelope::now().request_id).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().flat_map(|thread| thread.joined()).collect()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 80_000);
}

/// A message is stamped with the time at which it was made, in microseconds since the Unix epoch.
pub fn timestamps_lie_between_before_and_after() {
    let clock_us = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let before_us = clock_us();
    let stamp_us = u128::from(AllocateMessage::new(Envelope::now(), 1).envelope().timestamp_us);
    let after_us = clock_us();
    assert!((before_us..=after_us).contains(&stamp_us), "{stamp_us} is not within {before_us}..={after_us}");
}

/// Messages made with one clock reading have that reading, and an id each.
pub fn a_batch_shares_a_timestamp_and_no_id() {
    let batch: Vec<Envelope> = (0..1000).map(|_| Envelope::at(1_234_567)).collect();
    assert!(batch.iter().all(|envelope| envelope.timestamp_us == 1_234_567));
    assert_eq!(batch.iter().map(|envelope| envelope.request_id).collect::<HashSet<_>>().len(), batch.len());
}

/// Size, memory type and device arrive as they were given.
pub fn allocate_keeps_its_parameters() {
    for memory_type in MemoryType::ALL {
        let envelope = Envelope::now();
        let request = AllocateMessage {
            memory_type,
            device_index: Some(DeviceIndex(2)),
            ..AllocateMessage::new(envelope, 1 << 40)
        };
        let arrived = sent(&request);
        assert_eq!((arrived.envelope, arrived.size_bytes), (envelope, 1 << 40));
        assert_eq!((arrived.memory_type, arrived.device_index), (memory_type, Some(DeviceIndex(2))));
    }
}

/// Who asks for nothing else gets device-local memory on any device.
pub fn allocate_defaults_to_device_memory_anywhere() {
    let request = sent(&AllocateMessage::new(Envelope::now(), 4096));
    assert_eq!((request.memory_type, request.device_index), (MemoryType::Default, None));
}

/// Handle and pool flag arrive as they were given, the time of allocation to the nanosecond.
pub fn allocate_response_keeps_handle_and_hit() {
    for is_pool_hit in [false, true] {
        let handle = handle(ALLOCATION, 4096);
        let response = sent(&AllocateResponse::new(Envelope::now(), RequestId::next(), handle, is_pool_hit));
        assert_eq!((response.handle, response.is_pool_hit), (handle, is_pool_hit));
    }
}

/// Replies that come in another order than their requests are matched by id alone, and each is the right one.
pub fn replies_out_of_order_find_their_requests() {
    let requests: Vec<AllocateMessage> =
        (1..=100).map(|kib| AllocateMessage::new(Envelope::now(), kib << 10)).collect();
    let mut waiting: HashMap<RequestId, u64> =
        requests.iter().map(|request| (request.envelope.request_id, request.size_bytes)).collect();
    for request in requests.iter().rev() {
        let request = sent(request);
        let granted = handle(ALLOCATION, request.size_bytes);
        let reply = AllocateResponse::new(Envelope::now(), request.envelope.request_id, granted, false);
        let reply = sent(&reply);
        assert_ne!(reply.envelope.request_id, reply.original_request_id(), "a reply has an id of its own");
        let size_bytes = waiting.remove(&reply.original_request_id()).expect("the reply names a request that waits");
        assert_eq!(reply.handle.size_bytes, size_bytes, "the reply belongs to another request");
    }
    assert!(waiting.is_empty(), "unanswered: {waiting:?}");
}

/// A write keeps its target, its offset there and the staged range, and is as long as that range.
pub fn write_keeps_its_staged_range_and_offset() {
    let staged = StagedRange { offset_bytes: 8192, size_bytes: 4096 };
    let request = sent(&WriteMessage::new(Envelope::now(), ALLOCATION, 512, staged));
    assert_eq!((request.allocation, request.offset_bytes), (ALLOCATION, 512));
    assert_eq!((request.size_bytes, request.staged), (4096, staged));
    let shorter = sent(&WriteMessage { size_bytes: 100, ..request });
    assert_eq!((shorter.size_bytes, shorter.staged), (100, staged));
}

/// A read keeps its source, its offset there and the staged range, and is as long as that range.
pub fn read_keeps_its_staged_range_and_offset() {
    let staged = StagedRange { offset_bytes: 64, size_bytes: 1 << 33 };
    let request = sent(&ReadMessage::new(Envelope::now(), OTHER, 1 << 34, staged));
    assert_eq!((request.allocation, request.offset_bytes), (OTHER, 1 << 34));
    assert_eq!((request.size_bytes, request.staged), (1 << 33, staged));
}

/// Bytes are exact; a time is there if the call was sampled, and `None`, not 0, if it was not.
pub fn transfer_responses_keep_bytes_and_time() {
    let original = RequestId::next();
    let written = sent(&WriteResponse::new(Envelope::now(), original, 4096));
    assert_eq!((written.original_request_id(), written.bytes_written), (original, 4096));
    assert_eq!(written.transfer_time_us, None);
    assert_eq!(sent(&WriteResponse { transfer_time_us: Some(0.75), ..written }).transfer_time_us, Some(0.75));

    let read = sent(&ReadResponse::new(Envelope::now(), original, 1 << 33));
    assert_eq!((read.original_request_id(), read.bytes_read), (original, 1 << 33));
    assert_eq!(read.transfer_time_us, None);
    assert_eq!(sent(&ReadResponse { transfer_time_us: Some(12.5), ..read }).transfer_time_us, Some(12.5));
}

/// Kernel, input, output, operand, count and scalars arrive as they were given; there are no parameters by default.
pub fn compute_keeps_kernel_buffers_and_parameters() {
    let bare = sent(&ComputeMessage::new(Envelope::now(), KernelId(1024), Some(ALLOCATION), Some(OTHER)));
    assert_eq!((bare.kernel_id, bare.input, bare.output), (KernelId(1024), Some(ALLOCATION), Some(OTHER)));
    assert_eq!(bare.parameters, Parameters::new());

    let given = Parameters::new().with_operand(OTHER).with_count(1000).with_f32(2.5).with_u32(3).with_f64(-0.125);
    let parameters = sent(&ComputeMessage { parameters: given.with_u64(u64::MAX), ..bare }).parameters;
    assert_eq!((parameters.operand, parameters.count), (Some(OTHER), 1000));
    assert_eq!((parameters.f32_at(0), parameters.u32_at(4)), (Some(2.5), Some(3)));
    assert_eq!((parameters.f64_at(8), parameters.u64_at(16)), (Some(-0.125), Some(u64::MAX)));
    assert_eq!((parameters.len_bytes(), parameters.u32_at(24)), (24, None));
}

/// Scalars beyond the capacity are neither dropped nor truncated in silence: the error says how many there are.
pub fn compute_parameters_that_overflow_are_an_error() {
    let parameters = (0..4).fold(Parameters::new(), |parameters, value| parameters.with_u64(value));
    let error = Error::from(parameters.words().expect_err("32 bytes do not fit"));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("32 bytes") && error.to_string().contains("24"), "{error}");
    let message = ComputeMessage { parameters, ..ComputeMessage::new(Envelope::now(), KernelId(1), None, None) };
    let mut out = vec![1, 2, 3];
    assert!(message.encode(&mut out).is_err());
    assert_eq!(out, [1, 2, 3], "a message that was refused left bytes behind");
}

/// Both times and the cache flag arrive as they were given; not sampled is `None`.
pub fn compute_response_keeps_times_and_cache_flag() {
    let original = RequestId::next();
    let plain = sent(&ComputeResponse::succeeded(Envelope::now(), original, InlineResult::EMPTY));
    assert_eq!((plain.kernel_time_us, plain.total_time_us, plain.is_cache_hit), (None, None, false));
    let timed = ComputeResponse { kernel_time_us: Some(3.25), total_time_us: Some(8.5), is_cache_hit: true, ..plain };
    let timed = sent(&timed);
    assert_eq!((timed.kernel_time_us, timed.total_time_us), (Some(3.25), Some(8.5)));
    assert!(timed.success && timed.is_cache_hit && timed.error.is_none());
    assert_eq!(timed.original_request_id(), original);
}

/// A result within the completion keeps its length and its values, and nothing of what lay beyond.
pub fn compute_response_keeps_its_inline_result() {
    let mut words = [u64::MAX; 7];
    words[0] = u64::from(1.5f32.to_bits()) | 42 << 32;
    words[1] = 2.75f64.to_bits();
    let result = InlineResult::from_words(&words, 16).expect("16 bytes fit");
    let result = sent(&ComputeResponse::succeeded(Envelope::now(), RequestId::next(), result)).result;
    assert_eq!((result.len_bytes(), result.f32_at(0), result.u32_at(4)), (16, Some(1.5), Some(42)));
    assert_eq!((result.f64_at(8), result.u64_at(16)), (Some(2.75), None));
    assert_eq!(result.words()[2..], [0; 5]);
    assert_eq!(InlineResult::from_words(&words, 57), None);
}

/// A failure is `success: false` with its reason, whichever of the reasons it is; each says what to do.
pub fn compute_error_path_says_why() {
    let mut sentences = HashSet::new();
    for &status in Status::ALL.iter().filter(|status| **status != Status::Ok) {
        let response = sent(&ComputeResponse::failed(Envelope::now(), RequestId::next(), status));
        assert!(!response.success, "{status:?}");
        assert_eq!(response.error, Some(status));
        assert_eq!(response.result, InlineResult::EMPTY);
        assert!(sentences.insert(status.to_string()), "{status:?} says the same as another status");
    }
    assert_eq!(Status::UnknownKernel.kind(), ErrorKind::NotFound);
    assert_eq!(Status::OutOfBounds.kind(), ErrorKind::InvalidArgument);
    assert_eq!(Status::Cancelled.kind(), ErrorKind::Cancelled);
}

/// A block goes back to the pool unless the caller says no.
pub fn release_returns_to_the_pool_unless_told() {
    let request = sent(&ReleaseMessage::new(Envelope::now(), ALLOCATION));
    assert_eq!((request.allocation, request.return_to_pool), (ALLOCATION, true));
    assert!(!sent(&ReleaseMessage { return_to_pool: false, ..request }).return_to_pool);
}

/// Bytes freed and what became of the block arrive as they were given.
pub fn release_response_keeps_bytes_and_pool_flag() {
    for (bytes_freed, returned_to_pool) in [(4096, true), (1 << 33, false), (0, false)] {
        let response = sent(&ReleaseResponse::new(Envelope::now(), RequestId::next(), bytes_freed, returned_to_pool));
        assert_eq!((response.bytes_freed, response.returned_to_pool), (bytes_freed, returned_to_pool));
    }
}

/// Nine values, all different, arrive each in its place.
pub fn metrics_response_keeps_all_nine_values() {
    let response = sent(&MetricsResponse {
        total_messages_processed: 1_000_001,
        messages_per_second: 1_500_000.5,
        average_latency_ns: 75_500.25,
        pool_hit_count: 900,
        pool_miss_count: 100,
        kernel_cache_hit_count: 95,
        kernel_cache_miss_count: 5,
        total_allocated_bytes: 1 << 33,
        active_allocation_count: 42,
        ..MetricsResponse::new(Envelope::now(), RequestId::next())
    });
    assert_eq!(response.total_messages_processed, 1_000_001);
    assert_eq!((response.messages_per_second, response.average_latency_ns), (1_500_000.5, 75_500.25));
    assert_eq!((response.pool_hit_count, response.pool_miss_count), (900, 100));
    assert_eq!((response.kernel_cache_hit_count, response.kernel_cache_miss_count), (95, 5));
    assert_eq!((response.total_allocated_bytes, response.active_allocation_count), (1 << 33, 42));
}

/// The details flag is off by default, and arrives; so do the details, in order.
pub fn details_come_only_if_asked_for() {
    let request = sent(&GetMetricsMessage::new(Envelope::now()));
    assert!(!request.include_details);
    assert!(sent(&GetMetricsMessage { include_details: true, ..request }).include_details);

    let bare = MetricsResponse::new(Envelope::now(), RequestId::next());
    assert!(sent(&bare).details.is_empty());
    let size_class = |shift: u32| SizeClassMetrics {
        block_size_bytes: 256 << shift,
        memory_type: MemoryType::Shared,
        live_block_count: shift,
        idle_block_count: shift + 1,
        hit_count: u64::from(shift) + 2,
        miss_count: u64::from(shift) + 3,
    };
    let details: Vec<SizeClassMetrics> = (0..24).map(size_class).collect();
    assert_eq!(sent(&MetricsResponse { details: details.clone(), ..bare }).details, details);
}

/// 1 GiB, 100 kernels and any device unless told; what is told arrives.
pub fn initialize_keeps_its_configuration() {
    let request = sent(&InitializeMessage::new(Envelope::now()));
    assert_eq!((request.max_pool_size_bytes, request.max_kernel_cache_size), (1 << 30, 100));
    assert_eq!(request.device_index, None);
    let own = InitializeMessage {
        max_pool_size_bytes: 1 << 36,
        max_kernel_cache_size: 7,
        device_index: Some(DeviceIndex(1)),
        ..request
    };
    let own = sent(&own);
    assert_eq!((own.max_pool_size_bytes, own.max_kernel_cache_size), (1 << 36, 7));
    assert_eq!(own.device_index, Some(DeviceIndex(1)));
}

/// Device, pool bytes and cache slots arrive as they were granted.
pub fn initialize_response_says_what_was_granted() {
    let original = RequestId::next();
    let response = sent(&InitializeResponse::new(Envelope::now(), original, DeviceIndex(1), 1 << 29, 50));
    assert_eq!((response.original_request_id(), response.device_index), (original, DeviceIndex(1)));
    assert_eq!((response.pool_size_bytes, response.kernel_cache_slots), (1 << 29, 50));
}

/// A shutdown drains unless told; its response counts what was drained and what was cancelled apart.
pub fn shutdown_drains_unless_told() {
    let request = sent(&ShutdownMessage::new(Envelope::now()));
    assert!(request.drain_pending_messages);
    assert!(!sent(&ShutdownMessage { drain_pending_messages: false, ..request }).drain_pending_messages);
    let response = sent(&ShutdownResponse::new(Envelope::now(), request.envelope.request_id, 12, 3));
    assert_eq!((response.messages_drained, response.messages_cancelled), (12, 3));
}
