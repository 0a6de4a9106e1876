//! A complete backend in few lines, to be read as a model: `docs/backend-guide.md` walks through it. Its device is a
//! thread of this process, which owns memory, consumes a ring and runs the library's kernels by their CPU twins.
#![forbid(unsafe_code)]

mod backend;
mod memory;
mod ring;

pub use backend::CustomBackend;
