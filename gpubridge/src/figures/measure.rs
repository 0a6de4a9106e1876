//! Latencies as histograms, comparisons as rounds run in turn.

use std::fmt;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Quantiles of latencies, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    #[serde(rename = "p50_ns")]
    pub p50: f64,
    /// The 99th percentile.
    #[serde(rename = "p99_ns")]
    pub p99: f64,
    /// The 99.9th percentile.
    #[serde(rename = "p999_ns")]
    pub p999: f64,
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {}, p99 {}, p99.9 {}", in_units(self.p50), in_units(self.p99), in_units(self.p999))
    }
}

/// Nanoseconds to three digits, in the unit that keeps them short.
pub fn in_units(ns: f64) -> String {
    match ns {
        1e6.. => format!("{} ms", rounded(ns / 1e6)),
        1e3.. => format!("{} µs", rounded(ns / 1e3)),
        _ => format!("{} ns", rounded(ns)),
    }
}

/// To three digits, but whole from a hundred on.
fn rounded(number: f64) -> f64 {
    let scale = 10_f64.powi(2 - (number.max(1.0).log10().floor() as i32).min(2));
    (number * scale).round() / scale
}

impl Quantiles {
    /// Those of a round that has one number only.
    pub(super) fn of_one(number: f64) -> Self {
        Self { p50: number, p99: number, p999: number }
    }
}

/// The latencies of one round.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Self {
        // Up to a minute, to three digits: allocated here, never while recording.
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order"))
    }

    pub fn since(&mut self, started: Instant) {
        self.record(started.elapsed().as_nanos() as f64);
    }

    /// Records a time, rounded up: a mean over a group of calls may fall between two nanoseconds.
    pub fn record(&mut self, ns: f64) {
        self.0.saturating_record(ns.ceil() as u64);
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64;
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// The middle of some numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What the rounds of one side came to.
#[derive(Clone, Debug, Default)]
pub struct Rounds(pub Vec<Quantiles>);

impl Rounds {
    /// Each quantile's median over the rounds.
    pub fn middle(&self) -> Quantiles {
        let of = |pick: fn(&Quantiles) -> f64| median(self.0.iter().map(pick));
        Quantiles { p50: of(|q| q.p50), p99: of(|q| q.p99), p999: of(|q| q.p999) }
    }

    /// The median of the rounds' ratios of medians: each round is compared with its neighbour in time.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(own, other)| own.p50 / other.p50))
    }

    /// The least median of any round: what the machine gives when it is left alone.
    pub fn best(&self) -> f64 {
        self.0.iter().map(|round| round.p50).fold(f64::INFINITY, f64::min)
    }
}

/// Runs all sides once per round, in turn, after one round that does not count.
pub fn in_turn<T, const N: usize>(rounds: usize, mut sides: [&mut dyn FnMut() -> T; N]) -> [Vec<T>; N] {
    let mut outcome = std::array::from_fn(|_| Vec::with_capacity(rounds));
    sides.iter_mut().for_each(|side| _ = side());
    for _ in 0..rounds {
        for (side, rounds) in sides.iter_mut().zip(&mut outcome) {
            rounds.push(side());
        }
    }
    outcome
}

/// Calls between two readings of the clock where a reading would be much of one call.
pub const GROUP: usize = 32;

/// What two readings of the clock with nothing between them cost: it is part of every latency measured one by one.
pub fn clock_cost_ns() -> f64 {
    let mut latencies = Latencies::new();
    for _ in 0..10_000 {
        latencies.since(Instant::now());
    }
    latencies.quantiles().p50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_spelled_short() {
        let spelled = [7.0, 250.4, 1_234.0, 2_500.0, 10_000.0, 2_500_000.0, 324e6].map(in_units);
        assert_eq!(spelled, ["7 ns", "250 ns", "1.23 µs", "2.5 µs", "10 µs", "2.5 ms", "324 ms"]);
    }
}
