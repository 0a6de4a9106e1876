//! Kernels of a user's own, in the ring and beside it.

use std::sync::Arc;
use std::thread::ThreadId;

use gpubridge_abstractions::{
    BufferUse, Command, Compute, DeviceSlot, ElementType, ErrorKind, KernelDeclaration, KernelId, KernelSpec, Opcode,
    Placement, Status,
};
use gpubridge_kernels::{CpuKernel, Kernel, KernelLibrary};

use crate::bench::{Bench, GRAIN, SMALL, call, echo};
use crate::kernels::{Journal, compile_all, declaration, kernel, library, noted};

/// output = factor · input, and answers with the sum.
fn scale(number: u32, name: &'static str, placement: Placement) -> Kernel {
    let declaration = KernelDeclaration {
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
        scalars: &["factor"],
        check: |shape| match shape.elements {
            [input, _, output] if shape.count <= input.min(output) => Ok(()),
            _ => Err("count is beyond a buffer"),
        },
        ..declaration(number, name, placement)
    };
    kernel(declaration, |call, answer| {
        let factor = call.scalars.f32(0);
        let mut sum = 0.0;
        for (index, value) in call.input.first(call.count).iter::<f32>().enumerate() {
            call.output.set(index, value * factor);
            sum += value * factor;
        }
        answer.push(sum);
    })
}

fn scale_call(kernel: u16, input: DeviceSlot, output: DeviceSlot, count: u32, factor: f32) -> Command {
    let scalars = [u64::from(factor.to_bits()), 0, 0];
    let call = Compute { input, operand: DeviceSlot::NONE, output, count, scalars };
    Command { kernel, ..Command::new(Opcode::Compute, GRAIN, call.to_payload()) }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn computes_in_the_ring_and_beside_it() {
    let kernels = library([scale(0, "scale", Placement::InRing), scale(1, "scale beside", Placement::Beside)]);
    let mut bench = Bench::new(kernels, SMALL);
    compile_all(&*bench.device);
    let (_a, input) = bench.bound(0, 400);
    let (_b, output) = bench.bound(1, 400);
    let values: Vec<f32> = (0..100).map(|i| i as f32 - 20.0).collect();
    bench.lane.write_all(input, &bytes(&values), 1024);
    for kernel in [0, 1] {
        for (count, factor) in [(100, 2.0), (0, -0.5), (1, 3.0), (99, 1.0)] {
            let n = if count == 0 { 100 } else { count as usize };
            bench.lane.write_all(output, &bytes(&[7.0; 100]), 1024);
            let completion = bench.lane.run(&scale_call(kernel, input, output, count, factor));
            assert_eq!((completion.status, completion.result_bytes), (Status::Ok, 4));
            let expected: Vec<f32> = (0..100).map(|i| if i < n { values[i] * factor } else { 7.0 }).collect();
            let sum: f32 = expected[..n].iter().sum();
            assert_eq!(completion.payload, [u64::from(sum.to_bits()), 0, 0, 0, 0, 0, 0]);
            assert_eq!(bench.lane.read_all(output, 400, 1024), bytes(&expected));
        }
    }
}

#[test]
fn calls_that_the_declaration_does_not_allow_are_refused() {
    let mut bench = Bench::new(library([scale(0, "scale", Placement::InRing)]), SMALL);
    compile_all(&*bench.device);
    let (_a, input) = bench.bound(0, 64);
    let (_b, output) = bench.bound(1, 64);
    let none = DeviceSlot::NONE;
    for (input, output, count, status) in [
        (input, output, 16, Status::Ok),
        (input, output, 17, Status::InvalidArgument),
        (none, output, 1, Status::InvalidArgument),
        (input, none, 1, Status::InvalidArgument),
        (input, input, 1, Status::InvalidArgument),
        (DeviceSlot { generation: 9, ..input }, output, 1, Status::UnknownAllocation),
        (input, DeviceSlot { index: 9, ..output }, 1, Status::UnknownAllocation),
    ] {
        assert_eq!(bench.lane.status(&scale_call(0, input, output, count, 1.0)), status);
    }
    let with_operand = Compute { input, operand: input, output, count: 1, scalars: [0; 3] };
    let command = Command::new(Opcode::Compute, GRAIN, with_operand.to_payload());
    assert_eq!(bench.lane.status(&command), Status::InvalidArgument);
    let anothers = Command { grain: GRAIN + 1, ..scale_call(0, input, output, 1, 1.0) };
    assert_eq!(bench.lane.status(&anothers), Status::NotOwner);
}

#[test]
fn the_declaration_says_where_a_kernel_runs() {
    let journal = Journal::default();
    let up_to = Placement::InRingUpTo(10);
    let kernels = library([
        noted(0, "in the ring", Placement::InRing, &journal),
        noted(1, "beside", Placement::Beside, &journal),
        noted(2, "up to ten", up_to, &journal),
    ]);
    let mut bench = Bench::new(kernels, SMALL);
    compile_all(&*bench.device);
    let mut thread_of = |kernel: u16, count: u32| -> ThreadId {
        let none = DeviceSlot::NONE;
        let call = Compute { input: none, operand: none, output: none, count, scalars: [0; 3] };
        let command = Command { kernel, ..Command::new(Opcode::Compute, GRAIN, call.to_payload()) };
        assert_eq!(bench.lane.status(&command), Status::Ok);
        journal.lock().unwrap().pop().unwrap().0
    };
    let (ring, beside) = (thread_of(0, 1), thread_of(1, 1));
    assert_ne!(ring, beside);
    assert_eq!((thread_of(2, 10), thread_of(2, 11)), (ring, beside));
    assert!(ring != std::thread::current().id() && beside != std::thread::current().id());
}

#[test]
fn a_kernel_that_fails_is_a_fault_of_its_command_alone() {
    let panics = |number, name, placement| kernel(declaration(number, name, placement), |_, _| panic!("on purpose"));
    let beyond = |call: &gpubridge_kernels::Invocation<'_>, _: &mut gpubridge_kernels::Answer| {
        call.output.set(call.count, 1_u32);
    };
    let kernels = library([
        panics(0, "panics in the ring", Placement::InRing),
        panics(1, "panics beside", Placement::Beside),
        kernel(declaration(2, "reaches beyond its buffer", Placement::InRing), beyond),
        kernel(declaration(3, "answers too much", Placement::InRing), |_, answer| {
            (0..15).for_each(|bits| answer.push_bits(bits));
        }),
        kernel(
            KernelDeclaration { check: |_| panic!("on purpose"), ..declaration(4, "check", Placement::InRing) },
            |_, _| {},
        ),
        kernel(
            KernelDeclaration { work: |_| panic!("on purpose"), ..declaration(5, "work", Placement::InRingUpTo(1)) },
            |_, _| {},
        ),
    ]);
    let mut bench = Bench::new(kernels, SMALL);
    compile_all(&*bench.device);
    for lap in 0..3 {
        for kernel in 0..6 {
            assert_eq!(bench.lane.status(&call(kernel, GRAIN, 0)), Status::KernelFault, "kernel {kernel}, lap {lap}");
            assert_eq!(bench.lane.run(&echo(GRAIN, 5)).payload, [5; 7]);
        }
    }
}

