//! The seam to the actors: what the program needs of whatever computes the scores.

use std::fmt;

use serde::Serialize;

use super::error::EngineError;
use super::window::Windows;

/// Computes scores, one actor per key, with many rows in flight.
///
/// # Behaviour
/// - Keys are dense numbers; [`add_key`](Self::add_key) is called once for each, in order, before
///   its first row.
/// - Every submitted row is completed exactly once, through the `done` of any later or the same
///   call, with the token it was submitted with. Rows of one key are computed, and completed, in
///   the order of submission; rows of different keys in any order.
/// - A call that has to wait for the device gives up at the engine's deadline, with an error.
/// - Tokens count up from 0 without gaps, and no more than
///   [`MAX_IN_FLIGHT`](super::reorder::MAX_IN_FLIGHT) are in flight.
pub trait Scorer {
    /// A key's first row is about to come; `text` is the key as read.
    fn add_key(&mut self, key: u32, text: &[u8]) -> Result<(), EngineError>;

    /// Hands a row to the actor of `key`; may complete other rows, or this one, on the way.
    fn submit(&mut self, key: u32, value: f32, token: u64, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError>;

    /// Waits until at least one row has been completed; returns at once when none is in flight.
    fn wait(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError>;

    /// Waits until all rows have been completed, and stops the actors.
    fn finish(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError>;

    /// What the scores are computed on.
    fn identity(&self) -> Identity;
}

/// What computes the scores, and why that was chosen.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the backend.
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// Why these and no others.
    pub reason: String,
}

/// What an engine says at the end.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Its metrics, in the order to show them.
    pub metrics: Vec<Metric>,
}

/// One metric.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name, with the unit last.
    pub name: String,
    /// Its value.
    pub value: MetricValue,
}

/// A metric's value.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// An exact count.
    Count(u64),
    /// A rate, a ratio, a time.
    Number(f64),
    /// A name.
    Text(String),
}

impl fmt::Display for MetricValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricValue::Count(count) => write!(formatter, "{count}"),
            MetricValue::Number(number) => write!(formatter, "{number}"),
            MetricValue::Text(text) => write!(formatter, "{text}"),
        }
    }
}

/// A device that actors can live on, for `gpubridge devices`.
#[derive(Debug, Clone)]
pub struct DeviceLine {
    /// Name of its backend.
    pub backend: String,
    /// Its own name.
    pub device: String,
    /// What else there is to say.
    pub detail: String,
}

const BASELINE: &str = "baseline loop";
const BACKENDS: [&str; 2] = ["auto", "cpu"];

/// Checks that a backend of this name can be asked for.
pub fn check_backend(name: &str) -> Result<(), EngineError> {
    if BACKENDS.contains(&name) {
        return Ok(());
    }
    Err(EngineError::UnknownBackend { name: name.to_owned(), known: BACKENDS.join(", ") })
}

/// Starts an engine for windows of `window` values and at most `max_keys` actors.
pub fn open(backend: &str, window: u32, _max_keys: u32) -> Result<impl Scorer + use<>, EngineError> {
    check_backend(backend)?;
    Ok(LoopScorer { windows: Windows::new(window), keys: 0, computed: 0 })
}

/// The devices that actors can live on.
pub fn devices() -> Vec<DeviceLine> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let detail = format!("scores on the calling thread, {threads} hardware threads here");
    vec![DeviceLine { backend: BASELINE.into(), device: "host".into(), detail }]
}

/// Computes each score at once, on the calling thread.
#[derive(Debug)]
struct LoopScorer {
    windows: Windows,
    keys: u64,
    computed: u64,
}

impl Scorer for LoopScorer {
    fn add_key(&mut self, _key: u32, _text: &[u8]) -> Result<(), EngineError> {
        self.keys += 1;
        Ok(())
    }

    fn submit(&mut self, key: u32, value: f32, token: u64, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
        self.computed += 1;
        done(token, self.windows.score(key, value));
        Ok(())
    }

    fn wait(&mut self, _done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
        Ok(())
    }

    fn finish(&mut self, _done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError> {
        let metric = |name: &str, value| Metric { name: name.into(), value };
        let per_window = self.computed as f64 / self.keys.max(1) as f64;
        Ok(Summary {
            metrics: vec![
                metric("device_type", MetricValue::Text("CPU".into())),
                metric("windows", MetricValue::Count(self.keys)),
                metric("scores_computed", MetricValue::Count(self.computed)),
                metric("average_scores_per_window", MetricValue::Number(per_window)),
            ],
        })
    }

    fn identity(&self) -> Identity {
        Identity {
            backend: BASELINE.into(),
            device: "host".into(),
            reason: "no device backend is built into this program".into(),
        }
    }
}
