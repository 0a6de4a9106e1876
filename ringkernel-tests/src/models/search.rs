//! Looks for a sequence that fails, and shortens it.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::Checked;
use crate::suite::panic_message;

/// The environment variable that names the seed of the sequences: any number. The same seed gives the same sequences.
pub const SEED_VARIABLE: &str = "GPUBRIDGE_MODEL_SEED";
/// The environment variable that says how many sequences each case tries. A run that takes longer than the suite's
/// deadline for a case needs a longer one ([`Suite::with_deadline`](crate::Suite::with_deadline)).
pub const CASES_VARIABLE: &str = "GPUBRIDGE_MODEL_CASES";

/// Sequences that each case tries unless it is told otherwise: a few seconds' work.
const CASES: u32 = 64;

/// How long a failing sequence is shortened at most; where each attempt hangs until its deadline there are few.
const SHRINK_MS: u32 = 40_000;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| panic!("{variable} is `{text}`: it must be a whole number")),
        Err(_) => otherwise,
    }
}

/// Runs random sequences until one fails.
///
/// # Panics
/// With the shortest sequence found that fails, as a test, and what is seen when it runs.
pub(super) fn search<T: Debug + Clone>(
    what: &str,
    sequences: impl Strategy<Value = Vec<T>>,
    code: fn(&[T]) -> String,
    run: impl Fn(&[T]) -> Checked,
) {
    let seed = number(SEED_VARIABLE, 0);
    let cases = u32::try_from(number(CASES_VARIABLE, CASES.into())).unwrap_or(u32::MAX);
    let config = Config { cases, failure_persistence: None, max_shrink_time: SHRINK_MS, ..Config::default() };
    let mut words = [0; 32];
    words[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &words));
    let outcome = runner.run(&sequences, |ops| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(&ops)));
        ran.unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(&*panic)))).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("no sequences on {what}: {why}"),
        Err(TestError::Fail(seen, ops)) => panic!(
            "a sequence on {what} differs from the model: {seen}\n\
             It was found with {SEED_VARIABLE}={seed} {CASES_VARIABLE}={cases}. The shortest that fails:\n\n{}",
            code(&ops)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_sequence_that_fails_is_reported() {
        let sequences = proptest::collection::vec(0..100_u32, 1..30);
        let run = |ops: &[u32]| match ops.iter().find(|op| **op >= 17) {
            Some(op) => Err(format!("{op} is seen")),
            None => Ok(()),
        };
        let found = catch_unwind(AssertUnwindSafe(|| search("numbers", sequences, |ops| format!("{ops:?}"), run)));
        let message = panic_message(&*found.expect_err("there are such sequences"));
        assert!(message.contains("17 is seen") && message.ends_with("[17]"), "{message}");
        assert!(message.contains(SEED_VARIABLE), "{message}");
    }
}
