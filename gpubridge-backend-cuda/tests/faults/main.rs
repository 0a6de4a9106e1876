//! What the suite cannot see: how the backend fails with its driver and its device, and that its windows lose nothing.
//!
//! Each case runs in a process of its own, on an emulated driver of its own settings (`tests/emulation/settings.hpp`). Without a
//! C++ compiler every case is ignored with that reason; `GPUBRIDGE_REQUIRE=cuda` turns it into a failure.

#[path = "../emulation/mod.rs"]
mod emulation;

mod bulk;
mod device;
mod errors;
mod held;
mod lost;
mod program;
mod shared;
mod stops;
mod sweep;
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Those that wait for long come first: others run meanwhile.
    let cases = [
        windows::CASES,
        sweep::CASES,
        stops::CASES,
        errors::CASES,
        lost::CASES,
        held::CASES,
        shared::CASES,
        bulk::CASES,
    ];
    program::main(&cases.concat())
}
