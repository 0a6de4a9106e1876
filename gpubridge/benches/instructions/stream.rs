//! An event of `gpubridge stream`: a row goes to its actor, and a score comes back and is used.
//!
//! From where the row was read and split, to where the score was tallied: the program's own pipeline and actors, with as
//! many rows in flight as it keeps. Each step submits a row and uses the score of an earlier one.

use super::OPERATIONS;
use super::grain::selection;
use super::program::actors::Actors;
use super::program::pipeline::{Event, Pipeline, Uses};

const KEYS: usize = 64;
/// More rows than are in flight at once.
const WARM_UP: usize = 4 * OPERATIONS;
/// The program's defaults.
const WINDOW: u32 = 64;
const THRESHOLD: f64 = 3.0;

/// Rows on their way, no end of them.
pub struct Rows {
    pipeline: Pipeline<'static, Actors>,
    keys: Vec<String>,
    row: u64,
}

impl Rows {
    pub fn new() -> Self {
        let actors = Actors::start(selection(), WINDOW, KEYS as u32).expect("the actors start");
        let uses = Uses { threshold: THRESHOLD, max_keys: KEYS as u32, reference: None, output: None };
        let keys = (0..KEYS).map(|key| format!("N{key:03}UA")).collect();
        let mut warm = Self { pipeline: Pipeline::new(actors, uses), keys, row: 0 };
        (0..WARM_UP).for_each(|_| warm.step());
        warm
    }

    #[inline]
    pub fn step(&mut self) {
        self.row += 1;
        let key = self.keys[self.row as usize % KEYS].as_bytes();
        // A value that differs from row to row, and for each key.
        let value = (self.row * 37 % 101) as f32;
        let event = Event { row: self.row, line: self.row + 1, key, value, text: b"" };
        self.pipeline.submit(event).expect("the row is taken");
    }
}
