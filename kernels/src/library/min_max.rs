//! `min_max`: the smallest and the largest element.
//!
//! NaNs are passed over; if there is nothing else, both answers are NaN. -0.0 is smaller than +0.0, so the answer does
//! not depend on the order in which a device looks at the elements, and all devices give the same bits.
//!
//! - answer: the smallest, the largest, of the element type
//! - at least one element

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::number::Number;
use super::{INPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// The smallest and the largest of `input`.
///
/// # Behavior
/// - **values**: The answers are the smallest and the largest, to the bit.
/// - **special-values**: NaN is passed over, and both answers are NaN if there is nothing else. -0.0 is smaller than
///   +0.0, so the order in which a device looks at the elements does not show. Infinities and denormals are numbers.
pub const MIN_MAX: KernelId = KernelId(8);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: MIN_MAX,
        name: "min_max",
        summary: "answers the smallest and the largest of input; NaN only if all are",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::None],
        scalars: &[],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Exact,
        targets: TARGETS,
    };
    Kernel::from_twins(
        declaration,
        &[(ElementType::F32, min_max::<f32>), (ElementType::I32, min_max::<i32>), (ElementType::U32, min_max::<u32>)],
    )
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, _] = shape.elements;
    require(shape.count >= 1, "no elements have no smallest")?;
    require(shape.count <= input, INPUT_SHORT)
}

fn min_max<T: Number>(call: &Invocation<'_>, answer: &mut Answer) {
    // Integers, whose minimum is vectorized; these first values stand for NaN.
    let (mut min, mut max) = (i32::MAX, i32::MIN);
    for x in call.input.first(call.count).iter::<T>() {
        min = min.min(x.order().unwrap_or(i32::MAX));
        max = max.max(x.order().unwrap_or(i32::MIN));
    }
    answer.push(T::from_order(min));
    answer.push(T::from_order(max));
}
