//! The kernels for Vulkan: the shaders that execute a batch of operations, as SPIR-V, and how the host writes those.
//!
//! The source is `kernels/vulkan`; `.ci/spirv` makes the SPIR-V of it, and checks that it is the source's.

use gpubridge_abstractions::PAYLOAD_WORDS;

/// A shader, for devices that have the Vulkan memory model and for those that do not.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// Its name.
    pub name: &'static str,
    model: &'static [u8],
    plain: &'static [u8],
}

/// Walks lists of operations: each workgroup has one, and executes it in order.
pub const WALK: Shader = Shader {
    name: "walk",
    model: include_bytes!("../vulkan/walk.model.spv"),
    plain: include_bytes!("../vulkan/walk.plain.spv"),
};

/// Executes one operation by all workgroups, in phases, each of which is a dispatch.
pub const GRID: Shader = Shader {
    name: "grid",
    model: include_bytes!("../vulkan/grid.model.spv"),
    plain: include_bytes!("../vulkan/grid.plain.spv"),
};

impl Shader {
    /// Its words, with or without the memory model.
    pub fn words(&self, has_memory_model: bool) -> Vec<u32> {
        let bytes = if has_memory_model { self.model } else { self.plain };
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }
}

/// The threads of a workgroup.
pub const THREADS: u32 = 128;

/// The most workgroups that keep partial results from phase to phase.
pub const GRID_GROUPS_MAX: u32 = 1024;

/// Bytes that each workgroup of a grid keeps from phase to phase.
pub const PARTIALS_BYTES: u64 = 128;

/// Bytes of an answer's record.
pub const ANSWER_BYTES: usize = 64;

/// What a record says that the device has written: a payload, how many bytes of it are a result, and whether the operation
/// was one that the shader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRecord {
    /// The payload; zeros beyond the result.
    pub payload: [u64; PAYLOAD_WORDS],
    /// Bytes of the result.
    pub result_bytes: u8,
    /// False when the shader does not know the operation, or has written nothing.
    pub is_known: bool,
}

impl AnswerRecord {
    /// What these bytes say.
    pub fn from_bytes(bytes: &[u8; ANSWER_BYTES]) -> Self {
        let words = bytes.as_chunks().0;
        let payload = std::array::from_fn(|i| u64::from_le_bytes(words[i]));
        let last = u64::from_le_bytes(words[PAYLOAD_WORDS]);
        Self { payload, result_bytes: last as u8, is_known: last >> 32 == 1 }
    }
}

const _: () = assert!((PAYLOAD_WORDS + 1) * 8 == ANSWER_BYTES, "a record is a payload and a word of what it is");

/// What an operation is, beside a kernel of the library, which is `id << 2 | element type`.
pub mod what {
    /// Copies bytes between any two addresses.
    pub const COPY_BYTES: u32 = 0xffff_0001;
    /// Zeroes words and up to three bytes behind them.
    pub const ZERO_WORDS: u32 = 0xffff_0002;
    /// Answers with words of the operation.
    pub const ECHO: u32 = 0xffff_0003;
}

/// Which kernels a pipeline is made for, beside one kernel's `what`: the specialization constant 0 of both shaders.
pub mod only {
    /// All of them.
    pub const ALL: u32 = 0;
    /// None: copies, zeroing and echoes alone.
    pub const NONE: u32 = u32::MAX;
}

/// The index of the answer of an operation that has none.
pub const NO_ANSWER: u32 = u32::MAX;

/// Words of an operation.
pub const OPERATION_WORDS: usize = 24;

/// One operation as the shaders read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub [u32; OPERATION_WORDS]);

impl Operation {
    /// An operation on `count` elements or bytes, without anything else.
    pub fn new(what: u32, count: u32) -> Self {
        let mut words = [0; OPERATION_WORDS];
        words[0] = what;
        words[1] = count;
        words[18] = NO_ANSWER;
        Self(words)
    }

    /// The same with a buffer of so many elements as input (0), operand (1) or output (2).
    #[must_use]
    pub fn with_buffer(mut self, which: usize, address: u64, elements: u32) -> Self {
        self.0[2 + 2 * which] = address as u32;
        self.0[3 + 2 * which] = (address >> 32) as u32;
        self.0[8 + which] = elements;
        self
    }

    /// The same with a kernel's constant.
    #[must_use]
    pub fn with_constant(mut self, constant: u32) -> Self {
        self.0[11] = constant;
        self
    }

    /// The same with a call's scalars.
    #[must_use]
    pub fn with_scalars(mut self, scalars: [u64; 3]) -> Self {
        for (i, word) in scalars.into_iter().enumerate() {
            self.0[12 + 2 * i] = word as u32;
            self.0[13 + 2 * i] = (word >> 32) as u32;
        }
        self
    }

    /// The same with its answer at this index.
    #[must_use]
    pub fn with_answer(mut self, index: u32) -> Self {
        self.0[18] = index;
        self
    }

    /// Copies `count` bytes.
    pub fn copy(from: u64, to: u64, count: u32) -> Self {
        Self::new(what::COPY_BYTES, count).with_buffer(0, from & !3, 0).with_buffer(2, to & !3, 0).with_scalars([
            from & 3 | (to & 3) << 32,
            0,
            0,
        ])
    }

    /// Zeroes `count` bytes from an address on that is a multiple of 4; at most four times as many as fit 32 bits.
    pub fn zero(at: u64, count: u64) -> Self {
        Self::new(what::ZERO_WORDS, (count / 4) as u32).with_buffer(2, at, 0).with_scalars([count % 4, 0, 0])
    }

    /// Answers with this payload.
    pub fn echo(payload: [u64; PAYLOAD_WORDS], answer: u32) -> Self {
        let mut echo = Self::new(what::ECHO, 0).with_answer(answer);
        for (i, word) in payload.into_iter().enumerate() {
            echo.0[1 + 2 * i] = word as u32;
            echo.0[2 + 2 * i] = (word >> 32) as u32;
        }
        echo
    }
}
