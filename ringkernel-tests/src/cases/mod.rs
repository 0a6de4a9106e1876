//! The catalogue, by area.

pub mod allocations;
pub mod answers;
pub mod batches;
pub mod binding;
pub mod cache;
pub mod commands;
pub mod compute;
pub mod copies;
pub mod device;
pub mod faults;
pub mod futures;
pub mod grains;
pub mod kernels;
pub mod lanes;
pub mod lifecycle;
pub mod memory;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod order;
pub mod outages;
pub mod persistence;
pub mod pool;
pub mod progress;
pub mod registry;
pub mod requests;
pub mod ring;
pub mod sessions;
pub mod shutdown;
pub mod silo;
pub mod storage;
pub mod sweep;
pub mod transfers;
pub mod wire;

use crate::Context;

/// One claim and the function that checks it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the claim is about.
    pub area: &'static str,
    /// The claim.
    pub name: &'static str,
    /// The promise that it checks, as the documentation of the traits and types names it: `Type::method/bullet`.
    pub behavior: &'static str,
    /// Checks it.
    pub check: Check,
}

impl Case {
    /// The name by which filters and tables know it: `area::name`.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.area, self.name)
    }
}

/// The function that checks a claim: returns if it holds; panics, saying what it saw, if not.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Needs nothing.
    Plain(fn()),
    /// Needs a backend.
    Backend(Needs, fn(&Context)),
}

/// What a case needs of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Allocating and copying.
    Memory,
    /// The library's kernels.
    Compute,
    /// Kernels of the suite's own, as CPU twins.
    Twins,
    /// The library's kernels, and an allocator that counts ([`count_allocations!`](crate::count_allocations)). Such a
    /// case runs alone.
    CountedAllocations,
}

/// All cases, area by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let plain = [commands::CASES, messages::CASES, wire::CASES, metrics::CASES, registry::CASES, storage::CASES];
    let device = [
        device::CASES,
        memory::CASES,
        binding::CASES,
        copies::CASES,
        compute::CASES,
        ring::CASES,
        order::CASES,
        answers::CASES,
        lifecycle::CASES,
    ];
    let runtime = [
        requests::CASES,
        sessions::CASES,
        pool::CASES,
        transfers::CASES,
        sweep::CASES,
        cache::CASES,
        kernels::CASES,
        futures::CASES,
        progress::CASES,
        allocations::CASES,
        lanes::CASES,
    ];
    let grains = [
        grains::CASES,
        silo::CASES,
        batches::CASES,
        persistence::CASES,
        outages::CASES,
        shutdown::CASES,
        faults::CASES,
        models::CASES,
    ];
    plain.into_iter().chain(device).chain(runtime).chain(grains).flatten()
}

/// The table of an area: functions of this module, each under its own name, with the promise that it checks and what it
/// needs of a backend.
macro_rules! table {
    ($area:literal: $($case:ident => $behavior:literal),* $(,)?) => {
        &[$($crate::cases::Case {
            area: $area,
            name: stringify!($case),
            behavior: $behavior,
            check: $crate::cases::Check::Plain($case),
        }),*]
    };
    ($area:literal, $($needs:ident { $($case:ident => $behavior:literal),* $(,)? })*) => {
        &[$($($crate::cases::Case {
            area: $area,
            name: stringify!($case),
            behavior: $behavior,
            check: $crate::cases::Check::Backend($crate::cases::Needs::$needs, $case),
        }),*),*]
    };
}
use table;
