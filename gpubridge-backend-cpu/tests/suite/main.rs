//! The CPU backend, tested through the traits alone.

mod bench;
mod callers;
mod compute;
mod copies;
mod device;
mod held;
mod kernels;
mod lifecycle;
mod parallel;
mod refusals;
