//! What a kernel declares of itself, and which specialization of it is meant.

use std::fmt;

use crate::KernelId;

/// The type of a buffer's elements. All are four bytes, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ElementType {
    /// IEEE 754 single precision.
    #[default]
    F32 = 0,
    /// Signed 32-bit integer; arithmetic wraps.
    I32 = 1,
    /// Unsigned 32-bit integer; arithmetic wraps.
    U32 = 2,
}

impl ElementType {
    /// All types, in the order of their numbers.
    pub const ALL: [ElementType; 3] = [Self::F32, Self::I32, Self::U32];
    /// Bytes of an element.
    pub const SIZE_BYTES: u64 = 4;

    /// The type with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
        })
    }
}

/// One specialization of a kernel: what is compiled, and the key of the kernel cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelSpec {
    /// The kernel.
    pub id: KernelId,
    /// The element type.
    pub element: ElementType,
    /// Compile-time constants, as the kernel declares them; unused ones are 0.
    pub constants: [u32; 2],
}

impl KernelSpec {
    /// The f32 specialization without constants.
    pub const fn new(id: KernelId) -> Self {
        Self { id, element: ElementType::F32, constants: [0; 2] }
    }

    /// The same for another element type.
    #[must_use]
    pub const fn of(mut self, element: ElementType) -> Self {
        self.element = element;
        self
    }

    /// The same with these constants.
    #[must_use]
    pub const fn with_constants(mut self, constants: [u32; 2]) -> Self {
        self.constants = constants;
        self
    }
}

impl From<KernelId> for KernelSpec {
    fn from(id: KernelId) -> Self {
        Self::new(id)
    }
}

/// Where a kernel runs.
///
/// # Behavior
/// - **same-result**: The call is the same either way, and so is what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Inside the ring kernel.
    InRing,
    /// Inside the ring kernel up to this much work (see [`KernelDeclaration::work`]), beside it beyond.
    ///
    /// # Behavior
    /// - **beyond**: Beyond that it holds up its own grain alone.
    InRingUpTo(u64),
    /// Always beside the ring, with the whole device; ordered with its grain only.
    Beside,
}

impl Placement {
    /// Whether this much work runs in the ring.
    pub fn in_ring(self, work: u64) -> bool {
        match self {
            Self::InRing => true,
            Self::InRingUpTo(limit) => work <= limit,
            Self::Beside => false,
        }
    }
}

/// How a kernel uses one of its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferUse {
    /// Not at all; naming one is an error.
    None,
    /// It reads it.
    Read,
    /// It overwrites it.
    Write,
    /// It reads and changes it: an operand in place, or state carried from call to call.
    ReadWrite,
}

/// How far a kernel's f32 results may differ from its CPU twin's; integers are equal to the bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all.
    Exact,
    /// By this part of the sum of the absolute values that enter a result, for kernels that add up in another order.
    Relative(f32),
}

/// The shape of one call: what its checks and its placement depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallShape {
    /// Elements that `input`, `operand` and `output` hold; 0 for a buffer that was not named.
    pub elements: [u64; 3],
    /// Elements to work on: the call's count, or all of `input` (of `output` when there is no input) if that was 0.
    pub count: u64,
    /// The call's scalar parameters.
    pub scalars: Scalars,
    /// The specialization's constants.
    pub constants: [u32; 2],
}

/// The scalar parameters of a call: up to six values of four bytes, in the order of their declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scalars(pub [u64; 3]);

impl Scalars {
    /// Values of four bytes that fit.
    pub const CAPACITY: usize = 6;

    /// The value at `index` as its bits.
    ///
    /// # Panics
    /// When `index` is [`Scalars::CAPACITY`] or more.
    #[inline]
    pub fn bits(&self, index: usize) -> u32 {
        (self.0[index / 2] >> (index % 2 * 32)) as u32
    }

    /// The value at `index` as a float. Panics as [`Scalars::bits`].
    #[inline]
    pub fn f32(&self, index: usize) -> f32 {
        f32::from_bits(self.bits(index))
    }

    /// The same with other bits at `index`. Panics as [`Scalars::bits`].
    #[must_use]
    #[inline]
    pub fn with_bits(mut self, index: usize, bits: u32) -> Self {
        let shift = index % 2 * 32;
        self.0[index / 2] = self.0[index / 2] & !(u64::from(u32::MAX) << shift) | u64::from(bits) << shift;
        self
    }
}

/// What a kernel says of itself: everything the host needs to check a call, and nothing about any device API.
#[derive(Clone, Debug)]
pub struct KernelDeclaration {
    /// Its id.
    pub id: KernelId,
    /// Its name, unique in a library.
    pub name: &'static str,
    /// What it computes, in a line.
    pub summary: &'static str,
    /// The element types it comes in.
    pub elements: &'static [ElementType],
    /// How it uses `input`, `operand` and `output`.
    pub buffers: [BufferUse; 3],
    /// Names of its scalar parameters in order, each four bytes.
    pub scalars: &'static [&'static str],
    /// Names of its compile-time constants in order.
    pub constants: &'static [&'static str],
    /// Whether two of its buffers may be the same allocation.
    pub in_place: bool,
    /// Whether `output` carries state from call to call; zeroed memory is its initial state.
    pub stateful: bool,
    /// Where it runs.
    pub placement: Placement,
    /// Checks a call's shape, on the host before it is submitted and on the device before it runs; says what is wrong.
    pub check: fn(&CallShape) -> Result<(), &'static str>,
    /// Element operations of a call.
    pub work: fn(&CallShape) -> u64,
    /// How exact it is.
    pub tolerance: Tolerance,
    /// Targets it has variants for (`cpu`, `cuda`, `vulkan`).
    pub targets: &'static [&'static str],
}
