//! Virtual actors whose state lives in device memory: grains, silo, storage.
#![forbid(unsafe_code)]

pub mod key;
pub mod storage;

pub use key::GrainKey;
