//! The kernels for CUDA: the ring's device half and every kernel of the library, as the driver takes them.
//!
//! The source is `kernels/cuda`; `.ci/ptx` makes the PTX of it, and checks that it is the source's.

/// The module, as PTX for compute capability 7.5 and later.
pub const PTX: &str = include_str!("../cuda/ring.ptx");

/// The most threads of a block of the ring: a warp that polls and fifteen that execute.
pub const RING_THREADS_MAX: u32 = 512;
