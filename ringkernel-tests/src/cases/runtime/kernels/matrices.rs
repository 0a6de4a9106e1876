//! matvec, matmul: dimensions around blocks and past loop bounds.

use fastrand::Rng;
use gpubridge_kernels::id::{MATMUL, MATVEC};

use super::lab::Lab;
use crate::Context;
use crate::call::Call;
use crate::call::draw::{SPECIAL, plain, weighted};

/// Elements of output behind those that a call writes.
const SPARE: usize = 5;

/// Dimensions of which each is past the loop bounds in its turn.
const LARGE: [[usize; 3]; 9] = [
    [1, 65_535, 1],
    [1, 65_536, 1],
    [1, 65_537, 1],
    [65_537, 1, 1],
    [1, 1, 65_537],
    [65_536, 2, 1],
    [2, 65_537, 2],
    [70_001, 1, 2],
    [2, 2, 65_538],
];

/// Every size to 70 in each dimension, sizes around blocks, and [`LARGE`].
fn shapes() -> impl Iterator<Item = [usize; 3]> {
    let each = (1..=70).flat_map(|size| [[size, 3, 2], [2, size, 3], [3, 2, size]]);
    let blocks = [127, 128, 129, 255, 256, 257, 1023, 1024, 1025];
    let around = blocks.into_iter().flat_map(|size| [[size, 2, 3], [3, size, 2], [2, 3, size]]);
    let cubes = [15, 16, 17, 31, 32, 33].map(|size| [size, size, size]);
    each.chain(around).chain(cubes).chain(LARGE)
}

/// A matrix of `k × n` whose last row, and those at loop bounds, weigh most.
fn weighted_rows(rng: &mut Rng, k: usize, n: usize) -> Vec<f32> {
    let weights = weighted(rng, k);
    let drawn: Vec<f32> = plain(rng, k * n);
    drawn.chunks_exact(n).zip(weights).flat_map(|(row, weight)| row.iter().map(move |x| x * weight)).collect()
}

fn matvec(a: &[f32], x: &[f32], [rows, cols]: [usize; 2]) -> Call {
    let call = Call::new(MATVEC).input(a).operand(x).output(rows + SPARE);
    call.scalar(rows as u32).scalar(cols as u32)
}

fn matmul(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Call {
    let call = Call::new(MATMUL).input(a).operand(b).output(m * n + SPARE);
    call.scalar(m as u32).scalar(k as u32).scalar(n as u32)
}

/// Goal: matvec multiplies each row with the vector. Method: rows and columns of every size, the last columns weighing
/// most.
pub fn matvec_multiplies_each_row(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(61));
    for [rows, cols, _] in shapes() {
        let (a, x): (Vec<f32>, _) = (plain(&mut rng, rows * cols), weighted(&mut rng, cols));
        lab.agree(&matvec(&a, &x, [rows, cols]));
    }
}

/// Goal: matmul multiplies rows with columns. Method: each dimension of every size, the last rows of the operand
/// weighing most.
pub fn matmul_multiplies_rows_with_columns(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(62));
    for [m, k, n] in shapes() {
        let (a, b): (Vec<f32>, _) = (plain(&mut rng, m * k), weighted_rows(&mut rng, k, n));
        lab.agree(&matmul(&a, &b, [m, k, n]));
    }
}

/// Goal: matvec carries NaN, infinities and denormals into the rows they belong to, and no other. Method: each special
/// value against each, one row each, beside rows of common numbers.
pub fn matvec_of_special_values(context: &Context) {
    let lab = Lab::new(context);
    for y in SPECIAL {
        let a: Vec<f32> = SPECIAL.iter().flat_map(|x| [*x, 1.0, 2.0, 0.0]).collect();
        lab.agree(&matvec(&a, &[y, 1.0], [2 * SPECIAL.len(), 2]));
    }
}

/// Goal: matmul carries NaN, infinities and denormals into the rows and columns they belong to, and no other. Method:
/// each special value against each.
pub fn matmul_of_special_values(context: &Context) {
    let lab = Lab::new(context);
    let a: Vec<f32> = SPECIAL.iter().flat_map(|x| [*x, 1.0]).collect();
    let b: Vec<f32> = SPECIAL.into_iter().chain([2.0; SPECIAL.len()]).collect();
    lab.agree(&matmul(&a, &b, [SPECIAL.len(), 2, SPECIAL.len()]));
}
