//! What the host tells the ring's kernel, laid out as `kernels/cuda/ring.cuh` reads it.

use gpubridge_abstractions::{KernelId, PAYLOAD_WORDS, RingConfig};
use gpubridge_kernels::ring::layout::SLOT_WORDS;

pub(crate) const EXECUTORS_MAX: usize = 15;
pub(crate) const LANES_MAX: usize = RingConfig::LANES_MAX as usize;
pub(crate) const ARENAS_MAX: usize = 32;

/// Bytes of an entry of a lane's allocation table.
pub(crate) const BOUND_BYTES: u64 = 32;
/// Bytes of what is known of a command that waits or is at work beside the ring.
pub(crate) const RECORD_BYTES: u64 = 256;
/// Bytes of what a block keeps from launch to launch.
pub(crate) const BLOCK_STATE_BYTES: u64 = 576;
/// Control words of a block, four lines, and where in them lies what the host wants, what the device answers, and what each
/// executor is at.
pub(crate) const CONTROL_WORDS: usize = 4 * SLOT_WORDS;
pub(crate) const WANTED: usize = 0;
pub(crate) const REACHED: usize = 8;
pub(crate) const HEARTBEAT: usize = 9;
pub(crate) const RESTS: usize = 10;
pub(crate) const AT_WORK: usize = 16;

/// Kernels from this variant on are users'.
pub(crate) const FIRST_USER: u32 = KernelId::FIRST_USER.0 << 2;

/// What the host wants of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wanted {
    /// Commands are executed.
    Run = 0,
    /// What was begun is ended, nothing else.
    Hold = 1,
    /// As [`Wanted::Hold`], then the kernel ends, to be launched again.
    Exit = 2,
    /// What was begun is ended, all else is cancelled, and the kernel ends for good.
    Stop = 3,
    /// The kernel ends at once, whatever was begun: the device counts as lost.
    Abandon = 4,
    /// As [`Wanted::Hold`], but what is at work beside the ring stays there.
    Pause = 5,
}

/// One lane: its commands, its words, its allocation table, its records.
pub(crate) type Lane = [u64; 4];

/// The ring, as it lies in memory when the kernel is launched with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    pub(crate) lanes: [Lane; LANES_MAX],
    pub(crate) blocks: u64,
    pub(crate) held: u64,
    pub(crate) control: u64,
    pub(crate) outbox: u64,
    pub(crate) config: RingConfig,
    pub(crate) requests_max: u32,
    /// After how many commands a block ends by itself; 0 for never.
    pub(crate) max_commands: u32,
    /// Chunks of bulk staging, and bytes of each.
    pub(crate) bulk: [u32; 2],
}

/// Eight-byte words of the ring's parameters.
const PARAMETER_WORDS: usize = 4 * LANES_MAX + 4 + 5 + 2 * ARENAS_MAX;

impl Parameters {
    /// As the kernel takes them, with the memory that there is now.
    pub(crate) fn to_words(self, arenas: &[[u64; 2]]) -> [u64; PARAMETER_WORDS] {
        let RingConfig { lanes, slots, staging_bytes, allocations } = self.config;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let [chunks, chunk_bytes] = self.bulk;
        let counts = [
            pair(lanes, slots),
            pair(staging_bytes / 8, allocations),
            pair(self.requests_max, arenas.len() as u32),
            pair(self.max_commands, 0),
            pair(chunks, chunk_bytes),
        ];
        let mut words = [0; PARAMETER_WORDS];
        let values = self.lanes.into_iter().flatten();
        let values = values.chain([self.blocks, self.held, self.control, self.outbox]).chain(counts);
        let values = values.chain(arenas.iter().flatten().copied());
        words.iter_mut().zip(values).for_each(|(word, value)| *word = value);
        words
    }
}

const _: () = assert!(PARAMETER_WORDS * 8 == 2632, "as in ring.cuh");
const _: () = assert!(AT_WORK + EXECUTORS_MAX <= CONTROL_WORDS, "a control word per executor");
const _: () = assert!(PAYLOAD_WORDS + 1 == SLOT_WORDS, "as in layout.cuh");

/// The variants of a [`Request`] by which a chunk of bulk staging is copied to a block, and a block to a chunk.
pub(crate) const COPY_IN: u32 = 2;
pub(crate) const COPY_OUT: u32 = 3;
/// Words of its command's staging area that say what is to be copied.
pub(crate) const COPY_ADDRESS: usize = 0;
pub(crate) const COPY_BYTES: usize = 1;
pub(crate) const COPY_CHUNK: usize = 2;

/// A command that the device asks the host to launch beside the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// In how many launches a grid works on it; 0: one block does.
    pub(crate) phases: u32,
    /// Its element operations, rounded up to a power of two.
    pub(crate) work: u64,
    pub(crate) variant: u32,
    pub(crate) lane: u32,
    pub(crate) slot: u32,
}

impl Request {
    /// The request in this word.
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            phases: (word >> 47 & 0xf) as u32,
            work: 1_u64.checked_shl((word >> 40 & 0x7f) as u32).unwrap_or(u64::MAX),
            variant: (word >> 24 & 0xffff) as u32,
            lane: (word >> 16 & 0x3f) as u32,
            slot: (word & 0xffff) as u32,
        }
    }
}

/// The variant by which a block of memory is zeroed beside the ring; no kernel's.
pub(crate) const ZERO_BYTES: u32 = 1;

/// What an executor says that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtWork {
    pub(crate) lane: u32,
    pub(crate) opcode: u8,
    pub(crate) kernel: u16,
    pub(crate) grain: u32,
}

impl AtWork {
    /// What this control word says; `None` for nothing.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let lane = (word >> 55 & 0x3f) as u32;
        let (opcode, kernel, grain) = ((word >> 48 & 0x7f) as u8, (word >> 32) as u16, word as u32);
        (opcode != 0).then_some(Self { lane, opcode, kernel, grain })
    }
}
