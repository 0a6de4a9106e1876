//! How far a result may be from its twin's.

use gpubridge_abstractions::{ElementType, Tolerance};
use gpubridge_kernels::id;

use super::{Call, INPUT, OPERAND, Outcome};

/// What enters one result of a kernel in f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The sum of the absolute values that enter it, which the kernel's tolerance is a part of.
    sum: f64,
    /// What of that comes from denormals: a device may take them for zeros.
    denormal: f64,
    /// The result without a rounding on the way, where a device may leave that out.
    fused: Option<f64>,
    /// Whether a result of zero has the sign that IEEE 754 gives it.
    signed_zero: bool,
}

impl Terms {
    /// Nothing: the result is told to the bit, but for the bits of a NaN.
    const EXACT: Terms = Terms { sum: 0.0, denormal: 0.0, fused: None, signed_zero: true };

    /// A number, as a term of a sum.
    fn of(x: f32) -> Self {
        let sum = f64::from(x).abs();
        Self { sum, denormal: if x.is_subnormal() { sum } else { 0.0 }, fused: None, signed_zero: false }
    }

    /// A product, as a term of a sum.
    fn product(x: f32, y: f32) -> Self {
        let sum = (f64::from(x) * f64::from(y)).abs();
        let denormal = x.is_subnormal() || y.is_subnormal() || (x * y).is_subnormal();
        // Infinite when the other factor is: then nothing is told.
        Self { sum, denormal: if denormal { sum } else { 0.0 }, fused: None, signed_zero: false }
    }

    /// `a · x + y`, whose product a device need not round.
    fn fused(a: f32, x: f32, y: f32) -> Self {
        let fused = f64::from(a) * f64::from(x) + f64::from(y);
        Self { fused: Some(fused), ..Self::product(a, x).and(Self::of(y)).signed() }
    }

    /// An amount that is not made of elements.
    fn amount(sum: f32) -> Self {
        Self { sum: f64::from(sum), ..Self::default() }
    }

    /// The terms of both.
    #[must_use]
    fn and(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, denormal: self.denormal + other.denormal, ..self }
    }

    /// The terms of all.
    fn all(terms: impl IntoIterator<Item = Terms>) -> Self {
        terms.into_iter().fold(Self::default(), Self::and)
    }

    /// The same, divided.
    #[must_use]
    fn over(self, divisor: f64) -> Self {
        Self { sum: self.sum / divisor, denormal: self.denormal / divisor, ..self }
    }

    /// The same for a result whose zeros have signs.
    #[must_use]
    fn signed(self) -> Self {
        Self { signed_zero: true, ..self }
    }
}

/// What enters each of the results of a call that are floats which were computed: the answer's of a kernel that
/// answers, otherwise the output's from the first element on. None for results that are told to the bit.
pub fn terms(call: &Call, twin: &Outcome) -> Vec<Terms> {
    if call.spec.element != ElementType::F32 {
        return Vec::new();
    }
    let shape = call.shape();
    let scalar = |index| shape.scalars.f32(index);
    let dimension = |index| shape.scalars.bits(index) as usize;
    let count = shape.count as usize;
    let (x, y) = (call.floats(INPUT), call.floats(OPERAND));
    let first = x.iter().copied().take(count);
    let pairs = first.clone().zip(y.iter().copied());
    match call.spec.id {
        id::SCALE => first.map(|x| Terms::product(scalar(0), x).signed()).collect(),
        id::ADD => pairs.map(|(x, y)| Terms::of(x).and(Terms::of(y)).signed()).collect(),
        id::SAXPY => pairs.map(|(x, y)| Terms::fused(scalar(0), x, y)).collect(),
        id::DOT => vec![Terms::all(pairs.map(|(x, y)| Terms::product(x, y)))],
        id::SUM => vec![Terms::all(first.map(Terms::of))],
        id::MIN_MAX => vec![Terms::EXACT; 2],
        id::MEAN_VARIANCE => {
            let variance = twin.answer.get(1).copied().map_or(0.0, f32::from_bits);
            vec![Terms::all(first.map(Terms::of)).over(count as f64), Terms::amount(variance)]
        }
        id::INCLUSIVE_SCAN => first
            .scan(Terms::default(), |sum, x| {
                *sum = sum.and(Terms::of(x));
                Some(*sum)
            })
            .collect(),
        id::MATVEC => product_terms(&x, &y, [dimension(0), dimension(1), 1]),
        id::MATMUL => product_terms(&x, &y, [dimension(0), dimension(1), dimension(2)]),
        // Absolute or relative, whichever is more.
        id::WINDOW_ZSCORE => {
            twin.answer.iter().map(|score| Terms::amount(f32::from_bits(*score).abs().max(1.0))).collect()
        }
        _ => Vec::new(),
    }
}

