//! One line of a report: a figure, its target, what was measured, and whether that reaches it.

use std::fmt;

use serde::Serialize;

use super::Area;
use super::charts::Charts;
use super::measure::{Quantiles, in_units};
use super::pace::{Loops, Offered, SHARES};

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

/// What a line has of open loops.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OpenLoop {
    /// One at each share of the measured peak.
    Offered {
        /// In the order of their shares.
        open_loop: [Offered; SHARES.len()],
    },
    /// None: it would mean nothing.
    None {
        /// The reason.
        no_open_loop: String,
    },
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interval_ns, achieved_percent, quantiles, .. } = self;
        write!(f, "{quantiles}; one each {}", in_units(*interval_ns))?;
        // Worth a word only where the caller did not keep up.
        if *achieved_percent < 99.0 { write!(f, ", {achieved_percent:.0} % of which achieved") } else { Ok(()) }
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
    /// Latencies in open loops, or why there are none; `None` where no single call is timed.
    #[serde(flatten)]
    pub open_loop: Option<OpenLoop>,
    /// Whether the bar was reached, by what was measured; `None` without a bar, when nothing was measured, and when the
    /// run does not judge.
    pub reached: Option<bool>,
    /// Why the run does not judge, of a line with a bar that it could be judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_judged: Option<&'static str>,
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
    open_loop: Option<OpenLoop>,
    reached: Option<bool>,
    conditions: String,
}

impl Draft {
    /// A line of latencies, in a closed loop and in open ones.
    pub fn latency(figure: impl Into<String>, loops: &Loops) -> Self {
        Self::new(figure.into(), Measured::Latency(loops.closed().middle())).open(loops)
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
        Self { figure, target: None, measured, open_loop: None, reached: None, conditions: String::new() }
    }

    /// With open loops at shares of the peak that the number is or comes from.
    pub fn open(self, loops: &Loops) -> Self {
        Self { open_loop: Some(OpenLoop::Offered { open_loop: loops.open() }), ..self }
    }

    /// With the reason why an open loop would mean nothing.
    pub fn no_open_loop(self, reason: impl Into<String>) -> Self {
        Self { open_loop: Some(OpenLoop::None { no_open_loop: reason.into() }), ..self }
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
    /// Why no bar is judged, if so.
    pub not_judged: Option<&'static str>,
}

impl Table {
    /// Adds a line, and shows it to whoever waits.
    pub fn add(&mut self, draft: Draft) {
        let Draft { figure, target, measured, open_loop, reached, conditions } = draft;
        eprintln!("  {figure}: {measured}");
        self.charts.latency(&figure, &measured, open_loop.as_ref());
        let not_judged = self.not_judged.filter(|_| reached.is_some());
        let reached = reached.filter(|_| not_judged.is_none());
        self.lines.push(Line { area: self.area, figure, target, measured, open_loop, reached, not_judged, conditions });
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
        let latency = || Draft::new("a".into(), Measured::Latency(QUANTILES));
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
    fn a_run_that_does_not_judge_says_so_of_the_lines_that_have_a_bar() {
        let mut table = Table {
            area: Area::Alloc,
            lines: Vec::new(),
            charts: Charts::new("cpu"),
            not_judged: Some("a quick run does not judge"),
        };
        table.add(Draft::value("a", 30.0, "M/s", 1).at_least(30.0));
        table.add(Draft::value("b", 30.0, "M/s", 1));
        table.not_judged = None;
        table.add(Draft::value("c", 30.0, "M/s", 1).at_least(30.0));
        let judged: Vec<_> = table.lines.iter().map(|line| (line.reached, line.not_judged)).collect();
        assert_eq!(judged, [(None, Some("a quick run does not judge")), (None, None), (Some(true), None)]);
    }

    #[test]
    fn a_caller_that_does_not_keep_up_is_told() {
        let of = |achieved_percent| Offered {
            share_percent: 80,
            interval_ns: 250.0,
            achieved_percent,
            quantiles: QUANTILES,
            worst_p999_ns: 3e6,
        };
        assert_eq!(of(99.5).to_string(), "p50 100 ns, p99 2 µs, p99.9 3 ms; one each 250 ns");
        assert_eq!(of(88.4).to_string(), "p50 100 ns, p99 2 µs, p99.9 3 ms; one each 250 ns, 88 % of which achieved");
    }

    #[test]
    fn what_was_not_measured_reaches_nothing() {
        let nothing = Draft::not_measured("a", "no device");
        let draft = nothing.at_most(1.0).at_least(0.0).p50_at_most(1e9).p99_at_most(1e9);
        assert_eq!((draft.target, draft.reached), (None, None));
    }
}
