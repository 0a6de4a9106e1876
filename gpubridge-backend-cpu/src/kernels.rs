//! The kernel table: what the ring threads find under a kernel slot.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gpubridge_abstractions::{Error, ErrorKind, KernelDeclaration, KernelSpec};
use gpubridge_kernels::{CpuKernel, KernelLibrary};

/// A kernel specialized by element type and constants.
pub(crate) struct Compiled {
    pub(crate) declaration: KernelDeclaration,
    pub(crate) constants: [u32; 2],
    pub(crate) run: CpuKernel,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("name", &self.declaration.name).field("constants", &self.constants).finish()
    }
}

type Slots = Vec<Option<Arc<Compiled>>>;

/// The device's kernels by slot. Written rarely, by `compile`; each ring thread keeps a copy.
#[derive(Debug)]
pub(crate) struct KernelTable {
    library: Arc<KernelLibrary>,
    slots: Mutex<Slots>,
    version: AtomicU64,
}

impl KernelTable {
    pub(crate) fn new(library: Arc<KernelLibrary>) -> Self {
        Self { library, slots: Mutex::default(), version: AtomicU64::new(0) }
    }

    pub(crate) fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "cpu.compile", why));
        let Some(kernel) = self.library.find(spec.id) else {
            let names: Vec<_> = self.library.kernels().iter().map(|kernel| kernel.declaration.name).collect();
            return refuse(
                ErrorKind::NotFound,
                format!("there is no kernel {}; the device has: {}", spec.id, names.join(", ")),
            );
        };
        let declaration = &kernel.declaration;
        let Some(compile) = &kernel.cpu else {
            let targets = declaration.targets.join(", ");
            return refuse(
                ErrorKind::Unsupported,
                format!("kernel `{}` has no variant for the CPU; it has: {targets}", declaration.name),
            );
        };
        if !declaration.elements.contains(&spec.element) {
            let types: Vec<_> = declaration.elements.iter().map(ToString::to_string).collect();
            return refuse(
                ErrorKind::Unsupported,
                format!(
                    "kernel `{}` does not come in {}; it comes in: {}",
                    declaration.name,
                    spec.element,
                    types.join(", ")
                ),
            );
        }
        // Compiled before the lock is taken: no other kernel waits for it.
        let run = match compile(spec) {
            Ok(run) => run,
            Err(text) => return refuse(ErrorKind::KernelBuild, format!("kernel `{}`: {text}", declaration.name)),
        };
        let compiled = Compiled { declaration: declaration.clone(), constants: spec.constants, run };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = usize::from(slot);
        if slots.len() <= slot {
            slots.resize(slot + 1, None);
        }
        slots[slot] = Some(Arc::new(compiled));
        // Release: pairs with the Acquire load in `KernelCopy::refresh`.
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// A ring thread's copy of the table.
#[derive(Debug)]
pub(crate) struct KernelCopy {
    table: Arc<KernelTable>,
    slots: Slots,
    version: u64,
}

impl KernelCopy {
    pub(crate) fn new(table: Arc<KernelTable>) -> Self {
        Self { table, slots: Vec::new(), version: 0 }
    }

    /// Takes over what was compiled before the commands polled last were submitted.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        // Acquire: pairs with the Release in `KernelTable::compile`.
        let version = self.table.version.load(Ordering::Acquire);
        if version != self.version {
            self.slots.clone_from(&self.table.slots.lock().unwrap_or_else(PoisonError::into_inner));
            self.version = version;
        }
    }

    #[inline]
    pub(crate) fn find(&self, slot: u16) -> Option<&Arc<Compiled>> {
        self.slots.get(usize::from(slot))?.as_ref()
    }
}
