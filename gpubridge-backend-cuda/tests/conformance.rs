//! Runs the suite on the CUDA backend over the emulated driver: the same kernels and the same host, without a GPU.
//!
//! Without a C++ compiler there is no driver, and every case is ignored with that reason; `GPUBRIDGE_REQUIRE=cuda` turns it into
//! a failure. On a GPU the suite is run by `gpubridge conformance --backend cuda`.

mod emulation;
mod twins;

use std::process::ExitCode;
use std::sync::Arc;

use gpubridge_backend_cuda::CudaBackend;
use gpubridge_kernels::library;
use ringkernel_tests::Suite;

ringkernel_tests::count_allocations!();

fn main() -> ExitCode {
    // Says so itself if there is none.
    emulation::ensure_loaded();
    Suite::new(Arc::new(CudaBackend::new(library()))).running_twins(|library| twins::backend(&library)).main()
}
