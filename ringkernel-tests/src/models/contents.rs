//! The bytes of an allocation as the model knows them, and kernels over them.

use gpubridge_abstractions::{ElementType, KernelSpec};
use gpubridge_kernels::id;

/// A kernel of the library, in u32, that the model computes as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// `output = value`.
    Fill,
    /// `output = input`.
    CopyAll,
    /// `output = input + operand`.
    Add,
    /// Answers the sum of input.
    Sum,
    /// `output` = the running sum of input.
    Scan,
}

impl Kernel {
    /// All of them.
    pub(super) const ALL: [Kernel; 5] = [Self::Fill, Self::CopyAll, Self::Add, Self::Sum, Self::Scan];

    pub(super) fn spec(self) -> KernelSpec {
        let id = match self {
            Self::Fill => id::FILL,
            Self::CopyAll => id::COPY,
            Self::Add => id::ADD,
            Self::Sum => id::SUM,
            Self::Scan => id::INCLUSIVE_SCAN,
        };
        KernelSpec::new(id).of(ElementType::U32)
    }

    /// Which of input, operand and output it takes.
    pub(super) fn takes(self) -> [bool; 3] {
        match self {
            Self::Fill => [false, false, true],
            Self::CopyAll | Self::Scan => [true, false, true],
            Self::Add => [true, true, true],
            Self::Sum => [true, false, false],
        }
    }

    /// The elements that it works on, if the buffers hold as many.
    pub(super) fn count(self, count: u32, elements: [usize; 3]) -> Option<usize> {
        let [has_input, ..] = self.takes();
        let count = match count {
            0 if has_input => elements[0],
            0 => elements[2],
            count => count as usize,
        };
        let fits = self.takes().into_iter().zip(elements).all(|(taken, elements)| !taken || count <= elements);
        fits.then_some(count)
    }

    /// What it makes of the first `count` elements: those of output, and its answer.
    pub(super) fn compute(
        self,
        input: &[Word],
        operand: &[Word],
        count: usize,
        value: u32,
    ) -> (Vec<Word>, Option<Word>) {
        let plus = |a: Word, b: Word| Some(a?.wrapping_add(b?));
        match self {
            Self::Fill => (vec![Some(value); count], None),
            Self::CopyAll => (input[..count].to_vec(), None),
            Self::Add => (input[..count].iter().zip(operand).map(|(a, b)| plus(*a, *b)).collect(), None),
            Self::Sum => {
                (Vec::new(), Some(input[..count].iter().try_fold(0_u32, |sum, x| Some(sum.wrapping_add((*x)?)))))
            }
            Self::Scan => {
                let running = input[..count].iter().scan(Some(0), |sum, x| {
                    *sum = plus(*sum, *x);
                    Some(*sum)
                });
                (running.collect(), None)
            }
        }
    }
}

/// An element that is known, or not.
pub(super) type Word = Option<u32>;

/// The bytes of an allocation. What a block held when it came back to its owner is not known before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents(Vec<Option<u8>>);

impl Contents {
    pub fn zeroed(size_bytes: u64) -> Self {
        Self(vec![Some(0); size_bytes as usize])
    }

    pub fn unknown(size_bytes: u64) -> Self {
        Self(vec![None; size_bytes as usize])
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the range lies within.
    pub fn holds(&self, offset_bytes: u64, size_bytes: u64) -> bool {
        offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= self.len() as u64)
    }

    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        let known = self.0[offset_bytes as usize..].iter_mut().zip(bytes);
        known.for_each(|(known, byte)| *known = Some(*byte));
    }

    pub fn part(&self, offset_bytes: u64, size_bytes: u64) -> Self {
        Self(self.0[offset_bytes as usize..][..size_bytes as usize].to_vec())
    }

    /// Fails with the first byte that differs from what is known.
    pub fn agrees(&self, bytes: &[u8]) -> Result<(), String> {
        if self.0.len() != bytes.len() {
            return Err(format!("{} bytes, not {}", bytes.len(), self.0.len()));
        }
        let differs = self.0.iter().zip(bytes).position(|(known, byte)| known.is_some_and(|known| known != *byte));
        match differs {
            None => Ok(()),
            Some(at) => {
                let known = self.0[at].unwrap_or_default();
                Err(format!("byte {at} of {} is {}; the model says {known}", bytes.len(), bytes[at]))
            }
        }
    }

    /// Its whole elements.
    pub fn words(&self) -> Vec<Word> {
        let (words, _) = self.0.as_chunks::<4>();
        let word = |[a, b, c, d]: [Option<u8>; 4]| Some(u32::from_le_bytes([a?, b?, c?, d?]));
        words.iter().map(|bytes| word(*bytes)).collect()
    }

    /// Overwrites the first elements.
    pub fn set_words(&mut self, words: &[Word]) {
        let (bytes, _) = self.0.as_chunks_mut::<4>();
        for (bytes, word) in bytes.iter_mut().zip(words) {
            *bytes = word.map_or([None; 4], |word| word.to_le_bytes().map(Some));
        }
    }
}
