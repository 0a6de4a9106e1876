//! Virtual actors whose state lives in device memory: grains, silo, storage.
//!
//! - A grain is addressed by key and activated by its first call; one activation at a time, one turn at a time.
//! - A local call takes no task, no channel and no heap allocation.
//! - Handles stay valid through deactivation and restart; what an unclean stop took is marked lost, never misread.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use gpubridge_abstractions::{Backend, DeviceIndex, MemoryType, NullBackend};
//! use gpubridge_grains::storage::MemoryStorage;
//! use gpubridge_grains::{Silo, SiloConfig, wait};
//!
//! let device = NullBackend::default().open(DeviceIndex(0))?;
//! let silo = wait(Silo::start(device, Arc::new(MemoryStorage::new()), SiloConfig::default()))?;
//!
//! let grain = silo.grain("sensor-7")?;
//! let block = wait(grain.allocate(4 * 4, MemoryType::Default))?;
//! grain.write(block, &[1_u32, 2, 3, 4], 0).wait()?;
//!
//! // Saved and gone; the next call activates it again, under the same handle.
//! wait(grain.deactivate())?;
//! assert_eq!(silo.active_grains(), 0);
//! assert_eq!(wait(grain.read::<u32>(block, 1, 2))?, [2, 3]);
//!
//! assert!(wait(silo.shutdown(Duration::from_secs(10))).is_clean());
//! # Ok::<(), gpubridge_abstractions::Error>(())
//! ```
#![forbid(unsafe_code)]

mod batch;
mod call;
mod grain;
pub mod key;
mod silo;
pub mod storage;

pub use batch::{Computation, GrainBatch};
pub use call::GrainCall;
pub use gpubridge_runtime::wait;
pub use grain::GrainRef;
pub use key::GrainKey;
pub use silo::{ShutdownReport, Silo, SiloConfig, UncleanPolicy};
