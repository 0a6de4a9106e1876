//! The binary layout: all types alike, one version, 4 KiB, and a typed refusal for anything else.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use gpubridge_abstractions::{
    AllocateMessage, AllocateResponse, AllocationId, AnyMessage, ComputeMessage, ComputeResponse, DecodeError,
    DeviceIndex, EncodeError, Envelope, GetMetricsMessage, GpuMemoryHandle, InitializeMessage, InitializeResponse,
    InlineResult, KernelId, LAYOUT_VERSION, MAX_MESSAGE_BYTES, MemoryType, Message, MetricsResponse, ReadMessage,
    ReadResponse, ReleaseMessage, ReleaseResponse, RequestId, ShutdownMessage, ShutdownResponse, SizeClassMetrics,
    StagedRange, WriteMessage, WriteResponse,
};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("messages":
    every_type_has_the_envelope => "Message/envelope",
    every_response_names_its_request => "Response::original_request_id/names-request",
    round_trip_through_the_binary_layout => "Message::encode/round-trip",
    a_foreign_layout_version_is_refused => "Message::decode/foreign-version",
    damaged_bytes_are_refused_with_the_reason => "Message::decode/damage",
    another_type_is_refused => "Message::decode/other-type",
    no_message_is_over_4_kib => "Message::encode/bounded",
);

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 4;
const TAG_AT: usize = 6;

/// One message of each type; the responses answer `original`.
fn one_of_each(envelope: Envelope, original: RequestId) -> Vec<AnyMessage> {
    let allocation = AllocationId { slot: 1, generation: 2 };
    let staged = StagedRange { offset_bytes: 3, size_bytes: 4 };
    let handle = GpuMemoryHandle {
        id: allocation,
        size_bytes: 4096,
        memory_type: MemoryType::Constant,
        device_index: DeviceIndex(0),
        allocated_at: UNIX_EPOCH,
    };
    vec![
        AllocateMessage::new(envelope, 4096).into(),
        AllocateResponse::new(envelope, original, handle, true).into(),
        WriteMessage::new(envelope, allocation, 8, staged).into(),
        WriteResponse::new(envelope, original, 4).into(),
        ReadMessage::new(envelope, allocation, 8, staged).into(),
        ReadResponse::new(envelope, original, 4).into(),
        ComputeMessage::new(envelope, KernelId(5), Some(allocation), None).into(),
        ComputeResponse::succeeded(envelope, original, InlineResult::EMPTY).into(),
        ReleaseMessage::new(envelope, allocation).into(),
        ReleaseResponse::new(envelope, original, 4096, true).into(),
        GetMetricsMessage::new(envelope).into(),
        MetricsResponse::new(envelope, original).into(),
        InitializeMessage::new(envelope).into(),
        InitializeResponse::new(envelope, original, DeviceIndex(0), 1 << 30, 100).into(),
        ShutdownMessage::new(envelope).into(),
        ShutdownResponse::new(envelope, original, 6, 7).into(),
    ]
}

fn encoded(message: &AnyMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("the message fits");
    bytes
}

fn allocate_bytes() -> Vec<u8> {
    encoded(&AllocateMessage::new(Envelope::now(), 4096).into())
}

/// Sixteen types with sixteen tags, each with the envelope it was made with.
pub fn every_type_has_the_envelope() {
    let envelope = Envelope::now();
    let messages = one_of_each(envelope, RequestId::next());
    assert_eq!(messages.iter().map(AnyMessage::tag).collect::<HashSet<_>>().len(), 16);
    for message in messages {
        assert_eq!(message.envelope(), envelope, "{message:?}");
        assert_eq!(AnyMessage::decode(&encoded(&message)).map(|arrived| arrived.envelope()), Ok(envelope));
    }
}

/// Eight responses name their request, and no request names one; also after the journey.
pub fn every_response_names_its_request() {
    let original = RequestId::next();
    let mut responses = 0;
    for message in one_of_each(Envelope::now(), original) {
        let is_response = format!("{message:?}").split('(').next().is_some_and(|name| name.ends_with("Response"));
        let arrived = AnyMessage::decode(&encoded(&message)).expect("decodes");
        assert_eq!(arrived.original_request_id(), is_response.then_some(original), "{message:?}");
        responses += usize::from(is_response);
    }
    assert_eq!(responses, 8);
}

/// Each type is the same after encoding and decoding.
pub fn round_trip_through_the_binary_layout() {
    for message in one_of_each(Envelope::now(), RequestId::next()) {
        assert_eq!(AnyMessage::decode(&encoded(&message)), Ok(message));
    }
}

