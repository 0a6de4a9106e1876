//! Devices by their traits: what they report, memory, commands, rings.

pub mod answers;
pub mod binding;
pub mod bulk;
pub mod compute;
pub mod copies;
pub mod lifecycle;
pub mod memory;
pub mod order;
pub mod report;
pub mod ring;
pub mod started;

use crate::Case;

/// The areas of this layer, in the order of the catalogue.
pub const AREAS: &[&[Case]] = &[
    report::CASES,
    memory::CASES,
    binding::CASES,
    copies::CASES,
    bulk::CASES,
    compute::CASES,
    ring::CASES,
    order::CASES,
    answers::CASES,
    lifecycle::CASES,
    started::CASES,
];
