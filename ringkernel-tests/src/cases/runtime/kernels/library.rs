//! What holds for every kernel of the library alike.

use fastrand::Rng;
use gpubridge_abstractions::{BufferUse, ElementType, ErrorKind, KernelId, KernelSpec, Status};
use gpubridge_kernels::Kernel;
use gpubridge_kernels::id::{
    ADD, COPY, DOT, FILL, HISTOGRAM, INCLUSIVE_SCAN, MATMUL, MATVEC, MEAN_VARIANCE, MIN_MAX, SAXPY, SCALE, SUM, TOP_K,
    WINDOW_ZSCORE,
};

use super::lab::Lab;
use crate::Context;
use crate::call::draw::{Draw, LARGE, SPECIAL, plain, special};
use crate::call::{Call, INPUT, OPERAND, OUTPUT};

/// Elements of output behind those that a call writes.
const SPARE: usize = 5;

/// A call of each kernel in each of its types, over inputs of `elements` elements, at least 12.
fn examples(lab: &Lab, elements: usize) -> Vec<Call> {
    let specs = |kernel: &Kernel| {
        let (id, window) = (kernel.declaration.id, if kernel.declaration.id == WINDOW_ZSCORE { 8 } else { 0 });
        kernel
            .declaration
            .elements
            .iter()
            .map(move |element| KernelSpec::new(id).of(*element).with_constants([window, 0]))
    };
    lab.kernels().iter().flat_map(specs).map(|spec| example(spec, elements)).collect()
}

fn example(spec: KernelSpec, elements: usize) -> Call {
    let mut rng = Rng::with_seed(81);
    let call = Call::new(spec);
    let drawn: Vec<u32> = match spec.element {
        ElementType::F32 => plain::<f32>(&mut rng, elements).iter().map(|x| x.to_bits()).collect(),
        ElementType::I32 | ElementType::U32 => plain(&mut rng, elements),
    };
    let both = call.clone().input(&drawn).operand(&drawn);
    let (side, written) = (elements / 3, elements + SPARE);
    match spec.id {
        FILL => call.output(elements).scalar(7_u32),
        COPY | INCLUSIVE_SCAN => call.input(&drawn).output(written),
        SCALE => call.input(&drawn).output(written).scalar(1.5_f32),
        ADD => both.output(written),
        SAXPY => both.output(written).scalar(1.5_f32),
        DOT => both,
        SUM | MIN_MAX | MEAN_VARIANCE => call.input(&drawn),
        HISTOGRAM => call.input(&drawn).output(4 + SPARE).scalar(0_u32).scalar(1.0_f32).scalar(4_u32),
        TOP_K => call.input(&drawn).output(6 + SPARE).scalar(3_u32),
        MATVEC => call.input(&drawn).operand(&drawn[..side]).output(3 + SPARE).scalar(3_u32).scalar(side as u32),
        MATMUL => both.output(9 + SPARE).scalar(3_u32).scalar(side as u32).scalar(3_u32),
        WINDOW_ZSCORE => call.buffer(OUTPUT, &[0_u32; 10 + SPARE]).scalar(1.5_f32),
        other => panic!("kernel {other} is new in the library: give it an example here, and cases of its own"),
    }
}

/// Whether the kernel's count is told by other means.
fn ignores_count(id: KernelId) -> bool {
    matches!(id, MATVEC | MATMUL | WINDOW_ZSCORE)
}

/// Goal: a kernel works on the first `count` elements, on all when that is 0. Method: every kernel in every type, with
/// every count from 0 to 70 of 70, and counts past the loop bounds of more.
pub fn the_first_count_elements_are_worked_on(context: &Context) {
    let lab = Lab::new(context);
    for example in examples(&lab, 70) {
        let least = if example.spec.id == TOP_K { 3 } else { 1 };
        for count in [0].into_iter().chain(least..=70) {
            lab.agree(&example.clone().count(count));
        }
    }
    for example in examples(&lab, 70_003) {
        if !ignores_count(example.spec.id) {
            [65_535, 65_536, 65_537, 70_001].iter().for_each(|count| lab.agree(&example.clone().count(*count)));
        }
    }
}

