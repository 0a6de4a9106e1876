//! The binary layout of whole messages: a header of 12 bytes, then the fields in the order of the table below.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic, `GPBM` |
//! | 4..6 | layout version |
//! | 6..8 | message tag |
//! | 8..12 | length of what follows, in bytes |
//!
//! Everything is little-endian. Magic and version keep their places in every version; any other change to the table or
//! to [`Wire`] is a new version.

use super::wire::{DecodeError, EncodeError, Reader, Wire, wire_struct};
use super::*;

/// The version of the binary layout that this program reads and writes.
pub const LAYOUT_VERSION: u16 = 1;

/// The most bytes a message has, with its header. Bulk data travels by staging buffer.
pub const MAX_MESSAGE_BYTES: usize = 4096;

const MAGIC: u32 = u32::from_le_bytes(*b"GPBM");

/// What stands before every message.
struct Header {
    magic: u32,
    version: u16,
    tag: u16,
    body_bytes: u32,
}
wire_struct!(Header { magic, version, tag, body_bytes });

impl Header {
    const SIZE_BYTES: usize = 12;
}

pub(super) fn encode<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let result = append(message, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let header = Header { magic: MAGIC, version: LAYOUT_VERSION, tag: M::TAG, body_bytes: 0 };
    header.put(out)?;
    message.put(out)?;
    let length_bytes = out.len() - start;
    if length_bytes > MAX_MESSAGE_BYTES {
        return Err(EncodeError::TooLong { message: M::NAME, length_bytes, limit_bytes: MAX_MESSAGE_BYTES });
    }
    // Only now is the length known; it is the last field of the header.
    let body_start = start + Header::SIZE_BYTES;
    let body_bytes = (length_bytes - Header::SIZE_BYTES) as u32;
    out[body_start - size_of::<u32>()..body_start].copy_from_slice(&body_bytes.to_le_bytes());
    Ok(())
}

pub(super) fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let (tag, body) = open(bytes)?;
    if tag != M::TAG {
        return Err(DecodeError::OtherType { found: tag, expected: M::TAG, expected_name: M::NAME });
    }
    take_all(body)
}

/// Checks the header of `bytes`; gives the tag and the body.
fn open(bytes: &[u8]) -> Result<(u16, Reader<'_>), DecodeError> {
    let mut reader = Reader(bytes);
    let header = Header::take(&mut reader)?;
    if header.magic != MAGIC {
        return Err(DecodeError::BadMagic { found: header.magic, expected: MAGIC });
    }
    if header.version != LAYOUT_VERSION {
        return Err(DecodeError::ForeignVersion { found: header.version, supported: LAYOUT_VERSION });
    }
    let body_bytes = header.body_bytes as usize;
    let length_bytes = body_bytes.saturating_add(Header::SIZE_BYTES);
    if length_bytes > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLong { length_bytes, limit_bytes: MAX_MESSAGE_BYTES });
    }
    let present_bytes = reader.0.len();
    if present_bytes < body_bytes {
        return Err(DecodeError::Truncated { missing_bytes: body_bytes - present_bytes });
    }
    if present_bytes > body_bytes {
        return Err(DecodeError::TrailingBytes { extra_bytes: present_bytes - body_bytes });
    }
    Ok((header.tag, reader))
}

/// A value that fills all of `body`.
fn take_all<T: Wire>(mut body: Reader<'_>) -> Result<T, DecodeError> {
    let value = T::take(&mut body)?;
    match body.0.len() {
        0 => Ok(value),
        extra_bytes => Err(DecodeError::TrailingBytes { extra_bytes }),
    }
}

/// The table of all messages: from each line follow the layout, the traits, and the variant of [`AnyMessage`].
macro_rules! messages {
    ($($tag:literal $role:ident $name:ident { $($field:ident),* $(,)? })*) => {
        $(
            wire_struct!($name { $($field),* });

            impl Message for $name {
                const TAG: u16 = $tag;
                const NAME: &'static str = stringify!($name);

                fn envelope(&self) -> Envelope {
                    self.envelope
                }
            }

            messages!(@response $role $name);

            impl From<$name> for AnyMessage {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )*

        /// Any of the sixteen messages: what a reader has that does not know what comes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyMessage {
            $(
                #[doc = concat!("Tag ", $tag, ".")]
                $name($name),
            )*
        }

        impl AnyMessage {
            /// The number of the type in the binary layout.
            pub fn tag(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $tag,)*
                }
            }

            /// Who the message is and when it was made.
            pub fn envelope(&self) -> Envelope {
                match self {
                    $(Self::$name(message) => message.envelope,)*
                }
            }

            /// The request that the message answers; `None` if it is a request.
            pub fn original_request_id(&self) -> Option<RequestId> {
                match self {
                    $(Self::$name(message) => messages!(@original $role message),)*
                }
            }

            /// Appends the message in its binary layout to `out`.
            ///
            /// # Errors
            /// As [`Message::encode`].
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(message) => encode(message, out),)*
                }
            }

            /// The message that `bytes` hold, which must be one message and nothing else.
            ///
            /// # Errors
            /// Each [`DecodeError`] says what is wrong with the bytes. Nothing panics, whatever they are.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                let (tag, body) = open(bytes)?;
                match tag {
                    $($tag => take_all(body).map(Self::$name),)*
                    _ => Err(DecodeError::UnknownTag { tag }),
                }
            }
        }
    };
    (@response request $name:ident) => {};
    (@response response $name:ident) => {
        impl Response for $name {
            fn original_request_id(&self) -> RequestId {
                self.original_request_id
            }
        }
    };
    (@original request $message:ident) => {{
        let _ = $message;
        None
    }};
    (@original response $message:ident) => {
        Some($message.original_request_id)
    };
}

messages! {
    1 request AllocateMessage { envelope, size_bytes, memory_type, device_index }
    2 response AllocateResponse { envelope, original_request_id, handle, is_pool_hit }
    3 request WriteMessage { envelope, allocation, offset_bytes, size_bytes, staged }
    4 response WriteResponse { envelope, original_request_id, bytes_written, transfer_time_us }
    5 request ReadMessage { envelope, allocation, offset_bytes, size_bytes, staged }
    6 response ReadResponse { envelope, original_request_id, bytes_read, transfer_time_us }
    7 request ComputeMessage { envelope, kernel_id, element, constants, input, output, parameters }
    8 response ComputeResponse {
        envelope, original_request_id, success, kernel_time_us, total_time_us, is_cache_hit, error, result,
    }
    9 request ReleaseMessage { envelope, allocation, return_to_pool }
    10 response ReleaseResponse { envelope, original_request_id, bytes_freed, returned_to_pool }
    11 request GetMetricsMessage { envelope, include_details }
    12 response MetricsResponse {
        envelope, original_request_id, total_messages_processed, messages_per_second, average_latency_ns,
        pool_hit_count, pool_miss_count, kernel_cache_hit_count, kernel_cache_miss_count, total_allocated_bytes,
        active_allocation_count, details,
    }
    13 request InitializeMessage { envelope, max_pool_size_bytes, max_kernel_cache_size, device_index }
    14 response InitializeResponse {
        envelope, original_request_id, device_index, pool_size_bytes, kernel_cache_slots,
    }
    15 request ShutdownMessage { envelope, drain_pending_messages }
    16 response ShutdownResponse { envelope, original_request_id, messages_drained, messages_cancelled }
}
