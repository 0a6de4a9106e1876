//! Runs the suite on the null backend: everything that needs no kernel.

use std::process::ExitCode;

use gpubridge_abstractions::NullBackend;

fn main() -> ExitCode {
    ringkernel_tests::main(&NullBackend::default())
}
