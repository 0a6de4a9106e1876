//! `--verify`: every score against the reference.

use super::error::Error;
use super::keys::Keys;
use super::reference::{TOLERANCE, compare};
use super::tally::Scored;

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Check {
    checked: u64,
    mismatches: u64,
    first: Option<(Scored, f64)>,
    max_abs_error: f64,
}

impl Check {
    /// Compares a completed row's score with its reference.
    pub fn observe(&mut self, scored: Scored, reference: f64) {
        let (error, is_within) = compare(scored.score, reference);
        self.checked += 1;
        self.max_abs_error = self.max_abs_error.max(error);
        if !is_within {
            self.mismatches += 1;
            self.first.get_or_insert((scored, reference));
        }
    }

    /// The largest difference, if all were within the tolerance.
    pub fn conclude(&self, keys: &Keys) -> Result<f64, Error> {
        let Some((first, reference)) = self.first else { return Ok(self.max_abs_error) };
        Err(Error::Verification {
            mismatches: self.mismatches,
            scored: self.checked,
            tolerance: TOLERANCE,
            row: first.row,
            key: String::from_utf8_lossy(keys.text(first.key)).into_owned(),
            score: first.score,
            reference,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(row: u64, score: f32) -> Scored {
        Scored { row, key: 0, value: 0.0, score }
    }

    #[test]
    fn the_first_of_several_differences_is_named() {
        let mut keys = Keys::default();
        keys.intern(b"N1", 1);
        let mut check = Check::default();
        for (row, score) in [(1, 2.0), (2, 2.5), (3, f32::NAN)] {
            check.observe(scored(row, score), 2.0);
        }
        let message = check.conclude(&keys).unwrap_err().to_string();
        assert_eq!(
            message,
            "verification failed: 2 of 3 scores differ from the reference by more than 0.001; \
             the first at row 2, key \"N1\": score 2.5, reference 2"
        );
    }

    #[test]
    fn agreement_gives_the_largest_difference() {
        let mut check = Check::default();
        for score in [2.0, 2.0005] {
            check.observe(scored(1, score), 2.0);
        }
        let error = check.conclude(&Keys::default()).unwrap();
        assert!((error - 0.0005).abs() < 1e-6);
    }
}
