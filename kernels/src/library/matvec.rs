//! `matvec`: `output[r] = Σ_c input[r · cols + c] · operand[c]`: a row-major matrix times a vector, each sum carried in
//! f64 and rounded once.
//!
//! - scalars: `rows`, `cols`, u32, at least 1: they tell the shape, not `count`
//! - reads: `rows · cols` elements of input, `cols` of operand
//! - writes: the first `rows` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::sums::sum_of_products;
use super::{INPUT_SHORT, LONG_SUM, OPERAND_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, require};
use crate::{Answer, Invocation, Kernel};

/// `output` = the matrix `input` times the vector `operand`.
///
/// # Behavior
/// - **values**: Each element is the product of its row, within 1e-5 of the sum of the absolute values that enter it.
/// - **special-values**: NaN, infinities and denormals show in the rows that they enter, and in no other.
pub const MATVEC: KernelId = KernelId(13);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: MATVEC,
        name: "matvec",
        summary: "output = input (rows x cols, row-major) times operand",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::Read, BufferUse::Write],
        scalars: &["rows", "cols"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work,
        tolerance: LONG_SUM,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, matvec)])
}

fn dimensions(shape: &CallShape) -> [u64; 2] {
    [0, 1].map(|index| u64::from(shape.scalars.bits(index)))
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let ([rows, cols], [input, operand, output]) = (dimensions(shape), shape.elements);
    require(rows >= 1 && cols >= 1, "rows or cols is 0")?;
    require(rows * cols <= input, INPUT_SHORT)?;
    require(cols <= operand, OPERAND_SHORT)?;
    require(rows <= output, OUTPUT_SHORT)
}

fn work(shape: &CallShape) -> u64 {
    // Two factors of 32 bits: no overflow.
    dimensions(shape).iter().product()
}

fn matvec(call: &Invocation<'_>, _: &mut Answer) {
    let [rows, cols] = [0, 1].map(|index| call.scalars.bits(index) as usize);
    let vector = call.operand.first(cols).cells();
    let matrix = call.input.first(rows * cols).cells().chunks_exact(cols);
    for (out, row) in call.output.first(rows).cells().iter().zip(matrix) {
        out.set((sum_of_products(row, vector) as f32).to_bits());
    }
}
