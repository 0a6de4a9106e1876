//! The conformance suite of gpubridge: what a backend must do, as a table of plain functions that anything can run.
//!
//! A backend of your own runs it from a test target without the standard harness, in one file:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use gpubridge_abstractions::NullBackend as MyBackend;
//!
//! fn main() -> ExitCode {
//!     ringkernel_tests::main(&MyBackend::default())
//! }
//! ```
//!
//! Each [`Case`] checks one promise that the documentation of the traits and types makes under `# Behavior`: it returns if
//! the promise holds and panics, saying what it saw, if not. What a backend cannot run is listed as ignored, with the
//! reason in its place; nothing is passed over in silence. [`Suite`] has the rest: kernels of the suite's own, a table of
//! expected failures, running as a library to a [`Report`].
#![forbid(unsafe_code)]

pub mod call;
pub mod cases;
mod context;
mod counting;
pub mod lane;
mod markdown;
pub mod models;
mod report;
mod rig;
mod storage;
mod suite;
mod twins;

pub use cases::{Case, Check, Needs};
pub use context::Context;
#[doc(hidden)]
pub use counting::stats_alloc;
pub use markdown::capability_table;
pub use report::{CaseReport, Report, Status, Tally};
pub use suite::{ExpectedFailure, REQUIRE_VARIABLE, Suite, is_required, main, plain_main};
