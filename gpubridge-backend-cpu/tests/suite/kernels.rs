//! Kernels of a user's own, registered by the path that the library takes.

use std::sync::{Arc, Condvar, Mutex};
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
    Kernel { declaration, cpu: Some(Arc::new(move |_| Ok(Arc::clone(&run)))) }
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

/// A door that a kernel stands before until the test opens it.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    /// Waits until `count` kernels have come to the gate.
    pub fn wait_for(&self, count: usize) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(came, _)| *came < count).unwrap());
    }

    pub fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// A kernel beside the ring that waits at `gate` and answers with its number.
pub fn gated(number: u32, gate: &Arc<Gate>) -> Kernel {
    let gate = Arc::clone(gate);
    kernel(declaration(number, "gated", Placement::Beside), move |call, answer| {
        gate.pass();
        answer.push_bits(call.scalars.bits(0));
    })
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
