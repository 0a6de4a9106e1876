//! Runs the catalogue: one test for each case, named `area::claim`, with the usual filters and `--list`.

use libtest_mimic::{Arguments, Trial};
use ringkernel_tests::{Case, cases};

fn main() {
    let trials = cases::all().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(case: &'static Case) -> Trial {
    Trial::test(format!("{}::{}", case.area, case.name), || {
        (case.run)();
        Ok(())
    })
}
