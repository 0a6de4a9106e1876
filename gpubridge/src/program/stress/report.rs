//! The report of the runs: for people, one after the other, or as one JSON object.

use std::fmt::{self, Write as _};

use gpubridge::runtime::Selection;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::engine::{Metric, MetricValue};
use super::super::error::Error;
use super::super::report::{grouped, line, write};
use super::Outcome;
use super::account::Check;
use super::memory::{Highest, Memory};

/// Prints one run; the first one tells on what it ran.
pub fn print_text(selection: &Selection, seed: u64, outcome: &Outcome, is_first: bool) -> Result<(), Error> {
    let mut text = String::new();
    if is_first {
        describe_place(&mut text, selection, seed).expect("a String takes any text");
    }
    describe(&mut text, outcome).expect("a String takes any text");
    write(&text, false)
}

/// Prints the names of the runs that an interrupt left undone, if there are any.
pub fn print_not_begun(names: &[&str]) -> Result<(), Error> {
    if names.is_empty() { Ok(()) } else { write(&format!("not begun: {}\n", names.join(", ")), false) }
}

fn describe_place(text: &mut String, selection: &Selection, seed: u64) -> fmt::Result {
    line(text, "backend", &format!("{}: {}", selection.backend.name(), selection.reason))?;
    line(text, "device", &selection.info.name)?;
    line(text, "seed", &seed.to_string())
}

fn describe(text: &mut String, outcome: &Outcome) -> fmt::Result {
    let Outcome { run, planned, done, elapsed, checks, seen, memory, figures, failed } = outcome;
    writeln!(text, "{}: {}", run.name, run.summary)?;
    let (done, planned, seconds) = (grouped(*done), grouped(*planned), elapsed.as_secs_f64());
    if outcome.is_interrupted() {
        line(text, "stopped", &format!("interrupted after {done} of {planned} {}, {seconds:.3} s", run.unit))?;
    } else {
        line(text, run.unit, &format!("{done} of {planned} in {seconds:.3} s"))?;
    }
    if let Some(failed) = failed {
        return line(text, "FAILED", failed);
    }
    for Metric { name, value } in figures {
        writeln!(text, "  {name:<46} {}", spelled(value))?;
    }
    let compared = format!("{} bytes and {} answers with the model", grouped(seen.bytes), grouped(seen.answers));
    line(text, "compared", &compared)?;
    describe_memory(text, memory)?;
    let held = checks.iter().filter(|check| check.holds).count();
    line(text, "counts", &format!("{held} of {} checks hold", checks.len()))?;
    line(text, "in no account", "start time, uptime, and the mean times of the grains' trackers")?;
    for check in checks {
        if check.holds {
            writeln!(text, "    {:<44} {}", check.name, spelled(&check.found))?;
        } else {
            writeln!(text, "    DOES NOT HOLD: {check}")?;
        }
    }
    seen.first_fault.iter().try_for_each(|fault| line(text, "FIRST FAULT", fault))
}

fn describe_memory(text: &mut String, memory: &Memory) -> fmt::Result {
    let Memory { resident, reserved, not_judged } = memory;
    let highest = |name: &str, highest: &Highest| {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let [first, last, limit] = [highest.first_bytes, highest.last_bytes, highest.limit_bytes()].map(mib);
        format!("{name} {first:.1} MiB at most in the first quarter, {last:.1} in the last, limit {limit:.1}")
    };
    let judged = [resident.map(|each| highest("resident", &each)), reserved.map(|each| highest("reserved", &each))];
    judged.iter().flatten().try_for_each(|each| line(text, "memory", each))?;
    not_judged.iter().try_for_each(|why| line(text, "memory", &format!("not judged: {why}")))
}

fn spelled(value: &MetricValue) -> String {
    match value {
        MetricValue::Count(count) => grouped(*count),
        MetricValue::Number(number) => format!("{number:.4}"),
        MetricValue::Text(text) => text.clone(),
    }
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    name: &'a str,
    expected: &'a MetricValue,
    found: &'a MetricValue,
    holds: bool,
}

/// Prints all runs as one JSON object.
pub fn print_json(selection: &Selection, seed: u64, outcomes: &[Outcome], not_begun: &[&str]) -> Result<(), Error> {
    let report = json!({
        "backend": selection.backend.name(),
        "device": selection.info.name,
        "seed": seed,
        "exact": outcomes.iter().all(|outcome| outcome.faults().next().is_none()),
        "not_begun": not_begun,
        "runs": outcomes.iter().map(json_run).collect::<Vec<_>>(),
    });
    write(&format!("{report}\n"), false)
}

fn json_run(outcome: &Outcome) -> Value {
    let Outcome { run, planned, done, elapsed, checks, seen, memory, figures, failed } = outcome;
    let check =
        |Check { name, expected, found, holds }: &Check| json!(JsonCheck { name, expected, found, holds: *holds });
    let quarters = |highest: Option<Highest>| {
        highest.map(|each| json!({ "first_quarter": each.first_bytes, "last_quarter": each.last_bytes, "limit": each.limit_bytes() }))
    };
    let figures: Map<String, Value> = figures.iter().map(|each| (each.name.clone(), json!(each.value))).collect();
    json!({
        "run": run.name,
        "unit": run.unit,
        "planned": planned,
        "done": done,
        "interrupted": outcome.is_interrupted(),
        "failed": failed,
        "seconds": elapsed.as_secs_f64(),
        "bytes_compared": seen.bytes,
        "answers_compared": seen.answers,
        "first_fault": seen.first_fault,
        "memory": {
            "resident_bytes": quarters(memory.resident),
            "reserved_bytes": quarters(memory.reserved),
            "not_judged": memory.not_judged,
        },
        "figures": figures,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
    })
}
