//! `add`: `output[i] = input[i] + operand[i]`, in the element type; integers wrap.
//!
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::number::Number;
use super::{INPUT_SHORT, ONE_ROUNDING, OPERAND_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output = input + operand`.
///
/// # Behavior
/// - **values**: Each element is the sum of the two, of f32 within one rounding.
/// - **in-place**: Any two of the buffers may be the same, and all three.
/// - **special-values**: Sums of zeros, infinities and NaN are those of IEEE 754, the sign of a zero included; what
///   exceeds f32 is an infinity.
pub const ADD: KernelId = KernelId(4);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: ADD,
        name: "add",
        summary: "output = input + operand",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::Read, BufferUse::Write],
        scalars: &[],
        constants: &[],
        in_place: true,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Relative(ONE_ROUNDING),
        targets: TARGETS,
    };
    Kernel::from_twins(
        declaration,
        &[(ElementType::F32, add::<f32>), (ElementType::I32, add::<i32>), (ElementType::U32, add::<u32>)],
    )
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, operand, output] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= operand, OPERAND_SHORT)?;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn add<T: Number>(call: &Invocation<'_>, _: &mut Answer) {
    let pairs = call.input.first(call.count).iter::<T>().zip(call.operand.first(call.count).iter::<T>());
    for (out, (x, y)) in call.output.first(call.count).cells().iter().zip(pairs) {
        out.set(x.plus(y).to_bits());
    }
}
