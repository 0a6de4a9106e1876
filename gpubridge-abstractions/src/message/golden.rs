//! Keeps the binary layout what it is: the bytes of one message of each type, and what becomes of any other bytes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::{AllocationId, DeviceIndex, ElementType, GpuMemoryHandle, KernelId, KernelSpec, MemoryType, Status};

const ENVELOPE: Envelope =
    Envelope { request_id: RequestId(0x0102030405060708090a0b0c0d0e0f10), timestamp_us: 0x1122334455667788 };
const ENVELOPE_HEX: &str = "100f0e0d0c0b0a090807060504030201 8877665544332211";
const ORIGINAL: RequestId = RequestId(0xf);
const ORIGINAL_HEX: &str = "0f000000000000000000000000000000";
const ALLOCATION: AllocationId = AllocationId { slot: 5, generation: 0x600 };
const ALLOCATION_HEX: &str = "05000000 0006000000000000";
const STAGED: StagedRange = StagedRange { offset_bytes: 64, size_bytes: 32 };
const STAGED_HEX: &str = "4000000000000000 2000000000000000";

fn handle(allocated_at: SystemTime) -> GpuMemoryHandle {
    GpuMemoryHandle {
        id: ALLOCATION,
        size_bytes: 256,
        memory_type: MemoryType::Texture,
        device_index: DeviceIndex(2),
        allocated_at,
    }
}

/// One message of each type, its tag and body length, and its fields after the envelope (and, in a response, after the
/// original id).
fn memory_rows() -> Vec<(AnyMessage, &'static str, String)> {
    let allocate = AllocateMessage { device_index: Some(DeviceIndex(1)), ..AllocateMessage::new(ENVELOPE, 4096) };
    let allocated = handle(UNIX_EPOCH + Duration::from_nanos(0x0102));
    let allocated_hex = format!("{ALLOCATION_HEX} 0001000000000000 03 02000000 02010000000000000000000000000000 01");
    let written = WriteResponse { transfer_time_us: Some(1.5), ..WriteResponse::new(ENVELOPE, ORIGINAL, 32) };
    let transfer_hex = format!("{ALLOCATION_HEX} 0800000000000000 2000000000000000 {STAGED_HEX}");
    vec![
        (allocate.into(), "0100 26000000", "0010000000000000 00 01 01000000".to_owned()),
        (AllocateResponse::new(ENVELOPE, ORIGINAL, allocated, true).into(), "0200 52000000", allocated_hex),
        (WriteMessage::new(ENVELOPE, ALLOCATION, 8, STAGED).into(), "0300 44000000", transfer_hex.clone()),
        (written.into(), "0400 39000000", "2000000000000000 01 000000000000f83f".to_owned()),
        (ReadMessage::new(ENVELOPE, ALLOCATION, 8, STAGED).into(), "0500 44000000", transfer_hex),
        (ReadResponse::new(ENVELOPE, ORIGINAL, 32).into(), "0600 31000000", "2000000000000000 00".to_owned()),
        (ReleaseMessage::new(ENVELOPE, ALLOCATION).into(), "0900 25000000", format!("{ALLOCATION_HEX} 01")),
        (ReleaseResponse::new(ENVELOPE, ORIGINAL, 256, true).into(), "0a00 31000000", "0001000000000000 01".to_owned()),
    ]
}

fn compute_rows() -> Vec<(AnyMessage, &'static str, String)> {
    let parameters = Parameters::new().with_operand(ALLOCATION).with_count(3).with_f32(1.0).with_u64(9);
    let spec = KernelSpec::new(KernelId(1024)).of(ElementType::I32).with_constants([5, 7]);
    let compute = ComputeMessage { parameters, ..ComputeMessage::new(ENVELOPE, spec, Some(ALLOCATION), None) };
    let compute_hex = format!(
        "00040000 01 0500000007000000 01 {ALLOCATION_HEX} 00 01 {ALLOCATION_HEX} 03000000 0c 0000803f 0900000000000000"
    );
    let result = InlineResult::from_words(&[0x0807060504030201, 0x09, 0, 0, 0, 0, 0], 9).expect("9 bytes fit");
    let computed = ComputeResponse {
        kernel_time_us: Some(1.5),
        is_cache_hit: true,
        error: Some(Status::KernelFault),
        ..ComputeResponse::succeeded(ENVELOPE, ORIGINAL, result)
    };
    vec![
        (compute.into(), "0700 51000000", compute_hex),
        (computed.into(), "0800 40000000", "01 01 000000000000f83f 00 01 01 07 09 010203040506070809".to_owned()),
    ]
}

