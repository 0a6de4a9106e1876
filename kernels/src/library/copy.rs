//! `copy`: `output[i] = input[i]`, to the bit.
//!
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::{INPUT_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output = input`.
///
/// # Behavior
/// - **values**: Every element keeps its bits, whatever they are.
/// - **in-place**: Input may be output: nothing changes.
pub const COPY: KernelId = KernelId(2);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: COPY,
        name: "copy",
        summary: "output = input",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &[],
        constants: &[],
        in_place: true,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Exact,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, copy), (ElementType::I32, copy), (ElementType::U32, copy)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, output] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn copy(call: &Invocation<'_>, _: &mut Answer) {
    let input = call.input.first(call.count).cells();
    for (out, x) in call.output.first(call.count).cells().iter().zip(input) {
        out.set(x.get());
    }
}
