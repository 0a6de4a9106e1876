//! Every figure that the project promises, measured in one program through the public calls, with all metrics on and
//! every reply checked. Prints a markdown table; see `docs/benchmarks.md` for how to read it.
//!
//! What is compared is run in turn, in many short rounds, so that other load on the machine meets both sides alike.
//! Pass `--quick` for a smoke run of a few seconds, whose figures mean nothing; `cargo test --benches` does so.
#![forbid(unsafe_code)]

mod bare;
mod calls;
mod footprint;
mod kernel;
mod machine;
mod measure;
mod memory;
mod pipeline;
mod pool;
mod start;
mod table;
mod traces;
mod transfers;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use table::Table;

/// Counts what the process allocates, for the bytes per grain.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// `whole` in a measurement, a fraction of it in a smoke run.
    fn of(self, whole: usize) -> usize {
        if self.quick { (whole / 50).max(2) } else { whole }
    }
}

type Part = fn(Effort, &mut Table);

const PARTS: [(&str, Part); 8] = [
    // First: memory that other parts gave back to the allocator would not count.
    ("footprint", footprint::run),
    ("calls", calls::run),
    ("pipeline", pipeline::run),
    ("pool", pool::run),
    ("memory", memory::run),
    ("transfers", transfers::run),
    ("traces", traces::run),
    ("start", start::run),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes `--bench`; without it this is `cargo test`, which wants to know only that it runs.
    let quick = arguments.iter().any(|argument| argument == "--quick")
        || !arguments.iter().any(|argument| argument == "--bench");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let effort = Effort { quick };
    let conditions = machine::conditions(quick);
    let mut table = Table::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            eprintln!("{name} ...");
            part(effort, &mut table);
        }
    }
    println!("{conditions}\n\n{table}\nload average at the end: {}", machine::load());
}
