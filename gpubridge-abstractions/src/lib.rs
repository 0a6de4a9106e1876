//! Traits, messages, metrics, errors and ids of gpubridge, with the smallest correct backend.
