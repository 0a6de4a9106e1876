//! Runs the suite on the CPU backend.

use std::sync::Arc;

use gpubridge_backend_cpu::CpuBackend;
use ringkernel_tests::Context;

fn main() {
    ringkernel_tests::run(&Context::new("cpu", |library| Arc::new(CpuBackend::new(library))).running_twins());
}
