//! Kernels of the suite's own, as CPU twins: one that counts, one that waits at a gate, one that fails to compile at first,
//! one that keeps a journal.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

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
/// Writes its first scalar into a journal and answers it, in the ring.
pub const NOTED: KernelSpec = KernelSpec::new(KernelId(1040));
/// The same beside the ring.
pub const NOTED_BESIDE: KernelSpec = KernelSpec::new(KernelId(1041));
/// Panics beside the ring.
pub const FAULTY_BESIDE: KernelSpec = KernelSpec::new(KernelId(1042));
/// Panics when its call is checked.
pub const FAULTY_CHECK: KernelSpec = KernelSpec::new(KernelId(1043));
/// Panics when its work is asked for.
pub const FAULTY_WORK: KernelSpec = KernelSpec::new(KernelId(1044));
/// Writes to an element beyond its output.
pub const REACHING: KernelSpec = KernelSpec::new(KernelId(1045));
/// Answers with more than an answer holds.
pub const TALKATIVE: KernelSpec = KernelSpec::new(KernelId(1046));

/// What a kernel of the suite declares, unless it says otherwise: no input, this output, one element of work.
pub fn declaration(spec: KernelSpec, name: &'static str, output: BufferUse, placement: Placement) -> KernelDeclaration {
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

/// What the calls of [`NOTED`] and [`NOTED_BESIDE`] left behind: whose, and which number.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<Vec<(u32, u32)>>,
    at_work: Mutex<HashSet<u32>>,
}

impl Journal {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The numbers so far, in the order of their calls.
    pub fn numbers(&self) -> Vec<u32> {
        lock(&self.entries).iter().map(|(_, number)| *number).collect()
    }

    /// Those of one grain.
    pub fn numbers_of(&self, grain: u32) -> Vec<u32> {
        lock(&self.entries).iter().filter(|(whose, _)| *whose == grain).map(|(_, number)| *number).collect()
    }

    /// Panics when another call of the same grain is at work.
    fn note(&self, grain: u32, number: u32) {
        assert!(lock(&self.at_work).insert(grain), "two commands of grain {grain} are at work at once");
        // Time for another one to come, if it can.
        (0..3).for_each(|_| thread::yield_now());
        lock(&self.entries).push((grain, number));
        lock(&self.at_work).remove(&grain);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`NOTED`] and [`NOTED_BESIDE`], whose scalars are the number and the grain.
pub fn noted(journal: &Arc<Journal>) -> [Kernel; 2] {
    [(NOTED, "noted", Placement::InRing), (NOTED_BESIDE, "noted beside", Placement::Beside)].map(
        |(spec, name, placement)| {
            let journal = Arc::clone(journal);
            let declaration = KernelDeclaration {
                scalars: &["number", "grain"],
                ..declaration(spec, name, BufferUse::None, placement)
            };
            Kernel::from_compiler(declaration, move |_| {
                let journal = Arc::clone(&journal);
                Ok(twin(move |call, answer| {
                    journal.note(call.scalars.bits(1), call.scalars.bits(0));
                    answer.push(call.scalars.bits(0));
                }))
            })
        },
    )
}

/// [`FAULTY`] and its kin, each of which fails in another way.
pub fn all_faulty() -> [Kernel; 6] {
    let failing = |spec, name, placement| declaration(spec, name, BufferUse::None, placement);
    let beside = failing(FAULTY_BESIDE, "faulty beside", Placement::Beside);
    let reaching = declaration(REACHING, "reaching", BufferUse::Write, Placement::InRing);
    let talkative = failing(TALKATIVE, "talkative", Placement::InRing);
    let mut check = failing(FAULTY_CHECK, "faulty check", Placement::InRing);
    check.check = |_| resume_unwind(Box::new("this check fails on purpose"));
    let mut work = failing(FAULTY_WORK, "faulty work", Placement::InRingUpTo(1));
    work.work = |_| resume_unwind(Box::new("this work size fails on purpose"));
    [
        faulty(),
        Kernel::from_compiler(beside, |_| Ok(twin(|_, _| resume_unwind(Box::new("this kernel fails on purpose"))))),
        Kernel::from_compiler(check, |_| Ok(twin(|_, _| ()))),
        Kernel::from_compiler(work, |_| Ok(twin(|_, _| ()))),
        Kernel::from_compiler(reaching, |_| Ok(twin(|call, _| call.output.set(call.output.len(), 1_u32)))),
        Kernel::from_compiler(talkative, |_| Ok(twin(|_, answer| (0..15_u32).for_each(|bits| answer.push(bits))))),
    ]
}
