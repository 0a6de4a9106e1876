//! The plain reference that `--verify` checks scores against: f64, two passes, nothing clever.

use std::collections::VecDeque;

/// Largest difference between a score and its reference, absolute, or relative to the reference
/// where that is larger than 1.
pub const TOLERANCE: f64 = 1e-3;

/// The earlier values of every key, at most `window` of each.
#[derive(Debug)]
pub struct Reference {
    window: usize,
    values_by_key: Vec<VecDeque<f32>>,
}

impl Reference {
    /// No key has any value yet.
    pub fn new(window: u32) -> Self {
        Reference { window: window as usize, values_by_key: Vec::new() }
    }

    /// The score of `value` among the earlier values of `key`; then `value` becomes one of them.
    pub fn score(&mut self, key: u32, value: f32) -> f64 {
        let key = key as usize;
        if key >= self.values_by_key.len() {
            self.values_by_key.resize_with(key + 1, VecDeque::new);
        }
        let earlier = &mut self.values_by_key[key];
        let score = score_among(earlier, value);
        if earlier.len() == self.window {
            earlier.pop_front();
        }
        earlier.push_back(value);
        score
    }
}

/// (x − mean) / σ with the population's σ, or 0 where that says nothing: fewer than two values, or
/// values that hardly differ. Differences to the oldest value keep what plain sums would lose.
fn score_among(earlier: &VecDeque<f32>, value: f32) -> f64 {
    if earlier.len() < 2 {
        return 0.0;
    }
    let count = earlier.len() as f64;
    let oldest = f64::from(earlier[0]);
    let mean_difference = earlier.iter().map(|&each| f64::from(each) - oldest).sum::<f64>() / count;
    let squares = earlier.iter().map(|&each| (f64::from(each) - oldest - mean_difference).powi(2)).sum::<f64>();
    let sigma = (squares / count).sqrt();
    let mean = oldest + mean_difference;
    if sigma <= 1e-6 * mean.abs().max(1.0) { 0.0 } else { (f64::from(value) - oldest - mean_difference) / sigma }
}

/// How far a score is from its reference, and whether that is within [`TOLERANCE`].
pub fn compare(score: f32, reference: f64) -> (f64, bool) {
    // A score beyond f32 is infinite in both.
    if score.is_infinite() && score == reference as f32 {
        return (0.0, true);
    }
    let error = (f64::from(score) - reference).abs();
    (error, error <= TOLERANCE * reference.abs().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(window: u32, values: &[f32]) -> Vec<f64> {
        let mut reference = Reference::new(window);
        values.iter().map(|&value| reference.score(0, value)).collect()
    }

    #[test]
    fn scores_computed_by_hand() {
        // Among 1, 3: mean 2, sigma 1. Among 1, 3, 5: mean 3, sigma sqrt(8/3).
        let among_three = 2.0 / (8.0_f64 / 3.0).sqrt();
        let seen = scores(8, &[1.0, 3.0, 5.0, 5.0]);
        assert_eq!(seen[..3], [0.0, 0.0, 3.0]);
        assert!((seen[3] - among_three).abs() < 1e-15);
    }

    #[test]
    fn only_the_last_w_values_count() {
        // With a window of 2 the score of 10 is among 3, 5: mean 4, sigma 1.
        assert_eq!(scores(2, &[1000.0, 1.0, 3.0, 5.0, 10.0])[4], 6.0);
    }

    #[test]
    fn values_that_hardly_differ_score_zero() {
        assert_eq!(scores(4, &[7.0, 7.0, 9.0])[2], 0.0);
        // Sigma of 0 and 1e-6 is 5e-7, within 1e-6; of 0 and 4e-6 it is 2e-6, beyond.
        assert_eq!(scores(4, &[0.0, 1e-6, 1.0])[2], 0.0);
        assert!(scores(4, &[0.0, 4e-6, 1.0])[2] > 1e5);
        // Around 1e6 the bound is 1: sigma 0.5 is within it, sigma 2 is not.
        assert_eq!(scores(4, &[1e6, 1e6 + 1.0, 2e6])[2], 0.0);
        assert!(scores(4, &[1e6, 1e6 + 4.0, 2e6])[2] > 1e5);
    }

    #[test]
    fn a_mean_of_100_000_with_sigma_1_loses_nothing() {
        let mut values: Vec<f32> = (0..64).map(|index| if index % 2 == 0 { 99_999.0 } else { 100_001.0 }).collect();
        values.push(100_003.0);
        assert_eq!(scores(64, &values)[64], 3.0);
    }

    #[test]
    fn keys_have_windows_of_their_own() {
        let mut reference = Reference::new(4);
        for value in [1.0, 3.0] {
            reference.score(0, value);
            reference.score(5, value * 10.0);
        }
        assert_eq!((reference.score(0, 5.0), reference.score(5, 20.0)), (3.0, 0.0));
        assert_eq!(reference.score(1, 20.0), 0.0);
    }

    #[test]
    fn tolerance_is_absolute_below_one_and_relative_above() {
        assert!(compare(0.0009, 0.0).1 && !compare(0.0011, 0.0).1);
        assert!(compare(1000.9, 1000.0).1 && !compare(1001.1, 1000.0).1);
        assert!(!compare(f32::NAN, 0.0).1 && !compare(0.0, f64::NAN).1);
        assert!(compare(f32::INFINITY, 1e40).1 && !compare(f32::NEG_INFINITY, 1e40).1);
        assert!(!compare(f32::INFINITY, 1.0).1);
    }
}
