//! Runs the cases that need no backend.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringkernel_tests::plain_main()
}
