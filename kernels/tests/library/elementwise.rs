//! fill, copy, scale, add, saxpy.

use fastrand::Rng;
use gpubridge_abstractions::{ElementType, KernelSpec};
use gpubridge_kernels::id;

use crate::call::{CANARY, Call, INPUT, OPERAND, OUTPUT, Random, SIZES, assert_same, random, special};

#[test]
fn fill_stores_the_bits_of_its_value_and_no_more() {
    for elements in SIZES {
        for (element, bits) in ElementType::ALL.into_iter().zip([0x7fc1_2345, 0x8000_0000, 7]) {
            let call = Call::new(KernelSpec::new(id::FILL).of(element)).output(elements).scalar(bits);
            assert!(call.run().output.iter().all(|got| *got == bits));
            let call = call.output(elements + 2).count(elements as u64);
            let filled = if elements == 0 { 2 } else { elements };
            let mut want = vec![bits; filled];
            want.resize(elements + 2, CANARY);
            assert_eq!(call.run().output, want, "count {elements}");
        }
    }
}

#[test]
fn copy_keeps_every_bit() {
    let mut rng = Rng::with_seed(1);
    for elements in SIZES {
        let bits: Vec<u32> = (0..elements).map(|_| rng.u32(..)).collect();
        for element in ElementType::ALL {
            let call = Call::new(KernelSpec::new(id::COPY).of(element)).input(&bits);
            assert_eq!(call.clone().output(elements).run().output, bits);
            assert_eq!(call.clone().same(OUTPUT, INPUT).run().output, bits);
        }
        if elements > 2 {
            let part = Call::new(id::COPY).input(&bits).output(elements).count(elements as u64 - 1).run();
            assert_eq!(part.output[..elements - 1], bits[..elements - 1]);
            assert_eq!(part.output[elements - 1], CANARY);
        }
    }
}

#[test]
fn scale_multiplies() {
    let mut rng = Rng::with_seed(2);
    for elements in SIZES {
        let x: Vec<f32> = special(&mut rng, elements);
        for factor in [0.0, -1.5, 3e38, 1e-40, f32::INFINITY, f32::NAN] {
            let call = Call::new(id::SCALE).input(&x).output(elements).scalar(factor);
            let want = || x.iter().map(|x| (f64::from(*x) * f64::from(factor)) as f32);
            assert_same(&call.run().output::<f32>(), want());
            assert_same(&call.clone().same(OUTPUT, INPUT).run().output::<f32>(), want());
        }
    }
}

fn check_add<T: Random>(plus: impl Fn(T, T) -> T, same: impl Fn(&[T], Vec<T>)) {
    let mut rng = Rng::with_seed(3);
    for elements in SIZES {
        let (x, y): (Vec<T>, Vec<T>) = (special(&mut rng, elements), random(&mut rng, elements));
        let sums = |x: &[T], y: &[T]| x.iter().zip(y).map(|(x, y)| plus(*x, *y)).collect();
        let call = Call::new(KernelSpec::new(id::ADD).of(T::TYPE)).input(&x).operand(&y).output(elements);
        same(&call.run().output(), sums(&x, &y));
        same(&call.clone().same(OUTPUT, OPERAND).run().output(), sums(&x, &y));
        same(&call.clone().same(OUTPUT, INPUT).run().output(), sums(&x, &y));
        same(&call.clone().same(OPERAND, INPUT).same(OUTPUT, INPUT).run().output(), sums(&x, &x));
    }
}

#[test]
fn add_adds() {
    check_add::<f32>(|x, y| (f64::from(x) + f64::from(y)) as f32, |got, want| assert_same(got, want));
    check_add::<i32>(|x, y| (i128::from(x) + i128::from(y)) as i32, |got, want| assert_eq!(got, want));
    check_add::<u32>(|x, y| (i128::from(x) + i128::from(y)) as u32, |got, want| assert_eq!(got, want));
}

#[test]
fn saxpy_multiplies_and_adds() {
    let mut rng = Rng::with_seed(4);
    for elements in SIZES {
        let (x, y): (Vec<f32>, Vec<f32>) = (random(&mut rng, elements), random(&mut rng, elements));
        for a in [0.0, -1.5, 1e10] {
            let call = Call::new(id::SAXPY).input(&x).operand(&y).output(elements).scalar(a);
            for call in [call.clone(), call.clone().same(OUTPUT, OPERAND), call.clone().same(OUTPUT, INPUT)] {
                let got: Vec<f32> = call.run().output();
                assert_eq!(got.len(), elements);
                for ((got, x), y) in got.iter().zip(&x).zip(&y) {
                    let (product, y) = (f64::from(a) * f64::from(*x), f64::from(*y));
                    let bound = f64::from(f32::EPSILON) * (product.abs() + y.abs());
                    assert!((f64::from(*got) - (product + y)).abs() <= bound, "{a} * {x} + {y}: {got}");
                }
            }
        }
        let x: Vec<f32> = special(&mut rng, elements);
        let got: Vec<f32> = Call::new(id::SAXPY).input(&x).operand(&y).output(elements).scalar(2f32).run().output();
        assert_same(&got, x.iter().zip(&y).map(|(x, y)| 2.0 * x + y));
    }
}

#[test]
fn a_buffer_too_small_is_refused() {
    for (kernel, buffers) in [(id::COPY, 0b101), (id::SCALE, 0b101), (id::ADD, 0b111), (id::SAXPY, 0b111)] {
        for short in [INPUT, OPERAND, OUTPUT] {
            let mut call = Call::new(kernel).count(9);
            for which in [INPUT, OPERAND, OUTPUT] {
                call = call.buffer(which, &vec![0f32.to_bits(); if which == short { 8 } else { 9 }]);
            }
            assert_eq!(call.try_run().is_err(), buffers >> short & 1 == 1, "kernel {kernel}, buffer {short}");
        }
    }
}
