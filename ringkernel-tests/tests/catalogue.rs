//! Runs the cases that need no backend.

fn main() {
    ringkernel_tests::run_plain();
}
