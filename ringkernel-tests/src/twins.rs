//! Kernels of the suite's own, as CPU twins: one that counts, one that waits at a gate, one that fails to compile at first.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gpubridge_abstractions::{
    BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, KernelSpec, Placement, Tolerance,
};
use gpubridge_kernels::{Answer, CpuKernel, Invocation, Kernel};

use crate::rig::Gate;

/// Adds 1 to the first element of its state and answers the sum.
pub const COUNTER: KernelSpec = KernelSpec::new(KernelId(1024)).of(ElementType::U32);
/// Waits at a gate, beside the ring.
pub const GATED: KernelSpec = KernelSpec::new(KernelId(1025));
/// Fails to compile the first times.
pub const FICKLE: KernelSpec = KernelSpec::new(KernelId(1026));
/// Answers its constants: each specialization tells which one it is.
pub const NAMED: KernelSpec = KernelSpec::new(KernelId(1027));
/// Panics.
pub const FAULTY: KernelSpec = KernelSpec::new(KernelId(1028));

fn declaration(spec: KernelSpec, name: &'static str, output: BufferUse, placement: Placement) -> KernelDeclaration {
    KernelDeclaration {
        id: spec.id,
        name,
        summary: "a kernel of the suite",
        elements: &[ElementType::F32, ElementType::U32],
        buffers: [BufferUse::None, BufferUse::None, output],
        scalars: &[],
        constants: &["a", "b"],
        in_place: false,
        stateful: output == BufferUse::ReadWrite,
        placement,
        check: check_nothing,
        work: |_| 1,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    }
}

fn check_nothing(_: &CallShape) -> Result<(), &'static str> {
    Ok(())
}

fn check_one_element(shape: &CallShape) -> Result<(), &'static str> {
    if shape.elements[2] > 0 { Ok(()) } else { Err("output holds no element") }
}

fn twin(run: impl Fn(&Invocation<'_>, &mut Answer) + Send + Sync + 'static) -> CpuKernel {
    Arc::new(run)
}

/// [`COUNTER`].
pub fn counter() -> Kernel {
    let declaration = KernelDeclaration {
        check: check_one_element,
        ..declaration(COUNTER, "counter", BufferUse::ReadWrite, Placement::InRing)
    };
    Kernel::from_compiler(declaration, |_| {
        Ok(twin(|call, answer| {
            let next = call.output.get::<u32>(0) + 1;
            call.output.set(0, next);
            answer.push(next);
        }))
    })
}

/// [`GATED`], beside the ring.
pub fn gated(gate: &Arc<Gate>) -> Kernel {
    gated_at(gate, Placement::Beside)
}

/// [`GATED`], where the caller says.
pub fn gated_at(gate: &Arc<Gate>, placement: Placement) -> Kernel {
    let gate = Arc::clone(gate);
    Kernel::from_compiler(declaration(GATED, "gated", BufferUse::None, placement), move |_| {
        let gate = Arc::clone(&gate);
        Ok(twin(move |_, _| gate.pass()))
    })
}

/// [`FICKLE`], which fails to compile the first `failures` times; `tries` counts.
pub fn fickle(failures: u32, tries: &Arc<AtomicU32>) -> Kernel {
    let tries = Arc::clone(tries);
    Kernel::from_compiler(declaration(FICKLE, "fickle", BufferUse::None, Placement::InRing), move |_| {
        let before = tries.fetch_add(1, Ordering::Relaxed);
        if before < failures { Err(format!("try {before} fails")) } else { Ok(twin(|_, answer| answer.push(7_u32))) }
    })
}

/// [`NAMED`]; `compilations` counts.
pub fn named(compilations: &Arc<AtomicU32>) -> Kernel {
    let compilations = Arc::clone(compilations);
    Kernel::from_compiler(declaration(NAMED, "named", BufferUse::None, Placement::InRing), move |spec| {
        compilations.fetch_add(1, Ordering::Relaxed);
        let [a, b] = spec.constants;
        Ok(twin(move |_, answer| {
            answer.push(a);
            answer.push(b);
        }))
    })
}

/// [`FAULTY`].
pub fn faulty() -> Kernel {
    Kernel::from_compiler(declaration(FAULTY, "faulty", BufferUse::None, Placement::InRing), |_| {
        // Unwinds without the panic hook, which would report what is meant to happen.
        Ok(twin(|_, _| resume_unwind(Box::new("this kernel fails on purpose"))))
    })
}