fn session_rows() -> Vec<(AnyMessage, &'static str, String)> {
    let size_class = SizeClassMetrics {
        block_size_bytes: 512,
        memory_type: MemoryType::Pinned,
        live_block_count: 1,
        idle_block_count: 2,
        hit_count: 3,
        miss_count: 4,
    };
    let metrics = MetricsResponse {
        total_messages_processed: 1,
        messages_per_second: 1.5,
        average_latency_ns: 1.0,
        pool_hit_count: 2,
        pool_miss_count: 3,
        kernel_cache_hit_count: 4,
        kernel_cache_miss_count: 5,
        total_allocated_bytes: 6,
        active_allocation_count: 7,
        details: vec![size_class],
        ..MetricsResponse::new(ENVELOPE, ORIGINAL)
    };
    let metrics_hex = "0100000000000000 000000000000f83f 000000000000f03f 0200000000000000 0300000000000000 \
                       0400000000000000 0500000000000000 0600000000000000 0700000000000000 01000000 \
                       0002000000000000 01 01000000 02000000 0300000000000000 0400000000000000";
    let initialized = InitializeResponse::new(ENVELOPE, ORIGINAL, DeviceIndex(2), 256, 16);
    vec![
        (GetMetricsMessage::new(ENVELOPE).into(), "0b00 19000000", "00".to_owned()),
        (metrics.into(), "0c00 95000000", metrics_hex.to_owned()),
        (InitializeMessage::new(ENVELOPE).into(), "0d00 25000000", "0000004000000000 64000000 00".to_owned()),
        (initialized.into(), "0e00 38000000", "02000000 0001000000000000 10000000".to_owned()),
        (ShutdownMessage::new(ENVELOPE).into(), "0f00 19000000", "01".to_owned()),
        (
            ShutdownResponse::new(ENVELOPE, ORIGINAL, 1, 2).into(),
            "1000 38000000",
            "0100000000000000 0200000000000000".to_owned(),
        ),
    ]
}

fn rows() -> Vec<(AnyMessage, &'static str, String)> {
    [memory_rows(), compute_rows(), session_rows()].concat()
}

fn encoded(message: &AnyMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("the message fits");
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_bytes_of_each_type_are_what_they_were() {
    let rows = rows();
    let mut tags: Vec<u16> = rows.iter().map(|(message, ..)| message.tag()).collect();
    tags.sort_unstable();
    assert_eq!(tags, (1..=16).collect::<Vec<u16>>());
    for (message, tag_and_length, fields) in rows {
        let original = if message.original_request_id().is_some() { ORIGINAL_HEX } else { "" };
        let golden = hex(&format!("4750424d 0100 {tag_and_length} {ENVELOPE_HEX} {original} {fields}"));
        assert_eq!(encoded(&message), golden, "{message:?}");
        assert_eq!(AnyMessage::decode(&golden), Ok(message));
    }
}

#[test]
fn every_prefix_is_truncated_and_every_suffix_trails() {
    for (message, ..) in rows() {
        let mut bytes = encoded(&message);
        for length in 0..bytes.len() {
            let result = AnyMessage::decode(&bytes[..length]);
            assert!(matches!(result, Err(DecodeError::Truncated { .. })), "{length} bytes of {message:?}: {result:?}");
        }
        bytes.push(0);
        assert_eq!(AnyMessage::decode(&bytes), Err(DecodeError::TrailingBytes { extra_bytes: 1 }));
        // The same with a header that counts the byte in.
        bytes[8] += 1;
        assert_eq!(AnyMessage::decode(&bytes), Err(DecodeError::TrailingBytes { extra_bytes: 1 }));
    }
}

#[test]
fn times_before_the_epoch_keep_their_nanoseconds() {
    let before = UNIX_EPOCH - Duration::new(3, 999_999_999);
    let response = AllocateResponse::new(ENVELOPE, ORIGINAL, handle(before), false);
    let mut bytes = Vec::new();
    response.encode(&mut bytes).expect("the message fits");
    assert_eq!(AllocateResponse::decode(&bytes), Ok(response));
}

#[test]
fn data_plane_messages_are_small_copies() {
    fn is_small<T: Copy>() -> bool {
        size_of::<T>() <= 192
    }
    assert!(is_small::<AllocateMessage>() && is_small::<AllocateResponse>());
    assert!(is_small::<WriteMessage>() && is_small::<WriteResponse>());
    assert!(is_small::<ReadMessage>() && is_small::<ReadResponse>());
    assert!(is_small::<ComputeMessage>() && is_small::<ComputeResponse>());
    assert!(is_small::<ReleaseMessage>() && is_small::<ReleaseResponse>());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(AnyMessage::decode(&bytes).is_err());
    }

    /// Damaged messages reach every field. What is accepted all the same has these bytes and no others.
    #[test]
    fn a_message_has_one_encoding(
        index in 0..16usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&rows()[index].0);
        for (position, value) in edits {
            // Behind magic and version, which the other property covers.
            let position = 6 + position.index(bytes.len() - 6);
            bytes[position] = value;
        }
        if let Ok(message) = AnyMessage::decode(&bytes) {
            prop_assert_eq!(encoded(&message), bytes);
        }
    }
}
