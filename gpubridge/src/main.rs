//! The `gpubridge` program: streams rows of a CSV file through actors and scores them.

use std::process::ExitCode;

mod program;

fn main() -> ExitCode {
    program::run()
}
