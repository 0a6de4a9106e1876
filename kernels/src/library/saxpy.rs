//! `saxpy`: `output[i] = a · input[i] + operand[i]`, in f32: the BLAS routine when operand is output.
//!
//! The twin rounds the product and the sum.
//!
//! - scalars: `a`
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::{INPUT_SHORT, ONE_ROUNDING, OPERAND_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output = a * input + operand`.
///
/// # Behavior
/// - **values**: Each element is product and sum, within two roundings; a device may leave the first out.
/// - **in-place**: Any two of the buffers may be the same, and all three.
/// - **special-values**: Zeros, infinities and NaN follow IEEE 754, the sign of a zero included. Where the product
///   alone exceeds f32, it is an infinity or, on a device that does not round it, what it is.
pub const SAXPY: KernelId = KernelId(5);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: SAXPY,
        name: "saxpy",
        summary: "output = a * input + operand",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::Read, BufferUse::Write],
        scalars: &["a"],
        constants: &[],
        in_place: true,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Relative(2.0 * ONE_ROUNDING),
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, saxpy)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, operand, output] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= operand, OPERAND_SHORT)?;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn saxpy(call: &Invocation<'_>, _: &mut Answer) {
    let a = call.scalars.f32(0);
    let pairs = call.input.first(call.count).iter::<f32>().zip(call.operand.first(call.count).iter::<f32>());
    for (out, (x, y)) in call.output.first(call.count).cells().iter().zip(pairs) {
        out.set((a * x + y).to_bits());
    }
}
