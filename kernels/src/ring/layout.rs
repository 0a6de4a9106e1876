//! The layout of a lane, once for every host and device.
//!
//! ```text
//! lane memory, in 8-byte words        n = slots, a power of two; s = staging words per slot
//!   0 ..  8n           command slots      8 words each: header, 7 payload words
//!  8n .. 16n           completion slots   8 words each: header, 7 payload words
//! 16n .. 16n + 16      control words      two lines of 8 words, one control word each
//! 16n + 16 .. + n·s    staging areas      one per slot
//!
//! header, both      63 lap or answer bit · 62…56 bit 63 of payload words 7…1
//! command header    55 answer bit that its completion shall carry · 54…48 opcode · 47…32 kernel · 31…0 grain
//! completion header 55…48 status · 47…38 zero · 37…32 result bytes · 31…0 device time in ns
//! ```
//!
//! Command *i* carries the lap bit `!(i / n) & 1`, so a zeroed ring reads as empty. A completion carries the answer bit
//! its command asked for, which flips with every answer of that slot: a slot may be passed over for some laps while its
//! command is at work, so the lap itself would not tell an old answer from a new one.

use gpubridge_abstractions::{Command, Completion, Opcode, PAYLOAD_WORDS, Status};

/// Words of a command or completion slot: one cache line.
pub const SLOT_WORDS: usize = 8;
/// Words of a lane's control area.
pub const CONTROL_WORDS: usize = 16;
/// Control word: commands consumed so far; the device writes it.
pub const CONSUMED: usize = 0;
/// Control word: 1 while the device's thread sleeps; both sides swap it. Used by devices that are host threads.
pub const PARKED: usize = 8;

pub(super) const TAG: u64 = 1 << 63;
pub(super) const DISPLACED_SHIFT: u32 = 56;
pub(super) const ANSWER_BIT_SHIFT: u32 = 55;
pub(super) const OPCODE_SHIFT: u32 = 48;
pub(super) const OPCODE_MASK: u64 = 0x7f;
pub(super) const KERNEL_SHIFT: u32 = 32;
pub(super) const RESULT_SHIFT: u32 = 32;
pub(super) const STATUS_SHIFT: u32 = 48;

const _: () = assert!(SLOT_WORDS == 1 + PAYLOAD_WORDS, "a slot is a header and its payload");
const _: () = assert!(DISPLACED_SHIFT as usize + PAYLOAD_WORDS == 63, "one displaced bit per payload word");
const _: () = assert!(CONSUMED / 8 != PARKED / 8, "one line per control word");
const _: () = assert!(CONSUMED < CONTROL_WORDS && PARKED < CONTROL_WORDS, "control words lie in the control area");

/// Where things lie in a lane's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLayout {
    slots: usize,
    staging_words: usize,
}

impl LaneLayout {
    /// The layout of a lane of `slots` slots with `staging_bytes` of staging each.
    ///
    /// # Panics
    /// When `slots` is no power of two of at least 2, or `staging_bytes` no multiple of 8. A device checks the
    /// configuration before it comes here.
    pub fn new(slots: u32, staging_bytes: u32) -> Self {
        assert!(slots >= 2 && slots.is_power_of_two(), "slots must be a power of two of at least 2, not {slots}");
        assert!(staging_bytes.is_multiple_of(8), "staging must be a multiple of 8 bytes, not {staging_bytes}");
        Self { slots: slots as usize, staging_words: staging_bytes as usize / 8 }
    }

    /// Slots of the lane.
    pub fn slots(self) -> u64 {
        self.slots as u64
    }

    /// Bytes of a slot's staging area.
    pub fn staging_bytes(self) -> usize {
        self.staging_words * 8
    }

    /// Words of the whole lane.
    pub fn words(self) -> usize {
        2 * self.slots * SLOT_WORDS + CONTROL_WORDS + self.slots * self.staging_words
    }

    /// The slot of sequence number `sequence`.
    #[inline]
    pub fn slot(self, sequence: u64) -> usize {
        sequence as usize & (self.slots - 1)
    }

    /// The lap bit of sequence number `sequence`.
    #[inline]
    pub fn lap(self, sequence: u64) -> bool {
        sequence & self.slots as u64 == 0
    }

    /// First word of a command slot.
    #[inline]
    pub fn command(self, slot: usize) -> usize {
        slot * SLOT_WORDS
    }

    /// First word of a completion slot.
    #[inline]
    pub fn completion(self, slot: usize) -> usize {
        (self.slots + slot) * SLOT_WORDS
    }

    /// A control word.
    #[inline]
    pub fn control(self, word: usize) -> usize {
        2 * self.slots * SLOT_WORDS + word
    }

