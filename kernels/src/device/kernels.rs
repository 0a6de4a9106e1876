//! A device's kernels by slot.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{CpuKernel, Kernel, KernelLibrary};
use gpubridge_abstractions::{Error, ErrorKind, KernelDeclaration, KernelSpec};

/// A kernel specialized by element type and constants.
pub struct Compiled<R = CpuKernel> {
    /// What the kernel says of itself.
    pub declaration: KernelDeclaration,
    /// The constants that it was compiled with.
    pub constants: [u32; 2],
    /// What the device runs: the twin, on a CPU.
    pub run: R,
}

impl<R> fmt::Debug for Compiled<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("name", &self.declaration.name).field("constants", &self.constants).finish()
    }
}

type Slots<R> = Vec<Option<Arc<Compiled<R>>>>;

/// A device's kernels by slot. Written rarely, by [`KernelTable::insert`]; each ring thread keeps a [`KernelCopy`].
pub struct KernelTable<R = CpuKernel> {
    library: Arc<KernelLibrary>,
    slots: Mutex<Slots<R>>,
    version: AtomicU64,
}

impl KernelTable {
    /// Compiles the CPU twin of `spec` into `slot`, as [`Device::compile`] asks; `operation` is the caller's, for the
    /// error. No lock is held while it compiles.
    ///
    /// # Errors
    /// Those of [`Device::compile`]. The slot is unchanged then.
    ///
    /// [`Device::compile`]: gpubridge_abstractions::Device::compile
    pub fn compile(&self, spec: &KernelSpec, slot: u16, operation: &'static str) -> Result<(), Error> {
        let kernel = self.library.resolve(spec, "the CPU", |kernel| kernel.cpu.is_some(), operation)?;
        let compile = kernel.cpu.as_ref().expect("that is what was asked for");
        self.insert(kernel, spec, slot, operation, || compile(spec))
    }
}

impl<R> KernelTable<R> {
    /// A table without kernels, for those of `library`.
    pub fn new(library: Arc<KernelLibrary>) -> Self {
        Self { library, slots: Mutex::default(), version: AtomicU64::new(0) }
    }

    /// The kernels that can be compiled into it.
    pub fn library(&self) -> &KernelLibrary {
        &self.library
    }

    /// Puts the specialization `spec` of `kernel` into `slot` as what `compile` makes of it. No lock is held meanwhile.
    ///
    /// # Errors
    /// `KernelBuild` with the text of `compile`. The slot is unchanged then.
    pub fn insert(
        &self,
        kernel: &Kernel,
        spec: &KernelSpec,
        slot: u16,
        operation: &'static str,
        compile: impl FnOnce() -> Result<R, String>,
    ) -> Result<(), Error> {
        let declaration = &kernel.declaration;
        // Compiled before the lock is taken: no other kernel waits for it.
        let run = match compile() {
            Ok(run) => run,
            Err(text) => {
                let why = format!("kernel `{}`: {text}", declaration.name);
                return Err(Error::new(ErrorKind::KernelBuild, operation, why));
            }
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

impl<R> fmt::Debug for KernelTable<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelTable").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// A ring thread's copy of a [`KernelTable`].
pub struct KernelCopy<R = CpuKernel> {
    table: Arc<KernelTable<R>>,
    slots: Slots<R>,
    version: u64,
}

impl<R> KernelCopy<R> {
    /// A copy that is filled by its first [`KernelCopy::refresh`].
    pub fn new(table: Arc<KernelTable<R>>) -> Self {
        Self { table, slots: Vec::new(), version: 0 }
    }

    /// Takes over what was compiled. To be called after polling and before executing: the commands that were polled may
    /// have been submitted after a compilation.
    #[inline]
    pub fn refresh(&mut self) {
        // Acquire: pairs with the Release in `KernelTable::insert`.
        let version = self.table.version.load(Ordering::Acquire);
        if version != self.version {
            self.slots.clone_from(&self.table.slots.lock().unwrap_or_else(PoisonError::into_inner));
            self.version = version;
        }
    }

    /// The kernel in this slot.
    #[inline]
    pub fn find(&self, slot: u16) -> Option<&Arc<Compiled<R>>> {
        self.slots.get(usize::from(slot))?.as_ref()
    }
}

impl<R> fmt::Debug for KernelCopy<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCopy").field("slots", &self.slots).finish_non_exhaustive()
    }
}
