//! Random shapes: whatever a check lets pass, the twin does not panic and writes only what it documents.

use gpubridge_abstractions::{CallShape, ElementType, KernelSpec, Scalars};
use gpubridge_kernels::{id, library};
use proptest::prelude::*;

use crate::call::{CANARY, Call, INPUT, OPERAND, OUTPUT};

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

/// Numbers about the size of the buffers, and any others.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..20u32, 2 => 0..300u32, 1 => any::<u32>(), 1 => any::<f32>().prop_map(f32::to_bits)]
}

fn large() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, any::<u64>(), any::<u32>().prop_map(u64::from), Just(u64::MAX), Just(1 << 32)]
}

fn spec() -> impl Strategy<Value = KernelSpec> {
    (0..15usize, 0..3usize, number()).prop_map(|(kernel, element, window)| {
        let declaration = library().kernels()[kernel].declaration.clone();
        let element = declaration.elements[element % declaration.elements.len()];
        let constants = if declaration.constants.is_empty() { [0; 2] } else { [window, 0] };
        KernelSpec::new(declaration.id).of(element).with_constants(constants)
    })
}

fn buffer() -> impl Strategy<Value = Option<Vec<u32>>> {
    let words = prop_oneof![any::<u32>(), number()];
    proptest::option::weighted(
        0.9,
        prop_oneof![
            proptest::collection::vec(words, 0..300),
            (0..300usize).prop_map(|elements| vec![CANARY; elements]),
        ],
    )
}

fn scalars() -> impl Strategy<Value = Scalars> {
    proptest::array::uniform6(number())
        .prop_map(|bits| (0..6).zip(bits).fold(Scalars::default(), |scalars, (at, bits)| scalars.with_bits(at, bits)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8_192) })]

    #[test]
    fn what_passes_the_check_does_not_panic(
        spec in spec(), buffers in proptest::array::uniform3(buffer()), count in number(), scalars in scalars(),
        same in 0..8u32,
    ) {
        let mut call = Call::new(spec).count(count.into()).scalars(scalars);
        for (which, words) in [INPUT, OPERAND, OUTPUT].into_iter().zip(&buffers) {
            if let Some(words) = words {
                call = call.buffer(which, words);
            }
        }
        if library().find(spec.id).expect("registered").declaration.in_place {
            call = match same {
                0 => call.same(OUTPUT, INPUT),
                1 => call.same(OUTPUT, OPERAND),
                2 => call.same(OPERAND, INPUT),
                _ => call,
            };
        }
        let before = call.bits(OUTPUT);
        if let Ok(reply) = call.try_run() {
            let written = usize::try_from(written(&spec, &call.shape())).expect("fits").min(before.len());
            prop_assert_eq!(&reply.output[written..], &before[written..]);
        } else {
            prop_assert_eq!(call.bits(OUTPUT), before);
        }
    }

    #[test]
    fn checks_and_work_are_total(
        spec in spec(), elements in proptest::array::uniform3(large()), count in large(), scalars in scalars(),
        constants in proptest::array::uniform2(number()),
    ) {
        let declaration = &library().find(spec.id).expect("registered").declaration.clone();
        let shape = CallShape { elements, count, scalars, constants };
        let _ = (declaration.check)(&shape);
        let work = (declaration.work)(&shape);
        prop_assert!(!declaration.placement.in_ring(work) || work <= 65_536 || spec.id == id::WINDOW_ZSCORE);
    }
}

#[test]
fn most_kernels_are_reached_with_shapes_that_pass() {
    // Guards the strategies above: a check that nothing passes would make them say nothing.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (spec(), proptest::array::uniform3(buffer()), scalars());
    let mut passed = std::collections::BTreeMap::new();
    for _ in 0..8_192 {
        let (spec, buffers, scalars) = strategy.new_tree(&mut runner).expect("a value").current();
        let elements = buffers.map(|words| words.map_or(0, |words| words.len() as u64));
        let count = if elements[INPUT] == 0 { elements[OUTPUT] } else { elements[INPUT] };
        let shape = CallShape { elements, count, scalars, constants: spec.constants };
        let check = library().find(spec.id).expect("registered").declaration.check;
        *passed.entry(spec.id).or_insert(0) += u32::from(check(&shape).is_ok());
    }
    assert!(passed.len() == 15 && passed.values().all(|passed| *passed >= 20), "{passed:?}");
    assert_eq!(ElementType::ALL.len(), 3);
}
