//! No arguments: the flights of 2013, one actor per aircraft, every score checked.

use super::error::Error;
use super::place::Place;
use super::source::Input;
use super::stream::{self, Plan};

/// What the data set holds: rows, rows with a delay, rows without, aircraft with a delay.
const EXPECTED: [u64; 4] = [336_776, 328_521, 8_255, 4_037];

static FLIGHTS: &[u8] = include_bytes!("../../data/flights-2013.csv.gz");

/// Runs the demonstration.
pub fn run() -> Result<(), Error> {
    let outcome = stream::run(&Plan {
        input: Input::Embedded { name: "the flights of 2013 (in the program)", bytes: FLIGHTS },
        key: "tailnum".into(),
        value: "dep_delay".into(),
        window: 64,
        threshold: 3.0,
        place: Place::default(),
        output: None,
        verify: true,
        baseline: false,
        skip_bad: false,
        max_keys: 1_000_000,
        json: false,
    })?;
    let (counts, finished) = (outcome.counts, &outcome.finished);
    check([counts.rows, finished.tally.scored, counts.skipped, u64::from(finished.keys.len())])
}

fn check(seen: [u64; 4]) -> Result<(), Error> {
    if seen == EXPECTED {
        return Ok(());
    }
    let spell = |[rows, scored, skipped, keys]: [u64; 4]| {
        format!("{rows} rows, {scored} scored, {skipped} skipped, {keys} keys")
    };
    Err(Error::Demonstration { expected: spell(EXPECTED), seen: spell(seen) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_four_counts_is_checked() {
        assert!(check(EXPECTED).is_ok());
        for index in 0..4 {
            let mut seen = EXPECTED;
            seen[index] += 1;
            assert_eq!(check(seen).unwrap_err().exit_code(), 1);
        }
    }
}
