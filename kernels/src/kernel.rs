//! Kernels: a declaration with one variant per target, and the library that holds them.
//!
//! A user's kernel is registered by the path that the library's own kernels take: [`KernelLibrary::register`].

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{
    ElementType, Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec, PAYLOAD_BYTES, PAYLOAD_WORDS, Scalars,
};

use crate::Elements;
use crate::cuda::{CudaCode, CudaKernel};

/// One call of a kernel as its CPU twin sees it. The declaration's check has passed.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The first input; empty when the kernel uses none.
    pub input: Elements<'a>,
    /// The second input; empty when the kernel uses none.
    pub operand: Elements<'a>,
    /// The output, or state; empty when the kernel uses none.
    pub output: Elements<'a>,
    /// Elements to work on.
    pub count: usize,
    /// The scalar parameters.
    pub scalars: Scalars,
}

/// What a call answers with, beside what it writes to its output: up to [`PAYLOAD_BYTES`] bytes that travel in the
/// completion itself.
#[derive(Debug)]
pub struct Answer<'a> {
    words: &'a mut [u64; PAYLOAD_WORDS],
    len_bytes: u8,
}

impl<'a> Answer<'a> {
    /// An empty answer that is collected in `words`.
    #[inline]
    pub fn new(words: &'a mut [u64; PAYLOAD_WORDS]) -> Self {
        *words = [0; PAYLOAD_WORDS];
        Self { words, len_bytes: 0 }
    }

    /// Appends four bytes.
    ///
    /// # Panics
    /// When the answer is full: a kernel's answer has a fixed size, so this is an error in the kernel.
    #[inline]
    pub fn push_bits(&mut self, bits: u32) {
        let at = usize::from(self.len_bytes);
        assert!(at + 4 <= PAYLOAD_BYTES, "an answer holds {PAYLOAD_BYTES} bytes");
        self.words[at / 8] |= u64::from(bits) << (at % 8 * 8);
        self.len_bytes += 4;
    }

    /// Appends an element. Panics as [`Answer::push_bits`].
    #[inline]
    pub fn push<T: crate::Element>(&mut self, value: T) {
        self.push_bits(value.to_bits());
    }

    /// Bytes pushed.
    #[inline]
    pub fn len_bytes(&self) -> u8 {
        self.len_bytes
    }
}

/// A kernel compiled for the CPU: its twin, specialized by element type and constants.
pub type CpuKernel = Arc<dyn Fn(&Invocation<'_>, &mut Answer<'_>) + Send + Sync>;

/// Compiles one specialization for the CPU; the error is the compiler's text.
pub type CompileCpu = Arc<dyn Fn(&KernelSpec) -> Result<CpuKernel, String> + Send + Sync>;

/// The CPU twin of a kernel for one element type.
pub type Twin = fn(&Invocation<'_>, &mut Answer<'_>);

/// A kernel: what it says of itself, and its variant for each target.
#[derive(Clone)]
pub struct Kernel {
    /// What it says of itself.
    pub declaration: KernelDeclaration,
    /// Its variant for the CPU.
    pub cpu: Option<CompileCpu>,
    /// Its variant for CUDA, of a user's kernel: those of the library are in the ring's module.
    pub cuda: Option<CudaKernel>,
}

impl Kernel {
    /// A kernel that needs no compile-time constant, from one twin for each element type that it declares.
    pub fn from_twins(declaration: KernelDeclaration, twins: &'static [(ElementType, Twin)]) -> Self {
        Self::from_compiler(declaration, move |spec| {
            let (_, twin) = twins
                .iter()
                .find(|(element, _)| *element == spec.element)
                .ok_or_else(|| format!("no twin for {}, although it is declared", spec.element))?;
            Ok(Arc::new(*twin))
        })
    }

    /// A kernel from a function that compiles its specializations. The function sees only such as the declaration
    /// allows: an element type that is declared, and 0 for each constant that is not.
    pub fn from_compiler(
        declaration: KernelDeclaration,
        compile: impl Fn(&KernelSpec) -> Result<CpuKernel, String> + Send + Sync + 'static,
    ) -> Self {
        let declared = declaration.clone();
        let cpu: CompileCpu = Arc::new(move |spec| {
            check_spec(&declared, spec)?;
            compile(spec)
        });
        Self { declaration, cpu: Some(cpu), cuda: None }
    }

    /// A kernel for CUDA alone.
    pub fn from_cuda(declaration: KernelDeclaration, cuda: CudaKernel) -> Self {
        Self { declaration, cpu: None, cuda: Some(cuda) }
    }

