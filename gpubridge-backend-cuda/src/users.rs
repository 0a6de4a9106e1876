//! Kernels of users' own: compiled, linked with the ring's module, and part of it from the next window on.
//!
//! Compiler and linker work while rings run, and whatever fails there leaves everything as it was. Only what they made is loaded in
//! a window.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Weak};

use gpubridge_abstractions::{ElementType, Error, ErrorKind, KernelSpec};
use gpubridge_kernels::cuda::{CudaCode, HEADERS, PTX, RING_REGISTERS_MAX};
use parking_lot::Mutex;

use crate::driver::{Object, Part, nvrtc};
use crate::gpu::Gpu;
use crate::parameters::FIRST_USER;
use crate::stub;

const OPERATION: &str = "cuda.compile";
/// The ring's requests name a kernel in sixteen bits, the last of which names none.
const KERNELS_MAX: u16 = u16::MAX - FIRST_USER as u16;

/// A user's kernel that the ring's module has. The next module goes without it when it is dropped.
#[derive(Debug)]
pub(crate) struct UserKernel {
    // What it is made of, for which specialization, and its phases.
    made_of: (KernelSpec, CudaCode, u32),
    index: u16,
    function: String,
    name: String,
    object: Object,
}

impl UserKernel {
    /// The number by which commands name it.
    pub(crate) fn variant(&self) -> u16 {
        FIRST_USER as u16 + self.index
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The users' kernels of a GPU.
#[derive(Debug)]
pub(crate) struct Users {
    capability: (u32, u32),
    // Whoever holds it makes the next module: one at a time, so that none goes without another's kernel.
    making: Mutex<BTreeMap<u16, Weak<UserKernel>>>,
}

impl Users {
    /// None yet, for a device of this compute capability.
    pub(crate) fn new(capability: (u32, u32)) -> Self {
        Self { capability, making: Mutex::default() }
    }

    /// Adds a kernel to the module that rings run, unless it is there.
    ///
    /// Blocks for compiler and linker, then for the window.
    ///
    /// # Errors
    /// `KernelBuild` with the compiler's or the linker's text; `Unsupported` without a compiler; `Full`; `Timeout` when a ring
    /// does not park. The module stays as it was.
    pub(crate) fn add(
        &self,
        gpu: &Gpu,
        name: &str,
        spec: &KernelSpec,
        code: CudaCode,
        phases: u32,
    ) -> Result<Arc<UserKernel>, Error> {
        let mut made = self.making.lock();
        let mut kernels: Vec<_> = made.values().filter_map(Weak::upgrade).collect();
        let made_of = (*spec, code, phases);
        if let Some(there) = kernels.iter().find(|kernel| kernel.made_of == made_of) {
            return Ok(Arc::clone(there));
        }
        let Some(index) = (0..KERNELS_MAX).find(|index| kernels.iter().all(|kernel| kernel.index != *index)) else {
            let why = format!("a device has room for {KERNELS_MAX} kernels of users' own: use fewer at once");
            return Err(Error::new(ErrorKind::Full, OPERATION, why));
        };
        let (function, object) = self.compile(name, spec, &made_of, index)?;
        let kernel = Arc::new(UserKernel { made_of, index, function, name: name.to_owned(), object });
        kernels.push(Arc::clone(&kernel));
        let image = link(gpu, &kernels)?;
        let phases = kernels.iter().map(|kernel| kernel.made_of.2).collect();
        gpu.replace_program(&image, &phases)?;
        *made = kernels.iter().map(|kernel| (kernel.index, Arc::downgrade(kernel))).collect();
        Ok(kernel)
    }

    /// What is linked for a kernel, and its function in it.
    fn compile(
        &self,
        name: &str,
        spec: &KernelSpec,
        (_, code, phases): &(KernelSpec, CudaCode, u32),
        index: u16,
    ) -> Result<(String, Object), Error> {
        match code {
            CudaCode::Source(text) => {
                let function = format!("gpubridge_user_{index}");
                let code = compile_source(name, text, self.capability, spec, *phases, &function)?;
                Ok((function, Object::MachineCode(code)))
            }
            CudaCode::Ptx { text, function } => {
                let is_name = |text: &str| {
                    let mut letters = text.bytes();
                    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
                        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'$')
                };
                if !is_name(function) {
                    return Err(Error::new(
                        ErrorKind::KernelBuild,
                        OPERATION,
                        format!("kernel `{name}`: {function:?} is no name of a function in PTX"),
                    ));
                }
                let text = CString::new(text.as_bytes()).map_err(|error| {
                    let why = format!("the PTX of kernel `{name}` holds a zero byte");
                    Error::new(ErrorKind::KernelBuild, OPERATION, why).with_source(error)
                })?;
                Ok((function.clone().into_owned(), Object::Ptx(text)))
            }
        }
    }
}

/// Machine code that defines `function`, for a device of this compute capability.
pub(crate) fn compile_source(
    name: &str,
    text: &str,
    capability: (u32, u32),
    spec: &KernelSpec,
    phases: u32,
    function: &str,
) -> Result<Vec<u8>, Error> {
    // In a namespace of its own: what kernels call by one name, and specializations of one source do, is not one for the linker.
    let text =
        &format!("#include \"gpubridge.cuh\"\nnamespace {function}_names {{\n#line 1 \"{name}.cu\"\n{text}\n}}\n");
    let source = nvrtc::Source { name: &format!("{name}.cu"), text, headers: &HEADERS };
    nvrtc::compile(source, &options(capability, spec, phases, function))
}

/// How NVRTC is to compile a kernel.
fn options(capability: (u32, u32), spec: &KernelSpec, phases: u32, function: &str) -> Vec<String> {
    let element = match spec.element {
        ElementType::F32 => "gb::f32",
        ElementType::I32 => "gb::i32",
        ElementType::U32 => "gb::u32",
    };
    let [a, b] = spec.constants;
    vec![
        // Machine code for the device itself: newer PTX than the driver takes might come of anything else.
        format!("--gpu-architecture=sm_{}{}", capability.0, capability.1),
        "--relocatable-device-code=true".to_owned(),
        "--std=c++17".to_owned(),
        // As the library is compiled.
        "--fmad=false".to_owned(),
        format!("--maxrregcount={RING_REGISTERS_MAX}"),
        format!("-DGPUBRIDGE_FUNCTION={function}"),
        format!("-DGPUBRIDGE_PHASES={phases}"),
        format!("-DGPUBRIDGE_ELEMENT={element}"),
        format!("-DGPUBRIDGE_CONSTANT_0={a}u"),
        format!("-DGPUBRIDGE_CONSTANT_1={b}u"),
    ]
}

/// The image of the library's kernels and these.
fn link(gpu: &Gpu, kernels: &[Arc<UserKernel>]) -> Result<Vec<u8>, Error> {
    let ptx = |text: &str| Object::Ptx(CString::new(text).expect("PTX of our own is text"));
    let ring = ptx(PTX);
    let stub = ptx(&stub::generate(kernels.iter().map(|kernel| (kernel.index, kernel.function.as_str()))));
    let registers_max = Some(RING_REGISTERS_MAX);
    let mut parts = vec![
        Part { name: "the ring", object: &ring, registers_max: None },
        Part { name: "the table of kernels", object: &stub, registers_max },
    ];
    for kernel in kernels {
        // Specializations may share what was compiled beforehand.
        if parts.iter().all(|part| part.object != &kernel.object) {
            // NVRTC has kept to the limit already, and machine code takes no options.
            let registers_max = registers_max.filter(|_| matches!(kernel.object, Object::Ptx(_)));
            parts.push(Part { name: &kernel.name, object: &kernel.object, registers_max });
        }
    }
    gpu.context.link(&parts)
}
