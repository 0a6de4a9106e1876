//! `matmul`: `output[r · n + c] = Σ_p input[r · k + p] · operand[p · n + c]`: row-major matrices, `m × k` times `k × n`,
//! each sum carried in f64 and rounded once.
//!
//! - scalars: `m`, `k`, `n`, u32, at least 1: they tell the shape, not `count`
//! - reads: `m · k` elements of input, `k · n` of operand
//! - writes: the first `m · n` elements of output

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId};

use super::{INPUT_SHORT, LONG_SUM, OPERAND_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, require};
use crate::{Answer, Elements, Invocation, Kernel};

/// `output` = the matrix `input` times the matrix `operand`.
///
/// # Behavior
/// - **values**: Each element is the product of its row and column, within 1e-5 of the sum of the absolute values that
///   enter it.
/// - **special-values**: NaN, infinities and denormals show in the rows and columns that they enter, and in no other.
pub const MATMUL: KernelId = KernelId(14);

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: MATMUL,
        name: "matmul",
        summary: "output = input (m x k) times operand (k x n), row-major",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::Read, BufferUse::Write],
        scalars: &["m", "k", "n"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work,
        tolerance: LONG_SUM,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, matmul)])
}

fn dimensions(shape: &CallShape) -> [u64; 3] {
    [0, 1, 2].map(|index| u64::from(shape.scalars.bits(index)))
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let ([m, k, n], [input, operand, output]) = (dimensions(shape), shape.elements);
    require(m >= 1 && k >= 1 && n >= 1, "m, k or n is 0")?;
    require(m * k <= input, INPUT_SHORT)?;
    require(k * n <= operand, OPERAND_SHORT)?;
    require(m * n <= output, OUTPUT_SHORT)
}

fn work(shape: &CallShape) -> u64 {
    let [m, k, n] = dimensions(shape);
    (m * k).saturating_mul(n)
}

/// Columns whose sums are carried at once: enough to fill vector registers, few enough to stay in them.
const BLOCK: usize = 16;

fn matmul(call: &Invocation<'_>, _: &mut Answer) {
    let [m, k, n] = [0, 1, 2].map(|index| call.scalars.bits(index) as usize);
    let rows = call.input.first(m * k).cells().chunks_exact(k).map(Elements::new);
    for (row, out) in rows.zip(call.output.first(m * n).cells().chunks_exact(n)) {
        for (block, out) in out.chunks(BLOCK).enumerate() {
            let sums = row_times_columns(row, call.operand.first(k * n), n, block * BLOCK);
            for (out, sum) in out.iter().zip(sums) {
                out.set((sum as f32).to_bits());
            }
        }
    }
}

/// A row times up to [`BLOCK`] columns of `matrix` from `start` on. Its rows of `n` are read in order, not its columns.
fn row_times_columns(row: Elements<'_>, matrix: Elements<'_>, n: usize, start: usize) -> [f64; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for (x, matrix_row) in row.iter::<f32>().zip(matrix.cells().chunks_exact(n)) {
        let x = f64::from(x);
        let block = &matrix_row[start..n.min(start + BLOCK)];
        for (sum, y) in sums.iter_mut().zip(Elements::new(block).iter::<f32>()) {
            *sum += x * f64::from(y);
        }
    }
    sums
}
