//! NVIDIA's compiler for CUDA C++, if it is installed.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use gpubridge_abstractions::{Error, ErrorKind};

use super::compiler::{self as sys, nvrtcResult};

const OPERATION: &str = "cuda.compile";

/// A source file and what it includes, by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// Compiles CUDA C++ to machine code, as `options` say.
///
/// Blocks for as long as the compiler takes; asks nothing of a device.
///
/// # Errors
/// `Unsupported` without NVRTC; `KernelBuild` with the compiler's text.
pub(crate) fn compile(source: Source<'_>, options: &[String]) -> Result<Vec<u8>, Error> {
    // SAFETY: loads NVRTC's library, whose initialisers its maker answers for.
    if !unsafe { sys::is_culib_present() } {
        let why = "kernels in CUDA C++ are compiled by NVRTC (libnvrtc.so), which is not installed: install it (pip: nvidia-cuda-nvrtc, \
                   with its folder in LD_LIBRARY_PATH), or bring PTX";
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
    }
    let text = |text: &str| {
        let refuse = |_| Error::new(ErrorKind::KernelBuild, OPERATION, format!("`{}` holds a zero byte", source.name));
        CString::new(text).map_err(refuse)
    };
    let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(&text(source.text)?, &text(source.name)?, source.headers)?;
    match program.compile(&options) {
        nvrtcResult::NVRTC_SUCCESS => program.machine_code(),
        failed => {
            let said = program.log();
            let said = if said.is_empty() { describe(failed) } else { said };
            Err(Error::new(ErrorKind::KernelBuild, OPERATION, format!("NVRTC refuses `{}`:\n{said}", source.name)))
        }
    }
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn new(text: &CStr, name: &CStr, headers: &[(&str, &str)]) -> Result<Self, Error> {
        let owned = |text: &str| CString::new(text).expect("a header is text");
        let names: Vec<_> = headers.iter().map(|(name, _)| owned(name)).collect();
        let texts: Vec<_> = headers.iter().map(|(_, text)| owned(text)).collect();
        let (names, texts) = (pointers(&names), pointers(&texts));
        let mut program = ptr::null_mut();
        let (text, name, count) = (text.as_ptr(), name.as_ptr(), headers.len() as c_int);
        // SAFETY: `program` is the out parameter; NVRTC copies the texts, each of which ends with a zero, before it returns.
        let made =
            unsafe { sys::nvrtcCreateProgram(&raw mut program, text, name, count, texts.as_ptr(), names.as_ptr()) };
        check(made, "taking a source")?;
        Ok(Self(program))
    }

    fn compile(&self, options: &[CString]) -> nvrtcResult {
        let options = pointers(options);
        // SAFETY: the program lives as long as `self`; each option ends with a zero.
        unsafe { sys::nvrtcCompileProgram(self.0, options.len() as c_int, options.as_ptr()) }
    }

    /// What the compiler said; nothing if that is not to be had.
    fn log(&self) -> String {
        let mut bytes = 0;
        // SAFETY: `bytes` is the out parameter.
        let found = unsafe { sys::nvrtcGetProgramLogSize(self.0, &raw mut bytes) };
        let mut log = vec![0_u8; bytes];
        if found != nvrtcResult::NVRTC_SUCCESS || bytes == 0 {
            return String::new();
        }
        // SAFETY: the log is as long as NVRTC said.
        let read = unsafe { sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()) };
        let text = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        if read == nvrtcResult::NVRTC_SUCCESS { text.trim().to_owned() } else { String::new() }
    }

    fn machine_code(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = 0;
        // SAFETY: `bytes` is the out parameter.
        check(unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut bytes) }, "handing out machine code")?;
        let mut code = vec![0_u8; bytes];
        let to = code.as_mut_ptr().cast::<c_char>();
        // SAFETY: there is room for as many bytes as NVRTC said.
        check(unsafe { sys::nvrtcGetCUBIN(self.0, to) }, "handing out machine code")?;
        Ok(code)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: destroyed once. There is nothing to do about a failure.
        unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

fn check(result: nvrtcResult, what: &str) -> Result<(), Error> {
    match result {
        nvrtcResult::NVRTC_SUCCESS => Ok(()),
        failed => {
            let why = format!("NVRTC fails at {what}: {}", describe(failed));
            Err(Error::new(ErrorKind::KernelBuild, OPERATION, why))
        }
    }
}

fn describe(result: nvrtcResult) -> String {
    // SAFETY: a text of NVRTC's for every number, which lives as long as the library.
    let text = unsafe { sys::nvrtcGetErrorString(result) };
    if text.is_null() {
        return format!("NVRTC error {}", result as u32);
    }
    // SAFETY: it ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
