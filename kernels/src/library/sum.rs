//! `sum`: the sum of the elements; 0 of none. Integers wrap; f32 is carried in f64 and rounded once.
//!
//! - answer: the sum, of the element type

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::number::Number;
use super::{INPUT_SHORT, LONG_SUM, TARGETS, UP_TO_64_KI, one_each, require, sums};
use crate::{Answer, Invocation, Kernel};

/// The sum of `input`.
///
/// # Behavior
/// - **values**: The answer is the sum of all elements, of f32 within 1e-5 of the sum of their absolute values. The
///   sign of a sum of zero is not told.
pub const SUM: KernelId = KernelId(7);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: SUM,
        name: "sum",
        summary: "answers the sum of input",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::None],
        scalars: &[],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: LONG_SUM,
        targets: TARGETS,
    };
    Kernel::from_twins(
        declaration,
        &[(ElementType::F32, sum::<f32>), (ElementType::I32, sum::<i32>), (ElementType::U32, sum::<u32>)],
    )
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, _] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)
}

fn sum<T: Number>(call: &Invocation<'_>, answer: &mut Answer) {
    let sum = sums::sum(call.input.first(call.count).cells(), |bits| T::from_bits(bits).to_sum());
    answer.push(T::from_sum(sum));
}
