//! Kernels of a user's own, in the ring and beside it.

use std::thread::ThreadId;

use gpubridge_abstractions::{BufferUse, Command, DeviceSlot, KernelDeclaration, Placement, Scalars, Status};
use gpubridge_kernels::Kernel;
use ringkernel_tests::lane::{Bench, SMALL, compute};

use crate::device::open;
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
    let scalars = Scalars::default().with_bits(0, factor.to_bits());
    compute(kernel, [input, DeviceSlot::NONE, output], count, scalars)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn computes_in_the_ring_and_beside_it() {
    let kernels = library([scale(0, "scale", Placement::InRing), scale(1, "scale beside", Placement::Beside)]);
    let mut bench = Bench::new(open(kernels), SMALL);
    compile_all(&*bench.device);
    let (_a, input) = bench.bound(0, 400);
    let (_b, output) = bench.bound(1, 400);
    let values: Vec<f32> = (0..100).map(|i| i as f32 - 20.0).collect();
    bench.lane.write_all(input, &bytes(&values));
    for kernel in [0, 1] {
        for (count, factor) in [(100, 2.0), (0, -0.5), (1, 3.0), (99, 1.0)] {
            let n = if count == 0 { 100 } else { count as usize };
            bench.lane.write_all(output, &bytes(&[7.0; 100]));
            let completion = bench.lane.run(&scale_call(kernel, input, output, count, factor));
            assert_eq!((completion.status, completion.result_bytes), (Status::Ok, 4));
            let expected: Vec<f32> = (0..100).map(|i| if i < n { values[i] * factor } else { 7.0 }).collect();
            let sum: f32 = expected[..n].iter().sum();
            assert_eq!(completion.payload, [u64::from(sum.to_bits()), 0, 0, 0, 0, 0, 0]);
            assert_eq!(bench.lane.read_all(output, 400), bytes(&expected));
        }
    }
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
    let mut bench = Bench::new(open(kernels), SMALL);
    compile_all(&*bench.device);
    let mut thread_of = |kernel: u16, count: u32| -> ThreadId {
        let command = compute(kernel, [DeviceSlot::NONE; 3], count, Scalars::default());
        assert_eq!(bench.lane.status(&command), Status::Ok);
        journal.lock().unwrap().pop().unwrap().0
    };
    let (ring, beside) = (thread_of(0, 1), thread_of(1, 1));
    assert_ne!(ring, beside);
    assert_eq!((thread_of(2, 10), thread_of(2, 11)), (ring, beside));
    assert!(ring != std::thread::current().id() && beside != std::thread::current().id());
}
