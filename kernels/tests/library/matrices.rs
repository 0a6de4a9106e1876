//! matvec, matmul.

use fastrand::Rng;
use gpubridge_kernels::id;

use crate::call::{CANARY, Call, assert_rounded_once, random};

/// Dimensions around the blocks of the twins, and each beyond the loop bounds of devices.
const SHAPES: [[usize; 3]; 17] = [
    [1, 1, 1],
    [1, 2, 3],
    [3, 2, 1],
    [7, 8, 9],
    [2, 63, 15],
    [2, 64, 16],
    [2, 65, 17],
    [16, 16, 16],
    [15, 31, 33],
    [40, 50, 60],
    [1, 65_537, 1],
    [65_537, 1, 1],
    [1, 1, 65_537],
    [2, 65_536, 3],
    [65_535, 2, 2],
    [2, 3, 65_536],
    [2, 255, 257],
];

fn check_element(got: f32, terms: impl Iterator<Item = f64> + Clone) {
    assert_rounded_once(got, terms.clone().sum(), terms.map(f64::abs).sum());
}

#[test]
fn matvec_multiplies_each_row() {
    let mut rng = Rng::with_seed(1);
    for [rows, cols, _] in SHAPES {
        let (a, x): (Vec<f32>, Vec<f32>) = (random(&mut rng, rows * cols), random(&mut rng, cols));
        let call = Call::new(id::MATVEC).input(&a).operand(&x).output(rows + 1).scalar(rows as u32).scalar(cols as u32);
        let got = call.run();
        assert_eq!(got.output[rows], CANARY);
        for (r, got) in got.output::<f32>()[..rows].iter().enumerate() {
            check_element(*got, (0..cols).map(|c| f64::from(a[r * cols + c]) * f64::from(x[c])));
        }
    }
}

#[test]
fn matmul_multiplies_rows_by_columns() {
    let mut rng = Rng::with_seed(2);
    for [m, k, n] in SHAPES {
        let (a, b): (Vec<f32>, Vec<f32>) = (random(&mut rng, m * k), random(&mut rng, k * n));
        let call = Call::new(id::MATMUL).input(&a).operand(&b).output(m * n + 1);
        let got = call.scalar(m as u32).scalar(k as u32).scalar(n as u32).run();
        assert_eq!(got.output[m * n], CANARY);
        for (at, got) in got.output::<f32>()[..m * n].iter().enumerate() {
            let (r, c) = (at / n, at % n);
            check_element(*got, (0..k).map(|p| f64::from(a[r * k + p]) * f64::from(b[p * n + c])));
        }
    }
}

#[test]
fn products_of_what_is_no_common_number() {
    let matvec = |a: &[f32], x: &[f32]| -> f32 {
        let call = Call::new(id::MATVEC).input(a).operand(x).output(1).scalar(1u32).scalar(a.len() as u32);
        call.run().output()[0]
    };
    let matmul = |a: &[f32], b: &[f32]| -> f32 {
        let call = Call::new(id::MATMUL).input(a).operand(b).output(1);
        call.scalar(1u32).scalar(a.len() as u32).scalar(1u32).run().output()[0]
    };
    for product in [&matvec as &dyn Fn(&[f32], &[f32]) -> f32, &matmul] {
        assert_eq!(product(&[3e38, 3e38, 1.0], &[3e38, -3e38, 2.0]), 2.0, "f64 carries what f32 cannot");
        assert_eq!(product(&[f32::INFINITY, 1.0], &[1.0, 1.0]), f32::INFINITY);
        assert!(product(&[f32::INFINITY, 1.0], &[0.0, 1.0]).is_nan());
        assert!(product(&[f32::NAN, 1.0], &[0.0, 1.0]).is_nan());
        assert_eq!(product(&[1e-45, 1e-45], &[1.0, 1.0]), 3e-45);
    }
}

#[test]
fn dimensions_that_do_not_fit_are_refused() {
    let buffers = |kernel| Call::new(kernel).input(&[0f32; 12]).operand(&[0f32; 20]).output(15);
    let matvec = |rows: u32, cols: u32| buffers(id::MATVEC).scalar(rows).scalar(cols).try_run().is_ok();
    assert!(matvec(3, 4) && matvec(12, 1) && matvec(1, 12));
    assert!(!matvec(0, 4) && !matvec(4, 0) && !matvec(13, 1) && !matvec(1, 13) && !matvec(5, 3));
    assert!(!matvec(u32::MAX, u32::MAX) && !matvec(1 << 16, 1 << 16));
    let matmul = |m: u32, k: u32, n: u32| buffers(id::MATMUL).scalar(m).scalar(k).scalar(n).try_run().is_ok();
    assert!(matmul(3, 4, 5));
    assert!(!matmul(0, 4, 5) && !matmul(3, 0, 5) && !matmul(3, 4, 0));
    assert!(!matmul(3, 5, 4) && !matmul(2, 4, 6) && !matmul(4, 3, 4));
    assert!(!matmul(u32::MAX, u32::MAX, u32::MAX) && !matmul(1 << 16, 1 << 16, 1 << 16));
}
