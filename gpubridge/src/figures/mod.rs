//! Every figure that the project promises, measured through the public calls with all metrics on and every reply checked.
//!
//! `gpubridge bench` and `cargo bench` call the same functions here: [`select`] a device, choose [`Part`]s, [`run`] them,
//! and print the [`Report`]. What is compared is run in turn, in many short rounds, so that other load on the machine meets
//! both sides alike. See `docs/benchmarks.md` for how to read it.

mod bare;
mod batches;
mod calls;
mod charts;
mod compared;
mod concurrent;
mod footprint;
mod kernel;
mod kernel_cache;
mod line;
mod machine;
mod markdown;
mod measure;
mod memory;
mod pace;
mod parts;
mod pipeline;
mod pool;
mod report;
mod start;
mod subject;
mod traces;
mod transfers;
mod turnover;

use std::process::ExitCode;

pub use charts::{Chart, Charts};
pub use line::{Line, Measured, OpenLoop};
pub use machine::Conditions;
pub use markdown::{BEGIN, END, MissingMarker, between_markers};
pub use measure::Quantiles;
pub use pace::Offered;
pub use parts::Part;
pub use report::{Failure, Report, run};
pub use subject::select;

/// What figures are about. One argument of `gpubridge bench` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The pool and the grain's allocate and release.
    Alloc,
    /// Writes and reads.
    Transfer,
    /// The grain's calls through the ring.
    Ring,
    /// Many grains: throughput, memory, beginnings and ends.
    Grains,
    /// The pool's hit rate beside its footprint.
    HitRate,
    /// The kernel cache.
    KernelCache,
}

impl Area {
    /// All six, in the order of the report.
    pub const ALL: [Area; 6] =
        [Self::Alloc, Self::Transfer, Self::Ring, Self::Grains, Self::HitRate, Self::KernelCache];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::Transfer => "transfer",
            Self::Ring => "ring",
            Self::Grains => "grains",
            Self::HitRate => "hit-rate",
            Self::KernelCache => "kernel-cache",
        }
    }
}

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

/// `cargo bench`: the parts that the words among `arguments` name, all without any, as markdown on standard output.
///
/// `cargo bench` passes `--bench`; without it this is `cargo test`, which wants to know only that everything runs.
pub fn bench_main(arguments: &[String]) -> ExitCode {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let parts = Part::named(&words);
    if parts.is_empty() {
        eprintln!("error: no part is named {}; there are: {}", words.join(" or "), Part::names());
        return ExitCode::from(2);
    }
    let quick = has("--quick") || !has("--bench");
    match select("auto", "auto").and_then(|selection| run(&selection, &parts, quick, || true)) {
        Ok(report) => {
            println!("{}", report.to_markdown());
            if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
