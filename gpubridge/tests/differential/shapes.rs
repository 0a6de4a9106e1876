//! What a call of each kernel takes: how much of what in its buffers, and which scalars.

use fastrand::Rng;
use gpubridge::kernels::id::{
    ADD, COPY, DOT, FILL, HISTOGRAM, INCLUSIVE_SCAN, MATMUL, MATVEC, MEAN_VARIANCE, MIN_MAX, SAXPY, SCALE, SUM, TOP_K,
    WINDOW_ZSCORE,
};
use gpubridge::kernels::library::window_zscore::state_elements;
use gpubridge::{ElementType, KernelSpec};
use ringkernel_tests::call::draw::{Draw, plain, special, weighted};

/// The shape of a call.
pub struct Shape {
    /// Elements of input, operand and output; 0 where there is none.
    pub elements: [usize; 3],
    /// The bits of its scalars.
    pub scalars: Vec<u32>,
}

/// A call over so many elements, or about as many where they are in rows.
pub fn shape(spec: KernelSpec, n: usize, rng: &mut Rng) -> Shape {
    let shape = |elements, scalars: &[u32]| Shape { elements, scalars: scalars.to_vec() };
    let factor = f32::plain(rng).to_bits();
    match spec.id {
        FILL => shape([0, 0, n], &[factor]),
        COPY | INCLUSIVE_SCAN => shape([n, 0, n], &[]),
        SCALE => shape([n, 0, n], &[factor]),
        ADD => shape([n, n, n], &[]),
        SAXPY => shape([n, n, n], &[factor]),
        DOT => shape([n, n, 0], &[]),
        SUM | MIN_MAX | MEAN_VARIANCE => shape([n, 0, 0], &[]),
        HISTOGRAM => {
            let bins = [1, 7, 50, 256][rng.usize(..4)];
            let [low, high] = match spec.element {
                ElementType::F32 => [-2.0_f32, 1.75].map(f32::to_bits),
                ElementType::I32 => [-(1 << 20), 1 << 20].map(|bound: i32| bound as u32),
                ElementType::U32 => [0, u32::MAX],
            };
            shape([n, 0, bins], &[low, high, bins as u32])
        }
        TOP_K => {
            let k = [1, 3, 64, 300][rng.usize(..4)].min(n);
            shape([n, 0, 2 * k], &[k as u32])
        }
        MATVEC => {
            let rows = [1, 3, 16][rng.usize(..3)].min(n);
            let cols = n / rows;
            shape([rows * cols, cols, rows], &[rows as u32, cols as u32])
        }
        MATMUL => {
            let side = (n as f64).cbrt().ceil() as usize;
            let [m, k, n] = [[side; 3], [1, n, 1], [n, 1, 1]][rng.usize(..3)];
            shape([m * k, k * n, m * n], &[m as u32, k as u32, n as u32])
        }
        WINDOW_ZSCORE => shape([0, 0, state_elements(spec.constants[0]) as usize], &[factor]),
        other => panic!("kernel {other} is new in the library: give it a shape here"),
    }
}

/// The bits of so many elements: common numbers, for floats at times some of which weigh most, and now and then any.
pub fn drawn(element: ElementType, n: usize, rng: &mut Rng) -> Vec<u32> {
    fn bits<T: Draw>(n: usize, rng: &mut Rng) -> Vec<u32> {
        let elements: Vec<T> = if rng.usize(..8) == 0 { special(rng, n) } else { plain(rng, n) };
        elements.into_iter().map(T::to_bits).collect()
    }
    match element {
        ElementType::F32 if rng.bool() => weighted(rng, n).into_iter().map(f32::to_bits).collect(),
        ElementType::F32 => bits::<f32>(n, rng),
        ElementType::I32 => bits::<i32>(n, rng),
        ElementType::U32 => bits::<u32>(n, rng),
    }
}

/// Whether these bits are common numbers, which spread no NaN and do not grow beyond bounds.
pub fn are_common(element: ElementType, bits: &[u32]) -> bool {
    element != ElementType::F32 || bits.iter().all(|bits| f32::from_bits(*bits).abs() < 1e12)
}
