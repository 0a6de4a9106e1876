//! The seam to the actors: what the program needs of whatever computes the scores.

use std::fmt;

use gpubridge::kernels::library;
use gpubridge::runtime::Selection;
use serde::Serialize;

use super::actors::Actors;
use super::error::EngineError;
use super::place::Place;

/// Computes scores, one actor per key, with many rows in flight.
///
/// # Behaviour
/// - Keys are dense numbers; [`add_key`](Self::add_key) is called once for each, in order, before
///   its first row.
/// - Every submitted row is completed exactly once, through the `done` of any later or the same
///   call, with the token it was submitted with. Rows of one key are computed, and completed, in
///   the order of submission; rows of different keys in any order.
/// - A call that has to wait for the device gives up at the engine's deadline, with an error.
/// - Dropped without [`stop`](Self::stop), after an error or an interrupt, it stops without
///   waiting for rows in flight.
/// - Tokens count up from 0 without gaps, and no more than
///   [`MAX_IN_FLIGHT`](super::reorder::MAX_IN_FLIGHT) are in flight.
pub trait Scorer {
    /// A key's first row is about to come; `text` is the key as read.
    fn add_key(&mut self, key: u32, text: &[u8]) -> Result<(), EngineError>;

    /// Hands a row to the actor of `key`; may complete other rows, or this one, on the way.
    fn submit(&mut self, key: u32, value: f32, token: u64, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError>;

    /// Waits until at least one row has been completed; returns at once when none is in flight.
    fn wait(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError>;

    /// Waits until all rows have been completed.
    fn finish(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError>;

    /// Stops the actors, of which nothing is in flight.
    fn stop(self) -> Result<(), EngineError>;

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
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// Chooses the device for a run; the reason says why.
pub fn select(place: &Place) -> Result<Selection, EngineError> {
    let registry = gpubridge::backends(library());
    registry.select(Some(&place.backend), Some(&place.device)).map_err(EngineError::Backend)
}

/// Starts the actors for windows of `window` values and at most `max_keys` keys.
pub fn open(place: &Place, window: u32, max_keys: u32) -> Result<impl Scorer + use<>, EngineError> {
    Actors::start(select(place)?, window, max_keys)
}
