//! The conformance suite of gpubridge: what must hold, as a table of plain functions that anything can run.
//!
//! Each [`Case`] is a function that returns if its claim holds and panics, saying what it saw, if not. Cases of messages
//! and metrics need nothing; the others take a [`Context`], which opens devices of the backend under test. A backend
//! runs them all in one line, from a test target without the standard harness:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use gpubridge_abstractions::NullBackend;
//! use ringkernel_tests::Context;
//!
//! ringkernel_tests::run(&Context::new("null", |_| Arc::new(NullBackend::default())));
//! ```
//!
//! What a backend cannot run is listed as ignored, with the reason in its place; nothing is passed over in silence.
#![forbid(unsafe_code)]

pub mod cases;
mod context;
mod rig;
mod run;
mod storage;
mod twins;

pub use cases::{Case, Check, Needs};
pub use context::Context;
pub use run::{run, run_plain};
