//! A device's kernels by slot.
//!
//! All kernels of the library are in the ring's module, and users' own are linked to it. What is "compiled" into a slot is which of
//! them it stands for: the command that names the slot is told so when it is submitted, so no table has to be kept alike on host and
//! device.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gpubridge_abstractions::{BufferUse, Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec, Placement};
use gpubridge_kernels::cuda::CudaKernel;
use gpubridge_kernels::{Kernel, KernelLibrary};
use parking_lot::Mutex;

use crate::gpu::Gpu;
use crate::parameters::FIRST_USER;
use crate::users::UserKernel;

const TARGET: &str = "cuda";
const PAGE: usize = 256;
const COMPILED: u64 = 1 << 63;

/// Which kernel a slot stands for, as a command carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The kernel's id and its element type, or the number of a user's kernel; 0 stands for no kernel.
    pub(crate) number: u16,
    /// Its compile-time constant; of a user's kernel, what it declares.
    pub(crate) constant: u32,
}

/// The kernels by slot. Written rarely; read by every computation that is submitted.
#[derive(Debug)]
pub(crate) struct KernelSlots {
    library: KernelLibrary,
    declarations: Vec<KernelDeclaration>,
    pages: [OnceLock<Box<[AtomicU64; PAGE]>>; 1 + u16::MAX as usize / PAGE],
    // Users' kernels are there as long as a slot stands for them.
    users: Mutex<BTreeMap<u16, Arc<UserKernel>>>,
}

impl KernelSlots {
    /// No kernels yet, for those of `library` that have a variant for CUDA.
    pub(crate) fn new(library: KernelLibrary) -> Self {
        let declarations: Vec<_> = library.kernels().iter().filter(|kernel| has_variant(kernel)).collect();
        let declarations = declarations.into_iter().map(|kernel| kernel.declaration.clone()).collect();
        Self { library, declarations, pages: [const { OnceLock::new() }; _], users: Mutex::default() }
    }

    /// What can be compiled.
    pub(crate) fn declarations(&self) -> &[KernelDeclaration] {
        &self.declarations
    }

    /// What the kernel is called that a command carries by this number.
    pub(crate) fn name_of(&self, number: u16) -> Option<String> {
        if u32::from(number) >= FIRST_USER {
            let users = self.users.lock();
            return users.values().find(|user| user.variant() == number).map(|user| user.name().to_owned());
        }
        let declarations = self.library.kernels().iter().map(|kernel| &kernel.declaration);
        let id = KernelId(u32::from(number >> 2));
        declarations.into_iter().find(|declaration| declaration.id == id).map(|found| found.name.to_owned())
    }

    /// Lets `slot` stand for `spec` from now on.
    pub(crate) fn compile(&self, gpu: &Gpu, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        let kernel = self.library.resolve(spec, TARGET, has_variant, "cuda.compile")?;
        let name = kernel.declaration.name;
        let refuse = |text| Error::new(ErrorKind::KernelBuild, "cuda.compile", format!("kernel `{name}`: {text}"));
        let (number, constant, user) = match &kernel.cuda {
            Some(cuda) => {
                let code = kernel.cuda_code(spec).map_err(refuse)?;
                let user = gpu.users.add(gpu, name, spec, code, cuda.phases())?;
                (user.variant(), traits(&kernel.declaration, cuda), Some(user))
            }
            None => {
                // The twin knows what the constants may be.
                kernel.cpu.as_ref().map_or(Ok(()), |compile| compile(spec).map(drop)).map_err(refuse)?;
                ((spec.id.0 << 2) as u16 | spec.element as u16, spec.constants[0], None)
            }
        };
        let page = self.pages[usize::from(slot) / PAGE].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PAGE]));
        let word = COMPILED | u64::from(number) << 32 | u64::from(constant);
        // Release: pairs with the Acquire load in `find`, though the word says all there is to say.
        page[usize::from(slot) % PAGE].store(word, Ordering::Release);
        let mut users = self.users.lock();
        match user {
            Some(user) => users.insert(slot, user),
            None => users.remove(&slot),
        };
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

/// Whether the ring's module has the kernel, or can be linked with it.
fn has_variant(kernel: &Kernel) -> bool {
    kernel.cuda.is_some()
        || kernel.declaration.id < KernelId::FIRST_USER && kernel.declaration.targets.contains(&TARGET)
}

/// What a user's kernel declares, as its commands tell the device: see `kernels/cuda/users.cuh`.
fn traits(declaration: &KernelDeclaration, cuda: &CudaKernel) -> u32 {
    const MANTISSA_BITS: u32 = 18;
    let bits = declaration.buffers.iter().zip(0..).map(|(used, at)| u32::from(*used != BufferUse::None) << at);
    let in_ring_up_to = match declaration.placement {
        Placement::InRing => u64::MAX,
        Placement::InRingUpTo(limit) => limit,
        Placement::Beside => 0,
    };
    // The highest bits of the limit, and how many others there are: it is rounded down.
    let exponent = (u64::BITS - in_ring_up_to.leading_zeros()).saturating_sub(MANTISSA_BITS);
    bits.sum::<u32>()
        | u32::from(declaration.in_place) << 3
        | cuda.phases() << 4
        | exponent << 8
        | ((in_ring_up_to >> exponent) as u32) << 14
}
