//! dot, sum, min_max, mean_variance: what they answer, at every size.

use fastrand::Rng;
use gpubridge_abstractions::KernelSpec;
use gpubridge_kernels::id::{DOT, MEAN_VARIANCE, MIN_MAX, SUM};

use super::lab::Lab;
use crate::Context;
use crate::call::draw::{Draw, plain, sizes, some_sizes, special, weighted};
use crate::call::{Call, INPUT, OPERAND};

/// Goal: dot adds all products. Method: all sizes; the products at the end and at the loop bounds weigh most.
pub fn dot_adds_products(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(21));
    for elements in sizes() {
        let (x, y): (_, Vec<f32>) = (weighted(&mut rng, elements), plain(&mut rng, elements));
        lab.agree(&Call::new(DOT).input(&x).operand(&y));
    }
}

/// Goal: a vector may be multiplied with itself. Method: input and operand are one allocation.
pub fn dot_of_a_vector_with_itself(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(22));
    for elements in some_sizes() {
        lab.agree(&Call::new(DOT).input(&weighted(&mut rng, elements)).same(OPERAND, INPUT));
    }
}

fn sums<T: Draw>(lab: &Lab, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for elements in sizes() {
        lab.agree(&Call::new(KernelSpec::new(SUM).of(T::TYPE)).input(&plain::<T>(&mut rng, elements)));
    }
}

/// Goal: sum adds all elements. Method: all sizes in each type; of floats, those at the end and at the loop bounds
/// weigh most.
pub fn sum_adds(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(23));
    for elements in sizes() {
        lab.agree(&Call::new(SUM).input(&weighted(&mut rng, elements)));
    }
    sums::<i32>(&lab, 24);
    sums::<u32>(&lab, 25);
}

/// Puts the smallest and the largest at the ends, in the middle and at a loop bound.
fn extremes<T: Draw>(lab: &Lab, smallest: T, largest: T, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for elements in sizes() {
        let drawn: Vec<T> = plain(&mut rng, elements);
        let call = Call::new(KernelSpec::new(MIN_MAX).of(T::TYPE));
        lab.agree(&call.clone().input(&drawn));
        let last = elements - 1;
        for [low, high] in [[0, last], [last, 0], [last.min(65_535), elements / 2]] {
            let mut drawn = drawn.clone();
            drawn[low] = smallest;
            drawn[high] = largest;
            lab.agree(&call.clone().input(&drawn));
        }
    }
}

/// Goal: min_max finds both wherever they lie. Method: all sizes in each type; the extremes at the ends and at loop
/// bounds.
pub fn min_max_finds_both(context: &Context) {
    let lab = Lab::new(context);
    extremes::<f32>(&lab, f32::MIN, f32::MAX, 26);
    extremes::<i32>(&lab, i32::MIN, i32::MAX, 27);
    extremes::<u32>(&lab, 0, u32::MAX, 28);
}

/// Goal: NaN is passed over, zeros are ordered, infinities and denormals are numbers. Method: chosen ones, and any
/// bits; the one number among NaNs at each place.
pub fn min_max_passes_over_nan(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(29));
    let nan = f32::NAN;
    let chosen: [&[f32]; 8] = [
        &[nan, -nan],
        &[-nan],
        &[nan, 1.0, -nan, 2.0, nan],
        &[0.0, -0.0],
        &[-0.0, 0.0],
        &[f32::INFINITY, nan, f32::NEG_INFINITY],
        &[1e-45, -1e-45, 0.0],
        &[-1e-39, nan, 1e-39],
    ];
    for x in chosen {
        lab.agree(&Call::new(MIN_MAX).input(x));
    }
    for elements in some_sizes() {
        lab.agree(&Call::new(MIN_MAX).input(&special::<f32>(&mut rng, elements)));
        let mut mostly_nan = vec![nan; elements];
        mostly_nan[rng.usize(..elements)] = -3.0;
        lab.agree(&Call::new(MIN_MAX).input(&mostly_nan));
    }
}

/// Goal: mean and variance keep their tolerance also far from zero. Method: all sizes, around 0, 1e5 and -1e7.
pub fn mean_variance_keeps_its_tolerance(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(30));
    for (elements, offset) in sizes().zip([0.0, 1e5, -1e7].into_iter().cycle()) {
        let x: Vec<f32> = weighted(&mut rng, elements).iter().map(|x| offset + x).collect();
        lab.agree(&Call::new(MEAN_VARIANCE).input(&x));
    }
}

/// Goal: what is no common number gives NaN or infinity where that is said. Method: chosen ones, NaN and infinity at
/// every place of a block, and elements that are all the same.
pub fn mean_variance_of_special_values(context: &Context) {
    let lab = Lab::new(context);
    let chosen: [&[f32]; 6] = [
        &[f32::MAX, f32::MAX],
        &[f32::MAX, f32::MIN],
        &[3e-45, 0.0],
        &[-0.0, -0.0],
        &[f32::INFINITY, f32::NEG_INFINITY],
        &[f32::MAX],
    ];
    for x in chosen {
        lab.agree(&Call::new(MEAN_VARIANCE).input(x));
    }
    for at in 0..70 {
        for value in [f32::NAN, f32::INFINITY] {
            let mut x = [1.25_f32; 70];
            x[at] = value;
            lab.agree(&Call::new(MEAN_VARIANCE).input(&x));
        }
    }
    lab.agree(&Call::new(MEAN_VARIANCE).input(&[7.25_f32; 65_537]));
}
