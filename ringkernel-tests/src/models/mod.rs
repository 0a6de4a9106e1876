//! Random sequences of operations against a simple model, and the replay of one.
//!
//! The model of an allocation is a vector of bytes. Whatever a sequence does, over several sessions or grains, lanes
//! and calls in flight, each answer must be the model's: contents, refusals by their kind, counts. A sequence that
//! fails is shortened and printed as a test that can be pasted and run:
//!
//! ```
//! use gpubridge_abstractions::MemoryType::*;
//! use gpubridge_abstractions::NullBackend;
//! use ringkernel_tests::models::Op::*;
//! use ringkernel_tests::models::replay;
//!
//! let backend = NullBackend::default();
//! replay(
//!     &backend,
//!     &[
//!         Open { session: 0, quota_bytes: None },
//!         Allocate { session: 0, size_bytes: 5, memory_type: Default },
//!         Write { session: 0, allocation: 0, offset_bytes: 1, size_bytes: 3, seed: 7, wait: false },
//!         Read { session: 0, allocation: 0, offset_bytes: 0, size_bytes: 5, wait: true },
//!     ],
//! );
//! ```
//!
//! The suite runs the same sequences every time. [`SEED_VARIABLE`] asks for others, [`CASES_VARIABLE`] for more.

mod code;
mod contents;
mod drawn;
mod grains;
mod resident;
mod search;

pub use contents::Kernel;
pub use grains::{GrainOp, replay_grains};
pub use resident::{Op, replay};
pub use search::{CASES_VARIABLE, SEED_VARIABLE};

use std::sync::Arc;

use gpubridge_abstractions::{ComputeResponse, Device, Error, ErrorKind};

use crate::Context;

/// What went wrong, in words.
type Checked<T = ()> = Result<T, String>;

/// Runs random sequences on resident memory; with kernels if `computing`.
pub(crate) fn search_resident(context: &Context, computing: bool) {
    let run = |ops: &[Op]| resident::run(context.device(), ops);
    search::search("resident memory", resident::sequences(computing), code::resident, run);
}

/// Runs random sequences on grains; with kernels if `computing`.
pub(crate) fn search_grains(context: &Context, computing: bool) {
    let open = || -> Arc<dyn Device> { context.device() };
    search::search("grains", grains::sequences(computing), code::grains, |ops| grains::run(&open, ops));
}

/// Fails with what is seen unless it is what the model says.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, model: T) -> Checked {
    if seen == model { Ok(()) } else { Err(format!("{what}: {seen:?}; the model says {model:?}")) }
}

/// What a call may be refused with: one of these kinds, or not at all if there are none.
#[derive(Debug, Default)]
struct Refusals(Vec<ErrorKind>);

impl Refusals {
    fn none() -> Self {
        Self::default()
    }

    /// One more kind, if that holds.
    fn with(mut self, kind: ErrorKind, holds: bool) -> Self {
        if holds {
            self.0.push(kind);
        }
        self
    }

    fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// The answer, if there must be one. `None` for a refusal of one of these kinds.
    fn check<T: std::fmt::Debug>(&self, answer: Result<T, Error>) -> Checked<Option<T>> {
        match answer {
            Ok(answer) if self.any() => Err(format!("was not refused with one of {:?} but gave {answer:?}", self.0)),
            Ok(answer) => Ok(Some(answer)),
            Err(error) if self.0.contains(&error.kind()) => Ok(None),
            Err(error) => Err(format!("was refused, {error}; the model allows {:?}", self.0)),
        }
    }
}

/// Compares what a kernel answered.
fn computed(response: &ComputeResponse, answer: Option<contents::Word>) -> Checked {
    same("success", (response.success, response.error), (true, None))?;
    let seen = (response.result.len_bytes(), response.result.u32_at(0));
    match answer {
        None => same("the answer's bytes and value", seen, (0, None)),
        Some(Some(value)) => same("the answer's bytes and value", seen, (4, Some(value))),
        // Of bytes that the model does not know.
        Some(None) => same("the answer's bytes", seen.0, 4),
    }
}
