//! A device's kernels by slot.
//!
//! All kernels of the library are in the ring's module. What is "compiled" into a slot is which of them it stands for: the
//! command that names the slot is told so when it is submitted, so no table has to be kept alike on host and device.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec};
use gpubridge_kernels::{Kernel, KernelLibrary};

const TARGET: &str = "cuda";
const PAGE: usize = 256;
const COMPILED: u64 = 1 << 63;

/// Which kernel a slot stands for, as a command carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The kernel's id and its element type; 0 stands for no kernel.
    pub(crate) number: u16,
    /// Its compile-time constant.
    pub(crate) constant: u32,
}

/// The kernels by slot. Written rarely; read by every computation that is submitted.
#[derive(Debug)]
pub(crate) struct KernelSlots {
    library: KernelLibrary,
    declarations: Vec<KernelDeclaration>,
    pages: [OnceLock<Box<[AtomicU64; PAGE]>>; 1 + u16::MAX as usize / PAGE],
}

impl KernelSlots {
    /// No kernels yet, for those of `library` that have a variant for CUDA.
    pub(crate) fn new(library: KernelLibrary) -> Self {
        let declarations: Vec<_> = library.kernels().iter().filter(|kernel| has_variant(kernel)).collect();
        let declarations = declarations.into_iter().map(|kernel| kernel.declaration.clone()).collect();
        Self { library, declarations, pages: [const { OnceLock::new() }; _] }
    }

    /// What can be compiled.
    pub(crate) fn declarations(&self) -> &[KernelDeclaration] {
        &self.declarations
    }

    /// What the kernel is called that a command carries by this number.
    pub(crate) fn name_of(&self, number: u16) -> Option<&str> {
        let declarations = self.library.kernels().iter().map(|kernel| &kernel.declaration);
        declarations.into_iter().find(|declaration| declaration.id.0 == u32::from(number >> 2)).map(|found| found.name)
    }

    /// Lets `slot` stand for `spec` from now on.
    pub(crate) fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let kernel = self.library.resolve(spec, TARGET, has_variant, "cuda.compile")?;
        // The twin knows what the constants may be.
        if let Some(Err(text)) = kernel.cpu.as_ref().map(|compile| compile(spec)) {
            let why = format!("kernel `{}`: {text}", kernel.declaration.name);
            return Err(Error::new(ErrorKind::KernelBuild, "cuda.compile", why));
        }
        let number = u64::from(spec.id.0) << 2 | spec.element as u64;
        let page = self.pages[usize::from(slot) / PAGE].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PAGE]));
        // Release: pairs with the Acquire load in `find`, though the word says all there is to say.
        page[usize::from(slot) % PAGE].store(COMPILED | number << 32 | u64::from(spec.constants[0]), Ordering::Release);
        Ok(())
    }

    /// What the slot stands for; nothing that the device knows if nothing was compiled into it.
    #[inline]
    pub(crate) fn find(&self, slot: u16) -> Variant {
        let page = self.pages[usize::from(slot) / PAGE].get();
        let word = page.map_or(0, |page| page[usize::from(slot) % PAGE].load(Ordering::Acquire));
        Variant { number: (word >> 32) as u16, constant: word as u32 }
    }
}

/// Whether the ring's module has the kernel.
fn has_variant(kernel: &Kernel) -> bool {
    kernel.declaration.id < KernelId::FIRST_USER && kernel.declaration.targets.contains(&TARGET)
}
