//! The CPU backend of gpubridge: ring threads that really consume and kernels that really compute.
