//! Random shapes: whatever a check lets pass, the twin does not panic and writes only what it documents.

use std::collections::BTreeMap;

use fastrand::Rng;
use gpubridge_abstractions::{CallShape, KernelDeclaration, KernelId, KernelSpec, Scalars};
use gpubridge_kernels::id;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::call::{Call, INPUT, LIBRARY, OPERAND, OUTPUT};

/// Elements of output, from the first, that the file of a kernel says it writes.
fn written(spec: &KernelSpec, shape: &CallShape) -> u64 {
    let scalar = |index| u64::from(shape.scalars.bits(index));
    match spec.id {
        id::FILL | id::COPY | id::SCALE | id::ADD | id::SAXPY | id::INCLUSIVE_SCAN => shape.count,
        id::DOT | id::SUM | id::MIN_MAX | id::MEAN_VARIANCE => 0,
        id::HISTOGRAM => scalar(2),
        id::TOP_K => 2 * scalar(0),
        id::MATVEC => scalar(0),
        id::MATMUL => scalar(0) * scalar(2),
        id::WINDOW_ZSCORE => u64::from(shape.constants[0]) + 2,
        other => panic!("kernel {other} is not of the library"),
    }
}

fn declaration(id: KernelId) -> &'static KernelDeclaration {
    &LIBRARY.find(id).expect("registered").declaration
}

/// Numbers about the size of the buffers, and any others.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..20u32,
        2 => 0..300u32,
        1 => any::<u32>(),
        1 => any::<f32>().prop_map(f32::to_bits),
    ]
}

fn large() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, any::<u64>(), any::<u32>().prop_map(u64::from), Just(u64::MAX), Just(1 << 32)]
}

fn scalars() -> impl Strategy<Value = Scalars> {
    proptest::array::uniform6(number())
        .prop_map(|bits| (0..6).zip(bits).fold(Scalars::default(), |scalars, (at, bits)| scalars.with_bits(at, bits)))
}

fn spec() -> impl Strategy<Value = KernelSpec> {
    (0..15usize, 0..3usize, number()).prop_map(|(kernel, element, window)| {
        let declaration = &LIBRARY.kernels()[kernel].declaration;
        let element = declaration.elements[element % declaration.elements.len()];
        let constants = if declaration.constants.is_empty() { [0; 2] } else { [window, 0] };
        KernelSpec::new(declaration.id).of(element).with_constants(constants)
    })
}

/// A call of a random kernel over random buffers, some of which may be the same.
fn call() -> impl Strategy<Value = Call> {
    let buffers = proptest::array::uniform3(proptest::option::weighted(0.9, 0..300usize));
    (spec(), buffers, number(), scalars(), any::<u64>(), 0..8u32).prop_map(
        |(spec, buffers, count, scalars, seed, same)| {
            let mut rng = Rng::with_seed(seed);
            let mut call = Call::new(spec).count(if rng.bool() { 0 } else { count.into() }).scalars(scalars);
            for (which, elements) in [INPUT, OPERAND, OUTPUT].into_iter().zip(buffers) {
                if let Some(elements) = elements {
                    let words: Vec<u32> = (0..elements).map(|_| rng.u32(..) >> rng.u32(..32)).collect();
                    call = call.buffer(which, &words);
                }
            }
            match same {
                0 if declaration(spec.id).in_place => call.same(OUTPUT, INPUT),
                1 if declaration(spec.id).in_place => call.same(OUTPUT, OPERAND),
                2 if declaration(spec.id).in_place => call.same(OPERAND, INPUT),
                _ => call,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_096) })]

    #[test]
    fn what_passes_the_check_does_not_panic(call in call()) {
        let before = call.bits(OUTPUT);
        if let Ok(reply) = call.try_run() {
            let written = usize::try_from(written(&call.spec, &call.shape())).expect("fits").min(before.len());
            prop_assert_eq!(&reply.output[written..], &before[written..]);
        } else {
            prop_assert_eq!(call.bits(OUTPUT), before);
        }
    }

    #[test]
    fn checks_and_work_are_total(
        spec in spec(),
        elements in proptest::array::uniform3(large()),
        count in large(),
        scalars in scalars(),
        constants in proptest::array::uniform2(number()),
    ) {
        let shape = CallShape { elements, count, scalars, constants };
        // Neither may overflow, whether the other passes or not.
        let _ = (declaration(spec.id).check)(&shape);
        let work = (declaration(spec.id).work)(&shape);
        let in_ring = declaration(spec.id).placement.in_ring(work);
        prop_assert_eq!(in_ring, work <= 65_536 || spec.id == id::WINDOW_ZSCORE);
    }
}

/// Guards the strategy above: shapes that no check lets pass would test nothing.
#[test]
fn every_kernel_is_reached_with_shapes_that_pass() {
    let mut runner = TestRunner::deterministic();
    let strategy = call();
    let mut passed = BTreeMap::new();
    for _ in 0..4_096 {
        let call = strategy.new_tree(&mut runner).expect("a value").current();
        *passed.entry(call.spec.id).or_insert(0) += u32::from(call.check().is_ok());
    }
    assert!(passed.len() == 15 && passed.values().all(|passed| *passed >= 4), "{passed:?}");
}
