//! One line of a report: a figure, its target, what was measured, and whether that reaches it.

use std::fmt;

use serde::Serialize;

use super::Area;
use super::charts::Charts;
use super::measure::{Quantiles, in_units};

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// Latencies: their quantiles.
    Latency(Quantiles),
    /// One number.
    Value {
        /// The number.
        value: f64,
        /// Its unit.
        unit: &'static str,
        /// Digits behind the point that mean something.
        #[serde(skip)]
        decimals: usize,
    },
    /// Nothing: why not.
    NotMeasured {
        /// The reason.
        not_measured: String,
    },
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(quantiles) => quantiles.fmt(f),
            Self::Value { value, unit, decimals } => write!(f, "{value:.decimals$} {unit}"),
            Self::NotMeasured { not_measured } => write!(f, "not measured: {not_measured}"),
        }
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What the figure is about.
    #[serde(serialize_with = "area_name")]
    pub area: Area,
    /// What was measured.
    pub figure: String,
    /// The bar, if there is one.
    pub target: Option<String>,
    /// What came out.
    #[serde(flatten)]
    pub measured: Measured,
    /// Whether the bar was reached, by what was measured; `None` without a bar and when nothing was measured.
    pub reached: Option<bool>,
    /// Under which conditions.
    pub conditions: String,
}

fn area_name<S: serde::Serializer>(area: &Area, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(area.name())
}

/// A line that is being made. It gets its area from the [`Table`] that it is added to.
#[derive(Debug)]
pub struct Draft {
    figure: String,
    target: Option<String>,
    measured: Measured,
    reached: Option<bool>,
    conditions: String,
}

impl Draft {
    /// A line of latencies.
    pub fn latency(figure: impl Into<String>, quantiles: Quantiles) -> Self {
        Self::new(figure.into(), Measured::Latency(quantiles))
    }

    /// A line of one number, of which so many digits behind the point mean something.
    pub fn value(figure: impl Into<String>, value: f64, unit: &'static str, decimals: usize) -> Self {
        Self::new(figure.into(), Measured::Value { value, unit, decimals })
    }

    /// A line of which nothing could be measured.
    pub fn not_measured(figure: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(figure.into(), Measured::NotMeasured { not_measured: reason.into() })
    }

    fn new(figure: String, measured: Measured) -> Self {
        Self { figure, target: None, measured, reached: None, conditions: String::new() }
    }

    /// With a bar for the median of latencies, in nanoseconds.
    pub fn p50_at_most(self, ns: f64) -> Self {
        match self.measured {
            Measured::Latency(Quantiles { p50, .. }) => self.judged(format!("p50 ≤ {}", in_units(ns)), p50 <= ns),
            _ => self,
        }
    }

    /// With a bar for the 99th percentile of latencies, in nanoseconds.
    pub fn p99_at_most(self, ns: f64) -> Self {
        match self.measured {
            Measured::Latency(Quantiles { p99, .. }) => self.judged(format!("p99 ≤ {}", in_units(ns)), p99 <= ns),
            _ => self,
        }
    }

    /// With an upper bar for the number, in its unit.
    pub fn at_most(self, bar: f64) -> Self {
        match self.measured {
            Measured::Value { value, unit, .. } => self.judged(format!("≤ {bar} {unit}"), value <= bar),
            _ => self,
        }
    }

    /// With a lower bar for the number, in its unit.
    pub fn at_least(self, bar: f64) -> Self {
        match self.measured {
            Measured::Value { value, unit, .. } => self.judged(format!("≥ {bar} {unit}"), value >= bar),
            _ => self,
        }
    }

    /// With a bar that more than one number decides.
    pub fn judged(self, target: impl Into<String>, reached: bool) -> Self {
        Self { target: Some(target.into()), reached: Some(reached), ..self }
    }

    /// With the conditions under which it was measured.
    pub fn under(self, conditions: impl Into<String>) -> Self {
        Self { conditions: conditions.into(), ..self }
    }
}

/// The lines in the order in which they were measured, and what is drawn.
#[derive(Debug)]
pub struct Table {
    /// What the lines that come next are about.
    pub area: Area,
    pub lines: Vec<Line>,
    pub charts: Charts,
}

impl Table {
    /// Adds a line, and shows it to whoever waits.
    pub fn add(&mut self, draft: Draft) {
        let Draft { figure, target, measured, reached, conditions } = draft;
        eprintln!("  {figure}: {measured}");
        self.lines.push(Line { area: self.area, figure, target, measured, reached, conditions });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTILES: Quantiles = Quantiles { p50: 100.0, p99: 2e3, p999: 3e6 };

    fn judged(draft: Draft) -> (String, bool) {
        (draft.target.expect("there is a bar"), draft.reached.expect("it is judged"))
    }

    #[test]
    fn a_bar_is_judged_by_what_was_measured() {
        let latency = || Draft::latency("a", QUANTILES);
        assert_eq!(judged(latency().p50_at_most(100.0)), ("p50 ≤ 100 ns".into(), true));
        assert_eq!(judged(latency().p50_at_most(99.0)), ("p50 ≤ 99 ns".into(), false));
        assert_eq!(judged(latency().p99_at_most(2e3)), ("p99 ≤ 2 µs".into(), true));
        assert_eq!(judged(latency().p99_at_most(1.5e3)), ("p99 ≤ 1.5 µs".into(), false));
        let value = || Draft::value("a", 30.0, "M/s", 1);
        assert_eq!(judged(value().at_least(30.0)), ("≥ 30 M/s".into(), true));
        assert_eq!(judged(value().at_least(30.5)), ("≥ 30.5 M/s".into(), false));
        assert_eq!(judged(value().at_most(30.0)), ("≤ 30 M/s".into(), true));
        assert_eq!(judged(value().at_most(29.0)), ("≤ 29 M/s".into(), false));
    }

    #[test]
    fn what_was_not_measured_reaches_nothing() {
        let nothing = Draft::not_measured("a", "no device");
        let draft = nothing.at_most(1.0).at_least(0.0).p50_at_most(1e9).p99_at_most(1e9);
        assert_eq!((draft.target, draft.reached), (None, None));
    }
}
