//! How a field lies in the binary layout: numbers little-endian, a flag as one byte, an option as a flag and its value,
//! a struct as its fields in order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Envelope, InlineResult, Parameters, ParametersOverflow, SizeClassMetrics, StagedRange};
use crate::{AllocationId, DeviceIndex, ElementType, GpuMemoryHandle, KernelId, MemoryType, RequestId, Status};

/// Why a message was not encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is longer than a message may be.
    #[error("{message} takes {length_bytes} bytes and a message may have {limit_bytes}; send fewer details")]
    TooLong {
        /// The type of the message.
        message: &'static str,
        /// How long it would be.
        length_bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// The parameters of a computation overflowed.
    #[error(transparent)]
    Parameters(#[from] ParametersOverflow),
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the message does.
    #[error("the message ends {missing_bytes} bytes early")]
    Truncated {
        /// How many more were needed by the field that was being read, or by the length in the header.
        missing_bytes: usize,
    },
    /// The bytes go on after the message ended.
    #[error("{extra_bytes} bytes follow the end of the message")]
    TrailingBytes {
        /// How many.
        extra_bytes: usize,
    },
    /// The message is longer than a message may be.
    #[error("the message has {length_bytes} bytes and a message may have {limit_bytes}")]
    TooLong {
        /// How long it is, or says it is.
        length_bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// The bytes do not start like a message.
    #[error("not a gpubridge message: it starts with {found:#010x} and should with {expected:#010x}")]
    BadMagic {
        /// What the bytes start with.
        found: u32,
        /// What a message starts with.
        expected: u32,
    },
    /// The message was written in another version of the layout.
    #[error("the message has layout version {found}, this program reads version {supported}; use equal releases")]
    ForeignVersion {
        /// The version of the message.
        found: u16,
        /// The version of this program.
        supported: u16,
    },
    /// No message type has this tag.
    #[error("no message type has the tag {tag}")]
    UnknownTag {
        /// The tag.
        tag: u16,
    },
    /// The message is of another type than the one asked for.
    #[error("the message has the tag {found}, a {expected_name} has {expected}")]
    OtherType {
        /// The tag of the message.
        found: u16,
        /// The tag of the type asked for.
        expected: u16,
        /// The name of the type asked for.
        expected_name: &'static str,
    },
    /// A value is none that its field can have.
    #[error("{value} is no {field}")]
    OutOfRange {
        /// What was being read.
        field: &'static str,
        /// What was found.
        value: u64,
    },
}

/// What remains to be read of a message.
#[derive(Debug)]
pub struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((array, rest)) = self.0.split_first_chunk() else {
            return Err(DecodeError::Truncated { missing_bytes: N - self.0.len() });
        };
        self.0 = rest;
        Ok(*array)
    }
}

/// A value with a place in the binary layout.
pub trait Wire: Sized {
    /// Appends it to `out`.
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Takes it off the front of `reader`.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A struct is its fields in the order given. Leaving one out does not compile.
macro_rules! wire_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::message::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) -> Result<(), $crate::message::wire::EncodeError> {
                let Self { $($field),* } = self;
                $($crate::message::wire::Wire::put($field, out)?;)*
                Ok(())
            }

            fn take(
                reader: &mut $crate::message::wire::Reader<'_>,
            ) -> Result<Self, $crate::message::wire::DecodeError> {
                Ok(Self { $($field: $crate::message::wire::Wire::take(reader)?),* })
            }
        }
    };
}
pub(super) use wire_struct;

macro_rules! wire_number {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&self.to_le_bytes());
                Ok(())
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(<$number>::from_le_bytes)
            }
        }
    )*};
}
wire_number!(u8, u16, u32, u64, u128, i128, f64);

macro_rules! wire_newtype {
    ($($name:ident),*) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                self.0.put(out)
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Wire::take(reader).map($name)
            }
        }
    )*};
}
wire_newtype!(DeviceIndex, KernelId, RequestId);

