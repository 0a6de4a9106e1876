//! What travels on a ring: one [`Opcode`] enum, one [`Command`], one [`Completion`].
//!
//! These are the decoded forms. How they lie in a ring's slots is told in one place, `gpubridge-kernels::ring::layout`.

use crate::Status;

/// Words of payload that a command or a completion carries beside its header.
pub const PAYLOAD_WORDS: usize = 7;

/// Bytes of payload that a command or a completion carries beside its header.
pub const PAYLOAD_BYTES: usize = PAYLOAD_WORDS * 8;

/// What a command asks of the device.
///
/// # Behavior
/// - **numbers**: The numbers are part of the ring's layout, and go both ways.
/// - **echo**: [`Opcode::Echo`] answers with all of the command's payload, bit by bit, for any grain.
/// - **unknown**: Any number that is none of these, and a [`Opcode::Skip`] that a caller submits, is answered
///   [`Status::UnknownOpcode`]; the lane goes on.
/// - **no-bulk**: So are [`Opcode::WriteBulk`] and [`Opcode::ReadBulk`] on a ring without bulk staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Passes over a slot whose earlier command is still at work. The ring's host half writes it; consumed, never answered.
    Skip = 0,
    /// Answers with the command's own payload: a probe that the ring is alive.
    Echo = 1,
    /// Binds a slot of the device's allocation table to a block and zeroes it: see [`Bind`].
    Bind = 2,
    /// Copies from the command's staging area into an allocation: see [`Transfer`].
    Write = 3,
    /// Copies from the command's own payload into an allocation: see [`Transfer`].
    WriteInline = 4,
    /// Copies from an allocation into the command's staging area: see [`Transfer`].
    Read = 5,
    /// Copies from an allocation into the completion's payload: see [`Transfer`].
    ReadInline = 6,
    /// Runs a kernel: see [`Compute`].
    Compute = 7,
    /// Copies from a chunk of the ring's bulk staging into an allocation, beside the ring: see [`Transfer`].
    WriteBulk = 8,
    /// Copies from an allocation into a chunk of the ring's bulk staging, beside the ring: see [`Transfer`].
    ReadBulk = 9,
}

impl Opcode {
    /// The opcode with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        const ALL: [Opcode; 10] = [
            Opcode::Skip,
            Opcode::Echo,
            Opcode::Bind,
            Opcode::Write,
            Opcode::WriteInline,
            Opcode::Read,
            Opcode::ReadInline,
            Opcode::Compute,
            Opcode::WriteBulk,
            Opcode::ReadBulk,
        ];
        ALL.get(usize::from(number)).copied()
    }
}

/// One command, as the host submits it and the device executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The number of an [`Opcode`]. It is kept as a number: a device answers [`Status::UnknownOpcode`] to any other.
    pub opcode: u8,
    /// The kernel slot of [`Opcode::Compute`], else 0.
    pub kernel: u16,
    /// The grain on whose behalf the command runs. Commands of one grain run in order and never overlap.
    pub grain: u32,
    /// Fifty-six bytes of arbitrary payload.
    pub payload: [u64; PAYLOAD_WORDS],
}

impl Command {
    /// A command without a kernel.
    pub fn new(opcode: Opcode, grain: u32, payload: [u64; PAYLOAD_WORDS]) -> Self {
        Self { opcode: opcode as u8, kernel: 0, grain, payload }
    }
}

/// The answer to one command.
///
/// # Behavior
/// - **zeros-beyond**: Payload bytes past `result_bytes` are zero; an operation without a result has none of them.
/// - **failed-empty**: A command that failed has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// How it went.
    pub status: Status,
    /// Device time of the command in nanoseconds, at most `u32::MAX`; 0 when this command was not sampled.
    pub device_time_ns: u32,
    /// The number of payload bytes that hold a result.
    pub result_bytes: u8,
    /// The result; bytes past `result_bytes` are zero.
    pub payload: [u64; PAYLOAD_WORDS],
}

impl Completion {
    /// An answer without a result.
    pub fn of(status: Status) -> Self {
        Self { status, device_time_ns: 0, result_bytes: 0, payload: [0; PAYLOAD_WORDS] }
    }
}

