//! Kernels of a user's own, registered by the path that the library's take: where they run.

use std::sync::Arc;

use gpubridge_abstractions::{
    BufferUse, CallShape, ComputeMessage, KernelDeclaration, KernelId, KernelSpec, Parameters, Placement,
};
use gpubridge_kernels::{Answer, CpuKernel, Invocation, Kernel};

use crate::Context;
use crate::rig::{Gate, OpenAtEnd, Rig, narrow, pattern};
use crate::twins::{self, COUNTER, counter};

/// The declaration of the `number`th kernel of a case: no buffers, one scalar, as much work as elements.
fn declaration(number: u32, name: &'static str, placement: Placement) -> KernelDeclaration {
    KernelDeclaration {
        scalars: &["number"],
        constants: &[],
        work: |shape: &CallShape| shape.count,
        ..twins::declaration(spec(number), name, BufferUse::None, placement)
    }
}

fn kernel(
    declaration: KernelDeclaration,
    run: impl Fn(&Invocation<'_>, &mut Answer) + Send + Sync + 'static,
) -> Kernel {
    let twin: CpuKernel = Arc::new(run);
    Kernel::from_compiler(declaration, move |_| Ok(Arc::clone(&twin)))
}

/// The calls of a kernel of [`declaration`].
fn spec(number: u32) -> KernelSpec {
    KernelSpec::new(KernelId(KernelId::FIRST_USER.0 + 100 + number))
}

/// `output = factor · input`, and the sum of that as answer.
fn scale(number: u32, name: &'static str, placement: Placement) -> Kernel {
    let declaration = KernelDeclaration {
        buffers: [BufferUse::Read, BufferUse::None, BufferUse::Write],
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

/// Goal: a call is the same wherever its kernel runs. Method: one kernel with both placements; counts of all, one,
/// most.
pub fn a_kernel_computes_the_same_in_the_ring_and_beside_it(context: &Context) {
    let kernels = [scale(0, "scale in", Placement::InRing), scale(1, "scale beside", Placement::Beside)];
    let rig = Rig::new(context.device_with(&kernels), narrow(8));
    let session = rig.session(0);
    let [input, output] = [(); 2].map(|()| rig.allocate(session, 400));
    let values: Vec<f32> = (0..100).map(|i| i as f32 - 20.0).collect();
    rig.write(session, input, bytemuck::cast_slice(&values));
    for number in [0, 1] {
        for (count, factor) in [(100, 2.0), (0, -0.5), (1, 3.0), (99, 1.0)] {
            let n = if count == 0 { 100 } else { count as usize };
            rig.write(session, output, bytemuck::cast_slice(&[7.0_f32; 100]));
            let message = ComputeMessage::new(rig.memory.envelope(), spec(number), Some(input), Some(output));
            let parameters = Parameters::new().with_count(count).with_f32(factor);
            let call = rig.memory.compute(session, &ComputeMessage { parameters, ..message });
            let response = call.or_error().wait().expect("it runs");
            let expected: Vec<f32> = (0..100).map(|i| if i < n { values[i] * factor } else { 7.0 }).collect();
            assert_eq!(response.result.len_bytes(), 4);
            assert_eq!(response.result.f32_at(0), Some(expected[..n].iter().sum()), "kernel {number}, count {count}");
            assert_eq!(rig.read(session, output, 400), bytemuck::cast_slice::<f32, u8>(&expected));
        }
    }
}

/// Goal: a kernel that is placed in the ring up to some work leaves the ring beyond it. Method: it waits at a gate with
/// one element more than the limit; another grain of its lane goes on meanwhile.
pub fn work_beyond_the_placement_holds_up_no_other_grain(context: &Context) {
    let gate = Gate::closed();
    let waits = Arc::clone(&gate);
    let up_to_ten = declaration(0, "up to ten", Placement::InRingUpTo(10));
    let kernels = [kernel(up_to_ten, move |_, _| waits.pass()), counter()];
    let rig = Rig::new(context.device_with(&kernels), narrow(8));
    let (slow, other) = (rig.session(0), rig.session(0));
    let (state, bytes) = (rig.allocate(other, 4), rig.allocate(other, 100));
    let _open = OpenAtEnd(&gate);
    let message = ComputeMessage::new(rig.memory.envelope(), spec(0), None, None);
    let parameters = Parameters::new().with_count(11);
    let message = ComputeMessage { parameters, ..message };
    let waiting = rig.memory.compute(slow, &message).post().expect("is submitted");
    gate.wait_arrived(1);
    for round in 1..=20 {
        assert_eq!(rig.run(other, COUNTER, Some(state)).result.u32_at(0), Some(round));
        rig.write(other, bytes, &pattern(round.into(), 100));
        assert_eq!(rig.read(other, bytes, 100), pattern(round.into(), 100));
    }
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
}
