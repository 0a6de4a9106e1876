//! Runs the suite on the CPU backend without ring threads.
//!
//! Not the cases with kernels of the suite's own: those wait at gates, and here they would keep the caller who is to open
//! them.

use std::process::ExitCode;

use gpubridge_backend_cpu::{CpuBackend, CpuConfig};

fn main() -> ExitCode {
    let mut config = CpuConfig::default();
    config.served_by_callers = true;
    ringkernel_tests::main(&CpuBackend::new(gpubridge_kernels::library()).with_config(config))
}
