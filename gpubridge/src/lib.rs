//! Actors whose state lives in GPU memory: library and program.
