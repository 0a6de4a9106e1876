//! What needs no backend: commands, messages, metrics, the choice of a backend and its device, storages.

pub mod commands;
pub mod messages;
pub mod metrics;
pub mod opening;
pub mod registry;
pub mod storage;
pub mod wire;

use crate::Case;

/// The areas of this layer, in the order of the catalogue.
pub const AREAS: &[&[Case]] =
    &[commands::CASES, messages::CASES, wire::CASES, metrics::CASES, registry::CASES, opening::CASES, storage::CASES];
