//! `fill`: `output[i] = value`.
//!
//! - scalars: `value`, of the element type
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::{OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output = value`.
///
/// # Behavior
/// - **values**: Every element gets the bits of `value`, those of a NaN, a denormal or -0.0 too.
pub const FILL: KernelId = KernelId(1);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: FILL,
        name: "fill",
        summary: "output = value",
        elements: &ElementType::ALL,
        buffers: [BufferUse::None, BufferUse::None, BufferUse::Write],
        scalars: &["value"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Exact,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, fill), (ElementType::I32, fill), (ElementType::U32, fill)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [_, _, output] = shape.elements;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn fill(call: &Invocation<'_>, _: &mut Answer) {
    let value = call.scalars.bits(0);
    for out in call.output.first(call.count).cells() {
        out.set(value);
    }
}
