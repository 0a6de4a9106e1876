//! The figures of `gpubridge bench`, by `cargo bench`: words after `--` choose parts or areas, `--quick` makes it a smoke
//! run of seconds whose figures mean nothing. `cargo test --benches` does so.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what the process allocates, for the bytes per grain.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    gpubridge::figures::bench_main(&arguments)
}
