//! dot, sum, min_max, mean_variance.

use fastrand::Rng;
use gpubridge_abstractions::KernelSpec;
use gpubridge_kernels::{Element, id};

use crate::call::{Call, INPUT, OPERAND, Random, SIZES, assert_rounded_once, random, special};

#[test]
fn dot_adds_products() {
    let mut rng = Rng::with_seed(1);
    for elements in SIZES {
        let (x, y): (Vec<f32>, Vec<f32>) = (random(&mut rng, elements), random(&mut rng, elements));
        let call = Call::new(id::DOT).input(&x).operand(&y);
        for (call, y) in [(call.clone(), &y), (call.same(OPERAND, INPUT), &x)] {
            let terms = || x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
            assert_rounded_once(call.run().answer::<f32, 1>()[0], terms().sum(), terms().map(f64::abs).sum());
        }
    }
    let dot = |x: &[f32], y: &[f32]| Call::new(id::DOT).input(x).operand(y).run().answer::<f32, 1>()[0];
    assert_eq!(dot(&[3e38, 3e38, 1.0], &[3e38, -3e38, 2.0]), 2.0, "f64 carries what f32 cannot");
    assert_eq!(dot(&[3e38], &[3e38]), f32::INFINITY);
    assert!(dot(&[0.0, 1.0], &[f32::INFINITY, 1.0]).is_nan());
    assert_eq!(dot(&[1e-45], &[0.75]), 1e-45);
}

fn sum_of<T: Element>(values: &[T]) -> T {
    Call::new(KernelSpec::new(id::SUM).of(T::TYPE)).input(values).run().answer::<T, 1>()[0]
}

#[test]
fn sum_adds() {
    let mut rng = Rng::with_seed(2);
    for elements in SIZES {
        let x: Vec<f32> = random(&mut rng, elements);
        let terms = || x.iter().copied().map(f64::from);
        assert_rounded_once(sum_of(&x), terms().sum(), terms().map(f64::abs).sum());
        let x: Vec<i32> = special(&mut rng, elements);
        assert_eq!(sum_of(&x), x.iter().copied().map(i128::from).sum::<i128>() as i32);
        let x: Vec<u32> = special(&mut rng, elements);
        assert_eq!(sum_of(&x), x.iter().copied().map(i128::from).sum::<i128>() as u32);
    }
}

#[test]
fn sum_of_floats_is_carried_in_f64() {
    assert_eq!(sum_of(&[f32::MAX, f32::MAX, f32::MIN, f32::MIN, 1.0]), 1.0);
    assert_eq!(sum_of(&[f32::MAX, f32::MAX]), f32::INFINITY);
    assert_eq!(sum_of(&[1e-45f32; 100]), 1.4e-43, "denormals count");
    assert_eq!(sum_of(&[f32::INFINITY, 1.0]), f32::INFINITY);
    assert!(sum_of(&[f32::INFINITY, f32::NEG_INFINITY]).is_nan());
    let mut with_nan = vec![1f32; 1_000];
    for at in [0, 7, 8, 991, 992, 999] {
        with_nan[at] = f32::NAN;
        assert!(sum_of(&with_nan).is_nan(), "NaN at {at}");
        with_nan[at] = 1.0;
    }
    // 1 is lost in f32 from 2^24 on.
    let mut ones = vec![1f32; 65_537];
    ones[0] = 16_777_216.0;
    assert_eq!(sum_of(&ones), 16_842_752.0);
}

fn min_max_of<T: Element>(values: &[T]) -> [T; 2] {
    Call::new(KernelSpec::new(id::MIN_MAX).of(T::TYPE)).input(values).run().answer()
}

#[test]
fn min_max_finds_the_smallest_and_the_largest() {
    fn check<T: Random + PartialOrd>() {
        let mut rng = Rng::with_seed(3);
        for elements in SIZES.into_iter().skip(1) {
            let mut x: Vec<T> = random(&mut rng, elements);
            let mut sorted = x.clone();
            sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            assert_eq!(min_max_of(&x), [sorted[0], sorted[elements - 1]]);
            // Wherever the extremes lie, the ends too.
            for at in [0, elements / 2, elements - 1] {
                x.swap(at, 0);
                assert_eq!(min_max_of(&x), [sorted[0], sorted[elements - 1]]);
            }
        }
    }
    check::<f32>();
    check::<i32>();
    check::<u32>();
    assert_eq!(min_max_of(&[5, i32::MIN, i32::MAX]), [i32::MIN, i32::MAX]);
    assert_eq!(min_max_of(&[u32::MAX, 1 << 31, 3]), [3, u32::MAX]);
}

