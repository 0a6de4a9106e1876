//! Runs the suite on the null backend: everything that needs no kernel.

use std::sync::Arc;

use gpubridge_abstractions::NullBackend;
use ringkernel_tests::Context;

fn main() {
    ringkernel_tests::run(&Context::new("null", |_| Arc::new(NullBackend::default())));
}
