//! Scalars packed into words: a kernel's arguments in a command, its results in a completion.

use crate::{AllocationId, Error, ErrorKind};

/// The four bytes at `offset_bytes` of little-endian `words`, of which the first `len_bytes` count.
fn u32_at(words: &[u64], len_bytes: usize, offset_bytes: usize) -> Option<u32> {
    let end_bytes = offset_bytes.checked_add(4)?;
    if !offset_bytes.is_multiple_of(4) || end_bytes > len_bytes {
        return None;
    }
    let word = words.get(offset_bytes / 8)?;
    Some((word >> (offset_bytes % 8 * 8)) as u32)
}

/// The eight bytes at `offset_bytes`, which need to be aligned to 4 only.
fn u64_at(words: &[u64], len_bytes: usize, offset_bytes: usize) -> Option<u64> {
    let low = u32_at(words, len_bytes, offset_bytes)?;
    let high = u32_at(words, len_bytes, offset_bytes.checked_add(4)?)?;
    Some(u64::from(high) << 32 | u64::from(low))
}

/// The typed readers of both types, over their `words` and `len_bytes()`.
macro_rules! typed_readers {
    () => {
        /// The `u32` at this byte offset; `None` if it is not a multiple of 4 or the value does not lie within the
        /// length.
        pub fn u32_at(&self, offset_bytes: usize) -> Option<u32> {
            u32_at(&self.words, self.len_bytes(), offset_bytes)
        }

        /// The `f32` at this byte offset; `None` as for [`Self::u32_at`].
        pub fn f32_at(&self, offset_bytes: usize) -> Option<f32> {
            self.u32_at(offset_bytes).map(f32::from_bits)
        }

        /// The `u64` at this byte offset, a multiple of 4; `None` as for [`Self::u32_at`].
        pub fn u64_at(&self, offset_bytes: usize) -> Option<u64> {
            u64_at(&self.words, self.len_bytes(), offset_bytes)
        }

        /// The `f64` at this byte offset, a multiple of 4; `None` as for [`Self::u32_at`].
        pub fn f64_at(&self, offset_bytes: usize) -> Option<f64> {
            self.u64_at(offset_bytes).map(f64::from_bits)
        }
    };
}

/// What a kernel is told besides its input and output: a second input, the number of elements, and up to 24 bytes of
/// scalars. Copied into the command; nothing is allocated.
///
/// Scalars lie in the order in which they are added, little-endian, each at a multiple of 4 bytes.
///
/// ```
/// use gpubridge_abstractions::Parameters;
///
/// let parameters = Parameters::new().with_f32(0.5).with_u64(7);
/// assert_eq!(parameters.f32_at(0), Some(0.5));
/// assert_eq!(parameters.u64_at(4), Some(7));
/// assert_eq!(parameters.len_bytes(), 12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// A second input of the kernel.
    pub operand: Option<AllocationId>,
    /// How many elements the kernel works on; 0 means the whole allocation.
    pub count: u32,
    words: [u64; 3],
    /// Bytes that were added, beyond the capacity too: that is how an overflow is known.
    added_bytes: u8,
}

impl Parameters {
    /// The most bytes of scalars.
    pub const CAPACITY_BYTES: usize = 24;

    /// No parameters.
    pub const fn new() -> Self {
        Self { operand: None, count: 0, words: [0; 3], added_bytes: 0 }
    }

    /// The same with a second input.
    #[must_use]
    pub fn with_operand(self, operand: AllocationId) -> Self {
        Self { operand: Some(operand), ..self }
    }

    /// The same for `count` elements; 0 means the whole allocation.
    #[must_use]
    pub fn with_count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// The same with one more `u32` (4 bytes). A scalar that finds no room is remembered as an overflow, which
    /// [`Self::words`] reports and with it every call that takes the parameters.
    #[must_use]
    pub fn with_u32(mut self, value: u32) -> Self {
        let offset_bytes = usize::from(self.added_bytes);
        if let Some(word) = self.words.get_mut(offset_bytes / 8) {
            *word |= u64::from(value) << (offset_bytes % 8 * 8);
        }
        self.added_bytes = self.added_bytes.saturating_add(4);
        self
    }

    /// The same with one more `f32` (4 bytes); see [`Self::with_u32`].
    #[must_use]
    pub fn with_f32(self, value: f32) -> Self {
        self.with_u32(value.to_bits())
    }

    /// The same with one more `u64` (8 bytes); see [`Self::with_u32`].
    #[must_use]
    pub fn with_u64(self, value: u64) -> Self {
        self.with_u32(value as u32).with_u32((value >> 32) as u32)
    }

    /// The same with one more `f64` (8 bytes); see [`Self::with_u32`].
    #[must_use]
    pub fn with_f64(self, value: f64) -> Self {
        self.with_u64(value.to_bits())
    }

    /// The bytes of scalars that were added and found room.
    pub fn len_bytes(&self) -> usize {
        usize::from(self.added_bytes).min(Self::CAPACITY_BYTES)
    }

    /// The scalars as they travel in a command; bytes that were not added are 0.
    ///
    /// # Behavior
    /// - **overflow**: Scalars beyond the capacity are neither dropped nor truncated: the error says how many there
    ///   are.
    ///
    /// # Errors
    /// [`ParametersOverflow`] if more than [`Self::CAPACITY_BYTES`] were added.
    pub fn words(&self) -> Result<[u64; 3], ParametersOverflow> {
        if usize::from(self.added_bytes) > Self::CAPACITY_BYTES {
            return Err(ParametersOverflow { added_bytes: self.added_bytes });
        }
        Ok(self.words)
    }

