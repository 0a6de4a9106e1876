//! Buffers as a CPU twin sees them.

use std::cell::Cell;

use gpubridge_abstractions::ElementType;

/// A type of buffer element, four bytes wide.
pub trait Element: Copy + PartialEq + std::fmt::Debug + 'static {
    /// Its number on the wire.
    const TYPE: ElementType;
    /// The element with these bits.
    fn from_bits(bits: u32) -> Self;
    /// Its bits.
    fn to_bits(self) -> u32;
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;

    #[inline]
    fn from_bits(bits: u32) -> Self {
        f32::from_bits(bits)
    }

    #[inline]
    fn to_bits(self) -> u32 {
        f32::to_bits(self)
    }
}

impl Element for i32 {
    const TYPE: ElementType = ElementType::I32;

    #[inline]
    fn from_bits(bits: u32) -> Self {
        bits as i32
    }

    #[inline]
    fn to_bits(self) -> u32 {
        self as u32
    }
}

impl Element for u32 {
    const TYPE: ElementType = ElementType::U32;

    #[inline]
    fn from_bits(bits: u32) -> Self {
        bits
    }

    #[inline]
    fn to_bits(self) -> u32 {
        self
    }
}

/// The elements of one buffer of a call.
///
/// Cells, not `&mut`: two buffers of one call may be the same memory, as with a kernel's pointers on a device.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a>(&'a [Cell<u32>]);

impl<'a> Elements<'a> {
    /// The elements with these bits.
    pub fn new(words: &'a [Cell<u32>]) -> Self {
        Self(words)
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none: also a buffer that was not named in the call.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub fn get<T: Element>(&self, index: usize) -> T {
        T::from_bits(self.0[index].get())
    }

    /// Overwrites the element at `index`.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub fn set<T: Element>(&self, index: usize, value: T) {
        self.0[index].set(value.to_bits());
    }

    /// The first `count` elements.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self(&self.0[..count])
    }

    /// The elements from `start` on.
    ///
    /// # Panics
    /// When there are fewer than `start`.
    #[inline]
    #[must_use]
    pub fn from(&self, start: usize) -> Self {
        Self(&self.0[start..])
    }

    /// The elements in order.
    #[inline]
    pub fn iter<T: Element>(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator + 'a {
        self.0.iter().map(|cell| T::from_bits(cell.get()))
    }

    /// The elements' cells in order, to overwrite their bits in one pass.
    #[inline]
    pub fn cells(&self) -> &'a [Cell<u32>] {
        self.0
    }
}
