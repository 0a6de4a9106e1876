//! The `gpubridge` program.

fn main() {}
