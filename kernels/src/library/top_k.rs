//! `top_k`: the `k` largest elements in descending order, and where they lie.
//!
//! - scalars: `k`, u32, from 1 to `count`, at most 2²⁰: more is sorting, which one block of a GPU would be at for seconds;
//!   `count` at most 2³², since indices are u32
//! - writes: `2 k` elements of output: `k` values, to the bit as in input, then their `k` indices, u32

use std::cell::Cell;

use gpubridge_abstractions::{BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, Tolerance};

use super::number::Number;
use super::{INPUT_SHORT, OUTPUT_SHORT, TARGETS, UP_TO_64_KI, require};
use crate::{Answer, Invocation, Kernel};

/// The largest elements of `input`, with their indices.
///
/// # Behavior
/// - **values**: The values are those of the `k` largest, to the bit, in descending order, with their indices behind
///   them.
/// - **special-values**: Of equal elements the one with the lowest index comes first. +0.0 ranks above -0.0, and NaN
///   below all numbers, every NaN equal to every other.
pub const TOP_K: KernelId = KernelId(12);

/// The largest k.
const K_MAX: u64 = 1 << 20;

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: TOP_K,
        name: "top_k",
        summary: "output = the k largest of input in descending order, then their indices",
        elements: &[ElementType::F32],
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &["k"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: UP_TO_64_KI,
        check,
        work: |shape| shape.count.saturating_mul(1 + u64::from(k(shape).checked_ilog2().unwrap_or(0))),
        tolerance: Tolerance::Exact,
        targets: TARGETS,
    };
    Kernel::from_twins(declaration, &[(ElementType::F32, top_k)])
}

fn k(shape: &CallShape) -> u64 {
    u64::from(shape.scalars.bits(0))
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let [input, _, output] = shape.elements;
    require(k(shape) >= 1, "k is 0")?;
    require(k(shape) <= shape.count, "k is larger than count")?;
    require(k(shape) <= K_MAX, "k is larger than 1048576")?;
    require(shape.count <= 1 << 32, "count exceeds 2^32, beyond which indices have no u32")?;
    require(shape.count <= input, INPUT_SHORT)?;
    require(2 * k(shape) <= output, OUTPUT_SHORT)
}

fn top_k(call: &Invocation<'_>, _: &mut Answer) {
    let k = call.scalars.bits(0) as usize;
    let (orders, indices) = call.output.first(2 * k).cells().split_at(k);
    let heap = Heap { orders, indices };
    let mut ranks = call.input.first(call.count).iter::<f32>().zip(0..).map(|(x, index)| rank(x, index));
    for (at, rank) in ranks.by_ref().take(k).enumerate() {
        heap.set(at, rank);
    }
    for parent in (0..k / 2).rev() {
        heap.sift_down(parent, k);
    }
    for rank in ranks {
        if rank > heap.rank(0) {
            heap.set(0, rank);
            heap.sift_down(0, k);
        }
    }
    // Heapsort: the lowest of those left goes behind them.
    for end in (1..k).rev() {
        heap.swap(0, end);
        heap.sift_down(0, end);
    }
    for (order, index) in orders.iter().zip(indices) {
        order.set(call.input.get(index.get() as usize));
    }
}

/// A number that is the larger the further in front an element belongs: by its value, then by a low index.
fn rank(x: f32, index: u32) -> u64 {
    let order = x.order().unwrap_or(i32::MIN) as u32 ^ 1 << 31;
    u64::from(order) << 32 | u64::from(!index)
}

/// A binary heap of ranks with the lowest at its root, in the output itself: a twin allocates nothing.
struct Heap<'a> {
    /// The upper halves of the ranks.
    orders: &'a [Cell<u32>],
    /// The indices, whose complements are the lower halves.
    indices: &'a [Cell<u32>],
}

impl Heap<'_> {
    fn rank(&self, at: usize) -> u64 {
        u64::from(self.orders[at].get()) << 32 | u64::from(!self.indices[at].get())
    }

    fn set(&self, at: usize, rank: u64) {
        self.orders[at].set((rank >> 32) as u32);
        self.indices[at].set(!(rank as u32));
    }

    fn swap(&self, a: usize, b: usize) {
        self.orders[a].swap(&self.orders[b]);
        self.indices[a].swap(&self.indices[b]);
    }

    /// Moves the rank at `parent` down until none of the first `len` lies below a higher one.
    fn sift_down(&self, mut parent: usize, len: usize) {
        loop {
            let left = 2 * parent + 1;
            if left >= len {
                return;
            }
            let right = left + 1;
            let lower = if right < len && self.rank(right) < self.rank(left) { right } else { left };
            if self.rank(parent) <= self.rank(lower) {
                return;
            }
            self.swap(parent, lower);
            parent = lower;
        }
    }
}
