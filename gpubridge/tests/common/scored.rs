//! Readings that the program scores on some device, and tests that there may be no device for.

use std::process::Command;

use libtest_mimic::Trial;

use super::{Bench, finish};

/// Readings of a few sensors, some hundred each.
pub fn readings() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let rows = (0..2000).map(|row| format!("s{},{}\n", row % 5, random.i32(-500..500)));
    std::iter::once("sensor,value\n".to_owned()).chain(rows).collect()
}

/// A test, which is ignored for a reason if there is one.
pub fn trial(name: &str, ignored: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    let test = move || {
        test();
        Ok(())
    };
    Trial::test(name, test).with_kind(ignored).with_ignored_flag(!ignored.is_empty())
}

/// The report of a run that scores and verifies the readings, in an environment that `set` makes.
pub fn scores(set: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let bench = Bench::new();
    let file = bench.file("readings.csv", readings());
    let mut program = bench.command(&["stream", &file, "--key", "sensor", "--value", "value", "--verify"]);
    let report = finish(set(&mut program).spawn().unwrap()).report();
    assert!(report.contains("all 2000 scores"), "{report}");
    report
}
