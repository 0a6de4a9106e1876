//! fill, copy, scale, add, saxpy: every element type at every size.

use fastrand::Rng;
use gpubridge_abstractions::{ElementType, KernelSpec};
use gpubridge_kernels::id::{ADD, COPY, FILL, SAXPY, SCALE};

use super::lab::Lab;
use crate::Context;
use crate::call::draw::{Draw, SPECIAL, plain, sizes, some_sizes, special};
use crate::call::{Call, INPUT, OPERAND, OUTPUT};

/// Elements of output behind those that a call writes.
const SPARE: usize = 5;

/// Goal: fill stores its value's bits. Method: all sizes, with whole outputs and with some to spare; bits of a NaN with
/// a payload, of -0.0 and of a denormal among them.
pub fn fill_stores_its_bits(context: &Context) {
    let lab = Lab::new(context);
    let bits = [0x7fc1_2345_u32, 0x8000_0000, 1, u32::MAX, 0, 0x7f80_0000];
    for (elements, bits) in sizes().zip(bits.into_iter().cycle()) {
        for element in ElementType::ALL {
            let call = Call::new(KernelSpec::new(FILL).of(element)).scalar(bits);
            lab.agree(&call.clone().output(elements));
            lab.agree(&call.output(elements + SPARE).count(elements));
        }
    }
}

/// Goal: copy keeps every bit. Method: all sizes, any bits, in each type.
pub fn copy_keeps_every_bit(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(1));
    for elements in sizes() {
        let bits: Vec<u32> = (0..elements).map(|_| rng.u32(..)).collect();
        for element in ElementType::ALL {
            lab.agree(&Call::new(KernelSpec::new(COPY).of(element)).input(&bits).output(elements + SPARE));
        }
    }
}

/// Goal: a copy onto itself changes nothing. Method: input and output are one allocation.
pub fn copy_onto_itself_changes_nothing(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(2));
    for elements in some_sizes() {
        let bits: Vec<u32> = (0..elements).map(|_| rng.u32(..)).collect();
        lab.agree(&Call::new(COPY).input(&bits).same(OUTPUT, INPUT));
    }
}

/// Goal: scale multiplies each element. Method: all sizes against the twin.
pub fn scale_multiplies(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(3));
    for elements in sizes() {
        let x: Vec<f32> = plain(&mut rng, elements);
        lab.agree(&Call::new(SCALE).input(&x).output(elements + SPARE).scalar(f32::plain(&mut rng)));
    }
}

/// Goal: scale works in place. Method: input and output are one allocation.
pub fn scale_works_in_place(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(4));
    for elements in some_sizes() {
        let x: Vec<f32> = plain(&mut rng, elements);
        lab.agree(&Call::new(SCALE).input(&x).same(OUTPUT, INPUT).scalar(-1.5_f32));
    }
}

/// Goal: zeros, infinities, NaN and denormals are multiplied as IEEE 754 says. Method: each special value as element
/// and as factor, and any bits.
pub fn scale_of_special_values(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(5));
    let any: Vec<f32> = special(&mut rng, 3000);
    for factor in SPECIAL.into_iter().chain([2.0, -0.75, 1e10, 1e-10]) {
        for x in [&SPECIAL[..], &any] {
            lab.agree(&Call::new(SCALE).input(x).output(x.len()).scalar(factor));
        }
    }
}

fn adds<T: Draw>(lab: &Lab, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for elements in sizes() {
        let [x, y]: [Vec<T>; 2] = [(); 2].map(|()| plain(&mut rng, elements));
        let call = Call::new(KernelSpec::new(ADD).of(T::TYPE)).input(&x).operand(&y);
        lab.agree(&call.output(elements + SPARE));
    }
}

/// Goal: add adds element to element. Method: all sizes in each type against the twin.
pub fn add_adds(context: &Context) {
    let lab = Lab::new(context);
    adds::<f32>(&lab, 6);
    adds::<i32>(&lab, 7);
    adds::<u32>(&lab, 8);
}

/// The ways in which two or three buffers of a call of this kernel may be one allocation.
fn in_place(call: &Call) -> [Call; 4] {
    [
        call.clone().same(OUTPUT, OPERAND),
        call.clone().same(OUTPUT, INPUT),
        call.clone().same(OPERAND, INPUT),
        call.clone().same(OPERAND, INPUT).same(OUTPUT, INPUT),
    ]
}

/// Goal: add works in place. Method: any two of its buffers one allocation, and all three.
pub fn add_works_in_place(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(9));
    for elements in some_sizes() {
        let [x, y]: [Vec<f32>; 2] = [(); 2].map(|()| plain(&mut rng, elements));
        let call = Call::new(ADD).input(&x).operand(&y).output(elements);
        in_place(&call).iter().for_each(|call| lab.agree(call));
    }
}

/// Each special value against each.
fn special_pairs() -> (Vec<f32>, Vec<f32>) {
    SPECIAL.iter().flat_map(|x| SPECIAL.map(|y| (*x, y))).unzip()
}

/// Goal: zeros, infinities, NaN and denormals are added as IEEE 754 says. Method: each special value and each, and any
/// bits.
pub fn add_of_special_values(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(10));
    let any: (Vec<f32>, Vec<f32>) = (special(&mut rng, 3000), special(&mut rng, 3000));
    for (x, y) in [special_pairs(), any] {
        lab.agree(&Call::new(ADD).input(&x).operand(&y).output(x.len()));
    }
}

/// Goal: saxpy multiplies and adds. Method: all sizes against the twin.
pub fn saxpy_multiplies_and_adds(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(11));
    for elements in sizes() {
        let [x, y]: [Vec<f32>; 2] = [(); 2].map(|()| plain(&mut rng, elements));
        let call = Call::new(SAXPY).input(&x).operand(&y).output(elements + SPARE);
        lab.agree(&call.scalar(f32::plain(&mut rng)));
    }
}

/// Goal: saxpy works in place. Method: any two of its buffers one allocation, and all three.
pub fn saxpy_works_in_place(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(12));
    for elements in some_sizes() {
        let [x, y]: [Vec<f32>; 2] = [(); 2].map(|()| plain(&mut rng, elements));
        let call = Call::new(SAXPY).input(&x).operand(&y).output(elements).scalar(-1.5_f32);
        in_place(&call).iter().for_each(|call| lab.agree(call));
    }
}

/// Goal: zeros, infinities, NaN and denormals are multiplied and added as IEEE 754 says. Method: each special value and
/// each, and any bits, times each special value.
pub fn saxpy_of_special_values(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(13));
    let any: (Vec<f32>, Vec<f32>) = (special(&mut rng, 3000), special(&mut rng, 3000));
    for (x, y) in [special_pairs(), any] {
        for a in SPECIAL.into_iter().chain([-2.5, 1e-20]) {
            lab.agree(&Call::new(SAXPY).input(&x).operand(&y).output(x.len()).scalar(a));
        }
    }
}
