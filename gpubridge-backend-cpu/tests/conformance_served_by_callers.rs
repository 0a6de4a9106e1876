//! Runs the suite on the CPU backend without ring threads.
//!
//! Not the cases with kernels of the suite's own: those wait at gates, and here they would keep the caller who is to open
//! them.

use std::sync::Arc;

use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use ringkernel_tests::Context;

fn main() {
    let mut config = CpuConfig::default();
    config.served_by_callers = true;
    let backend = move |library| Arc::new(CpuBackend::new(library).with_config(config)) as Arc<_>;
    ringkernel_tests::run(&Context::new("cpu (served by its callers)", backend));
}