    /// The words of a slot's staging area.
    #[inline]
    pub fn staging(self, slot: usize) -> std::ops::Range<usize> {
        let first = 2 * self.slots * SLOT_WORDS + CONTROL_WORDS + slot * self.staging_words;
        first..first + self.staging_words
    }
}

/// Whether a word carries this lap or answer bit.
#[inline]
pub fn tagged(word: u64, tag: bool) -> bool {
    word >> 63 == u64::from(tag)
}

#[inline]
fn encode(header: u64, payload: &[u64; PAYLOAD_WORDS], tag: bool) -> [u64; SLOT_WORDS] {
    let bit = u64::from(tag) << 63;
    let mut words = [header | bit; SLOT_WORDS];
    let mut seen = 0;
    for (word, &value) in words[1..].iter_mut().zip(payload) {
        seen |= value;
        *word = value & !TAG | bit;
    }
    // Numbers are seldom so large, nor often negative: most payloads displace nothing.
    if seen & TAG != 0 {
        words[0] |= displaced(payload);
    }
    words
}

/// The top bits of the payload words, where the header carries them.
#[cold]
fn displaced(payload: &[u64; PAYLOAD_WORDS]) -> u64 {
    payload.iter().enumerate().fold(0, |bits, (i, &word)| bits | (word >> 63) << (DISPLACED_SHIFT as usize + i))
}

#[inline]
fn payload(words: &[u64; SLOT_WORDS], payload: &mut [u64; PAYLOAD_WORDS]) {
    for (value, word) in payload.iter_mut().zip(&words[1..]) {
        *value = word & !TAG;
    }
    let displaced = words[0] << 1 >> (DISPLACED_SHIFT + 1);
    if displaced != 0 {
        restore(payload, displaced);
    }
}

/// Puts the top bits back that the header carried.
#[cold]
fn restore(payload: &mut [u64; PAYLOAD_WORDS], displaced: u64) {
    payload.iter_mut().enumerate().for_each(|(i, word)| *word |= (displaced >> i & 1) << 63);
}

/// A command as it lies in its slot. An opcode of more than 7 bits travels as 127, and so does a [`Opcode::Skip`], which is
/// not for callers to submit: no opcode either, so the device answers that it does not know it.
#[inline]
pub fn encode_command(command: &Command, lap: bool, answer_bit: bool) -> [u64; SLOT_WORDS] {
    let header = u64::from(answer_bit) << ANSWER_BIT_SHIFT
        | (u64::from(command.opcode).wrapping_sub(1).min(OPCODE_MASK - 1) + 1) << OPCODE_SHIFT
        | u64::from(command.kernel) << KERNEL_SHIFT
        | u64::from(command.grain);
    encode(header, &command.payload, lap)
}

/// A slot that the device passes over without an answer.
pub fn encode_skip(lap: bool) -> [u64; SLOT_WORDS] {
    encode((Opcode::Skip as u64) << OPCODE_SHIFT, &[0; PAYLOAD_WORDS], lap)
}

/// Writes the command in these words to `command`; returns the answer bit that its completion shall carry.
#[inline]
pub fn decode_command(words: &[u64; SLOT_WORDS], command: &mut Command) -> bool {
    let header = words[0];
    command.opcode = (header >> OPCODE_SHIFT & OPCODE_MASK) as u8;
    command.kernel = (header >> KERNEL_SHIFT) as u16;
    command.grain = header as u32;
    payload(words, &mut command.payload);
    header >> ANSWER_BIT_SHIFT & 1 == 1
}

/// A completion as it lies in its slot.
#[inline]
pub fn encode_completion(completion: &Completion, answer_bit: bool) -> [u64; SLOT_WORDS] {
    debug_assert!(usize::from(completion.result_bytes) <= PAYLOAD_WORDS * 8, "more result bytes than a payload holds");
    let header = (completion.status as u64) << STATUS_SHIFT
        | u64::from(completion.result_bytes) << RESULT_SHIFT
        | u64::from(completion.device_time_ns);
    encode(header, &completion.payload, answer_bit)
}

/// Writes the completion in these words to `completion`. A status that this version does not know reads as
/// [`Status::DeviceLost`]: the device does not speak this protocol.
#[inline]
pub fn decode_completion(words: &[u64; SLOT_WORDS], completion: &mut Completion) {
    let header = words[0];
    completion.status = Status::from_number((header >> STATUS_SHIFT) as u8).unwrap_or(Status::DeviceLost);
    completion.device_time_ns = header as u32;
    completion.result_bytes = (header >> RESULT_SHIFT & 0x3f) as u8;
    payload(words, &mut completion.payload);
}
