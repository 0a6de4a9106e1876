//! Grains and their silo over a device.

pub mod batches;
pub mod grain;
pub mod outages;
pub mod persistence;
pub mod shutdown;
pub mod silo;

use crate::Case;

/// The areas of this layer, in the order of the catalogue.
pub const AREAS: &[&[Case]] =
    &[grain::CASES, silo::CASES, batches::CASES, persistence::CASES, outages::CASES, shutdown::CASES];
