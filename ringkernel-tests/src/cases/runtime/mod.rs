//! Resident memory over a device: sessions, requests, the pool, transfers, kernels, calls.

pub mod allocations;
pub mod bulk;
pub mod cache;
pub mod faults;
pub mod futures;
pub mod kernels;
pub mod lanes;
pub mod pool;
pub mod progress;
pub mod requests;
pub mod sessions;
pub mod sweep;
pub mod transfers;

use crate::Case;

/// The areas of this layer, in the order of the catalogue.
pub const AREAS: &[&[Case]] = &[
    requests::CASES,
    sessions::CASES,
    pool::CASES,
    transfers::CASES,
    bulk::CASES,
    sweep::CASES,
    cache::CASES,
    kernels::CASES,
    futures::CASES,
    progress::CASES,
    allocations::CASES,
    lanes::CASES,
    faults::CASES,
];