/// Goal: a call of no elements does nothing, and answers what the sum of nothing is. Method: buffers too small for an
/// element; kernels that need one refuse.
pub fn no_elements_are_a_size_too(context: &Context) {
    let lab = Lab::new(context);
    for example in examples(&lab, 12) {
        let spec = example.spec;
        let empty = (0..3)
            .filter(|which| !example.bits(*which).is_empty())
            .fold(example.clone(), |call, which| call.buffer::<u32>(which, &[]));
        match spec.id {
            MIN_MAX | MEAN_VARIANCE | TOP_K | HISTOGRAM | MATVEC | MATMUL | WINDOW_ZSCORE => {
                refused_as_invalid(&lab, &empty, "");
            }
            _ => lab.agree(&empty),
        }
    }
    // No input, counted in bins all the same.
    lab.agree(&example(KernelSpec::new(HISTOGRAM), 12).buffer::<u32>(INPUT, &[]));
}

/// Goal: what lies behind the elements that a kernel writes stays. Method: every kernel in every type over outputs with
/// elements to spare, sizes around the blocks of devices; bytes behind the last whole element are watched in every
/// case.
pub fn nothing_else_is_written(context: &Context) {
    let lab = Lab::new(context);
    for elements in [12, 31, 33, 63, 65, 255, 257, 1023, 1025] {
        for example in examples(&lab, elements) {
            let call = if example.spec.id == FILL { example.count(elements - SPARE) } else { example };
            lab.agree(&call);
        }
    }
}

/// Goal: integers wrap, and are equal to the bit. Method: sums, running sums and element sums of extremes of both
/// types.
pub fn integers_wrap(context: &Context) {
    fn check<T: Draw>(lab: &Lab, extremes: [T; 2]) {
        let mut rng = Rng::with_seed(82);
        let mixed: Vec<T> = special(&mut rng, 5000);
        for x in [vec![extremes[0]; 5000], vec![extremes[1]; 65_537], mixed] {
            let call = |id| Call::new(KernelSpec::new(id).of(T::TYPE)).input(&x);
            lab.agree(&call(SUM));
            lab.agree(&call(INCLUSIVE_SCAN).output(x.len()));
            lab.agree(&call(ADD).operand(&x).output(x.len()));
        }
    }
    let lab = Lab::new(context);
    check(&lab, [i32::MIN, i32::MAX]);
    check(&lab, [1 << 31, u32::MAX]);
}

/// The kernels that add up floats, over these: sum, dot with ones, and their running sum, mean, rows and columns.
fn sums_of(lab: &Lab, x: &[f32]) {
    let n = x.len() as u32;
    let ones = vec![1.0_f32; x.len()];
    let call = |id| Call::new(id).input(x);
    lab.agree(&call(SUM));
    lab.agree(&call(DOT).operand(&ones));
    lab.agree(&call(MEAN_VARIANCE));
    lab.agree(&call(INCLUSIVE_SCAN).output(x.len()));
    lab.agree(&call(MATVEC).operand(&ones).output(1).scalar(1_u32).scalar(n));
    lab.agree(&call(MATMUL).operand(&ones).output(1).scalar(1_u32).scalar(n).scalar(1_u32));
}

/// Goal: no element is left out of a sum, whatever the count. Method: all zeros but one, which lies at each place of a
/// few blocks, at the ends, and around the loop bounds.
pub fn every_element_takes_part(context: &Context) {
    let lab = Lab::new(context);
    let probe = |elements: usize, at: usize| {
        let mut x = vec![0.0; elements];
        x[at] = 1.5;
        sums_of(&lab, &x);
    };
    for elements in [1, 33, 70] {
        (0..elements).for_each(|at| probe(elements, at));
    }
    for elements in LARGE {
        for at in [0, 1023, 1024, elements / 2, 65_534, 65_535, 65_536, elements - 2, elements - 1] {
            if at < elements {
                probe(elements, at);
            }
        }
    }
}