    typed_readers!();
}

/// More scalars were added to [`Parameters`] than a command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{added_bytes} bytes of scalar parameters were added and a command carries {}; pass the rest in an allocation",
    Parameters::CAPACITY_BYTES
)]
pub struct ParametersOverflow {
    /// How many bytes were added; 255 stands for that many or more.
    pub added_bytes: u8,
}

impl From<ParametersOverflow> for Error {
    fn from(overflow: ParametersOverflow) -> Self {
        Error::new(ErrorKind::InvalidArgument, "compute", overflow.to_string()).with_source(overflow)
    }
}

/// What a kernel returns within its completion: up to 56 bytes, little-endian.
///
/// # Behavior
/// - **length**: A result keeps its length and its values, and nothing of what lay beyond them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InlineResult {
    words: [u64; 7],
    len_bytes: u8,
}

/// The bits of a result that count, by its length in bytes.
static KEPT: [[u64; 7]; InlineResult::CAPACITY_BYTES + 1] = {
    let mut kept = [[0; 7]; InlineResult::CAPACITY_BYTES + 1];
    let mut len_bytes = 0;
    while len_bytes <= InlineResult::CAPACITY_BYTES {
        let mut byte = 0;
        while byte < len_bytes {
            kept[len_bytes][byte / 8] |= 0xff << (byte % 8 * 8);
            byte += 1;
        }
        len_bytes += 1;
    }
    kept
};

impl InlineResult {
    /// The most bytes.
    pub const CAPACITY_BYTES: usize = 56;
    /// Nothing was returned.
    pub const EMPTY: InlineResult = InlineResult { words: [0; 7], len_bytes: 0 };

    /// The first `len_bytes` of `words`; `None` if they are more than [`Self::CAPACITY_BYTES`].
    #[inline]
    pub fn from_words(words: &[u64; 7], len_bytes: usize) -> Option<Self> {
        if len_bytes > Self::CAPACITY_BYTES {
            return None;
        }
        // What lies beyond the length is noise of the slot: without it, equal results are equal.
        let kept = &KEPT[len_bytes];
        Some(Self { words: std::array::from_fn(|i| words[i] & kept[i]), len_bytes: len_bytes as u8 })
    }

    /// How many bytes were returned.
    pub fn len_bytes(&self) -> usize {
        usize::from(self.len_bytes)
    }

    /// The bytes, in words; those beyond the length are 0.
    pub fn words(&self) -> [u64; 7] {
        self.words
    }

    typed_readers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_packed_in_order_at_a_multiple_of_four() {
        let parameters = Parameters::new().with_f32(1.5).with_f64(-2.25).with_u32(7).with_u64(u64::MAX - 1);
        assert_eq!(parameters.len_bytes(), 24);
        assert_eq!(parameters.f32_at(0), Some(1.5));
        assert_eq!(parameters.f64_at(4), Some(-2.25));
        assert_eq!(parameters.u32_at(12), Some(7));
        assert_eq!(parameters.u64_at(16), Some(u64::MAX - 1));
        let bytes: Vec<u8> = parameters.words().expect("fits").iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes[4..12], (-2.25f64).to_le_bytes());
    }

    #[test]
    fn readers_refuse_what_was_not_added_and_odd_offsets() {
        let parameters = Parameters::new().with_u32(1).with_u32(2);
        assert_eq!(parameters.u32_at(8), None);
        assert_eq!(parameters.u64_at(4), None);
        assert_eq!(parameters.u32_at(2), None);
        assert_eq!(parameters.u32_at(usize::MAX - 3), None);
        assert_eq!(parameters.u64_at(usize::MAX - 3), None);
    }

    #[test]
    fn an_overflow_says_how_many_bytes_there_are() {
        let full = Parameters::new().with_u64(1).with_u64(2).with_f32(3.0).with_u32(4);
        assert!(full.words().is_ok());
        let overflow = full.with_u32(5).words().expect_err("28 bytes");
        assert_eq!(overflow, ParametersOverflow { added_bytes: 28 });
        let error = Error::from(overflow);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("28") && error.message().contains("24"), "{error}");
        let endless = (0..100).fold(Parameters::new(), |parameters, _| parameters.with_u64(u64::MAX));
        assert_eq!(endless.words(), Err(ParametersOverflow { added_bytes: 255 }));
    }

    #[test]
    fn a_result_keeps_its_bytes_and_nothing_beyond() {
        for len_bytes in 0..=InlineResult::CAPACITY_BYTES {
            let result = InlineResult::from_words(&[u64::MAX; 7], len_bytes).expect("fits");
            let ones: u32 = result.words().iter().map(|word| word.count_ones()).sum();
            assert_eq!((ones as usize, result.len_bytes()), (len_bytes * 8, len_bytes));
        }
        assert_eq!(InlineResult::from_words(&[0; 7], 57), None);
        let result = InlineResult::from_words(&[1.5f64.to_bits(), 9, 0, 0, 0, 0, 0], 12).expect("fits");
        assert_eq!((result.f64_at(0), result.u32_at(8), result.u64_at(8)), (Some(1.5), Some(9), None));
    }
}
