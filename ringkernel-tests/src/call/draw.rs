//! Sizes and numbers to call kernels with. Seeds are fixed: every run sees the same.

use fastrand::Rng;
use gpubridge_kernels::Element;

/// Sizes past a loop bound of 65,535, and past twice that.
pub const LARGE: [usize; 5] = [65_535, 65_536, 65_537, 70_001, 131_073];

/// From 1 to 70, around the powers of two and around multiples of the sizes of blocks, where the last one is partial or
/// just begun; then [`LARGE`].
pub fn sizes() -> impl Iterator<Item = usize> {
    let around = |size: usize| [size - 1, size, size + 1];
    let powers = (7..16).map(|power| 1 << power);
    let blocks = [3 * 32, 3 * 64, 5 * 64, 3 * 256, 5 * 256, 3 * 1024, 5 * 1024, 9 * 1024];
    (1..=70).chain(powers.chain(blocks).flat_map(around)).chain(LARGE)
}

/// Fewer, for what is costly or needs no sweep of its own.
pub fn some_sizes() -> impl Iterator<Item = usize> {
    (1..=9).chain([31, 32, 33, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 65_537])
}

/// Random numbers of an element type: common ones, and any there are.
pub trait Draw: Element {
    /// Neither zero nor far from one; integers of every magnitude.
    fn plain(rng: &mut Rng) -> Self;
    /// Also what floats and integers have besides.
    fn special(rng: &mut Rng) -> Self;
}

/// What floats have besides common numbers.
pub const SPECIAL: [f32; 13] = [
    0.0,
    -0.0,
    1.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -f32::NAN,
    1e-45,
    -1e-45,
    1e-39,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
];

impl Draw for f32 {
    fn plain(rng: &mut Rng) -> f32 {
        let x = 0.5 + 1.5 * rng.f32();
        if rng.bool() { x } else { -x }
    }

    fn special(rng: &mut Rng) -> f32 {
        match rng.u32(..3) {
            0 => Self::plain(rng),
            1 => f32::from_bits(rng.u32(..)),
            _ => SPECIAL[rng.usize(..SPECIAL.len())],
        }
    }
}

impl Draw for i32 {
    fn plain(rng: &mut Rng) -> i32 {
        rng.i32(..) >> rng.u32(..32)
    }

    fn special(rng: &mut Rng) -> i32 {
        [Self::plain(rng), i32::MIN, i32::MAX, 0, -1][rng.usize(..5)]
    }
}

impl Draw for u32 {
    fn plain(rng: &mut Rng) -> u32 {
        rng.u32(..) >> rng.u32(..32)
    }

    fn special(rng: &mut Rng) -> u32 {
        [Self::plain(rng), u32::MAX, 1 << 31, 0, 1][rng.usize(..5)]
    }
}

/// So many common ones.
pub fn plain<T: Draw>(rng: &mut Rng, elements: usize) -> Vec<T> {
    (0..elements).map(|_| T::plain(rng)).collect()
}

/// So many of any.
pub fn special<T: Draw>(rng: &mut Rng, elements: usize) -> Vec<T> {
    (0..elements).map(|_| T::special(rng)).collect()
}

/// Floats of which a few weigh as much as all others together: the last one, those at a loop bound, some anywhere. A
/// sum that leaves out one of them is beyond every tolerance; among few, one that leaves out any.
pub fn weighted(rng: &mut Rng, elements: usize) -> Vec<f32> {
    let mut drawn: Vec<f32> = plain(rng, elements);
    let anywhere: [usize; 4] = std::array::from_fn(|_| rng.usize(..elements.max(1)));
    let weighty = [elements.wrapping_sub(1), elements / 2, 65_535, 65_536].into_iter().chain(anywhere);
    for at in weighty {
        if let Some(x) = drawn.get_mut(at) {
            *x = x.signum() * elements as f32 / 4.0;
        }
    }
    drawn
}
