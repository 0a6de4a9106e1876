//! What needs no backend: commands, messages, metrics, the choice of a backend, storages.

pub mod commands;
pub mod messages;
pub mod metrics;
pub mod registry;
pub mod storage;
pub mod wire;

use crate::Case;

/// The areas of this layer, in the order of the catalogue.
pub const AREAS: &[&[Case]] =
    &[commands::CASES, messages::CASES, wire::CASES, metrics::CASES, registry::CASES, storage::CASES];
