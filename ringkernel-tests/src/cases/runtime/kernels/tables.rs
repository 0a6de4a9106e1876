//! inclusive_scan, histogram, top_k: what they write, at every size.

use fastrand::Rng;
use gpubridge_abstractions::KernelSpec;
use gpubridge_kernels::Element;
use gpubridge_kernels::id::{HISTOGRAM, INCLUSIVE_SCAN, TOP_K};

use super::lab::Lab;
use crate::Context;
use crate::call::draw::{Draw, plain, sizes, some_sizes, special, weighted};
use crate::call::{Call, INPUT, OUTPUT};

/// Elements of output behind those that a call writes.
const SPARE: usize = 5;

fn scans<T: Draw>(lab: &Lab, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for elements in sizes() {
        let x: Vec<T> = special(&mut rng, elements);
        lab.agree(&Call::new(KernelSpec::new(INCLUSIVE_SCAN).of(T::TYPE)).input(&x).output(elements + SPARE));
    }
}

/// Goal: each element of a scan is the sum so far. Method: all sizes in each type.
pub fn scan_is_the_running_sum(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(41));
    for elements in sizes() {
        let x = weighted(&mut rng, elements);
        lab.agree(&Call::new(INCLUSIVE_SCAN).input(&x).output(elements + SPARE));
    }
    scans::<i32>(&lab, 42);
    scans::<u32>(&lab, 43);
}

/// Goal: a scan works in place. Method: input and output are one allocation, in each type.
pub fn scan_works_in_place(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(44));
    for elements in some_sizes() {
        lab.agree(&Call::new(INCLUSIVE_SCAN).input(&weighted(&mut rng, elements)).same(OUTPUT, INPUT));
        let call = Call::new(KernelSpec::new(INCLUSIVE_SCAN).of(i32::TYPE));
        lab.agree(&call.input(&special::<i32>(&mut rng, elements)).same(OUTPUT, INPUT));
    }
}

fn histogram<T: Draw>(x: &[T], [lo, hi]: [T; 2], bins: usize) -> Call {
    let call = Call::new(KernelSpec::new(HISTOGRAM).of(T::TYPE)).input(x).output(bins + SPARE);
    call.scalar(lo).scalar(hi).scalar(bins as u32)
}

fn histograms<T: Draw>(lab: &Lab, ranges: &[[T; 2]], seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for (elements, range) in sizes().zip(ranges.iter().cycle()) {
        let x: Vec<T> = plain(&mut rng, elements);
        let bins = [1, 2, 7, 50, 256, elements][rng.usize(..6)];
        lab.agree(&histogram(&x, *range, bins));
    }
}

/// Goal: every element is counted in its bin. Method: all sizes in each type, over several ranges, with as many bins as
/// elements at times.
pub fn histogram_counts_every_element(context: &Context) {
    let lab = Lab::new(context);
    histograms::<f32>(&lab, &[[-2.0, 2.0], [0.5, 1.75], [-3.5, 1e4], [-1.0, 0.0]], 45);
    histograms::<i32>(&lab, &[[i32::MIN, i32::MAX], [-3, 4], [-1 << 20, 1 << 20]], 46);
    histograms::<u32>(&lab, &[[0, u32::MAX], [1 << 31, u32::MAX], [0, 7]], 47);
}

/// Goal: what lies outside the range, NaN, and a range that is none are counted nowhere; edges belong to the upper bin.
/// Method: any bits over ranges that are empty, infinite, NaN, the widest, or of denormals; elements at the edges.
pub fn histogram_of_special_values(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(48));
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let ranges = [
        [0.0, 1.0],
        [-0.0, 0.0],
        [1.0, 0.0],
        [nan, 1.0],
        [0.0, nan],
        [0.0, infinity],
        [-infinity, 1.0],
        [f32::MIN, f32::MAX],
        [0.0, 3e-45],
        [-1e-39, 1e-39],
    ];
    let floats: Vec<f32> = special(&mut rng, 3000);
    let edges: Vec<f32> = (0..=40).flat_map(|i| [i as f32 / 40.0, (i as f32 / 40.0).next_down()]).collect();
    for range in ranges {
        for bins in [1, 3, 40] {
            lab.agree(&histogram(&floats, range, bins));
            lab.agree(&histogram(&edges, range, bins));
        }
    }
    let integers: Vec<i32> = special(&mut rng, 3000);
    for range in [[i32::MIN, i32::MAX], [0, 0], [5, -5], [i32::MAX, i32::MIN], [-1, 1]] {
        lab.agree(&histogram(&integers, range, 7));
    }
    let naturals: Vec<u32> = special(&mut rng, 3000);
    for range in [[0, u32::MAX], [9, 9], [u32::MAX, 0], [0, 1]] {
        lab.agree(&histogram(&naturals, range, 7));
    }
}

fn top_k(x: &[f32], k: usize) -> Call {
    Call::new(TOP_K).input(x).output(2 * k + SPARE).scalar(k as u32)
}

/// Goal: top_k finds the largest and where they lie. Method: all sizes; k of 1, a few, half and all, as far as a heap
/// of that size is not too slow; once all of more than 65,535.
pub fn top_k_finds_the_largest(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(49));
    for elements in sizes() {
        let x: Vec<f32> = plain(&mut rng, elements);
        for k in [1, 3, 64, elements / 2, elements] {
            if (1..=elements).contains(&k) && (k <= 300 || elements == 65_537) {
                lab.agree(&top_k(&x, k));
            }
        }
        // Sorted ones too: the largest at the end, and at the start.
        let mut sorted = x;
        sorted.sort_by(f32::total_cmp);
        lab.agree(&top_k(&sorted, elements.min(9)));
        sorted.reverse();
        lab.agree(&top_k(&sorted, elements.min(9)));
    }
}

/// Goal: of equal ones the first comes first, zeros are ordered, NaN comes last. Method: few values, any bits, and more
/// asked for than there are numbers.
pub fn top_k_of_special_values(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(50));
    let nan = f32::NAN;
    let chosen: [&[f32]; 4] =
        [&[nan, f32::NEG_INFINITY, nan, -1.0], &[-0.0, 0.0, -0.0], &[-nan, 1.0, nan], &[1e-45, 0.0, -1e-45, 1e-39]];
    for x in chosen {
        (1..=x.len()).for_each(|k| lab.agree(&top_k(x, k)));
    }
    for elements in some_sizes() {
        let few: Vec<f32> = (0..elements).map(|_| rng.u8(..3).into()).collect();
        for x in [few, special(&mut rng, elements)] {
            [1, elements.min(100)].iter().for_each(|k| lab.agree(&top_k(&x, *k)));
        }
    }
}
