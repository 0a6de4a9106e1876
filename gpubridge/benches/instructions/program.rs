//! The program's own sources, as far as a row passes through them on its way to its actor and back.

#![allow(dead_code, unused_imports, reason = "only the way of a row is used here, and no unit test is run")]

#[path = "../../src/program/actors.rs"]
pub mod actors;
#[path = "../../src/program/engine.rs"]
pub mod engine;
#[path = "../../src/program/error.rs"]
pub mod error;
#[path = "../../src/program/interrupt.rs"]
mod interrupt;
#[path = "../../src/program/keys.rs"]
mod keys;
#[path = "../../src/program/output.rs"]
mod output;
#[path = "../../src/program/pipeline.rs"]
pub mod pipeline;
#[path = "../../src/program/place.rs"]
mod place;
#[path = "../../src/program/process.rs"]
mod process;
#[path = "../../src/program/reference.rs"]
mod reference;
#[path = "../../src/program/reorder.rs"]
mod reorder;
#[path = "../../src/program/tally.rs"]
mod tally;
#[path = "../../src/program/verify.rs"]
mod verify;
#[path = "../../src/program/window.rs"]
mod window;
