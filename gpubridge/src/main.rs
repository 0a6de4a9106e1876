//! The `gpubridge` program: streams rows of a CSV file through actors and scores them, and measures itself.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

mod program;

/// Counts what the process allocates: `gpubridge bench` reports the bytes that a grain takes. What is hot allocates nothing,
/// so the counting costs it nothing.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    program::run()
}