/// Goal: sums do not overflow on the way, and what exceeds f32 in the end is an infinity. Method: the largest numbers,
/// which cancel in the end or do not.
pub fn sums_do_not_overflow_on_the_way(context: &Context) {
    let lab = Lab::new(context);
    let (max, min) = (f32::MAX, f32::MIN);
    for elements in [4, 64, 1024, 5000] {
        let halves: Vec<f32> = (0..elements).map(|at| if at < elements / 2 { max } else { min }).collect();
        let by_turns: Vec<f32> = (0..elements).map(|at| if at % 2 == 0 { max } else { min }).collect();
        for x in [halves, by_turns, vec![max; elements], vec![min; elements], vec![1e38; elements]] {
            sums_of(&lab, &x);
        }
    }
    lab.agree(&Call::new(DOT).input(&[3e38_f32, 3e38, 1.0]).operand(&[3e38_f32, -3e38, 2.0]));
}

/// Goal: NaN and infinities spread by the rules of IEEE 754. Method: one among common numbers at each place of a block,
/// two that cancel to NaN.
pub fn nan_and_infinities_spread(context: &Context) {
    let lab = Lab::new(context);
    let infinity = f32::INFINITY;
    for at in 0..70 {
        for value in [f32::NAN, -f32::NAN, infinity, -infinity] {
            let mut x = [1.25; 70];
            x[at] = value;
            sums_of(&lab, &x);
            x[69 - at] = infinity;
            sums_of(&lab, &x);
        }
    }
    for value in SPECIAL {
        sums_of(&lab, &[value]);
        sums_of(&lab, &[value, value]);
        sums_of(&lab, &vec![value; 65_537]);
    }
}

/// Goal: denormals are numbers, or zeros where a device flushes them; nothing else. Method: sums of denormals alone,
/// and beside common numbers.
pub fn denormals_are_numbers_or_zeros(context: &Context) {
    let lab = Lab::new(context);
    let mut rng = Rng::with_seed(83);
    let denormals: Vec<f32> = (0..3000).map(|_| f32::from_bits(rng.u32(..0x80_0000) | rng.u32(..2) << 31)).collect();
    sums_of(&lab, &denormals);
    sums_of(&lab, &[1e-45; 100]);
    sums_of(&lab, &[1e-39, 1.0, -1.0, 1e-39]);
    lab.agree(&Call::new(SCALE).input(&denormals).output(3000).scalar(1e20_f32));
    lab.agree(&Call::new(SCALE).input(&[1e20_f32; 9]).output(9).scalar(1e-40_f32));
    lab.agree(&Call::new(SAXPY).input(&denormals).operand(&denormals).output(3000).scalar(-1e10_f32));
}

/// Requires a refusal that says this.
#[track_caller]
fn refused_as_invalid(lab: &Lab, call: &Call, says: &str) {
    let (status, error) = lab.refused(call);
    assert_eq!((status, error.kind()), (Some(Status::InvalidArgument), ErrorKind::InvalidArgument), "{call}");
    assert!(error.message().contains(says), "{call}: {error}");
}

/// What each buffer is called in a refusal.
const BUFFERS: [&str; 3] = ["input", "operand", "output"];

/// Goal: a call that names too few buffers, too many or the same twice is refused, says which, and changes nothing.
/// Method: every kernel in every type, each buffer left out that it needs, each added that it does not take, each pair
/// the same where the kernel does not work in place.
pub fn wrong_buffers_are_refused(context: &Context) {
    let lab = Lab::new(context);
    let refused = |call: &Call, says: &str| refused_as_invalid(&lab, call, says);
    for example in examples(&lab, 12) {
        let declaration = &lab.kernel(example.spec).declaration;
        let used = declaration.buffers.map(|buffer| buffer != BufferUse::None);
        for which in [INPUT, OPERAND, OUTPUT] {
            let wrong =
                if used[which] { example.clone().without(which) } else { example.clone().buffer(which, &[0_u32; 99]) };
            refused(&wrong, BUFFERS[which]);
        }
        for (which, other) in [(OPERAND, INPUT), (OUTPUT, INPUT), (OUTPUT, OPERAND)] {
            if used[which] && used[other] && !declaration.in_place {
                refused(&example.clone().same(which, other), "in place");
            }
        }
    }
}

