//! The workload: one list of commands over several grains, made once from a seed.

use std::fmt;

use gpubridge::ElementType;
use ringkernel_tests::call::Call;

/// Grains that the commands speak for; they take turns on the lanes.
pub const GRAINS: usize = 6;

/// One command of a grain, in its turn. A block is an allocation by its number in the workload, which is never used again.
#[derive(Debug)]
pub struct Command {
    pub grain: usize,
    pub what: What,
}

/// What is to be done.
#[derive(Debug)]
pub enum What {
    Allocate {
        block: usize,
        size_bytes: usize,
    },
    Write {
        block: usize,
        offset_bytes: usize,
        bytes: Vec<u8>,
    },
    Read {
        block: usize,
        offset_bytes: usize,
        size_bytes: usize,
        /// The command whose floats it reads, where a device may have rounded them otherwise.
        rounded_by: Option<usize>,
    },
    Compute {
        /// With what the blocks hold when it is its turn.
        call: Call,
        blocks: [Option<usize>; 3],
        /// Whether it is to be refused.
        is_refused: bool,
    },
    Release {
        block: usize,
    },
}

impl What {
    /// The blocks that it names.
    pub fn blocks(&self) -> [Option<usize>; 3] {
        match self {
            Self::Allocate { block, .. }
            | Self::Write { block, .. }
            | Self::Read { block, .. }
            | Self::Release { block } => [Some(*block), None, None],
            Self::Compute { blocks, .. } => *blocks,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grain {} ", self.grain)?;
        match &self.what {
            What::Allocate { block, size_bytes } => write!(f, "allocates block {block} of {size_bytes} bytes"),
            What::Write { block, offset_bytes, bytes } => {
                write!(f, "writes {} bytes into block {block} from {offset_bytes} on", bytes.len())
            }
            What::Read { block, offset_bytes, size_bytes, .. } => {
                write!(f, "reads {size_bytes} bytes of block {block} from {offset_bytes} on")
            }
            What::Compute { call, blocks, .. } => {
                let [input, operand, output] =
                    blocks.map(|block| block.map_or("none".to_owned(), |block| format!("block {block}")));
                write!(f, "computes {call}, input {input}, operand {operand}, output {output}")
            }
            What::Release { block } => write!(f, "releases block {block}"),
        }
    }
}

/// A block as it is in the end of what was recorded so far.
#[derive(Clone, Debug)]
pub struct Block {
    pub number: usize,
    pub bytes: Vec<u8>,
    /// What a call may take it for.
    pub contents: Contents,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Elements of the specialization's type, common numbers.
    Elements(ElementType),
    /// The state of a window of so many values.
    Window(u32),
    /// Anything.
    Bytes,
}

impl Block {
    /// The whole words of it.
    pub fn words(&self) -> Vec<u32> {
        words(&self.bytes)
    }

    /// Puts words in front; what is behind stays.
    pub fn set_words(&mut self, words: &[u32]) {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        self.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
}

/// The whole words of these bytes.
pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
