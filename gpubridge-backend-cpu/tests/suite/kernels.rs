//! Kernels of a user's own, registered by the path that the library takes.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use gpubridge_abstractions::{
    BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, KernelSpec, Placement, Tolerance,
};
use gpubridge_kernels::{Answer, CpuKernel, Invocation, Kernel, KernelLibrary};

/// Kernel slots that [`compile_all`] fills, in the order of registration.
pub const FIRST: u16 = 0;

/// A declaration that names no buffers and is satisfied with every call.
pub fn declaration(number: u32, name: &'static str, placement: Placement) -> KernelDeclaration {
    KernelDeclaration {
        id: KernelId(KernelId::FIRST_USER.0 + number),
        name,
        summary: "a kernel of the tests",
        elements: &[ElementType::F32],
        buffers: [BufferUse::None; 3],
        scalars: &["number"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement,
        check: |_| Ok(()),
        work: |shape: &CallShape| shape.count,
        tolerance: Tolerance::Exact,
        targets: &["cpu"],
    }
}

/// A kernel whose twin is the same for every specialization.
pub fn kernel(
    declaration: KernelDeclaration,
    run: impl Fn(&Invocation<'_>, &mut Answer) + Send + Sync + 'static,
) -> Kernel {
    let run: CpuKernel = Arc::new(run);
    Kernel { declaration, cpu: Some(Arc::new(move |_| Ok(Arc::clone(&run)))), cuda: None }
}

pub fn library(kernels: impl IntoIterator<Item = Kernel>) -> KernelLibrary {
    let mut library = KernelLibrary::empty();
    kernels.into_iter().for_each(|kernel| library.register(kernel).unwrap());
    library
}

/// Compiles every kernel of the device into the slots from [`FIRST`] on.
pub fn compile_all(device: &dyn gpubridge_abstractions::Device) {
    for (slot, declaration) in (FIRST..).zip(device.kernels()) {
        device.compile(&KernelSpec::new(declaration.id), slot).unwrap();
    }
}

/// What the calls of a kernel left behind: on which thread they ran, with which number.
pub type Journal = Arc<Mutex<Vec<(ThreadId, u32)>>>;

/// A kernel that writes its number into the journal.
pub fn noted(number: u32, name: &'static str, placement: Placement, journal: &Journal) -> Kernel {
    let journal = Arc::clone(journal);
    kernel(declaration(number, name, placement), move |call, answer| {
        journal.lock().unwrap().push((thread::current().id(), call.scalars.bits(0)));
        answer.push_bits(call.scalars.bits(0));
    })
}
