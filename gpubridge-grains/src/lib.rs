//! Virtual actors whose state lives in device memory: grains, silo, storage.
//!
//! - A grain is addressed by key and activated by its first call; one activation at a time, one turn at a time.
//! - A local call takes no task, no channel and no heap allocation.
//! - Handles stay valid through deactivation and restart; what an unclean stop took is marked lost, never misread.
#![forbid(unsafe_code)]

mod batch;
mod grain;
pub mod key;
mod silo;
pub mod storage;

pub use batch::{Computation, GrainBatch};
pub use gpubridge_runtime::wait;
pub use grain::{GrainCall, GrainRef};
pub use key::GrainKey;
pub use silo::{ShutdownReport, Silo, SiloConfig, UncleanPolicy};
