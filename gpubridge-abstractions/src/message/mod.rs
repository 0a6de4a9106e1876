//! The messages between a grain and the ring kernel that holds its memory.
//!
//! Eight requests and their eight responses. Each carries an [`Envelope`]; each response names its request. The types
//! of the data plane are small `Copy` values; all have one stable, versioned binary layout. Bulk data never travels in a
//! message: it lies in a staging buffer, of which the message hands over a [`StagedRange`].

mod codec;
mod compute;
#[cfg(test)]
mod golden;
mod memory;
mod packed;
mod session;
mod statistics;
mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

pub use codec::{AnyMessage, LAYOUT_VERSION, MAX_MESSAGE_BYTES};
pub use compute::{ComputeMessage, ComputeResponse};
pub use memory::{
    AllocateMessage, AllocateResponse, ReadMessage, ReadResponse, ReleaseMessage, ReleaseResponse, StagedRange,
    WriteMessage, WriteResponse,
};
pub use packed::{InlineResult, Parameters, ParametersOverflow};
pub use session::{InitializeMessage, InitializeResponse, ShutdownMessage, ShutdownResponse};
pub use statistics::{GetMetricsMessage, MetricsResponse, SizeClassMetrics};
pub use wire::{DecodeError, EncodeError};

use crate::RequestId;
use wire::Wire;

/// What every message carries: who it is and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Unique among all messages of all processes.
    pub request_id: RequestId,
    /// When the message was made, in microseconds since the Unix epoch.
    pub timestamp_us: u64,
}

impl Envelope {
    /// A new id, stamped with the system clock (0 if that stands before 1970). Does not allocate or block.
    ///
    /// # Behavior
    /// - **unique-id**: No two messages have the same request id, whichever threads make them.
    /// - **timestamp**: The timestamp lies between a reading of the clock before the call and one after it.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Microseconds fill a u64 after 584,000 years.
        Self::at(since_epoch.as_micros() as u64)
    }

    /// A new id, stamped with a clock reading that the caller already has, in microseconds since the Unix epoch. A
    /// batch of messages shares one reading this way, and spares the clock.
    ///
    /// # Behavior
    /// - **shared-reading**: Messages made with one reading have that timestamp and an id each.
    pub fn at(timestamp_us: u64) -> Self {
        Self { request_id: RequestId::next(), timestamp_us }
    }
}

/// One of the sixteen messages. The set is closed: see [`AnyMessage`].
///
/// ```
/// use gpubridge_abstractions::{AllocateMessage, Envelope, MemoryType, Message};
///
/// let request = AllocateMessage { memory_type: MemoryType::Pinned, ..AllocateMessage::new(Envelope::now(), 4096) };
/// let mut bytes = Vec::new();
/// request.encode(&mut bytes)?;
/// assert_eq!(AllocateMessage::decode(&bytes)?, request);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Behavior
/// - **envelope**: Each of the sixteen types has a tag of its own, and carries the envelope that it was made with.
// `Wire` is not exported, which closes the set.
pub trait Message: Wire {
    /// The number of the type in the binary layout. It never changes its meaning.
    const TAG: u16;
    /// The name of the type, for errors and traces.
    const NAME: &'static str;

    /// Who the message is and when it was made.
    fn envelope(&self) -> Envelope;

    /// Appends the message in its binary layout to `out`.
    ///
    /// # Behavior
    /// - **round-trip**: What was encoded decodes to an equal message.
    /// - **bounded**: No encoded message is longer than [`MAX_MESSAGE_BYTES`]; one that would be is refused.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] if it would be longer than [`MAX_MESSAGE_BYTES`],
    /// [`EncodeError::Parameters`] if its parameters overflowed. `out` is then as it was.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::encode(self, out)
    }

    /// The message that `bytes` hold, which must be one message of this type and nothing else.
    ///
    /// # Behavior
    /// - **foreign-version**: Bytes of another layout version are refused with both versions, never guessed at.
    /// - **damage**: Truncated, prolonged, mislabelled or impossible bytes are refused, each with its own reason.
    /// - **other-type**: A message of another type is refused, even one with the same fields.
    ///
    /// # Errors
    /// Each [`DecodeError`] says what is wrong with the bytes. Nothing panics, whatever they are.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }
}

/// A message that answers another one.
pub trait Response: Message {
    /// The id in the envelope of the request that this answers.
    ///
    /// # Behavior
    /// - **names-request**: Each response names the request that it answers, also after the journey; no request names
    ///   one.
    /// - **any-order**: Replies that come in another order than their requests are matched by this id alone.
    fn original_request_id(&self) -> RequestId;
}
