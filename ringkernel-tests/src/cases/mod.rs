//! The catalogue, by area.

pub mod messages;
pub mod metrics;
pub mod wire;

/// One claim and the function that checks it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the claim is about.
    pub area: &'static str,
    /// The claim.
    pub name: &'static str,
    /// Returns if the claim holds; panics, saying what it saw, if not.
    pub run: fn(),
}

/// All cases, area by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [messages::CASES, wire::CASES, metrics::CASES].into_iter().flatten()
}

/// The table of an area: functions of this module, each under its own name.
macro_rules! table {
    ($area:literal: $($case:ident),* $(,)?) => {
        &[$($crate::cases::Case { area: $area, name: stringify!($case), run: $case }),*]
    };
}
use table;
