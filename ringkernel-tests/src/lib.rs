//! The conformance suite that a gpubridge backend author runs.