/// Bytes of an older or newer layout are refused, and the error says both versions.
pub fn a_foreign_layout_version_is_refused() {
    for found in [0, LAYOUT_VERSION + 1, u16::MAX] {
        for message in one_of_each(Envelope::now(), RequestId::next()) {
            let mut bytes = encoded(&message);
            bytes[VERSION_AT..VERSION_AT + 2].copy_from_slice(&found.to_le_bytes());
            let refusal = DecodeError::ForeignVersion { found, supported: LAYOUT_VERSION };
            assert_eq!(AnyMessage::decode(&bytes), Err(refusal));
            let sentence = refusal.to_string();
            assert!(sentence.contains(&found.to_string()) && sentence.contains(&LAYOUT_VERSION.to_string()));
        }
    }
}

/// Truncated, prolonged, mislabelled or impossible bytes are refused, each with its own reason.
pub fn damaged_bytes_are_refused_with_the_reason() {
    let whole = allocate_bytes();
    let damaged = |position: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[position] = value;
        AllocateMessage::decode(&bytes).expect_err("damaged bytes are refused")
    };
    let short = AllocateMessage::decode(&whole[..whole.len() - 3]);
    assert_eq!(short, Err(DecodeError::Truncated { missing_bytes: 3 }));
    assert_eq!(AllocateMessage::decode(&[]), Err(DecodeError::Truncated { missing_bytes: 4 }));
    let long = AllocateMessage::decode(&[&whole[..], &[0, 0]].concat());
    assert_eq!(long, Err(DecodeError::TrailingBytes { extra_bytes: 2 }));
    assert!(matches!(damaged(MAGIC_AT, 0), DecodeError::BadMagic { .. }));
    let mut unknown = whole.clone();
    unknown[TAG_AT] = 99;
    assert_eq!(AnyMessage::decode(&unknown), Err(DecodeError::UnknownTag { tag: 99 }));
    // The last two bytes are the memory type and the flag of an absent device.
    let type_at = whole.len() - 2;
    assert_eq!(damaged(type_at, 5), DecodeError::OutOfRange { field: "memory type", value: 5 });
    assert_eq!(damaged(type_at + 1, 2), DecodeError::OutOfRange { field: "flag", value: 2 });
}

/// A message of one type is not taken for one of another, not even where their fields are the same.
pub fn another_type_is_refused() {
    let staged = StagedRange { offset_bytes: 0, size_bytes: 8 };
    let write = WriteMessage::new(Envelope::now(), AllocationId { slot: 1, generation: 2 }, 0, staged);
    let refusal =
        DecodeError::OtherType { found: WriteMessage::TAG, expected: ReadMessage::TAG, expected_name: "ReadMessage" };
    assert_eq!(ReadMessage::decode(&encoded(&write.into())), Err(refusal));
}

/// The longest response that fits is 4 KiB or less; a longer one is refused when encoded and when decoded.
pub fn no_message_is_over_4_kib() {
    let size_class = SizeClassMetrics {
        block_size_bytes: 256,
        memory_type: MemoryType::Default,
        live_block_count: 1,
        idle_block_count: 2,
        hit_count: 3,
        miss_count: 4,
    };
    let mut response = MetricsResponse::new(Envelope::now(), RequestId::next());
    let refusal = loop {
        let mut bytes = Vec::new();
        match response.encode(&mut bytes) {
            Ok(()) => assert!(bytes.len() <= MAX_MESSAGE_BYTES, "{} bytes", bytes.len()),
            Err(refusal) => break refusal,
        }
        response.details.push(size_class);
        assert!(response.details.len() < MAX_MESSAGE_BYTES, "no limit was enforced");
    };
    assert_eq!(MAX_MESSAGE_BYTES, 4096);
    assert!(response.details.len() > 100, "all size classes of a pool fit, here only {}", response.details.len());
    assert!(matches!(refusal, EncodeError::TooLong { message: "MetricsResponse", limit_bytes: 4096, .. }));
    assert!(refusal.to_string().contains("details"), "{refusal}");

    let mut bytes = allocate_bytes();
    let body_bytes = MAX_MESSAGE_BYTES + 1 - 12;
    bytes[8..12].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    bytes.resize(MAX_MESSAGE_BYTES + 1, 0);
    let too_long = DecodeError::TooLong { length_bytes: 4097, limit_bytes: 4096 };
    assert_eq!(AllocateMessage::decode(&bytes), Err(too_long));
}
