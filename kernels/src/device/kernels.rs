//! A device's kernels by slot.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{CpuKernel, KernelLibrary};
use gpubridge_abstractions::{Error, ErrorKind, KernelDeclaration, KernelSpec};

/// A kernel specialized by element type and constants.
pub struct Compiled {
    /// What the kernel says of itself.
    pub declaration: KernelDeclaration,
    /// The constants that it was compiled with.
    pub constants: [u32; 2],
    /// Its twin.
    pub run: CpuKernel,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("name", &self.declaration.name).field("constants", &self.constants).finish()
    }
}

type Slots = Vec<Option<Arc<Compiled>>>;

/// A device's kernels by slot. Written rarely, by [`KernelTable::compile`]; each ring thread keeps a [`KernelCopy`].
#[derive(Debug)]
pub struct KernelTable {
    library: Arc<KernelLibrary>,
    slots: Mutex<Slots>,
    version: AtomicU64,
}

impl KernelTable {
    /// A table without kernels, for those of `library`.
    pub fn new(library: Arc<KernelLibrary>) -> Self {
        Self { library, slots: Mutex::default(), version: AtomicU64::new(0) }
    }

    /// Compiles the CPU twin of `spec` into `slot`, as [`Device::compile`] asks; `operation` is the caller's, for the
    /// error. No lock is held while it compiles.
    ///
    /// # Errors
    /// Those of [`Device::compile`]. The slot is unchanged then.
    ///
    /// [`Device::compile`]: gpubridge_abstractions::Device::compile
    pub fn compile(&self, spec: &KernelSpec, slot: u16, operation: &'static str) -> Result<(), Error> {
        let kernel = self.library.resolve(spec, "the CPU", |kernel| kernel.cpu.is_some(), operation)?;
        let declaration = &kernel.declaration;
        let compile = kernel.cpu.as_ref().expect("that is what was asked for");
        // Compiled before the lock is taken: no other kernel waits for it.
        let run = match compile(spec) {
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

/// A ring thread's copy of a [`KernelTable`].
#[derive(Debug)]
pub struct KernelCopy {
    table: Arc<KernelTable>,
    slots: Slots,
    version: u64,
}

impl KernelCopy {
    /// A copy that is filled by its first [`KernelCopy::refresh`].
    pub fn new(table: Arc<KernelTable>) -> Self {
        Self { table, slots: Vec::new(), version: 0 }
    }

    /// Takes over what was compiled. To be called after polling and before executing: the commands that were polled may
    /// have been submitted after a compilation.
    #[inline]
    pub fn refresh(&mut self) {
        // Acquire: pairs with the Release in `KernelTable::compile`.
        let version = self.table.version.load(Ordering::Acquire);
        if version != self.version {
            self.slots.clone_from(&self.table.slots.lock().unwrap_or_else(PoisonError::into_inner));
            self.version = version;
        }
    }

    /// The kernel in this slot.
    #[inline]
    pub fn find(&self, slot: u16) -> Option<&Arc<Compiled>> {
        self.slots.get(usize::from(slot))?.as_ref()
    }
}