    /// The same with a variant for CUDA.
    #[must_use]
    pub fn with_cuda(mut self, cuda: CudaKernel) -> Self {
        self.cuda = Some(cuda);
        self
    }

    /// The code of one of its specializations for CUDA.
    ///
    /// # Errors
    /// What the specialization asks for that the kernel does not declare; why there is no code for it.
    pub fn cuda_code(&self, spec: &KernelSpec) -> Result<CudaCode, String> {
        check_spec(&self.declaration, spec)?;
        self.cuda.as_ref().ok_or("it has no variant for CUDA")?.code(spec)
    }
}

/// Says what a specialization asks for that the kernel does not declare.
fn check_spec(declaration: &KernelDeclaration, spec: &KernelSpec) -> Result<(), String> {
    let KernelDeclaration { name, elements, constants, .. } = declaration;
    if !elements.contains(&spec.element) {
        let known: Vec<String> = elements.iter().map(ToString::to_string).collect();
        return Err(format!("kernel `{name}` comes in {}, not in {}", known.join(", "), spec.element));
    }
    if spec.constants.iter().skip(constants.len()).any(|constant| *constant != 0) {
        return Err(format!(
            "kernel `{name}` has constants {constants:?}; the others must be 0, not {:?}",
            spec.constants
        ));
    }
    Ok(())
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("declaration", &self.declaration)
            .field("cpu", &self.cpu.is_some())
            .field("cuda", &self.cuda)
            .finish()
    }
}

/// The kernels that a device is opened with.
#[derive(Clone, Debug, Default)]
pub struct KernelLibrary {
    kernels: Vec<Kernel>,
}

impl KernelLibrary {
    /// A library without kernels.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a kernel.
    ///
    /// # Errors
    /// `InvalidArgument` when its id or name is taken, or its declaration cannot be: more than six scalars or two
    /// constants, no element type, no variant.
    pub fn register(&mut self, kernel: Kernel) -> Result<(), Error> {
        let new = &kernel.declaration;
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, "kernels.register", why));
        if let Some(taken) =
            self.kernels.iter().map(|kernel| &kernel.declaration).find(|d| d.id == new.id || d.name == new.name)
        {
            return refuse(format!(
                "kernel `{}` (id {}) collides with `{}` (id {}); users' ids begin at {}",
                new.name,
                new.id,
                taken.name,
                taken.id,
                KernelId::FIRST_USER
            ));
        }
        if new.scalars.len() > Scalars::CAPACITY || new.constants.len() > 2 {
            return refuse(format!(
                "kernel `{}` declares {} scalars and {} constants; there is room for {} and 2",
                new.name,
                new.scalars.len(),
                new.constants.len(),
                Scalars::CAPACITY
            ));
        }
        if new.elements.is_empty() || kernel.cpu.is_none() && kernel.cuda.is_none() {
            return refuse(format!("kernel `{}` has no element type or no variant for any target", new.name));
        }
        self.kernels.push(kernel);
        Ok(())
    }

    /// The kernel with this id.
    pub fn find(&self, id: KernelId) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.declaration.id == id)
    }

    /// The kernel that `spec` names, if it comes in this element type and has a variant for `target`, as `has_variant` tells.
    /// `operation` is the caller's, for the error.
    ///
    /// # Errors
    /// `NotFound` with the kernels there are; `Unsupported` with the targets or the element types that the kernel has.
    pub fn resolve(
        &self,
        spec: &KernelSpec,
        target: &str,
        has_variant: impl Fn(&Kernel) -> bool,
        operation: &'static str,
    ) -> Result<&Kernel, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, operation, why));
        let Some(kernel) = self.find(spec.id) else {
            let names: Vec<_> = self.kernels.iter().map(|kernel| kernel.declaration.name).collect();
            let why = format!("there is no kernel {}; the device has: {}", spec.id, names.join(", "));
            return refuse(ErrorKind::NotFound, why);
        };
        let KernelDeclaration { name, targets, elements, .. } = &kernel.declaration;
        if !has_variant(kernel) {
            let why = format!("kernel `{name}` has no variant for {target}; it has: {}", targets.join(", "));
            return refuse(ErrorKind::Unsupported, why);
        }
        if !elements.contains(&spec.element) {
            let types: Vec<_> = elements.iter().map(ToString::to_string).collect();
            let why = format!("kernel `{name}` does not come in {}; it comes in: {}", spec.element, types.join(", "));
            return refuse(ErrorKind::Unsupported, why);
        }
        Ok(kernel)
    }

    /// All kernels, in the order of their registration.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }
}
