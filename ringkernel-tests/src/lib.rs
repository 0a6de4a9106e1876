//! The conformance suite of gpubridge: what must hold, as a table of plain functions that anything can run.
//!
//! Each [`Case`] is a function that returns if its claim holds and panics, saying what it saw, if not.
#![forbid(unsafe_code)]

pub mod cases;

pub use cases::Case;