/// Goal: a call whose shape does not fit is refused, says why, and changes nothing. Method: every kernel with each
/// buffer an element short, and scalars at and past their limits, also such that their product wraps.
pub fn shapes_that_do_not_fit_are_refused(context: &Context) {
    let lab = Lab::new(context);
    let refused = |call: &Call, says: &str| refused_as_invalid(&lab, call, says);
    for example in examples(&lab, 12) {
        for (which, name) in BUFFERS.iter().enumerate().filter(|(which, _)| !example.bits(*which).is_empty()) {
            let spare = if which == OUTPUT && example.spec.id != FILL { SPARE } else { 0 };
            let needs = example.bits(which).len() - spare;
            let counted = if ignores_count(example.spec.id) { example.clone() } else { example.clone().count(12) };
            let fits = counted.bits(which)[..needs].to_vec();
            lab.agree(&counted.clone().buffer(which, &fits));
            refused(&counted.buffer(which, &fits[1..]), &format!("{name} holds fewer elements"));
        }
    }
    let table = |id| Call::new(id).input(&[1.0_f32; 12]).operand(&[1.0_f32; 20]).output(15);
    let plain = |id| table(id).without(OPERAND);
    let dimensions = |call: Call, dimensions: &[u32]| dimensions.iter().fold(call, |call, x| call.scalar(*x));
    for bins in [0, 16, u32::MAX] {
        let call = dimensions(plain(HISTOGRAM), &[0, 1, bins]);
        refused(&call, if bins == 0 { "bins is 0" } else { "output holds fewer" });
    }
    for (k, says) in [(0, "k is 0"), (8, "output holds fewer"), (13, "k is larger"), (u32::MAX, "k is larger")] {
        refused(&dimensions(plain(TOP_K), &[k]), says);
    }
    for rows_cols in [[0, 4], [4, 0], [13, 1], [1, 13], [5, 3], [u32::MAX, u32::MAX], [1 << 16, 1 << 16], [1 << 31, 2]]
    {
        refused(&dimensions(table(MATVEC), &rows_cols), "");
    }
    for sides in [[0, 4, 5], [3, 0, 5], [3, 4, 0], [3, 5, 4], [2, 4, 6], [4, 3, 4], [u32::MAX; 3], [1 << 16; 3]] {
        refused(&dimensions(table(MATMUL), &sides), "");
    }
    lab.agree(&dimensions(table(MATVEC), &[3, 4]));
    lab.agree(&dimensions(table(MATMUL), &[3, 4, 5]));
}

/// Goal: a type or a constant that a kernel does not declare is a typed error that names what there is. Method: every
/// kernel in every type that it lacks, and with a constant more than it has.
pub fn undeclared_types_and_constants_are_refused(context: &Context) {
    let lab = Lab::new(context);
    for mut example in examples(&lab, 12) {
        let declaration = lab.kernel(example.spec).declaration.clone();
        let declared = example.spec;
        for element in ElementType::ALL.into_iter().filter(|element| !declaration.elements.contains(element)) {
            example.spec = declared.of(element);
            let (_, error) = lab.refused(&example);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{example}: {error}");
            let names = declaration.elements.iter().all(|element| error.message().contains(&element.to_string()));
            assert!(names && error.message().contains(declaration.name), "{example}: {error}");
        }
        let [constant, _] = declared.constants;
        example.spec = declared.with_constants([constant, 1]);
        let (_, error) = lab.refused(&example);
        assert_eq!(error.kind(), ErrorKind::KernelBuild, "{example}: {error}");
        assert!(error.message().contains(declaration.name), "{error}");
    }
}
