//! `gpubridge stress`: long runs through the public calls of the grains, each with its accounts at the end.
//!
//! - `counts`, `counted`: what a run counts and sees for itself; grains whose calls are counted
//! - `stage`, `memory`: the silo of a run, who hands out its operations and watches memory
//! - `pool`, `grains`, `transfer`, `kernels`: the runs; `driver`, `models`: what they do
//! - `account`, `report`: every counter against the count kept outside; what is shown

mod account;
mod counted;
mod counts;
mod driver;
mod grains;
mod kernels;
mod memory;
mod models;
mod pool;
mod report;
mod stage;
#[cfg(test)]
mod tests;
mod transfer;

use std::time::{Duration, Instant};

use gpubridge::runtime::Selection;

use super::cli::StressArgs;
use super::engine::{self, Metric, MetricValue};
use super::error::Error;
use super::interrupt;
use account::Check;
use counted::Counted;
use counts::Seen;
use memory::Memory;
use stage::{Monitor, Stage};

/// The name of all runs together.
pub const ALL: &str = "all";

/// One of the runs.
#[derive(Debug)]
struct Run {
    name: &'static str,
    /// What it does, in a line.
    summary: &'static str,
    /// What its operations are called.
    unit: &'static str,
    /// How many there are, unless the user says.
    operations: u64,
    /// How many it takes until memory is as large as the load needs.
    settles_after: u64,
    drive: fn(&Drive<'_>) -> Result<Driven, gpubridge::Error>,
}

/// The runs, in the order in which they are made.
static RUNS: [Run; 5] = [
    Run {
        name: "pool",
        summary: "allocations of realistic sizes with steady turnover, among 16 owners",
        unit: "allocations",
        operations: 100_000,
        settles_after: 20_000,
        drive: pool::run,
    },
    Run {
        name: "grains",
        summary: "33 grains from 4 threads at once, one of them called by all",
        unit: "operations",
        operations: 400_000,
        settles_after: 20_000,
        drive: grains::run,
    },
    Run {
        name: "transfer",
        summary: "transfers of 1 byte to 16 MiB, each way",
        unit: "transfers",
        operations: 200,
        settles_after: 40,
        drive: transfer::run,
    },
    Run {
        name: "kernels",
        summary: "every kernel of the library in turn, in every element type",
        unit: "calls",
        operations: 100_000,
        settles_after: 5_000,
        drive: kernels::run,
    },
    Run {
        name: "long",
        summary: "operations of all kinds over 65 grains that are deactivated and come back",
        unit: "operations",
        operations: 5_000_000,
        settles_after: 50_000,
        drive: grains::run_long,
    },
];

/// What the command line may name.
pub fn names() -> impl Iterator<Item = &'static str> {
    RUNS.iter().map(|run| run.name).chain([ALL])
}

/// What a run is given.
struct Drive<'r> {
    stage: &'r Stage,
    monitor: &'r Monitor<'r>,
    seed: u64,
}

/// What a run leaves, for its accounts.
#[derive(Debug, Default)]
struct Driven {
    /// Its grains.
    calls: Vec<Counted>,
    /// Kernels that were compiled, each once.
    kernels: u64,
    /// What was seen beside the grains' calls.
    seen: Seen,
    /// What else it measured.
    figures: Vec<Metric>,
}

impl Driven {
    fn figure(&mut self, name: impl Into<String>, number: f64) {
        self.figures.push(Metric { name: name.into(), value: MetricValue::Number(number) });
    }

    fn figure_count(&mut self, name: impl Into<String>, count: u64) {
        self.figures.push(Metric { name: name.into(), value: MetricValue::Count(count) });
    }
}

/// What became of a run.
#[derive(Debug)]
struct Outcome {
    run: &'static Run,
    planned: u64,
    done: u64,
    elapsed: Duration,
    checks: Vec<Check>,
    seen: Seen,
    memory: Memory,
    figures: Vec<Metric>,
    /// The call that failed, after which nothing can be told.
    failed: Option<String>,
}

