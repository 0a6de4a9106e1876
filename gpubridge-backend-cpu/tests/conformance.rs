//! Runs the suite on the CPU backend.

use std::process::ExitCode;
use std::sync::Arc;

use gpubridge_backend_cpu::CpuBackend;
use gpubridge_kernels::library;
use ringkernel_tests::Suite;

ringkernel_tests::count_allocations!();

fn main() -> ExitCode {
    Suite::new(Arc::new(CpuBackend::new(library()))).running_twins(|library| Arc::new(CpuBackend::new(library))).main()
}
