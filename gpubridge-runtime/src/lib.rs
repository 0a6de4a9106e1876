//! Registry, memory pool, kernel cache and resident memory of gpubridge.
#![forbid(unsafe_code)]

pub mod pool;
