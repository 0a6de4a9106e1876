//! `--baseline`: a plain single-threaded loop in turn with the actors, on the same rows.
//!
//! Both use the same parser, the same key table, the same window layout and the same arithmetic,
//! and keep the same counts. Neither writes or verifies scores here.

use std::time::{Duration, Instant};

use super::csv::Rows;
use super::engine;
use super::error::Error;
use super::interrupt;
use super::keys::{Interned, Keys};
use super::pipeline::{Event, Finished, Pipeline, Uses};
use super::progress::Progress;
use super::rows::for_each_scorable;
use super::stream::Plan;
use super::tally::{Scored, Tally};
use super::window::Windows;

/// Rounds are added until this much time has gone by.
const ENOUGH: Duration = Duration::from_secs(3);
const MAX_ROUNDS: usize = 9;
/// Most rows, and most bytes of their keys, that are held for the comparison from parsed rows.
const MAX_PARSED_ROWS: usize = 12_000_000;
const MAX_PARSED_BYTES: usize = 256 * 1024 * 1024;

/// Median times of the two.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The plain loop's.
    pub plain_loop: Duration,
    /// The actors'.
    pub actors: Duration,
}

impl Pair {
    /// The plain loop's time over the actors': above 1 the actors are faster.
    pub fn ratio(&self) -> f64 {
        self.plain_loop.as_secs_f64() / self.actors.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// How the plain loop compares to the actors.
#[derive(Debug, Clone, Copy)]
pub struct Ratios {
    /// From the file to the scores.
    pub from_file: Pair,
    /// From rows already parsed to the scores.
    pub from_rows: Pair,
    /// Median time of reading and parsing alone, with nothing done with the rows.
    pub parsing: Duration,
    /// How many of the rows the second is about: all, unless there are very many.
    pub parsed_rows: usize,
    /// How often each was run.
    pub rounds: usize,
}

/// Runs both in turn, several times.
pub fn run(plan: &Plan) -> Result<Ratios, Error> {
    let parsed = Parsed::read(plan)?;
    let mut times: [Vec<Duration>; 5] = Default::default();
    let start = Instant::now();
    while times[0].is_empty() || (start.elapsed() < ENOUGH && times[0].len() < MAX_ROUNDS) {
        // Whoever goes first in one round goes second in the next.
        let loop_first = times[0].len().is_multiple_of(2);
        for is_loop in [loop_first, !loop_first] {
            let (from_file, from_rows) = if is_loop {
                (from_file(plan, PlainLoop::new(plan))?, parsed.feed(PlainLoop::new(plan))?)
            } else {
                (from_file(plan, actors(plan)?)?, parsed.feed(actors(plan)?)?)
            };
            let first = if is_loop { 0 } else { 2 };
            times[first].push(from_file);
            times[first + 1].push(from_rows);
        }
        times[4].push(from_file(plan, Nothing)?);
    }
    let rounds = times[0].len();
    let [loop_file, loop_rows, actors_file, actors_rows, parsing] = times.map(median);
    Ok(Ratios {
        from_file: Pair { plain_loop: loop_file, actors: actors_file },
        from_rows: Pair { plain_loop: loop_rows, actors: actors_rows },
        parsing,
        parsed_rows: parsed.rows.len(),
        rounds,
    })
}

/// Whatever takes rows and scores them.
trait Contender {
    /// What is dropped when the time was taken.
    type Left;

    fn take(&mut self, event: Event<'_>) -> Result<(), Error>;
    fn finish(self) -> Result<Self::Left, Error>;
}

/// No queue, no other thread: each score is computed where the row is read.
struct PlainLoop {
    keys: Keys,
    windows: Windows,
    tally: Tally,
    max_keys: u32,
}

impl PlainLoop {
    fn new(plan: &Plan) -> Self {
        PlainLoop {
            keys: Keys::default(),
            windows: Windows::new(plan.window),
            tally: Tally::new(plan.threshold),
            max_keys: plan.max_keys,
        }
    }
}

impl Contender for PlainLoop {
    type Left = Self;

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        let key = match self.keys.intern(event.key, self.max_keys) {
            Interned::Known(key) | Interned::New(key) => key,
            Interned::Full => return Err(Error::TooManyKeys { line: event.line, limit: self.max_keys }),
        };
        let score = self.windows.score(key, event.value);
        self.tally.observe(Scored { row: event.row, key, value: event.value, score });
        Ok(())
    }

    fn finish(self) -> Result<Self, Error> {
        Ok(std::hint::black_box(self))
    }
}

/// Does nothing: what is left is the parser.
struct Nothing;

impl Contender for Nothing {
    type Left = ();

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        std::hint::black_box(event);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<S: engine::Scorer> Contender for Pipeline<'_, S> {
    type Left = (Finished, S);

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        self.submit(event)
    }

    fn finish(self) -> Result<(Finished, S), Error> {
        Pipeline::finish(self).map(std::hint::black_box)
    }
}

fn actors(plan: &Plan) -> Result<impl Contender + use<>, Error> {
    let scorer = engine::open(&plan.place, plan.window, plan.max_keys)?;
    let uses = Uses { threshold: plan.threshold, max_keys: plan.max_keys, reference: None, output: None };
    Ok(Pipeline::new(scorer, uses))
}

fn from_file(plan: &Plan, mut contender: impl Contender) -> Result<Duration, Error> {
    let mut rows = Rows::new(plan.input.open()?, &plan.key, &plan.value)?;
    let start = Instant::now();
    for_each_scorable(&mut rows, plan.skip_bad, &Progress::hidden(), |row, value| {
        contender.take(Event { row: row.number, line: row.line, key: row.key, value, text: row.value })
    })?;
    let left = contender.finish()?;
    let elapsed = start.elapsed();
    drop(left);
    Ok(elapsed)
}

/// Rows with their keys still as text: both contenders look them up.
struct Parsed {
    keys: Vec<u8>,
    /// Where each row's key ends, its value, its number.
    rows: Vec<(usize, f32, u64)>,
}

impl Parsed {
    fn read(plan: &Plan) -> Result<Self, Error> {
        let mut parsed = Parsed { keys: Vec::new(), rows: Vec::new() };
        let mut rows = Rows::new(plan.input.open()?, &plan.key, &plan.value)?;
        for_each_scorable(&mut rows, plan.skip_bad, &Progress::hidden(), |row, value| {
            if parsed.rows.len() < MAX_PARSED_ROWS && parsed.keys.len() + row.key.len() <= MAX_PARSED_BYTES {
                parsed.keys.extend_from_slice(row.key);
                parsed.rows.push((parsed.keys.len(), value, row.number));
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    fn feed(&self, mut contender: impl Contender) -> Result<Duration, Error> {
        interrupt::check()?;
        let start = Instant::now();
        let mut begin = 0;
        for &(end, value, row) in &self.rows {
            let key = &self.keys[begin..end];
            begin = end;
            contender.take(Event { row, line: 0, key, value, text: b"" })?;
        }
        let left = contender.finish()?;
        let elapsed = start.elapsed();
        drop(left);
        Ok(elapsed)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
