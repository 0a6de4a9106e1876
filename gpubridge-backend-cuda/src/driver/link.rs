//! The driver's linker: makes one module's image of several parts, on the host alone.

use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::ptr;

use gpubridge_abstractions::{Error, ErrorKind};

use super::sys::{self, CUjit_option, CUjitInputType, CUresult};
use super::{Context, describe};

const OPERATION: &str = "cuda.compile";
const LOG_BYTES: usize = 16 << 10;

/// What is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// PTX.
    Ptx(CString),
    /// Machine code that can be linked.
    MachineCode(Vec<u8>),
}

/// A part of what is linked, as the linker's messages name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    pub(crate) object: &'a Object,
    /// The most registers that its functions may use; as many as they declare if this is `None`.
    pub(crate) registers_max: Option<u32>,
}

/// A linker at work, and where it writes what it has to say.
struct Linker<'a> {
    context: &'a Context,
    state: sys::CUlinkState,
    // The linker keeps addresses of both until it is destroyed.
    log: Vec<u8>,
    values: Vec<*mut c_void>,
}

impl Context {
    /// Links parts to an image that [`Context::load`] takes.
    ///
    /// Blocks for as long as the driver's compiler and linker take.
    ///
    /// # Errors
    /// `KernelBuild` with the linker's text; `DeviceLost` if the device was before.
    pub(crate) fn link(&self, parts: &[Part<'_>]) -> Result<Vec<u8>, Error> {
        let mut linker = Linker::new(self)?;
        parts.iter().try_for_each(|part| linker.add(part))?;
        linker.complete()
    }
}

impl<'a> Linker<'a> {
    fn new(context: &'a Context) -> Result<Self, Error> {
        let mut log = vec![0_u8; LOG_BYTES];
        let values = vec![log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(LOG_BYTES)];
        let mut linker = Self { context, state: ptr::null_mut(), log, values };
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let (count, values, state) = (options.len() as c_uint, linker.values.as_mut_ptr(), &raw mut linker.state);
        // SAFETY: `state` is the out parameter. There is a value for each option; what they lead to outlives the linker.
        let started = || unsafe { sys::cuLinkCreate_v2(count, options.as_mut_ptr(), values, state) };
        linker.call("the driver's linker does not start", started)?;
        Ok(linker)
    }

    fn add(&mut self, part: &Part<'_>) -> Result<(), Error> {
        let (kind, bytes) = match part.object {
            Object::Ptx(text) => (CUjitInputType::CU_JIT_INPUT_PTX, text.as_bytes_with_nul()),
            Object::MachineCode(code) => (CUjitInputType::CU_JIT_INPUT_CUBIN, &code[..]),
        };
        let name = CString::new(part.name.replace('\0', "?")).expect("it has no zero in it");
        let mut option = CUjit_option::CU_JIT_MAX_REGISTERS;
        let mut value = ptr::without_provenance_mut::<c_void>(part.registers_max.unwrap_or(0) as usize);
        let count = c_uint::from(part.registers_max.is_some());
        let (state, data, size, name) = (self.state, bytes.as_ptr().cast_mut().cast(), bytes.len(), name.as_ptr());
        let (option, value) = (&raw mut option, &raw mut value);
        self.call(&format!("the driver refuses `{}`", part.name), || {
            // SAFETY: the linker lives; it copies what it is given, and reads as many options as it is told.
            unsafe { sys::cuLinkAddData_v2(state, kind, data, size, name, count, option, value) }
        })
    }

    fn complete(self) -> Result<Vec<u8>, Error> {
        let (mut image, mut bytes) = (ptr::null_mut(), 0);
        let state = self.state;
        self.call("the driver does not link the kernels with the ring", || {
            // SAFETY: the linker lives; `image` and `bytes` are the out parameters.
            unsafe { sys::cuLinkComplete(state, &raw mut image, &raw mut bytes) }
        })?;
        // SAFETY: the linker owns the image, which is as long as it said, until it is destroyed.
        Ok(unsafe { std::slice::from_raw_parts(image.cast::<u8>(), bytes) }.to_vec())
    }

    /// Makes the call. If it fails the error says `what`, and what the linker wrote.
    ///
    /// That is no matter of the device, whatever the number: what cannot be linked may be `CUDA_ERROR_UNKNOWN`, as much else is
    /// after which a device is lost.
    fn call(&self, what: &str, call: impl FnOnce() -> CUresult) -> Result<(), Error> {
        self.context.make_current(OPERATION, what)?;
        let result = call();
        if result == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let log = self.log.as_ptr().cast::<c_char>();
        // SAFETY: the log was zeroed, and the linker writes less than it is long.
        let said = unsafe { CStr::from_ptr(log) }.to_string_lossy();
        let why = format!("{what}: {}: {}", describe(result), said.trim());
        Err(Error::new(ErrorKind::KernelBuild, OPERATION, why.trim_end_matches(": ")))
    }
}

impl Drop for Linker<'_> {
    fn drop(&mut self) {
        let state = self.state;
        if !state.is_null() {
            // SAFETY: destroyed once. There is nothing to do about a failure.
            self.call("ending the linker", || unsafe { sys::cuLinkDestroy(state) }).ok();
        }
    }
}
