//! The ring (layout and host half) and the kernel library of gpubridge, each kernel with its CPU twin.
