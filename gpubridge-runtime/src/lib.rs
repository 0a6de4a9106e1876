//! Registry, memory pool, kernel cache and resident memory of gpubridge.
