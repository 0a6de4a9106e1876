//! `gpubridge stream`: one input through the actors, from the options to the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cli::StreamArgs;
use super::compare::{self, Ratios};
use super::csv::Rows;
use super::engine::{self, Identity, Scorer};
use super::error::{EngineError, Error};
use super::interrupt;
use super::output::{ScoreFile, is_standard_output};
use super::pipeline::{Event, Finished, Pipeline, Uses};
use super::place::Place;
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
    /// Where it is scored.
    pub place: Place,
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
            place: args.place,
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
    let mut outcome = score(plan, || engine::open(&plan.place, plan.window, plan.max_keys))?;
    if plan.baseline {
        outcome.ratios = Some(compare::run(plan)?);
    }
    report::print(plan, &outcome)?;
    Ok(outcome)
}

/// Scores the input on the engine that `open_engine` starts. Only scores that pass their checks
/// get to their file.
fn score<S: Scorer>(plan: &Plan, open_engine: impl FnOnce() -> Result<S, EngineError>) -> Result<Outcome, Error> {
    let mut output = plan.output.as_deref().map(ScoreFile::create).transpose()?;
    let mut outcome = feed(plan, open_engine, output.as_mut())?;
    if let Some(check) = &outcome.finished.check {
        outcome.max_abs_error = Some(check.conclude(&outcome.finished.keys)?);
    }
    if let Some(output) = output {
        output.commit()?;
    }
    Ok(outcome)
}

/// Whether scores go where reports go.
pub fn output_is_standard_output(plan: &Plan) -> bool {
    plan.output.as_deref().is_some_and(is_standard_output)
}

fn check_plan(plan: &Plan) -> Result<(), Error> {
    engine::select(&plan.place)?;
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

fn feed<S: Scorer>(
    plan: &Plan,
    open_engine: impl FnOnce() -> Result<S, EngineError>,
    output: Option<&mut ScoreFile>,
) -> Result<Outcome, Error> {
    let source = plan.input.open()?;
    let progress = Progress::for_input(&source);
    let mut rows = Rows::new(source, &plan.key, &plan.value)?;
    let scorer = open_engine()?;
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
    let (finished, scorer) = pipeline.finish()?;
    let elapsed = start.elapsed();
    scorer.stop()?;
    Ok(Outcome { counts, finished, identity, elapsed, max_abs_error: None, ratios: None })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::engine::Summary;
    use super::*;

    /// Scores everything with the same number.
    struct Wrong(f32);

    impl Scorer for Wrong {
        fn add_key(&mut self, _key: u32, _text: &[u8]) -> Result<(), EngineError> {
            Ok(())
        }

        fn submit(
            &mut self,
            _key: u32,
            _value: f32,
            token: u64,
            done: &mut impl FnMut(u64, f32),
        ) -> Result<(), EngineError> {
            done(token, self.0);
            Ok(())
        }

        fn wait(&mut self, _done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
            Ok(())
        }

        fn finish(&mut self, _done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError> {
            Ok(Summary::default())
        }

        fn stop(self) -> Result<(), EngineError> {
            Ok(())
        }

        fn identity(&self) -> Identity {
            Identity { backend: "wrong".into(), device: "test".into(), reason: "test".into() }
        }
    }

    fn plan(output: PathBuf, verify: bool) -> Plan {
        Plan {
            input: Input::Embedded { name: "test", bytes: b"k,v\na,1\na,3\na,5\n" },
            key: "k".into(),
            value: "v".into(),
            window: 8,
            threshold: 3.0,
            place: Place::default(),
            output: Some(output),
            verify,
            baseline: false,
            skip_bad: false,
            max_keys: 10,
            json: false,
        }
    }

    #[test]
    fn wrong_scores_end_with_1_and_leave_the_output_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        for existing in [None, Some("old")] {
            let path = directory.path().join("scores.csv");
            if let Some(text) = existing {
                fs::write(&path, text).unwrap();
            }
            // The scores are 0, 0, 3: the first two are missed by a little more than is allowed.
            let error = score(&plan(path.clone(), true), || Ok(Wrong(0.00101))).unwrap_err();
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().starts_with("verification failed: 3 of 3 scores"), "{error}");
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), existing);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), existing.iter().count());
        }
    }

    #[test]
    fn without_verification_scores_are_taken_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.csv");
        let outcome = score(&plan(path.clone(), false), || Ok(Wrong(0.5))).unwrap();
        assert_eq!(outcome.max_abs_error, None);
        assert_eq!(fs::read_to_string(path).unwrap(), "row,key,value,score\n1,a,1,0.5\n2,a,3,0.5\n3,a,5,0.5\n");
    }
}