/// Names a block in a lane's allocation table on the device. The generation makes a stale name an error.
///
/// # Behavior
/// - **unbound**: A name whose index is bound to nothing, or lies beyond the table, is answered
///   [`Status::UnknownAllocation`].
/// - **stale**: So is one whose generation is not the one bound, whoever asks: it tells nothing of the block's owner.
/// - **owner**: The block is reached for the grain that bound it; for any other it is [`Status::NotOwner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceSlot {
    /// Index into the table.
    pub index: u32,
    /// Counts how often the index was bound.
    pub generation: u32,
}

impl DeviceSlot {
    /// No block.
    pub const NONE: DeviceSlot = DeviceSlot { index: u32::MAX, generation: 0 };

    /// Whether this names no block.
    pub fn is_none(self) -> bool {
        self.index == u32::MAX
    }

    fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_word(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// The payload of [`Opcode::Bind`]: its grain owns the block from then on.
///
/// # Behavior
/// - **round-trip**: The payload words hold every field whole.
/// - **zeroes**: Exactly `zero_bytes` bytes from `address` on read as zeros by the grain's next command, also where the slot
///   does not reach them; no other byte is touched.
/// - **reach**: Through the slot `size_bytes` bytes from `address` on are reached, and no more.
/// - **rebind**: An index that is bound may be bound again, by any grain. The name before is stale from then on.
/// - **unbind**: 0 bytes unbind the slot, for its owner and under its generation only; `address` and `zero_bytes` are not
///   looked at.
/// - **address**: An address that is no multiple of 64, or a range (of `size_bytes` or `zero_bytes`) that does not lie within
///   one buffer of the device, is [`Status::InvalidArgument`].
/// - **index**: An index beyond [`crate::RingConfig::allocations`] is [`Status::OutOfBounds`]; every one below can be bound.
/// - **refused-keeps**: A bind that is refused changes neither the table nor memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The slot to bind, with its new generation.
    pub slot: DeviceSlot,
    /// Device address of the block's first byte.
    pub address: u64,
    /// Bytes that may be reached through the slot. 0 unbinds it.
    pub size_bytes: u64,
    /// Bytes to zero from `address` on, at most the block's own size; 0 when the owner stays the same.
    pub zero_bytes: u64,
}

impl Bind {
    /// The payload words.
    pub fn to_payload(self) -> [u64; PAYLOAD_WORDS] {
        [self.slot.to_word(), self.address, self.size_bytes, self.zero_bytes, 0, 0, 0]
    }

    /// The fields in these payload words.
    pub fn from_payload(p: &[u64; PAYLOAD_WORDS]) -> Self {
        Self { slot: DeviceSlot::from_word(p[0]), address: p[1], size_bytes: p[2], zero_bytes: p[3] }
    }
}

/// The payload of the copying opcodes. With [`Opcode::WriteInline`] the bytes follow in the payload, with
/// [`Opcode::WriteBulk`] and [`Opcode::ReadBulk`] the chunk's number.
///
/// # Behavior
/// - **round-trip**: The payload words hold every field whole.
/// - **exact**: The bytes arrive as they were sent, for every size and offset; what lies beside them is not touched.
/// - **nothing**: 0 bytes may be copied at any offset up to the end.
/// - **bounds**: A range that reaches beyond the allocation is [`Status::OutOfBounds`].
/// - **limit**: More bytes than the staging area, the chunk or the payload holds are [`Status::InvalidArgument`].
/// - **chunk**: A chunk that there is not, that nobody holds, or that another command has already, is
///   [`Status::InvalidArgument`].
/// - **refused-keeps**: A copy that is refused changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The allocation.
    pub slot: DeviceSlot,
    /// First byte within the allocation.
    pub offset_bytes: u64,
    /// Bytes to copy: at most a staging area, a chunk, [`Transfer::INLINE_WRITE_BYTES`] or [`PAYLOAD_BYTES`].
    pub size_bytes: u32,
}

