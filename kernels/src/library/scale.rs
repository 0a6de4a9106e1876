//! `scale`: `output[i] = factor · input[i]`, in f32.
//!
//! - scalars: `factor`
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::{INPUT_SHORT, ONE_ROUNDING, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output = factor * input`.
///
/// # Behavior
/// - **values**: Each element is the product, within one rounding.
/// - **in-place**: Input may be output.
/// - **special-values**: Products of zeros, infinities and NaN are those of IEEE 754, the sign of a zero included; what
///   exceeds f32 is an infinity.
pub const SCALE: KernelId = KernelId(3);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: SCALE,
        name: "scale",
        summary: "output = factor * input",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &["factor"],
        constants: &[],
        in_place: true,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: one_each,
        tolerance: Tolerance::Relative(ONE_ROUNDING),
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, scale)])
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, output] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn scale(call: &Invocation<'_>, _: &mut Answer) {
    let factor = call.scalars.f32(0);
    let input = call.input.first(call.count).iter::<f32>();
    for (out, x) in call.output.first(call.count).cells().iter().zip(input) {
        out.set((factor * x).to_bits());
    }
}