#[test]
fn min_max_passes_over_nan_and_orders_zeros() {
    let bits = |values: &[f32]| min_max_of(values).map(f32::to_bits);
    let of = |min: f32, max: f32| [min.to_bits(), max.to_bits()];
    let nan = f32::NAN;
    assert_eq!(bits(&[nan, 1.0, -nan, 2.0, nan]), of(1.0, 2.0));
    assert_eq!(bits(&[nan, -3.0]), of(-3.0, -3.0));
    assert_eq!(bits(&[nan, -nan]), of(nan, nan));
    assert_eq!(bits(&[f32::INFINITY, nan, f32::NEG_INFINITY]), of(f32::NEG_INFINITY, f32::INFINITY));
    for zeros in [[0.0, -0.0], [-0.0, 0.0]] {
        assert_eq!(bits(&zeros), of(-0.0, 0.0));
    }
    assert_eq!(bits(&[1e-45, -1e-45, 0.0]), of(-1e-45, 1e-45));
    assert!(Call::new(id::MIN_MAX).input::<f32>(&[]).try_run().is_err());
}

fn mean_variance_of(values: &[f32]) -> [f32; 2] {
    Call::new(id::MEAN_VARIANCE).input(values).run().answer()
}

#[test]
fn mean_variance_is_that_of_the_population() {
    let mut rng = Rng::with_seed(4);
    for elements in SIZES.into_iter().skip(1) {
        for offset in [0.0, 1e5, -1e7] {
            let x: Vec<f32> = (0..elements).map(|_| offset + 10.0 * rng.f32()).collect();
            // An integer reference: multiples of 2^-30, so exact up to the division.
            let fixed = |x: f32| (f64::from(x) * f64::from(1 << 30)) as i128;
            let n = elements as i128;
            let sum: i128 = x.iter().copied().map(fixed).sum();
            let scaled = |x: f32| (n * fixed(x) - sum) as f64 / (f64::from(1 << 30) * n as f64);
            let variance = x.iter().copied().map(|x| scaled(x) * scaled(x)).sum::<f64>() / n as f64;
            let mean = sum as f64 / (f64::from(1 << 30) * n as f64);
            let [got_mean, got_variance] = mean_variance_of(&x);
            assert_rounded_once(got_mean, mean, 0.0);
            assert_rounded_once(got_variance, variance, variance);
        }
    }
}

#[test]
fn mean_variance_of_what_is_no_common_number() {
    assert_eq!(mean_variance_of(&[7.25; 65_537]), [7.25, 0.0]);
    assert_eq!(mean_variance_of(&[f32::MAX, f32::MAX]), [f32::MAX, 0.0]);
    assert_eq!(mean_variance_of(&[f32::MAX, f32::MIN]), [0.0, f32::INFINITY]);
    assert_eq!(mean_variance_of(&[3e-45, 0.0]), [1e-45, 0.0], "a denormal mean; its variance is below f32");
    assert!(mean_variance_of(&[1.0, f32::NAN]).iter().all(|x| x.is_nan()));
    let [mean, variance] = mean_variance_of(&[f32::INFINITY, 1.0]);
    assert!(mean == f32::INFINITY && variance.is_nan());
    assert!(Call::new(id::MEAN_VARIANCE).input::<f32>(&[]).try_run().is_err());
}

#[test]
fn only_the_first_count_elements_take_part() {
    let x: Vec<f32> = (1..=20).map(|x| x as f32).collect();
    for count in 1..=20u64 {
        let call = |kernel| Call::new(kernel).input(&x).operand(&x).count(count);
        let n = count as f32;
        assert_eq!(call(id::SUM).run().answer::<f32, 1>()[0], n * (n + 1.0) / 2.0);
        assert_eq!(call(id::DOT).run().answer::<f32, 1>()[0], n * (n + 1.0) * (2.0 * n + 1.0) / 6.0);
        assert_eq!(call(id::MIN_MAX).run().answer::<f32, 2>(), [1.0, n]);
        assert_eq!(call(id::MEAN_VARIANCE).run().answer::<f32, 2>()[0], (n + 1.0) / 2.0);
    }
    for kernel in [id::SUM, id::DOT, id::MIN_MAX, id::MEAN_VARIANCE] {
        assert!(Call::new(kernel).input(&x).operand(&x).count(21).try_run().is_err());
    }
    assert!(Call::new(id::DOT).input(&x).operand(&x[..19]).try_run().is_err());
}