impl Transfer {
    /// Payload words in front of the bytes of an inline write.
    pub const HEADER_WORDS: usize = 3;
    /// Bytes that an inline write carries.
    pub const INLINE_WRITE_BYTES: usize = (PAYLOAD_WORDS - Self::HEADER_WORDS) * 8;

    /// The payload words; `inline` holds the words of an inline write, the number of a chunk, or zeros.
    pub fn to_payload(self, inline: [u64; PAYLOAD_WORDS - Self::HEADER_WORDS]) -> [u64; PAYLOAD_WORDS] {
        let [a, b, c, d] = inline;
        [self.slot.to_word(), self.offset_bytes, u64::from(self.size_bytes), a, b, c, d]
    }

    /// The fields in these payload words.
    pub fn from_payload(p: &[u64; PAYLOAD_WORDS]) -> Self {
        Self { slot: DeviceSlot::from_word(p[0]), offset_bytes: p[1], size_bytes: p[2] as u32 }
    }
}

/// The payload of [`Opcode::Compute`].
///
/// # Behavior
/// - **round-trip**: The payload words hold every field whole.
/// - **kernel**: A kernel slot into which nothing was compiled is [`Status::UnknownKernel`].
/// - **buffers**: Exactly the buffers are named that the kernel declares; anything else is [`Status::InvalidArgument`].
/// - **named**: Each named buffer must be bound under this name, and the grain's own, as [`DeviceSlot`] says.
/// - **aliased**: Two names for one table index are [`Status::InvalidArgument`], unless the kernel works in place.
/// - **shape**: A call that the kernel's check refuses is [`Status::InvalidArgument`].
/// - **whole**: A count of 0 means all elements of `input`, or of `output` when there is no input.
/// - **refused-keeps**: A call that is refused runs nothing and changes nothing.
/// - **fault**: A kernel that fails, or whose check or work size does, is [`Status::KernelFault`]; the lane and the grain go
///   on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// The first input, or [`DeviceSlot::NONE`].
    pub input: DeviceSlot,
    /// The second input, or [`DeviceSlot::NONE`].
    pub operand: DeviceSlot,
    /// The output (and state), or [`DeviceSlot::NONE`].
    pub output: DeviceSlot,
    /// Elements to work on; 0 means all that the buffers hold.
    pub count: u32,
    /// Twenty-four bytes of scalar parameters, as the kernel declares them.
    pub scalars: [u64; 3],
}

impl Compute {
    /// The payload words.
    pub fn to_payload(self) -> [u64; PAYLOAD_WORDS] {
        let [a, b, c] = self.scalars;
        [self.input.to_word(), self.operand.to_word(), self.output.to_word(), u64::from(self.count), a, b, c]
    }

    /// The fields in these payload words.
    pub fn from_payload(p: &[u64; PAYLOAD_WORDS]) -> Self {
        Self {
            input: DeviceSlot::from_word(p[0]),
            operand: DeviceSlot::from_word(p[1]),
            output: DeviceSlot::from_word(p[2]),
            count: p[3] as u32,
            scalars: [p[4], p[5], p[6]],
        }
    }
}

/// The right to one answer of a lane. It is not `Clone`: whoever holds it takes the answer or abandons it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    sequence: u64,
}

impl Ticket {
    /// The ticket of the command with this sequence number. For a [`crate::Submitter`] to hand out, once each.
    pub fn new(sequence: u64) -> Self {
        Self { sequence }
    }

    /// The command's sequence number in its lane, from 0.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Why a command was not submitted. Nothing was changed; the caller still has the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Every slot holds a command that is not answered or whose answer nobody took. Take completions, then try again.
    #[error("the lane is full: take completions, then submit again")]
    Full,
    /// The ring was stopped.
    #[error("the ring is stopped")]
    Stopped,
    /// More staged bytes than a slot's staging area holds. Cut the transfer into pieces.
    #[error("the staged bytes exceed the slot's staging area: cut the transfer into pieces")]
    TooLarge,
}

/// What [`crate::Completions::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Not answered yet.
    Pending,
    /// The answer; the slot is free again.
    Ready(Completion),
    /// The ticket was taken or abandoned before.
    Gone,
}
