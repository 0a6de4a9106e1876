//! Runs the conformance suite on this backend.

use std::process::ExitCode;
use std::sync::Arc;

use custom_backend::CustomBackend;
use gpubridge_kernels::library;
use ringkernel_tests::Suite;

ringkernel_tests::count_allocations!();

fn main() -> ExitCode {
    let backend = Arc::new(CustomBackend::new(library()));
    Suite::new(backend).running_twins(|library| Arc::new(CustomBackend::new(library))).main()
}
