//! Sums over buffers, in several independent accumulators: one alone would wait for each addition to end before it
//! begins the next, and could not be vectorized, since floating-point addition may not be reordered.

use std::cell::Cell;

use super::number::Plus;

const LANES: usize = 8;

/// The sum of `term` of each cell's bits.
#[inline]
pub(super) fn sum<S: Plus>(cells: &[Cell<u32>], term: impl Fn(u32) -> S) -> S {
    let (chunks, rest) = cells.as_chunks::<LANES>();
    let mut lanes = [S::ZERO; LANES];
    for chunk in chunks {
        for (lane, cell) in lanes.iter_mut().zip(chunk) {
            *lane = lane.plus(term(cell.get()));
        }
    }
    rest.iter().fold(total(lanes), |sum, cell| sum.plus(term(cell.get())))
}

/// The sum of `a[i] · b[i]` over two buffers of floats. The products are exact in f64.
#[inline]
pub(super) fn sum_of_products(a: &[Cell<u32>], b: &[Cell<u32>]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let product =
        |(a, b): (&Cell<u32>, &Cell<u32>)| f64::from(f32::from_bits(a.get())) * f64::from(f32::from_bits(b.get()));
    let ((chunks_a, rest_a), (chunks_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (chunk_a, chunk_b) in chunks_a.iter().zip(chunks_b) {
        for (lane, pair) in lanes.iter_mut().zip(chunk_a.iter().zip(chunk_b)) {
            *lane += product(pair);
        }
    }
    rest_a.iter().zip(rest_b).map(product).fold(total(lanes), |sum, product| sum + product)
}

/// The sum of the accumulators: vectors of two are added up first, since that is how they lie in registers.
#[inline]
fn total<S: Plus>([a, b, c, d, e, f, g, h]: [S; LANES]) -> S {
    let even = a.plus(c).plus(e.plus(g));
    let odd = b.plus(d).plus(f.plus(h));
    even.plus(odd)
}
