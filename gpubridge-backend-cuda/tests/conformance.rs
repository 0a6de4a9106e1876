//! Runs the suite on the CUDA backend: on a GPU where there is a driver, else on the emulated driver.

use std::process::ExitCode;
use std::sync::Arc;

use gpubridge_backend_cuda::CudaBackend;
use gpubridge_kernels::library;
use ringkernel_tests::Suite;

fn main() -> ExitCode {
    Suite::new(Arc::new(CudaBackend::new(library()))).main()
}
