//! The kernel library against plain references: every kernel, over sizes around each block and loop bound.

mod call;
mod elementwise;
mod matrices;
mod reductions;
mod register;
mod shapes;
mod tables;
mod zscore;
