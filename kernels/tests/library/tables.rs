//! inclusive_scan, histogram, top_k.

use fastrand::Rng;
use gpubridge_abstractions::{CallShape, KernelSpec, Scalars};
use gpubridge_kernels::{Element, id};

use crate::call::{
    CANARY, Call, INPUT, LIBRARY, OUTPUT, Random, SIZES, assert_rounded_once, assert_same, random, special,
};

#[test]
fn scan_of_floats_is_the_running_sum() {
    let mut rng = Rng::with_seed(1);
    for elements in SIZES {
        let x: Vec<f32> = random(&mut rng, elements);
        let call = Call::new(id::INCLUSIVE_SCAN).input(&x).output(elements);
        for call in [call.clone(), call.same(OUTPUT, INPUT)] {
            let (mut sum, mut terms) = (0.0, 0.0);
            let got: Vec<f32> = call.run().output();
            assert_eq!(got.len(), elements);
            for (got, x) in got.iter().zip(&x) {
                sum += f64::from(*x);
                terms += f64::from(x.abs());
                assert_rounded_once(*got, sum, terms);
            }
        }
    }
    let got: Vec<f32> = Call::new(id::INCLUSIVE_SCAN)
        .input(&[1e-45, 1e30, f32::MAX, f32::MAX, f32::MIN, f32::MIN, -1e30])
        .output(7)
        .run()
        .output();
    assert_same(&got, [1e-45, 1e30, f32::MAX, f32::INFINITY, f32::MAX, 1e30, 0.0]);
    let got: Vec<f32> = Call::new(id::INCLUSIVE_SCAN).input(&[1.0, f32::NAN, 2.0]).output(3).run().output();
    assert_same(&got, [1.0, f32::NAN, f32::NAN]);
}

#[test]
fn scan_of_integers_wraps() {
    fn check<T: Random>(wrap: impl Fn(i128) -> T, widen: impl Fn(T) -> i128) {
        let mut rng = Rng::with_seed(2);
        for elements in SIZES {
            let x: Vec<T> = special(&mut rng, elements);
            let call = Call::new(KernelSpec::new(id::INCLUSIVE_SCAN).of(T::TYPE)).input(&x).output(elements);
            for call in [call.clone(), call.same(OUTPUT, INPUT)] {
                let mut sum = 0;
                let want: Vec<T> = x
                    .iter()
                    .map(|x| {
                        sum += widen(*x);
                        wrap(sum)
                    })
                    .collect();
                assert_eq!(call.run().output::<T>(), want);
            }
        }
    }
    check::<i32>(|x| x as i32, i128::from);
    check::<u32>(|x| x as u32, i128::from);
}

fn histogram<T: Element>(x: &[T], lo: T, hi: T, bins: u32) -> Vec<u32> {
    let call = Call::new(KernelSpec::new(id::HISTOGRAM).of(T::TYPE)).input(x).output(bins as usize + 1);
    let mut counts = call.scalar(lo).scalar(hi).scalar(bins).run().output;
    assert_eq!(counts.pop(), Some(CANARY), "only the bins are written");
    counts
}

/// Counts bin by bin: `x` lies in bin `b` when `b · (hi - lo) ≤ (x - lo) · bins < (b + 1) · (hi - lo)`.
fn histogram_of_integers(x: &[i128], lo: i128, hi: i128, bins: u32) -> Vec<u32> {
    let inside = |b: i128, x: i128| {
        b * (hi - lo) <= (x - lo) * i128::from(bins) && (x - lo) * i128::from(bins) < (b + 1) * (hi - lo)
    };
    (0..bins.into()).map(|b| x.iter().filter(|x| lo <= **x && **x < hi && inside(b, **x)).count() as u32).collect()
}

#[test]
fn histogram_of_integers_counts_every_one_in_its_bin() {
    fn check<T: Random>(ranges: &[(T, T)], widen: impl Fn(T) -> i128) {
        let mut rng = Rng::with_seed(3);
        for elements in SIZES {
            let x: Vec<T> = special(&mut rng, elements);
            let wide: Vec<i128> = x.iter().map(|x| widen(*x)).collect();
            for (lo, hi) in ranges {
                let bins = [1, 2, 7, 50][rng.usize(..4)];
                let want = histogram_of_integers(&wide, widen(*lo), widen(*hi), bins);
                assert_eq!(histogram(&x, *lo, *hi, bins), want);
            }
        }
    }
    check::<i32>(&[(i32::MIN, i32::MAX), (-3, 4), (5, 5), (6, -6)], i128::from);
    check::<u32>(&[(0, u32::MAX), (1 << 31, u32::MAX), (0, 7), (9, 3)], i128::from);
    assert_eq!(histogram(&[i32::MIN, 0, i32::MAX], i32::MIN, i32::MAX, 2), [1, 1], "hi itself is outside");
}