wire_struct!(Envelope { request_id, timestamp_us });
wire_struct!(AllocationId { slot, generation });
wire_struct!(StagedRange { offset_bytes, size_bytes });
wire_struct!(GpuMemoryHandle { id, size_bytes, memory_type, device_index, allocated_at });
wire_struct!(SizeClassMetrics {
    block_size_bytes,
    memory_type,
    live_block_count,
    idle_block_count,
    hit_count,
    miss_count
});

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        u8::from(*self).put(out)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            number => Err(DecodeError::OutOfRange { field: "flag", value: number.into() }),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.is_some().put(out)?;
        self.as_ref().map_or(Ok(()), |value| value.put(out))
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::take(reader)? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

/// A number of elements, then the elements.
impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        (self.len() as u32).put(out)?;
        self.iter().try_for_each(|element| element.put(out))
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // A `Result` gives `collect` no size to reserve, so a false number costs no more than the bytes that follow.
        (0..u32::take(reader)?).map(|_| T::take(reader)).collect()
    }
}

/// An enumeration is the number of its variant in a byte.
macro_rules! wire_enumeration {
    ($($name:ident, $field:literal);*) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                (*self as u8).put(out)
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let number = u8::take(reader)?;
                Self::from_number(number).ok_or(DecodeError::OutOfRange { field: $field, value: number.into() })
            }
        }
    )*};
}
wire_enumeration!(ElementType, "element type"; MemoryType, "memory type"; Status, "status");

impl Wire for [u32; 2] {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.iter().try_for_each(|value| value.put(out))
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok([u32::take(reader)?, u32::take(reader)?])
    }
}

/// Signed nanoseconds since the Unix epoch: exact for every time the platform can express.
impl Wire for SystemTime {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let nanoseconds = match self.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        nanoseconds.put(out)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let nanoseconds = i128::take(reader)?;
        let seconds = nanoseconds.unsigned_abs() / 1_000_000_000;
        let out_of_range =
            DecodeError::OutOfRange { field: "time in seconds", value: u64::try_from(seconds).unwrap_or(u64::MAX) };
        let distance = Duration::new(
            u64::try_from(seconds).map_err(|_| out_of_range)?,
            (nanoseconds.unsigned_abs() % 1_000_000_000) as u32,
        );
        let time = if nanoseconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        time.ok_or(out_of_range)
    }
}

/// The operand, the count, the number of scalar bytes, and those bytes.
impl Wire for Parameters {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let words = self.words()?;
        self.operand.put(out)?;
        self.count.put(out)?;
        (self.len_bytes() as u8).put(out)?;
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()).take(self.len_bytes()));
        Ok(())
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (operand, count) = (Wire::take(reader)?, Wire::take(reader)?);
        let len_bytes = u8::take(reader)?;
        if usize::from(len_bytes) > Self::CAPACITY_BYTES || len_bytes % 4 != 0 {
            return Err(DecodeError::OutOfRange { field: "length of parameters", value: len_bytes.into() });
        }
        let mut parameters = Self::new().with_count(count);
        parameters.operand = operand;
        for _ in 0..len_bytes / 4 {
            parameters = parameters.with_u32(Wire::take(reader)?);
        }
        Ok(parameters)
    }
}

/// The number of bytes, and those bytes.
impl Wire for InlineResult {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        (self.len_bytes() as u8).put(out)?;
        out.extend(self.words().iter().flat_map(|word| word.to_le_bytes()).take(self.len_bytes()));
        Ok(())
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len_bytes = usize::from(u8::take(reader)?);
        let mut words = [0; Self::CAPACITY_BYTES / 8];
        for index in 0..len_bytes.min(Self::CAPACITY_BYTES) {
            words[index / 8] |= u64::from(u8::take(reader)?) << (index % 8 * 8);
        }
        Self::from_words(&words, len_bytes)
            .ok_or(DecodeError::OutOfRange { field: "length of a result", value: len_bytes as u64 })
    }
}
