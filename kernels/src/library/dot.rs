//! `dot`: the sum of `input[i] · operand[i]`, carried in f64 and rounded to f32 once; 0 of no elements.
//!
//! - answer: the sum, f32

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::sums::sum_of_products;
use super::{INPUT_SHORT, LONG_SUM, OPERAND_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// The sum of `input * operand`.
///
/// # Behavior
/// - **values**: The answer is the sum of all products, within 1e-5 of the sum of their absolute values.
/// - **in-place**: Input may be operand, for the square of a norm.
pub const DOT: KernelId = KernelId(6);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: DOT,
        name: "dot",
        summary: "answers the sum of input * operand",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::Read, BufferUse::None],
        scalars: &[],
        constants: &[],
        in_place: true,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: LONG_SUM,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, dot)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, operand, _] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= operand, OPERAND_SHORT)
}

fn dot(call: &Invocation<'_>, answer: &mut Answer) {
    let sum = sum_of_products(call.input.first(call.count).cells(), call.operand.first(call.count).cells());
    answer.push(sum as f32);
}
