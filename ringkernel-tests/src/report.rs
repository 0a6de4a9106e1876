//! What a run of the suite came to, as data and as text.

use std::collections::BTreeMap;
use std::fmt;

use gpubridge_abstractions::Capabilities;
use serde::Serialize;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The claim holds.
    Passed,
    /// It does not, or the case was not done by its deadline, or an expected failure passed.
    Failed,
    /// The backend lacks what the case needs, or the case failed as the table of expected failures says.
    Ignored,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Ignored => "ignored",
        })
    }
}

/// How one case ended, and why.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// The claim, unique within its area.
    pub name: &'static str,
    /// What the claim is about.
    pub area: &'static str,
    /// What it takes to hold, as [`Case::layer`](crate::Case::layer).
    #[serde(skip)]
    pub layer: &'static str,
    /// The promise of the documentation that it checks: `Type::method/bullet`.
    pub behavior: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was seen when it failed, or why it was ignored.
    pub reason: Option<String>,
    /// How long it took; 0 when it did not run.
    pub seconds: f64,
}

impl fmt::Display for CaseReport {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7} {}::{}", self.status.to_string(), self.area, self.name)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {}", reason.replace('\n', "\n        ")))
    }
}

/// What a run of the suite came to. Its `Display` is a line per case and a summary; [`Serialize`] gives the fields.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the backend.
    pub backend: String,
    /// The name of its device, or why there is none.
    pub device: String,
    /// What its device can do; `None` without a device.
    #[serde(skip)]
    pub capabilities: Option<Capabilities>,
    /// The cases in the order of the catalogue.
    pub cases: Vec<CaseReport>,
}

/// Cases of an area by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that were ignored.
    pub ignored: usize,
}

impl Tally {
    fn add(&mut self, status: Status) {
        match status {
            Status::Passed => self.passed += 1,
            Status::Failed => self.failed += 1,
            Status::Ignored => self.ignored += 1,
        }
    }
}

impl fmt::Display for Tally {
    /// As a cell of a table: `12`, or `10, 2 ignored`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.passed)?;
        for (count, what) in [(self.failed, "**failed**"), (self.ignored, "ignored")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// Whether no case failed.
    pub fn is_success(&self) -> bool {
        self.tally().failed == 0
    }

    /// All cases by status.
    pub fn tally(&self) -> Tally {
        self.cases.iter().fold(Tally::default(), |mut tally, case| {
            tally.add(case.status);
            tally
        })
    }

    /// How many cases passed, failed and were ignored, and on what, in a line.
    pub fn summary(&self) -> String {
        let Tally { passed, failed, ignored } = self.tally();
        format!("{} ({}): {passed} passed, {failed} failed, {ignored} ignored", self.backend, self.device)
    }

    /// The cases of each area by status.
    pub fn areas(&self) -> BTreeMap<&'static str, Tally> {
        self.by(|case| case.area)
    }

    /// The cases of each layer by status.
    pub fn layers(&self) -> BTreeMap<&'static str, Tally> {
        self.by(|case| case.layer)
    }

    fn by(&self, key: fn(&CaseReport) -> &'static str) -> BTreeMap<&'static str, Tally> {
        let mut tallies = BTreeMap::<_, Tally>::new();
        self.cases.iter().for_each(|case| tallies.entry(key(case)).or_default().add(case.status));
        tallies
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cases.iter().try_for_each(|case| writeln!(f, "{case}"))?;
        writeln!(f, "{}", self.summary())
    }
}