#[test]
fn histogram_of_floats_counts_every_one_in_its_bin() {
    let mut rng = Rng::with_seed(4);
    for elements in SIZES {
        for (lo, hi, bins) in [(0.0, 1.0, 10), (-3.5, 1e4, 37), (-1e5, -1.0, 3), (0.0, 98.0, 2)] {
            let x: Vec<f32> = (0..elements).map(|_| lo + (hi - lo) * (rng.f32() * 1.2 - 0.1)).collect();
            let mut want = vec![0; bins as usize];
            for x in &x {
                let quotient = (f64::from(*x) - f64::from(lo)) * f64::from(bins) / (f64::from(hi) - f64::from(lo));
                if *x >= lo && *x < hi {
                    want[(quotient.floor() as usize).min(bins as usize - 1)] += 1;
                }
            }
            assert_eq!(histogram(&x, lo, hi, bins), want);
        }
    }
    // Edges: exact quotients belong to the upper bin, and 0.7f32, which is below 0.7, to the lower.
    assert_eq!(histogram(&[0.0f32, 0.25, 0.5, 0.75, 1.0], 0.0, 1.0, 4), [1, 1, 1, 1]);
    assert_eq!(histogram(&[49f32], 0.0, 98.0, 2), [0, 1]);
    assert_eq!(histogram(&[0.7f32], 0.0, 1.0, 10)[6], 1);
    assert_eq!(histogram(&[1f32.next_down(), 0.999], 0.0, 1.0, 3), [0, 0, 2]);
    assert_eq!(histogram(&[1e-45f32, 0.0, 3e-45], 0.0, 3e-45, 2), [1, 1], "denormals are numbers");
    assert_eq!(histogram(&[f32::MIN, 0.0, f32::MAX], f32::MIN, f32::MAX, 2), [1, 1], "the width exceeds f32");
}

#[test]
fn histogram_counts_nothing_outside_its_range() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5, 1.0, 2.0, 0.5, -0.0];
    assert_eq!(histogram(&x, 0.0, 1.0, 2), [1, 1]);
    for (lo, hi) in
        [(1.0, 1.0), (1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::NAN), (0.0, f32::INFINITY), (f32::NEG_INFINITY, 1.0)]
    {
        assert_eq!(histogram(&x, lo, hi, 3), [0, 0, 0], "{lo}..{hi}");
    }
    let call = |bins: u32| Call::new(id::HISTOGRAM).input(&x).output(4).scalar(0f32).scalar(1f32).scalar(bins);
    assert!(call(0).try_run().is_err() && call(5).try_run().is_err() && call(4).try_run().is_ok());
}

fn top_k(x: &[f32], k: usize) -> (Vec<f32>, Vec<u32>) {
    let output = Call::new(id::TOP_K).input(x).output(2 * k + 1).scalar(k as u32).run().output;
    assert_eq!(output[2 * k], CANARY, "only 2 k elements are written");
    (output[..k].iter().copied().map(f32::from_bits).collect(), output[k..2 * k].to_vec())
}

/// The indices as `top_k` ranks them, by a stable sort: equal ones stay in the order of their indices.
fn ranked(x: &[f32]) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..x.len() as u32).collect();
    let value = |index: &u32| x[*index as usize];
    indices.sort_by(|a, b| match (value(a).is_nan(), value(b).is_nan()) {
        (false, false) => value(b).total_cmp(&value(a)),
        // NaN of either sign is the last of all.
        (a, b) => a.cmp(&b),
    });
    indices
}

#[test]
fn top_k_finds_the_largest_and_where_they_lie() {
    let mut rng = Rng::with_seed(5);
    for elements in SIZES.into_iter().skip(1) {
        let few_values: Vec<f32> = (0..elements).map(|_| rng.u8(..5).into()).collect();
        let ascending: Vec<f32> = (0..elements).map(|x| x as f32).collect();
        for x in [special(&mut rng, elements), few_values, ascending] {
            let ranked = ranked(&x);
            for k in [1, 2, 3, 10, 64, 257, elements / 2, elements - 1, elements] {
                // The largest k once: a heap of this size takes its time.
                if k == 0 || k > elements || k > 1_000 && elements < 70_000 {
                    continue;
                }
                let (values, indices) = top_k(&x, k);
                assert_eq!(indices, ranked[..k]);
                let same =
                    values.iter().zip(&indices).all(|(value, index)| value.to_bits() == x[*index as usize].to_bits());
                assert!(same, "values are those at the indices");
            }
        }
    }
}

#[test]
fn top_k_ranks_what_is_no_common_number() {
    let nan = f32::NAN;
    assert_eq!(top_k(&[nan, f32::NEG_INFINITY, nan, -1.0], 2), (vec![-1.0, f32::NEG_INFINITY], vec![3, 1]));
    assert_eq!(top_k(&[-0.0, 0.0, -0.0], 3).1, [1, 0, 2]);
    let (values, indices) = top_k(&[-nan, 1.0, nan], 3);
    assert_eq!(indices, [1, 0, 2]);
    assert_eq!(values[1].to_bits(), (-nan).to_bits());
    let call = |k: u32| Call::new(id::TOP_K).input(&[1f32; 9]).output(10).scalar(k);
    assert!(call(0).try_run().is_err() && call(6).try_run().is_err() && call(5).try_run().is_ok());
    assert!(call(5).count(4).try_run().is_err());
    let check = LIBRARY.find(id::TOP_K).expect("registered").declaration.check;
    let of = |k: u32| {
        let (elements, scalars) = ([1 << 22, 0, 1 << 23], Scalars::default().with_bits(0, k));
        check(&CallShape { elements, count: 1 << 22, scalars, constants: [0; 2] })
    };
    assert_eq!((of(1 << 20), of((1 << 20) + 1)), (Ok(()), Err("k is larger than 1048576")));
}
