//! What the suite cannot see: how the backend fails with its driver and its device, and that its windows lose nothing.
//!
//! Each case runs in a process of its own, on an emulated driver of its own settings (`tests/emulation/settings.hpp`). Without a
//! C++ compiler every case is ignored with that reason; `GPUBRIDGE_REQUIRE=cuda` turns it into a failure.

#[path = "../emulation/mod.rs"]
mod emulation;

mod bounded;
mod bulk;
mod device;
mod ending;
mod errors;
mod held;
mod lost;
mod phases;
mod posted;
mod program;
mod shared;
mod stops;
mod stuck;
mod sweep;
mod users;
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Those that wait for long come first: others run meanwhile.
    let slow = [users::CASES, windows::CASES, sweep::CASES, bounded::CASES, stops::CASES, phases::CASES, posted::CASES]
        .concat();
    let quick =
        [errors::CASES, lost::CASES, stuck::CASES, ending::CASES, held::CASES, shared::CASES, bulk::CASES].concat();
    program::main(&[slow, quick].concat())
}
