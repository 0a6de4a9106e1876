//! The library as a whole, and a user's kernel by the same path.

use std::collections::HashSet;
use std::sync::Arc;

use gpubridge_abstractions::{
    BufferUse, CallShape, ElementType, ErrorKind, KernelDeclaration, KernelId, KernelSpec, Placement, Tolerance,
};
use gpubridge_kernels::{Answer, Element, Invocation, Kernel, KernelLibrary, id, library};

use crate::call::Call;

/// Every kernel of the library, by its id and its name.
const KERNELS: [(KernelId, &str); 15] = [
    (id::FILL, "fill"),
    (id::COPY, "copy"),
    (id::SCALE, "scale"),
    (id::ADD, "add"),
    (id::SAXPY, "saxpy"),
    (id::DOT, "dot"),
    (id::SUM, "sum"),
    (id::MIN_MAX, "min_max"),
    (id::MEAN_VARIANCE, "mean_variance"),
    (id::INCLUSIVE_SCAN, "inclusive_scan"),
    (id::HISTOGRAM, "histogram"),
    (id::TOP_K, "top_k"),
    (id::MATVEC, "matvec"),
    (id::MATMUL, "matmul"),
    (id::WINDOW_ZSCORE, "window_zscore"),
];

#[test]
fn ids_are_stable() {
    let library = library();
    assert_eq!(library.kernels().len(), KERNELS.len());
    for ((kernel, (id, name)), number) in library.kernels().iter().zip(KERNELS).zip(1..) {
        let declaration = &kernel.declaration;
        assert_eq!((declaration.id, declaration.name, id), (id, name, KernelId(number)));
        assert_eq!(declaration.targets, ["cpu", "cuda", "vulkan"]);
        assert!(!declaration.summary.is_empty());
    }
    assert_eq!(KERNELS.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), KERNELS.len());
}

#[test]
fn each_kernel_compiles_for_what_it_declares_and_for_nothing_else() {
    for kernel in library().kernels() {
        let declaration = &kernel.declaration;
        let compile = kernel.cpu.as_ref().expect("a CPU variant");
        let window = u32::from(declaration.id == id::WINDOW_ZSCORE) * 64;
        for element in ElementType::ALL {
            let spec = KernelSpec::new(declaration.id).of(element).with_constants([window, 0]);
            match compile(&spec) {
                Ok(_) => assert!(declaration.elements.contains(&element)),
                Err(why) => {
                    assert!(!declaration.elements.contains(&element), "{why}");
                    assert!(
                        why.contains(declaration.name) && why.contains("f32") && why.ends_with(&element.to_string())
                    );
                }
            }
        }
        let why = compile(&KernelSpec::new(declaration.id).with_constants([window, 1])).err();
        assert!(why.is_some_and(|why| why.contains(declaration.name) && why.contains("constants")));
    }
    let integers = [id::FILL, id::COPY, id::ADD, id::SUM, id::MIN_MAX, id::INCLUSIVE_SCAN, id::HISTOGRAM];
    for (id, name) in KERNELS {
        let elements = library().find(id).expect("registered").declaration.elements;
        let want: &[ElementType] = if integers.contains(&id) { &ElementType::ALL } else { &[ElementType::F32] };
        assert_eq!(elements, want, "{name}");
    }
}

/// `output[i] = input[i] * constant`, and answers how many there were.
fn triple(id: KernelId, name: &'static str) -> Kernel {
    let declaration = KernelDeclaration {
        id,
        name,
        summary: "output = input * factor",
        elements: &[ElementType::U32],
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &[],
        constants: &["factor"],
        in_place: true,
        stateful: false,
        placement: Placement::InRing,
        check: |shape: &CallShape| match shape.elements {
            [input, _, output] if shape.count <= input.min(output) => Ok(()),
            _ => Err("a buffer is too small"),
        },
        work: |shape| shape.count,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    };
    Kernel::from_compiler(declaration, |spec| {
        let [factor, _] = spec.constants;
        Ok(Arc::new(move |call: &Invocation<'_>, answer: &mut Answer| {
            for (out, x) in call.output.first(call.count).cells().iter().zip(call.input.iter::<u32>()) {
                out.set(x.wrapping_mul(factor).to_bits());
            }
            answer.push(call.count as u32);
        }))
    })
}

#[test]
fn a_users_kernel_runs_by_the_same_path() {
    let mut library = library();
    library.register(triple(KernelId::FIRST_USER, "triple")).expect("free");
    let spec = KernelSpec::new(KernelId::FIRST_USER).of(ElementType::U32).with_constants([3, 0]);
    let reply = Call::of(&library, spec).input(&[1u32, 2, 1 << 31]).output(3).run();
    assert_eq!(reply.output, [3, 6, 1 << 31]);
    assert_eq!(reply.answer::<u32, 1>(), [3]);
    assert!(Call::of(&library, spec).input(&[1u32]).output(0).try_run().is_err());
    let why = Call::of(&library, spec.of(ElementType::I32)).input(&[1u32]).output(1).try_run().err();
    assert_eq!(why.as_deref(), Some("kernel `triple` comes in u32, not in i32"));
}

#[test]
fn ids_and_names_are_taken_once() {
    let mut library = library();
    for (kernel, taken) in [(triple(id::SUM, "triple"), "sum"), (triple(KernelId::FIRST_USER, "matmul"), "matmul")] {
        let error = library.register(kernel).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(taken), "{error}");
    }
    let mut library = KernelLibrary::empty();
    library.register(triple(KernelId(7), "triple")).expect("free");
    assert!(library.register(triple(KernelId(7), "other")).is_err());
    assert!(library.register(triple(KernelId(8), "triple")).is_err());
    assert!(library.register(triple(KernelId(8), "other")).is_ok());
}

#[test]
fn a_declaration_that_cannot_be_is_refused() {
    let wrong: [fn(&mut Kernel); 4] = [
        |kernel| kernel.declaration.scalars = &["a", "b", "c", "d", "e", "f", "g"],
        |kernel| kernel.declaration.constants = &["a", "b", "c"],
        |kernel| kernel.declaration.elements = &[],
        |kernel| kernel.cpu = None,
    ];
    for spoil in wrong {
        let mut kernel = triple(KernelId::FIRST_USER, "triple");
        spoil(&mut kernel);
        assert!(KernelLibrary::empty().register(kernel).is_err());
    }
}
