//! `inclusive_scan`: `output[i] = input[0] + … + input[i]`. Integers wrap; f32 is carried in f64 from the first element
//! to the last and rounded for each output, so after a NaN all are NaN.
//!
//! - writes: the first `count` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::number::{Number, Plus};
use super::{INPUT_SHORT, LONG_SUM, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, one_each, require};
use crate::{Answer, Invocation, Kernel};

/// `output` = the running sum of `input`.
///
/// # Behavior
/// - **values**: Each element is the sum so far, of f32 within 1e-5 of the sum of the absolute values so far.
/// - **in-place**: Input may be output.
pub const INCLUSIVE_SCAN: KernelId = KernelId(10);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: INCLUSIVE_SCAN,
        name: "inclusive_scan",
        summary: "output = the running sum of input",
        elements: &ElementType::ALL,
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
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
    Kernel::from_twins(
        declaration,
        &[
            (ElementType::F32, inclusive_scan::<f32>),
            (ElementType::I32, inclusive_scan::<i32>),
            (ElementType::U32, inclusive_scan::<u32>),
        ],
    )
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, output] = shape.elements;
    require(shape.count <= input, INPUT_SHORT)?;
    require(shape.count <= output, OUTPUT_SHORT)
}

fn inclusive_scan<T: Number>(call: &Invocation<'_>, _: &mut Answer) {
    let input = call.input.first(call.count).iter::<T>();
    let mut sum = T::Sum::ZERO;
    for (out, x) in call.output.first(call.count).cells().iter().zip(input) {
        sum = sum.plus(x.to_sum());
        out.set(T::from_sum(sum).to_bits());
    }
}
