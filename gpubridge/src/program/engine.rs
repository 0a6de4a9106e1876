//! The seam to the actors: what the program needs of whatever computes the scores.

use std::fmt;

use gpubridge::DeviceInfo;
use gpubridge::kernels::library;
use gpubridge::runtime::{BackendDevices, Selection};
use serde::Serialize;

use super::actors::Actors;
use super::error::EngineError;

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

/// Chooses the backend for a run; the reason says why.
pub fn select(backend: &str) -> Result<Selection, EngineError> {
    gpubridge::backends(library()).select(Some(backend), None).map_err(EngineError::Backend)
}

/// Starts the actors for windows of `window` values and at most `max_keys` keys.
pub fn open(backend: &str, window: u32, max_keys: u32) -> Result<impl Scorer + use<>, EngineError> {
    Actors::start(select(backend)?, window, max_keys)
}

/// The devices that actors can live on.
pub fn devices() -> Vec<DeviceLine> {
    let lines = |each: BackendDevices| match each.devices {
        Ok(devices) => devices.iter().map(|info| line(&each.backend, info)).collect(),
        Err(error) => vec![DeviceLine { backend: each.backend, device: "none".into(), detail: error.to_string() }],
    };
    gpubridge::backends(library()).devices().into_iter().flat_map(lines).collect()
}

fn line(backend: &str, info: &DeviceInfo) -> DeviceLine {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let detail = format!(
        "{} {}, {} units at {} MHz, {:.1} of {:.1} GiB free",
        info.architecture,
        info.kind,
        info.compute_units,
        info.clock_mhz,
        gib(info.available_memory_bytes),
        gib(info.total_memory_bytes)
    );
    DeviceLine { backend: backend.into(), device: format!("{} {}", info.index, info.name), detail }
}