impl Outcome {
    fn is_interrupted(&self) -> bool {
        self.done < self.planned && self.failed.is_none()
    }

    /// What does not hold.
    fn faults(&self) -> impl Iterator<Item = String> {
        let checks = self.checks.iter().filter(|check| !check.holds).map(Check::to_string);
        checks.chain(self.seen.first_fault.clone()).chain(self.failed.clone())
    }
}

/// Runs what the user asked for.
pub fn run(args: &StressArgs) -> Result<(), Error> {
    let selection = engine::select(&args.place)?;
    interrupt::install_to_report()?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut to_come = chosen(&args.run);
    for run in to_come.by_ref() {
        let planned = args.operations.unwrap_or(run.operations);
        let outcome = run.execute(&selection, planned, args.seed, &|_| interrupt::requested());
        if !args.json {
            report::print_text(&selection, args.seed, &outcome, outcomes.is_empty())?;
        }
        let ends = outcome.is_interrupted();
        outcomes.push(outcome);
        if ends {
            break;
        }
    }
    let not_begun: Vec<_> = to_come.map(|run| run.name).collect();
    if args.json {
        report::print_json(&selection, args.seed, &outcomes, &not_begun)?;
    } else {
        report::print_not_begun(&not_begun)?;
    }
    conclude(&outcomes)
}

fn chosen(name: &str) -> impl Iterator<Item = &'static Run> {
    RUNS.iter().filter(move |run| name == ALL || run.name == name)
}

/// The runs as they came out, as success or as the error that the program ends with. What does not hold outweighs an
/// interrupt.
fn conclude(outcomes: &[Outcome]) -> Result<(), Error> {
    let named = |outcome: &Outcome| outcome.faults().map(|fault| format!("{}: {fault}", outcome.run.name)).collect();
    let faults: Vec<String> = outcomes.iter().flat_map(|outcome| -> Vec<String> { named(outcome) }).collect();
    if !faults.is_empty() {
        return Err(Error::Stress { faults: faults.join("; ") });
    }
    if outcomes.iter().any(Outcome::is_interrupted) { Err(Error::Interrupted) } else { Ok(()) }
}

impl Run {
    /// Makes the run on a silo of its own, until it is done or `stop` says so, and settles its accounts.
    fn execute(
        &'static self,
        selection: &Selection,
        planned: u64,
        seed: u64,
        stop: &(dyn Fn(u64) -> bool + Sync),
    ) -> Outcome {
        let mut outcome = Outcome {
            run: self,
            planned,
            done: 0,
            elapsed: Duration::ZERO,
            checks: Vec::new(),
            seen: Seen::default(),
            memory: Memory::default(),
            figures: Vec::new(),
            failed: None,
        };
        outcome.failed = self.try_execute(selection, seed, stop, &mut outcome).err().map(|error| error.to_string());
        outcome
    }

    fn try_execute(
        &self,
        selection: &Selection,
        seed: u64,
        stop: &(dyn Fn(u64) -> bool + Sync),
        outcome: &mut Outcome,
    ) -> Result<(), gpubridge::Error> {
        let stage = Stage::open(selection)?;
        let monitor = Monitor::new(self.name, outcome.planned, &stage.silo, stop);
        let start = Instant::now();
        let driven = (self.drive)(&Drive { stage: &stage, monitor: &monitor, seed });
        outcome.elapsed = start.elapsed();
        outcome.done = monitor.done();
        outcome.memory = Memory::judge(&monitor.into_samples(), outcome.done, self.settles_after);
        let Driven { mut calls, kernels, seen, figures } = driven?;
        outcome.figures = figures;
        (outcome.checks, outcome.seen) = account::settle(&stage, &mut calls, kernels, seen)?;
        outcome.checks.extend(outcome.memory.checks());
        outcome.checks.push(account::settle_shutdown(stage.silo)?);
        Ok(())
    }
}
