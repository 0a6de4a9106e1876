//! The catalogue, by area.

pub mod cache;
pub mod faults;
pub mod futures;
pub mod grains;
pub mod kernels;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod persistence;
pub mod pool;
pub mod progress;
pub mod requests;
pub mod sessions;
pub mod shutdown;
pub mod silo;
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
    /// An allocator that counts ([`count_allocations!`](crate::count_allocations)).
    CountedAllocations,
}

/// All cases, area by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let plain = [messages::CASES, wire::CASES, metrics::CASES];
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
    ];
    let grains = [grains::CASES, silo::CASES, persistence::CASES, shutdown::CASES, faults::CASES, models::CASES];
    plain.into_iter().chain(runtime).chain(grains).flatten()
}

/// The table of an area: functions of this module, each under its own name, with the promise that it checks and what it
/// needs of a backend.
macro_rules! table {
    ($area:literal: $($case:ident $(=> $behavior:literal)?),* $(,)?) => {
        &[$($crate::cases::Case {
            area: $area,
            name: stringify!($case),
            behavior: concat!($($behavior)?),
            check: $crate::cases::Check::Plain($case),
        }),*]
    };
    ($area:literal, $($needs:ident { $($case:ident $(=> $behavior:literal)?),* $(,)? })*) => {
        &[$($($crate::cases::Case {
            area: $area,
            name: stringify!($case),
            behavior: concat!($($behavior)?),
            check: $crate::cases::Check::Backend($crate::cases::Needs::$needs, $case),
        }),*),*]
    };
}
use table;
