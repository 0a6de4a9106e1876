//! The kernel of the benchmarks, registered by the path that the library's own kernels take, and a silo with it.
//!
//! A call mixes its three words into a state of two elements, a value and a count, and answers with the value before,
//! the value after and the count: whoever called can check the answer without knowing who else called.

use std::sync::Arc;

use gpubridge::grains::storage::{GrainStorage, MemoryStorage};
use gpubridge::grains::{GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::{Answer, Invocation, Kernel, KernelLibrary};
use gpubridge::{
    BufferUse, CallShape, ComputeResponse, Device, ElementType, Error, GpuMemoryHandle, KernelDeclaration, KernelId,
    KernelSpec, MemoryType, Parameters, Placement, Tolerance, backends,
};

/// The specialization that is called.
pub const MIX: KernelSpec = KernelSpec::new(KernelId::FIRST_USER).of(ElementType::U32);
/// Bytes of a grain's state: what the footprint is measured beside.
pub const STATE_BYTES: u64 = 320;
const STATE_ELEMENTS: u64 = 2;

fn mixed(value: u32, words: [u32; 6]) -> u32 {
    words.iter().fold(value.rotate_left(5), |sum, &word| sum.wrapping_add(word))
}

fn words(x: u64) -> [u32; 6] {
    let [a, b, c] = [x, x ^ 0x5555, x.rotate_left(17)];
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32, c as u32, (c >> 32) as u32]
}

/// The parameters of the call `x`: 24 bytes, so that the 64-byte command is full.
#[inline]
pub fn parameters(x: u64) -> Parameters {
    Parameters::new().with_u64(x).with_u64(x ^ 0x5555).with_u64(x.rotate_left(17))
}

/// Checks the answer to the call `x`, and returns the count of calls that the grain's state knows of.
#[inline]
pub fn check(x: u64, answer: Result<ComputeResponse, Error>) -> u32 {
    let result = answer.expect("the call succeeds").result;
    let before = result.u32_at(0).expect("the value before");
    assert_eq!(result.u32_at(4), Some(mixed(before, words(x))), "the answer to {x}");
    result.u32_at(8).expect("the count")
}

fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: KernelId::FIRST_USER,
        name: "mix",
        summary: "mixes six words into a value and counts the calls",
        elements: &[ElementType::U32],
        buffers: [BufferUse::None, BufferUse::None, BufferUse::ReadWrite],
        scalars: &["a", "b", "c", "d", "e", "f"],
        constants: &[],
        in_place: false,
        stateful: true,
        placement: Placement::InRing,
        check: |shape: &CallShape| match shape.elements {
            [_, _, state] if state >= STATE_ELEMENTS => Ok(()),
            _ => Err("the state is shorter than 2 elements"),
        },
        work: |_| STATE_ELEMENTS,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    };
    Kernel::from_twins(declaration, &[(ElementType::U32, mix)])
}

fn mix(call: &Invocation<'_>, answer: &mut Answer) {
    let [value, count] = call.output.first(STATE_ELEMENTS as usize).cells() else { return };
    let before = value.get();
    let after = mixed(before, std::array::from_fn(|i| call.scalars.bits(i)));
    value.set(after);
    count.set(count.get().wrapping_add(1));
    [before, after, count.get()].into_iter().for_each(|bits| answer.push_bits(bits));
}

/// The device that the registry selects, with the kernel.
pub fn device() -> Arc<dyn Device> {
    let mut library = KernelLibrary::empty();
    library.register(kernel()).expect("the id is free");
    backends(library).select(None, None).expect("a backend is built in").open().expect("its device opens")
}

/// A silo without durable storage.
pub fn silo() -> Silo {
    silo_over(Arc::new(MemoryStorage::new()), SiloConfig::default())
}

/// A silo over a storage.
pub fn silo_over(storage: Arc<dyn GrainStorage>, config: SiloConfig) -> Silo {
    wait(Silo::start(device(), storage, config)).expect("the silo starts")
}

/// A grain with its state.
#[derive(Clone)]
pub struct Actor {
    pub grain: GrainRef,
    pub state: GpuMemoryHandle,
}

impl Actor {
    pub fn new(silo: &Silo, key: u64) -> Self {
        let grain = silo.grain(key).expect("the key is good");
        let state = wait(grain.allocate(STATE_BYTES, MemoryType::Default)).expect("there is memory");
        Self { grain, state }
    }
}
