//! `gpubridge stream`: one input through the actors, from the options to the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cli::StreamArgs;
use super::compare::{self, Ratios};
use super::csv::Rows;
use super::engine::{self, Identity, Scorer};
use super::error::Error;
use super::interrupt;
use super::output::{ScoreFile, is_standard_output};
use super::pipeline::{Event, Finished, Pipeline, Uses};
use super::progress::Progress;
use super::reference::Reference;
use super::report;
use super::rows::{Counts, for_each_scorable};
use super::source::Input;

/// Everything that a run is told.
#[derive(Debug)]
pub struct Plan {
    /// Where rows come from.
    pub input: Input,
    /// Name of the key column.
    pub key: String,
    /// Name of the value column.
    pub value: String,
    /// Values per window.
    pub window: u32,
    /// Size from which a score is an anomaly.
    pub threshold: f64,
    /// Name of the backend, or `auto`.
    pub backend: String,
    /// Where scores go.
    pub output: Option<PathBuf>,
    /// Whether scores are checked against the reference.
    pub verify: bool,
    /// Whether the plain loop runs as well.
    pub baseline: bool,
    /// Whether values that are no number are counted rather than refused.
    pub skip_bad: bool,
    /// Most distinct keys.
    pub max_keys: u32,
    /// Whether the report is one JSON object.
    pub json: bool,
}

impl From<StreamArgs> for Plan {
    fn from(args: StreamArgs) -> Self {
        let input = if args.reads_standard_input() { Input::Stdin } else { Input::File(args.file) };
        Plan {
            input,
            key: args.key,
            value: args.value,
            window: args.window,
            threshold: args.threshold,
            backend: args.backend,
            output: args.output,
            verify: args.verify,
            baseline: args.baseline,
            skip_bad: args.skip_bad,
            max_keys: args.max_keys,
            json: args.json,
        }
    }
}

/// What a run came to, for the report.
#[derive(Debug)]
pub struct Outcome {
    /// What became of the rows.
    pub counts: Counts,
    /// What became of the scores.
    pub finished: Finished,
    /// What the scores were computed on.
    pub identity: Identity,
    /// From before the first row was read until the last score had come back.
    pub elapsed: Duration,
    /// The largest difference to the reference, when that was checked.
    pub max_abs_error: Option<f64>,
    /// How the plain loop compares, when that was asked for.
    pub ratios: Option<Ratios>,
}

/// Runs `plan` and prints its report.
pub fn run(plan: &Plan) -> Result<Outcome, Error> {
    check_plan(plan)?;
    interrupt::install()?;
    let mut output = plan.output.as_deref().map(ScoreFile::create).transpose()?;
    let mut outcome = score(plan, output.as_mut())?;
    if let Some(check) = &outcome.finished.check {
        outcome.max_abs_error = Some(check.conclude(&outcome.finished.keys)?);
    }
    if let Some(output) = output {
        output.commit()?;
    }
    if plan.baseline {
        outcome.ratios = Some(compare::run(plan)?);
    }
    report::print(plan, &outcome)?;
    Ok(outcome)
}

/// Whether scores go where reports go.
pub fn output_is_standard_output(plan: &Plan) -> bool {
    plan.output.as_deref().is_some_and(is_standard_output)
}

fn check_plan(plan: &Plan) -> Result<(), Error> {
    engine::check_backend(&plan.backend)?;
    // Looked at first: a run must not find out after an hour.
    if let Input::File(path) = &plan.input {
        check_input(&plan.input, path)?;
    }
    if plan.baseline && !plan.input.can_be_read_again() {
        let name = plan.input.name();
        return Err(Error::Usage(format!("--baseline reads its input more than once: {name} cannot be")));
    }
    if plan.json && output_is_standard_output(plan) {
        return Err(Error::Usage("--json wants standard output for itself: name another --output".into()));
    }
    Ok(())
}

fn check_input(input: &Input, path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(Error::Directory { name: input.name() }),
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Open { name: input.name(), source }),
    }
}

fn score(plan: &Plan, output: Option<&mut ScoreFile>) -> Result<Outcome, Error> {
    let source = plan.input.open()?;
    let progress = Progress::for_input(&source);
    let mut rows = Rows::new(source, &plan.key, &plan.value)?;
    let scorer = engine::open(&plan.backend, plan.window, plan.max_keys)?;
    let identity = scorer.identity();
    let uses = Uses {
        threshold: plan.threshold,
        max_keys: plan.max_keys,
        reference: plan.verify.then(|| Reference::new(plan.window)),
        output,
    };
    let mut pipeline = Pipeline::new(scorer, uses);
    let start = Instant::now();
    let counts = for_each_scorable(&mut rows, plan.skip_bad, &progress, |row, value| {
        pipeline.submit(Event { row: row.number, line: row.line, key: row.key, value, text: row.value })
    })?;
    let finished = pipeline.finish()?;
    let elapsed = start.elapsed();
    Ok(Outcome { counts, finished, identity, elapsed, max_abs_error: None, ratios: None })
}
