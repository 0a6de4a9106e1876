//! The kernels of the benchmarks, registered by the path that the library's own kernels take.

use std::sync::Arc;

use gpubridge_grains::GrainCall;
use gpubridge_kernels::cuda::CudaKernel;
use gpubridge_kernels::{Answer, CpuKernel, Elements, Invocation, Kernel, KernelLibrary, library};
use gpubridge_runtime::Compute;

use super::subject::Actor;
use crate::{
    BufferUse, CallShape, ComputeResponse, ElementType, Error, KernelDeclaration, KernelId, KernelSpec, PAYLOAD_WORDS,
    Parameters, Placement, Scalars, Tolerance,
};

/// Mixes a call's three words into a state of two elements, a value and a count, and answers with the value before, the
/// value after and the count: whoever called can check the answer without knowing who else called.
pub const MIX: KernelSpec = KernelSpec::new(KernelId::FIRST_USER).of(ElementType::U32);
const STATE_ELEMENTS: u64 = 2;
/// Answers its own constant: each specialization tells which one it is.
const WHICH: KernelSpec = KernelSpec::new(KernelId(KernelId::FIRST_USER.0 + 1)).of(ElementType::U32);

fn mixed(value: u32, words: [u32; 6]) -> u32 {
    words.iter().fold(value.rotate_left(5), |sum, &word| sum.wrapping_add(word))
}

fn words(x: u64) -> [u64; 3] {
    [x, x ^ 0x5555, x.rotate_left(17)]
}

/// The parameters of the call `x`: 24 bytes, so that the 64-byte command is full.
#[inline]
pub fn parameters(x: u64) -> Parameters {
    words(x).into_iter().fold(Parameters::new(), Parameters::with_u64)
}

/// The call `x` of an actor.
#[inline]
pub fn call(actor: &Actor, x: u64) -> GrainCall<'_, Compute> {
    actor.grain.compute(MIX, None, Some(actor.state), parameters(x))
}

/// Checks the answer to the call `x`, and returns the count of calls that the grain's state knows of.
#[inline]
pub fn check(x: u64, answer: Result<ComputeResponse, Error>) -> u32 {
    let result = answer.expect("the call succeeds").result;
    let at = |offset| result.u32_at(offset).expect("three elements");
    check_elements(x, [at(0), at(4), at(8)])
}

fn check_elements(x: u64, [before, after, count]: [u32; 3]) -> u32 {
    let scalars = Scalars(words(x));
    assert_eq!(after, mixed(before, std::array::from_fn(|i| scalars.bits(i))), "the answer to {x}");
    count
}

/// The call `x` without a ring: the kernel's twin, called here with this state. Checked as [`check`].
#[inline]
pub fn call_twin(state: Elements<'_>, x: u64) -> u32 {
    let none = Elements::new(&[]);
    let mut words_answered = [0; PAYLOAD_WORDS];
    let invocation =
        Invocation { input: none, operand: none, output: state, count: state.len(), scalars: Scalars(words(x)) };
    mix(&invocation, &mut Answer::new(&mut words_answered));
    let answered = Scalars([words_answered[0], words_answered[1], 0]);
    check_elements(x, std::array::from_fn(|i| answered.bits(i)))
}

/// The specialization number `which` of the kernel that answers its number.
pub const fn numbered(which: u32) -> KernelSpec {
    WHICH.with_constants([which, 0])
}

/// The library's kernels and those of the benchmarks.
pub fn kernels() -> KernelLibrary {
    let mut library = library();
    for kernel in [mixing(), numbering()] {
        library.register(kernel).expect("the ids are free");
    }
    library
}

fn declaration(id: KernelId, name: &'static str, summary: &'static str) -> KernelDeclaration {
    KernelDeclaration {
        id,
        name,
        summary,
        elements: &[ElementType::U32],
        buffers: [BufferUse::None; 3],
        scalars: &[],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: Placement::InRing,
        check: |_| Ok(()),
        work: |_| 1,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    }
}

fn mixing() -> Kernel {
    let declaration = KernelDeclaration {
        buffers: [BufferUse::None, BufferUse::None, BufferUse::ReadWrite],
        scalars: &["a", "b", "c", "d", "e", "f"],
        stateful: true,
        check: |shape: &CallShape| match shape.elements {
            [_, _, state] if state >= STATE_ELEMENTS => Ok(()),
            _ => Err("the state is shorter than 2 elements"),
        },
        work: |_| STATE_ELEMENTS,
        targets: &["cpu", "cuda"],
        ..declaration(MIX.id, "mix", "mixes six words into a value and counts the calls")
    };
    // `.ci/ptx` makes it from `mix.cu`.
    let cuda = CudaKernel::from_ptx(include_str!("mix.ptx"), "gpubridge_mix");
    Kernel::from_twins(declaration, &[(ElementType::U32, mix)]).with_cuda(cuda)
}

fn mix(call: &Invocation<'_>, answer: &mut Answer) {
    let [value, count] = call.output.first(STATE_ELEMENTS as usize).cells() else { return };
    let before = value.get();
    let after = mixed(before, std::array::from_fn(|i| call.scalars.bits(i)));
    value.set(after);
    count.set(count.get().wrapping_add(1));
    [before, after, count.get()].into_iter().for_each(|bits| answer.push_bits(bits));
}

fn numbering() -> Kernel {
    let declaration =
        KernelDeclaration { constants: &["number"], ..declaration(WHICH.id, "which", "answers its own number") };
    Kernel::from_compiler(declaration, |spec| {
        let number = spec.constants[0];
        let twin: CpuKernel = Arc::new(move |_: &Invocation<'_>, answer: &mut Answer<'_>| answer.push_bits(number));
        Ok(twin)
    })
}