/// Those of the product of two matrices, `m × k` times `k × n`.
fn product_terms(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<Terms> {
    let entry = |r: usize, c: usize| Terms::all((0..k).map(|p| Terms::product(a[r * k + p], b[p * n + c])));
    (0..m * n).map(|at| entry(at / n, at % n)).collect()
}

/// Whether the bits of a result agree with those of the twin.
pub fn agrees(want: u32, got: u32, terms: &Terms, tolerance: Tolerance) -> bool {
    let got = f32::from_bits(got);
    let near = |want: f32| is_near(want, got, terms, tolerance);
    near(f32::from_bits(want)) || terms.fused.is_some_and(|fused| near(fused as f32))
}

fn is_near(want: f32, got: f32, terms: &Terms, tolerance: Tolerance) -> bool {
    if want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan() || terms.denormal.is_infinite() {
        return true;
    }
    let Tolerance::Relative(part) = tolerance else { return false };
    // What a device flushes of the result itself is not in the terms.
    let bound = f64::from(part) * terms.sum + terms.denormal + f64::from(f32::MIN_POSITIVE);
    if want == 0.0 && got == 0.0 {
        return !terms.signed_zero || terms.denormal > 0.0;
    }
    match (want.is_finite(), got.is_finite()) {
        (true, true) => (f64::from(want) - f64::from(got)).abs() <= bound,
        // Rounded up from the largest number.
        (true, false) => {
            !got.is_nan() && got.signum() == want.signum() && f64::from(want.abs()) + bound > f32::MAX.into()
        }
        (false, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance::Relative(1e-5);

    fn near(want: f32, got: f32, terms: Terms) -> bool {
        agrees(want.to_bits(), got.to_bits(), &terms, TOLERANCE)
    }

    #[test]
    fn a_result_may_differ_by_the_tolerance_and_no_more() {
        let terms = Terms::of(3.0).and(Terms::of(-2.0));
        assert!(near(1.0, 1.000_04, terms) && near(1.0, 0.999_96, terms));
        assert!(!near(1.0, 1.000_06, terms) && !near(1.0, 0.999_94, terms));
        assert!(!near(1.0, f32::NAN, terms) && !near(f32::NAN, 1.0, terms) && near(f32::NAN, -f32::NAN, terms));
        assert!(!near(f32::INFINITY, f32::NEG_INFINITY, terms) && !near(f32::INFINITY, f32::MAX, terms));
        assert!(near(f32::MAX, f32::INFINITY, Terms::of(f32::MAX)) && !near(f32::MAX, f32::INFINITY, Terms::of(1.0)));
        let exact = |want: f32, got: f32| agrees(want.to_bits(), got.to_bits(), &Terms::EXACT, Tolerance::Exact);
        assert!(exact(1.0, 1.0) && exact(f32::NAN, -f32::NAN) && !exact(0.0, -0.0) && !exact(1.0, 1.0_f32.next_up()));
    }

    #[test]
    fn zeros_have_signs_where_that_is_said() {
        assert!(near(0.0, -0.0, Terms::of(0.0)) && !near(0.0, -0.0, Terms::of(0.0).signed()));
        assert!(near(-0.0, -0.0, Terms::of(0.0).signed()));
    }

    #[test]
    fn denormals_may_be_flushed_and_nothing_else() {
        let small = f32::MIN_POSITIVE / 2.0;
        assert!(near(small * 3e10, 0.0, Terms::product(small, 3e10)));
        assert!(!near(6e-28, 0.0, Terms::product(f32::MIN_POSITIVE, 5e10)));
        assert!(near(f32::INFINITY, f32::NAN, Terms::product(small, f32::INFINITY)));
        assert!(!near(f32::INFINITY, f32::NAN, Terms::product(1.0, f32::INFINITY)));
    }

    #[test]
    fn a_rounding_may_be_left_out_where_that_is_said() {
        let (a, x, y) = (2.0, 2e38, -3e38);
        assert_eq!(a * x + y, f32::INFINITY, "as the twin rounds");
        let rounded = Terms::product(a, x).and(Terms::of(y));
        assert!(!near(f32::INFINITY, 1e38, rounded) && near(f32::INFINITY, 1e38, Terms::fused(a, x, y)));
    }
}