/// Answers with its first constant; does not compile when that is 13.
fn constant(number: u32) -> Kernel {
    let declaration = KernelDeclaration { constants: &["it"], ..declaration(number, "constant", Placement::InRing) };
    let compile = |spec: &KernelSpec| -> Result<CpuKernel, String> {
        match spec.constants[0] {
            13 => Err("13 brings bad luck".to_owned()),
            it => Ok(Arc::new(move |_, answer| answer.push_bits(it))),
        }
    };
    Kernel { declaration, cpu: Some(Arc::new(compile)) }
}

#[test]
fn a_compiled_kernel_is_there_for_the_next_command() {
    let mut bench = Bench::new(library([constant(0)]), SMALL);
    let spec = KernelSpec::new(KernelId::FIRST_USER);
    for it in 0..2000 {
        bench.device.compile(&spec.with_constants([it * 20, 0]), 3).unwrap();
        assert_eq!(bench.lane.run(&call(3, GRAIN, 0)).payload[0], u64::from(it) * 20);
    }
}

#[test]
fn what_does_not_compile_leaves_the_slot_as_it_was() {
    let mut bench = Bench::new(library([constant(0)]), SMALL);
    let spec = KernelSpec::new(KernelId::FIRST_USER);
    bench.device.compile(&spec.with_constants([1, 0]), 0).unwrap();
    let failed = bench.device.compile(&spec.with_constants([13, 0]), 0).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::KernelBuild);
    assert!(failed.message().contains("13 brings bad luck"), "{failed}");
    let element = bench.device.compile(&spec.of(ElementType::I32), 0).unwrap_err();
    assert_eq!(element.kind(), ErrorKind::Unsupported);
    assert!(element.message().contains("i32") && element.message().contains("f32"), "{element}");
    let unknown = bench.device.compile(&KernelSpec::new(KernelId(9999)), 0).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert!(unknown.message().contains("9999") && unknown.message().contains("constant"), "{unknown}");
    assert_eq!(bench.lane.run(&call(0, GRAIN, 0)).payload[0], 1);
    assert_eq!(bench.lane.status(&call(1, GRAIN, 0)), Status::UnknownKernel);
}

#[test]
fn a_library_refuses_what_collides() {
    let mut kernels = KernelLibrary::empty();
    kernels.register(constant(0)).unwrap();
    assert_eq!(kernels.register(constant(0)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let nothing = Kernel { declaration: declaration(1, "no variant", Placement::InRing), cpu: None };
    assert_eq!(kernels.register(nothing).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(kernels.kernels().len(), 1);
}
