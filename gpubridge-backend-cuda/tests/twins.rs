//! Kernels of the suite's own on the emulated driver: it calls their CPU twins, in this process, through all that a kernel of a
//! user's goes through else. A GPU cannot: there the cases that need them are ignored.
#![expect(unsafe_code, reason = "what a kernel is called with is addresses")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{CallShape, KernelDeclaration, KernelId, PAYLOAD_WORDS, Scalars};
use gpubridge_backend_cuda::CudaBackend;
use gpubridge_kernels::cuda::{CudaCode, CudaKernel};
use gpubridge_kernels::{Answer, CpuKernel, Elements, Invocation, Kernel, KernelLibrary};

/// As in `gpubridge.cuh`.
const STEP_CHECK: u32 = 0;
const REFUSED: u64 = u64::MAX;

/// The backend over a library whose own kernels have CPU twins alone.
pub fn backend(library: &KernelLibrary) -> Arc<CudaBackend> {
    let mut adapted = KernelLibrary::empty();
    for kernel in library.kernels() {
        adapted.register(adapt(kernel)).expect("the kernels differ as before");
    }
    Arc::new(CudaBackend::new(adapted))
}

fn adapt(kernel: &Kernel) -> Kernel {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let Kernel { declaration, cpu: Some(compile), .. } = kernel.clone() else { return kernel.clone() };
    if declaration.id < KernelId::FIRST_USER {
        return kernel.clone();
    }
    let declared = declaration.clone();
    let code = move |spec: &_| {
        let twin = Twin { run: compile(spec)?, declaration: declaration.clone(), constants: spec.constants };
        // A module may have it for as long as the process lives.
        let context = std::ptr::from_ref(Box::leak(Box::new(twin))).expose_provenance();
        let name = format!("twin_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let address = step as *const () as usize;
        let text = format!(".version 7.0\n// emulated function: {name} {address} {context}\n");
        Ok(CudaCode::Ptx { text: text.into(), function: name.into() })
    };
    Kernel { cuda: Some(CudaKernel::from_compiler(code)), ..Kernel::from_cuda(declared, CudaKernel::from_source("")) }
}

/// What the driver is told to call.
struct Twin {
    run: CpuKernel,
    declaration: KernelDeclaration,
    constants: [u32; 2],
}

/// `gb::Elements`, `gb::Call`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Buffer {
    words: *const Cell<u32>,
    count: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    buffers: [Buffer; 3],
    count: u64,
    scalars: [u64; 3],
    constant: u32,
}

extern "C" fn step(twin: *const Twin, step: u32, call: *const Call, words: *mut [u64; PAYLOAD_WORDS]) -> u64 {
    // SAFETY: it was leaked.
    let twin = unsafe { &*twin };
    // SAFETY: the executor's, for as long as the step takes.
    let call = unsafe { *call };
    let elements = call.buffers.map(|buffer| buffer.count);
    let (scalars, constants) = (Scalars(call.scalars), twin.constants);
    let shape = CallShape { elements, count: call.count, scalars, constants };
    let checked = catch_unwind(AssertUnwindSafe(|| {
        (twin.declaration.check)(&shape).map(|()| (twin.declaration.work)(&shape)).unwrap_or(REFUSED)
    }));
    match (step, checked) {
        (STEP_CHECK, Ok(work)) => work,
        // It fails when it is run: a check that fails is no refusal.
        (STEP_CHECK, Err(_)) => 0,
        (_, Ok(_)) => catch_unwind(AssertUnwindSafe(|| twin.run(call, words))).unwrap_or(REFUSED),
        (_, Err(_)) => REFUSED,
    }
}

impl Twin {
    fn run(&self, call: Call, words: *mut [u64; PAYLOAD_WORDS]) -> u64 {
        let [input, operand, output] = call.buffers.map(|buffer| {
            if buffer.count == 0 {
                return Elements::new(&[]);
            }
            // SAFETY: memory of the emulated device that only this call works on; a cell is as large and aligned as a word.
            Elements::new(unsafe { std::slice::from_raw_parts(buffer.words, buffer.count as usize) })
        });
        // SAFETY: the call's answer, which nobody else looks at.
        let mut answer = Answer::new(unsafe { &mut *words });
        let scalars = Scalars(call.scalars);
        (self.run)(&Invocation { input, operand, output, count: call.count as usize, scalars }, &mut answer);
        answer.len_bytes().into()
    }
}
