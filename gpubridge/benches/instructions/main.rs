//! Instruction counts of what a call costs, for `.ci/instructions`, which compares them with its table.
//!
//! Callgrind counts the instructions of each function here, set-up aside; they do not depend on how busy the machine is.
//! One thread does everything, the device's part included, so that nothing depends on when a thread looks either.
#![allow(missing_docs, reason = "the macros make public what nobody else sees")]

mod grain;
mod pool;
mod program;
mod ring;
mod stream;

use std::hint::black_box;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

/// What each function does so often, after as many for warming up.
const OPERATIONS: usize = 1024;

#[library_benchmark(setup = pool::Turnover::new)]
#[bench::thousand()]
fn pool_allocate_free(mut pool: pool::Turnover) -> pool::Turnover {
    (0..OPERATIONS).for_each(|_| black_box(&mut pool).step());
    pool
}

#[library_benchmark(setup = ring::Stepped::new)]
#[bench::thousand()]
fn ring_submit_complete(mut ring: ring::Stepped) -> ring::Stepped {
    (0..OPERATIONS).for_each(|_| black_box(&mut ring).step());
    ring
}

#[library_benchmark(setup = grain::Actor::new)]
#[bench::thousand()]
fn grain_call(mut actor: grain::Actor) -> grain::Actor {
    (0..OPERATIONS).for_each(|_| black_box(&mut actor).step());
    actor
}

#[library_benchmark(setup = stream::Rows::new)]
#[bench::thousand()]
fn stream_event(mut rows: stream::Rows) -> stream::Rows {
    (0..OPERATIONS).for_each(|_| black_box(&mut rows).step());
    rows
}

library_benchmark_group!(
    name = counts,
    benchmarks = [pool_allocate_free, ring_submit_complete, grain_call, stream_event]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = counts
);
