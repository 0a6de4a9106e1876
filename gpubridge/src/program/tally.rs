//! What the report says about the scores, kept as they come by.

/// How many of the largest scores are listed.
pub const LARGEST: usize = 10;

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Number of the data row.
    pub row: u64,
    /// Number of its key.
    pub key: u32,
    /// Its value.
    pub value: f32,
    /// Its score.
    pub score: f32,
}

/// Counts, and the largest scores.
#[derive(Debug, Clone)]
pub struct Tally {
    threshold: f64,
    /// Rows scored.
    pub scored: u64,
    /// Of these, rows with |score| ≥ the threshold.
    pub anomalies: u64,
    /// The largest |score|, largest first; of equal ones the earlier row first.
    pub largest: Vec<Scored>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(threshold: f64) -> Self {
        Tally { threshold, scored: 0, anomalies: 0, largest: Vec::with_capacity(LARGEST + 1) }
    }

    /// Takes note of a row; rows come in input order.
    pub fn observe(&mut self, scored: Scored) {
        self.scored += 1;
        let size = scored.score.abs();
        self.anomalies += u64::from(f64::from(size) >= self.threshold);
        if self.largest.len() == LARGEST && size <= self.largest[LARGEST - 1].score.abs() {
            return;
        }
        let place = self.largest.partition_point(|each| each.score.abs() >= size);
        self.largest.insert(place, scored);
        self.largest.truncate(LARGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_largest_are_those_of_a_full_sort() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut tally, mut all) = (Tally::new(2.0), Vec::new());
        for row in 1..=1000 {
            let score = (random.i32(-40..=40) as f32) / 10.0;
            let scored = Scored { row, key: 0, value: 0.0, score };
            tally.observe(scored);
            all.push(scored);
        }
        let anomalies = all.iter().filter(|each| each.score.abs() >= 2.0).count() as u64;
        all.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
        assert_eq!(tally.largest, all[..LARGEST]);
        assert_eq!((tally.scored, tally.anomalies), (1000, anomalies));
    }
}
