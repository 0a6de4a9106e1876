//! A run of some parts, and what it reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gpubridge_runtime::Selection;
use serde::Serialize;

use super::charts::Charts;
use super::line::{Draft, Line, Table};
use super::subject::Subject;
use super::{Area, Conditions, Effort, Part};
use crate::Error;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Under which conditions.
    pub conditions: Conditions,
    /// Every figure, area by area.
    pub lines: Vec<Line>,
    /// The parts that did not come to their end.
    pub failures: Vec<Failure>,
    /// What is drawn.
    #[serde(skip)]
    pub charts: Charts,
}

/// A part that did not come to its end: the device failed, or an answer was wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The part's name.
    pub part: &'static str,
    /// What it said.
    pub message: String,
}

/// Measures these parts on the selected device; some seconds for all of them if it shall be `quick`, whose figures mean
/// nothing, else minutes. Before each part it asks whether to `go_on`; progress goes to standard error.
///
/// # Errors
/// Those of opening the device. A part that fails is a [`Failure`] in the report, and the others go on.
pub fn run(selection: &Selection, parts: &[Part], quick: bool, go_on: impl Fn() -> bool) -> Result<Report, Error> {
    let subject = Subject { device: selection.open()?, backend: selection.backend.name().to_owned() };
    let areas = Area::ALL.into_iter().filter(|area| parts.iter().any(|part| part.area == *area)).map(Area::name);
    let mut conditions = Conditions::now(selection, areas.collect(), quick);
    let (charts, not_judged) = (Charts::new(&subject.backend), conditions.not_judged());
    let mut table = Table { area: Area::Alloc, lines: Vec::new(), charts, not_judged };
    let mut failures = Vec::new();
    let mut interrupted = false;
    for part in parts {
        interrupted = !go_on();
        if interrupted {
            break;
        }
        eprintln!("{}: {} ...", part.area.name(), part.figures);
        table.area = part.area;
        failures.extend(run_part(part, &subject, Effort { quick }, &mut table));
    }
    conditions.end(interrupted);
    let mut lines = table.lines;
    lines.sort_by_key(|line| line.area);
    Ok(Report { conditions, lines, failures, charts: table.charts })
}

fn run_part(part: &Part, subject: &Subject, effort: Effort, table: &mut Table) -> Option<Failure> {
    if let Some(reason) = subject.lacks(part.needs) {
        table.add(Draft::not_measured(part.figures, reason));
        return None;
    }
    // What a part leaves behind is dropped with it; the table has the lines that were whole.
    let panic = catch_unwind(AssertUnwindSafe(|| (part.run)(subject, effort, table))).err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let message = text.unwrap_or("it panicked").to_owned();
    table.add(Draft::not_measured(part.figures, format!("failed: {message}")));
    Some(Failure { part: part.name, message })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gpubridge_runtime::BackendRegistry;

    use super::super::Measured;
    use super::*;
    use crate::NullBackend;

    fn null() -> Selection {
        let mut registry = BackendRegistry::new();
        registry.register(Arc::new(NullBackend::default())).expect("the name is free");
        registry.select(Some("null"), None).expect("it is there")
    }

    #[test]
    fn a_device_without_compute_has_its_lines_said_as_not_measured() {
        let parts = Part::of(Some(Area::KernelCache));
        let report = run(&null(), &parts, true, || true).expect("the device opens");
        let [line] = &report.lines[..] else { panic!("{:?}", report.lines) };
        let Measured::NotMeasured { not_measured } = &line.measured else { panic!("{line:?}") };
        assert!(not_measured.contains("runs no kernels"), "{not_measured}");
        assert_eq!((line.area, line.reached, report.failures.len()), (Area::KernelCache, None, 0));
    }

    #[test]
    fn it_stops_before_the_next_part_and_keeps_what_it_has() {
        let parts = Part::of(None);
        let asked = std::cell::Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) == 0;
        let report = run(&null(), &parts, true, go_on).expect("the device opens");
        assert_eq!((asked.get(), report.lines.len()), (2, 1));
        assert!(report.conditions.interrupted && report.to_markdown().contains("stopped before its end"));
    }

    #[test]
    fn a_part_that_fails_is_told_and_the_others_go_on() {
        let fails = |_: &Subject, _: Effort, table: &mut Table| {
            table.add(Draft::value("before", 1.0, "M/s", 0));
            panic!("the answer is wrong");
        };
        let mut parts = Part::of(Some(Area::KernelCache));
        parts.insert(0, Part { area: Area::Ring, name: "faulty", figures: "a faulty part", needs: &[], run: fails });
        let report = run(&null(), &parts, true, || true).expect("the device opens");
        let figures: Vec<_> = report.lines.iter().map(|line| line.figure.as_str()).collect();
        assert_eq!(figures, ["before", "a faulty part", parts[1].figures]);
        assert_eq!(report.failures, [Failure { part: "faulty", message: "the answer is wrong".into() }]);
        assert_eq!(report.lines[1].measured.to_string(), "not measured: failed: the answer is wrong");
    }
}
