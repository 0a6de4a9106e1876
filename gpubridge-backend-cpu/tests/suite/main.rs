//! What is special to the CPU backend; the conformance suite has the rest.

mod callers;
mod compute;
mod device;
mod kernels;
mod threads;
