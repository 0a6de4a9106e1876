//! The catalogue, by area.

pub mod device;
pub mod grains;
pub mod models;
pub mod plain;
pub mod runtime;

use crate::Context;

/// One claim and the function that checks it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it takes to hold: `plain`, `device`, `runtime`, `grains` or `models`.
    pub layer: &'static str,
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
    /// An allocator that counts ([`count_allocations!`](crate::count_allocations)). Such a case runs alone.
    CountedAllocations,
    /// The same and the library's kernels.
    CountedCompute,
    /// Rings with bulk staging.
    Bulk,
    /// The same and the library's kernels.
    BulkCompute,
}

/// All cases, area by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let layers = [plain::AREAS, device::AREAS, runtime::AREAS, grains::AREAS];
    layers.into_iter().flatten().copied().flatten().chain(models::CASES)
}

/// The layer of a module of this one: the segment behind `cases`.
const fn layer(module: &'static str) -> &'static str {
    let (_, within) = module.split_at(module_path!().len() + "::".len());
    let mut end = 0;
    while end < within.len() && within.as_bytes()[end] != b':' {
        end += 1;
    }
    within.split_at(end).0
}

/// The table of an area: functions of this module, each under its own name, with the promise that it checks and what it
/// needs of a backend.
macro_rules! table {
    ($area:literal: $($case:ident => $behavior:literal),* $(,)?) => {
        &[$($crate::cases::Case {
            layer: $crate::cases::layer(module_path!()),
            area: $area,
            name: stringify!($case),
            behavior: $behavior,
            check: $crate::cases::Check::Plain($case),
        }),*]
    };
    ($area:literal, $($needs:ident { $($case:ident => $behavior:literal),* $(,)? })*) => {
        &[$($($crate::cases::Case {
            layer: $crate::cases::layer(module_path!()),
            area: $area,
            name: stringify!($case),
            behavior: $behavior,
            check: $crate::cases::Check::Backend($crate::cases::Needs::$needs, $case),
        }),*),*]
    };
}
use table;
