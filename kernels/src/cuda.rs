//! The kernels for CUDA: the ring's device half and every kernel of the library, as the driver takes them; and what users'
//! own kernels are made of.
//!
//! The source is `kernels/cuda`; `.ci/ptx` makes the PTX of it, and checks that it is the source's.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::KernelSpec;

/// The module, as PTX for compute capability 7.5 and later. Its function `gpubridge_user`, which knows no kernel of a user's, gives
/// way to one that is linked with it.
pub const PTX: &str = include_str!("../cuda/ring.ptx");

/// The most threads of a block of the ring: a warp that polls and fifteen that execute.
pub const RING_THREADS_MAX: u32 = 512;

/// The most registers of a thread that a kernel may use which is called in the ring.
pub const RING_REGISTERS_MAX: u32 = 128;

/// Words that each block of a grid keeps from phase to phase.
pub const PARTIALS: u64 = 16;

/// The most phases of a kernel that a grid runs.
pub const PHASES_MAX: u32 = 15;

/// What `#include "gpubridge.cuh"` needs, by the names that the files include each other by.
pub const HEADERS: [(&str, &str); 7] = [
    ("gpubridge.cuh", include_str!("../cuda/gpubridge.cuh")),
    ("call.cuh", include_str!("../cuda/call.cuh")),
    ("layout.cuh", include_str!("../cuda/layout.cuh")),
    ("platform.cuh", include_str!("../cuda/platform.cuh")),
    ("team.cuh", include_str!("../cuda/team.cuh")),
    ("library/each.cuh", include_str!("../cuda/library/each.cuh")),
    ("library/number.cuh", include_str!("../cuda/library/number.cuh")),
];

/// One specialization of a user's kernel for CUDA.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CudaCode {
    /// CUDA C++ that includes `gpubridge.cuh` and ends with `GPUBRIDGE_KERNEL(its struct)`. It finds the specialization in
    /// `GPUBRIDGE_ELEMENT`, `GPUBRIDGE_CONSTANT_0` and `GPUBRIDGE_CONSTANT_1`, and is compiled by NVRTC, which has to be
    /// installed, for the device at hand. As in the library, no multiplication and addition become one operation unless the
    /// source says so.
    Source(Cow<'static, str>),
    /// PTX that was compiled to be linked (`-fgpu-rdc`, `-rdc=true`), for the device's compute capability or a lower one. Nothing
    /// has to be installed for it.
    Ptx {
        /// The PTX.
        text: Cow<'static, str>,
        /// The function in it that the kernel is known by, unique among the kernels of a device: what `GPUBRIDGE_FUNCTION` was
        /// when it was compiled.
        function: Cow<'static, str>,
    },
}

/// The code of one specialization; the error says why there is none.
type Code = Arc<dyn Fn(&KernelSpec) -> Result<CudaCode, String> + Send + Sync>;

/// A user's kernel for CUDA.
#[derive(Clone)]
pub struct CudaKernel {
    code: Code,
    phases: u32,
}

impl CudaKernel {
    /// A kernel that is one source for all of its specializations.
    pub fn from_source(source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        Self::from_compiler(move |_| Ok(CudaCode::Source(source.clone())))
    }

    /// A kernel that was compiled beforehand, and so has one specialization alone: it declares one element type and no constants.
    pub fn from_ptx(text: impl Into<Cow<'static, str>>, function: impl Into<Cow<'static, str>>) -> Self {
        let code = CudaCode::Ptx { text: text.into(), function: function.into() };
        Self::from_compiler(move |_| Ok(code.clone()))
    }

    /// A kernel whose code is made for each specialization. The function is called with such as the declaration allows.
    pub fn from_compiler(code: impl Fn(&KernelSpec) -> Result<CudaCode, String> + Send + Sync + 'static) -> Self {
        Self { code: Arc::new(code), phases: 0 }
    }

    /// The same, run beside the ring by all threads of a grid in place of one block's: for a kernel whose elements do not depend
    /// on each other, and whose source says `PHASES = 1`.
    #[must_use]
    pub fn by_grid(self) -> Self {
        self.by_grid_in_phases(1)
    }

    /// The same, run beside the ring by a grid in so many phases, each a launch that begins when the one before has ended: for a
    /// kernel whose blocks find something out together, and whose source says `PHASES` and has a `run_phase`. Three phases or more
    /// are launched as one graph.
    ///
    /// # Panics
    /// Without a phase, and with more than [`PHASES_MAX`].
    #[must_use]
    pub fn by_grid_in_phases(mut self, phases: u32) -> Self {
        assert!((1..=PHASES_MAX).contains(&phases), "{phases} phases: a kernel has from 1 to {PHASES_MAX}");
        self.phases = phases;
        self
    }

    /// In how many phases a grid runs it beside the ring; 0 if a block does.
    pub fn phases(&self) -> u32 {
        self.phases
    }

    /// The code of a specialization that the declaration allows.
    ///
    /// # Errors
    /// Why there is none.
    pub fn code(&self, spec: &KernelSpec) -> Result<CudaCode, String> {
        (self.code)(spec)
    }
}

impl fmt::Debug for CudaKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaKernel").field("phases", &self.phases).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_the_same() {
        let team = include_str!("../cuda/team.cuh");
        assert!(team.contains(&format!("constexpr u32 PARTIALS = {PARTIALS};")));
    }
}
