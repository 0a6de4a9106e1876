//! `mean_variance`: the mean `m = Σ x / n` and the population variance `Σ (x - m)² / n`.
//!
//! Two passes, both in f64: the textbook's one pass, `Σ x² / n - m²`, loses all digits of the variance when the mean is
//! much larger (Chan, Golub and LeVeque, *Algorithms for Computing the Sample Variance*, 1983). The tolerance is a part
//! of `Σ |x| / n` for the mean and of the variance itself for the variance; a device without f64 keeps it by carrying
//! `x - input[0]`, its mean and the sums as pairs of f32.
//!
//! - answer: mean, variance, f32
//! - at least one element

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::sums::sum;
use super::{INPUT_SHORT, LONG_SUM, TARGETS, UP_TO_64_KI, require};
use crate::{Answer, Invocation, Kernel};

/// The mean and the population variance of `input`.
///
/// # Behavior
/// - **values**: The mean is within 1e-5 of the mean absolute value, the variance within 1e-5 of itself, however far
///   from zero the elements lie.
/// - **special-values**: Both answers are NaN if an element is; the variance is NaN if one is infinite, and an infinity
///   if it exceeds f32.
pub const MEAN_VARIANCE: KernelId = KernelId(9);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: MEAN_VARIANCE,
        name: "mean_variance",
        summary: "answers the mean and the population variance of input",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::None],
        scalars: &[],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: |shape| shape.count.saturating_mul(2),
        tolerance: LONG_SUM,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, mean_variance)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, _] = shape.elements;
    require(shape.count >= 1, "no elements have no mean")?;
    require(shape.count <= input, INPUT_SHORT)
}

fn mean_variance(call: &Invocation<'_>, answer: &mut Answer) {
    let cells = call.input.first(call.count).cells();
    let value = |bits| f64::from(f32::from_bits(bits));
    let mean = sum(cells, value) / call.count as f64;
    let squares = sum(cells, |bits| {
        let difference = value(bits) - mean;
        difference * difference
    });
    answer.push(mean as f32);
    answer.push((squares / call.count as f64) as f32);
}
