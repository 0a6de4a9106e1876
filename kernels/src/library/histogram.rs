//! `histogram`: how many elements lie in each of `bins` equal parts of `lo ≤ x < hi`.
//!
//! `x` falls into bin `⌊(x - lo) · bins / (hi - lo)⌋`: for integers exactly, for f32 computed in f64 in this order, and
//! into the last bin should the quotient round up to `bins`.
//!
//! - scalars: `lo`, `hi`, of the element type; `bins`, u32, at least 1
//! - writes: the first `bins` elements of output, u32 counts that wrap; what they held before is overwritten

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::{INPUT_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, require};
use crate::{Answer, Element, Invocation, Kernel};

/// Counts of `input` in equal bins.
///
/// # Behavior
/// - **values**: Every element of the range is counted in its bin and in no other, exactly, for as many bins as there
///   are.
/// - **special-values**: NaN, infinities and what lies outside the range are counted nowhere; a range that is empty,
///   infinite or NaN counts nothing. Denormals are numbers.
pub const HISTOGRAM: KernelId = KernelId(11);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: HISTOGRAM,
        name: "histogram",
        summary: "output = how many of input lie in each of bins equal parts of lo..hi",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &["lo", "hi", "bins"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: |shape| shape.count.saturating_add(bins(shape)),
        tolerance: Tolerance::Exact,
        targets: TARGETS,
    };
    Kernel::from_twins(
        declaration,
        &[
            (ElementType::F32, histogram::<f32>),
            (ElementType::I32, histogram::<i32>),
            (ElementType::U32, histogram::<u32>),
        ],
    )
}

fn bins(shape: &CallShape) -> u64 {
    u64::from(shape.scalars.bits(2))
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, output] = shape.elements;
    require(bins(shape) >= 1, "bins is 0")?;
    require(shape.count <= input, INPUT_SHORT)?;
    require(bins(shape) <= output, OUTPUT_SHORT)
}

fn histogram<T: Binned>(call: &Invocation<'_>, _: &mut Answer) {
    let (lo, hi) = (T::from_bits(call.scalars.bits(0)), T::from_bits(call.scalars.bits(1)));
    let bins = call.scalars.bits(2);
    let counts = call.output.first(bins as usize).cells();
    for count in counts {
        count.set(0);
    }
    for x in call.input.first(call.count).iter::<T>() {
        if let Some(bin) = x.bin(lo, hi, bins) {
            let count = &counts[bin as usize];
            count.set(count.get().wrapping_add(1));
        }
    }
}

/// An element type that can be put into bins.
trait Binned: Element {
    /// The bin of a number, below `bins`; none outside `lo..hi`.
    fn bin(self, lo: Self, hi: Self, bins: u32) -> Option<u32>;
}

impl Binned for f32 {
    fn bin(self, lo: f32, hi: f32, bins: u32) -> Option<u32> {
        let width = f64::from(hi) - f64::from(lo);
        if !(lo <= self && self < hi && width.is_finite()) {
            return None;
        }
        let quotient = (f64::from(self) - f64::from(lo)) * f64::from(bins) / width;
        Some((quotient as u32).min(bins - 1))
    }
}

impl Binned for i32 {
    fn bin(self, lo: i32, hi: i32, bins: u32) -> Option<u32> {
        (lo <= self && self < hi).then(|| bin_of_offset(self.abs_diff(lo), hi.abs_diff(lo), bins))
    }
}

impl Binned for u32 {
    fn bin(self, lo: u32, hi: u32, bins: u32) -> Option<u32> {
        (lo <= self && self < hi).then(|| bin_of_offset(self - lo, hi - lo, bins))
    }
}

/// The bin of `offset` in `0..width`: the quotient is below `bins`, since `offset` is below `width`.
fn bin_of_offset(offset: u32, width: u32, bins: u32) -> u32 {
    (u64::from(offset) * u64::from(bins) / u64::from(width)) as u32
}
