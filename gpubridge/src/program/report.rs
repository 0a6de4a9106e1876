//! The report: for people, or as one JSON object.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::compare::{Pair, Ratios};
use super::engine::MetricValue;
use super::error::Error;
use super::reference::TOLERANCE;
use super::reorder::SAMPLE_EVERY;
use super::stream::{Outcome, Plan, output_is_standard_output};
use super::tally::{LARGEST, Scored};

/// Longest key that is shown whole.
const SHOWN_KEY_CHARACTERS: usize = 24;

/// Prints the report of a run: on standard output, unless the scores went there.
pub fn print(plan: &Plan, outcome: &Outcome) -> Result<(), Error> {
    if plan.json {
        return write(&format!("{}\n", json(outcome)), false);
    }
    let mut text = String::new();
    describe(&mut text, plan, outcome).expect("a String takes any text");
    write(&text, output_is_standard_output(plan))
}

/// Writes to standard output, or to standard error. That nobody reads it is no error.
pub fn write(text: &str, to_standard_error: bool) -> Result<(), Error> {
    let (written, name) = if to_standard_error {
        (io::stderr().write_all(text.as_bytes()), "standard error")
    } else {
        let mut out = io::stdout().lock();
        (out.write_all(text.as_bytes()).and_then(|()| out.flush()), "standard output")
    };
    match written {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(Error::Write { name: name.into(), source }),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct JsonReport<'a> {
    rows: u64,
    scored: u64,
    skipped: u64,
    bad: u64,
    keys: u32,
    anomalies: u64,
    events_per_second: f64,
    latency_ns: JsonLatency,
    backend: &'a str,
    device: &'a str,
    /// True or null: a run whose verification fails has no report.
    verified: Option<bool>,
    max_abs_error: Option<f64>,
    metrics: BTreeMap<&'a str, &'a MetricValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<JsonRatios>,
}

#[derive(Serialize)]
struct JsonLatency {
    p50: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
}

#[derive(Serialize)]
struct JsonRatios {
    from_file: f64,
    from_rows: f64,
}

fn json(outcome: &Outcome) -> String {
    let Outcome { counts, finished, identity, .. } = outcome;
    let latency = |quantile| latency_ns(outcome, quantile);
    let report = JsonReport {
        rows: counts.rows,
        scored: finished.tally.scored,
        skipped: counts.skipped,
        bad: counts.bad,
        keys: finished.keys.len(),
        anomalies: finished.tally.anomalies,
        events_per_second: events_per_second(outcome),
        latency_ns: JsonLatency { p50: latency(0.5), p99: latency(0.99), p999: latency(0.999) },
        backend: &identity.backend,
        device: &identity.device,
        verified: outcome.max_abs_error.map(|_| true),
        max_abs_error: outcome.max_abs_error,
        metrics: finished.summary.metrics.iter().map(|each| (each.name.as_str(), &each.value)).collect(),
        baseline: outcome
            .ratios
            .map(|each| JsonRatios { from_file: each.from_file.ratio(), from_rows: each.from_rows.ratio() }),
    };
    serde_json::to_string(&report).expect("names and numbers always serialize")
}

fn latency_ns(outcome: &Outcome, quantile: f64) -> Option<u64> {
    let latency_ns = &outcome.finished.latency_ns;
    (!latency_ns.is_empty()).then(|| latency_ns.value_at_quantile(quantile))
}

fn events_per_second(outcome: &Outcome) -> f64 {
    outcome.finished.tally.scored as f64 / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn describe(text: &mut String, plan: &Plan, outcome: &Outcome) -> fmt::Result {
    let Outcome { counts, finished, identity, .. } = outcome;
    let tally = &finished.tally;
    writeln!(text, "{}: {} scored by {}", plan.input.name(), plan.value, plan.key)?;
    line(text, "rows", &grouped(counts.rows))?;
    line(text, "scored", &format!("{}, each among up to {} earlier values", grouped(tally.scored), plan.window))?;
    line(text, "skipped", &format!("{}, without a value or a key", grouped(counts.skipped)))?;
    if plan.skip_bad {
        line(text, "bad", &format!("{}, no finite f32 number", grouped(counts.bad)))?;
    }
    line(text, "keys", &format!("{}, one actor each", grouped(u64::from(finished.keys.len()))))?;
    line(text, "anomalies", &format!("{}, |score| ≥ {}", grouped(tally.anomalies), plan.threshold))?;
    match outcome.max_abs_error {
        Some(error) => {
            let note = format!("all {} scores within {TOLERANCE}; largest difference {error:.2e}", tally.scored);
            line(text, "verified", &note)?;
        }
        None => line(text, "verified", "not asked for (--verify)")?,
    }
    describe_speed(text, outcome)?;
    line(text, "backend", &format!("{}: {}", identity.backend, identity.reason))?;
    line(text, "device", &identity.device)?;
    if let Some(ratios) = &outcome.ratios {
        describe_ratios(text, ratios, outcome.counts.rows)?;
    }
    describe_largest(text, outcome)?;
    writeln!(text, "metrics")?;
    finished.summary.metrics.iter().try_for_each(|each| writeln!(text, "  {:<32} {}", each.name, each.value))
}

fn describe_speed(text: &mut String, outcome: &Outcome) -> fmt::Result {
    let rate = grouped(events_per_second(outcome) as u64);
    let seconds = outcome.elapsed.as_secs_f64();
    let included =
        if outcome.max_abs_error.is_some() { ", parsing and verification included" } else { ", parsing included" };
    line(text, "events/s", &format!("{rate} in {seconds:.3} s{included}"))?;
    let times = [0.5, 0.99, 0.999].map(|quantile| latency_ns(outcome, quantile));
    let [Some(p50), Some(p99), Some(p999)] = times.map(|each| each.map(microseconds)) else {
        return line(text, "latency", "no rows, no latency");
    };
    let samples = grouped(outcome.finished.latency_ns.len());
    line(
        text,
        "latency",
        &format!(
            "p50 {p50}, p99 {p99}, p99.9 {p999}; submit → completion, {samples} samples, one row in {SAMPLE_EVERY}"
        ),
    )
}

fn describe_ratios(text: &mut String, ratios: &Ratios, rows: u64) -> fmt::Result {
    let spelled = |pair: Pair| format!("{:.2} ({:.1?} / {:.1?})", pair.ratio(), pair.plain_loop, pair.actors);
    let parsed_rows = grouped(ratios.parsed_rows as u64);
    let rows_per_second = rows as f64 / ratios.parsing.as_secs_f64().max(f64::MIN_POSITIVE);
    writeln!(text, "plain loop's time / actors' time, medians of {} rounds in turn", ratios.rounds)?;
    line(text, "from the file", &spelled(ratios.from_file))?;
    line(text, "from rows", &format!("{}, {parsed_rows} rows already parsed", spelled(ratios.from_rows)))?;
    let parsing = format!("{:.1?} of each from the file, {} rows/s", ratios.parsing, grouped(rows_per_second as u64));
    line(text, "parsing", &parsing)
}

fn describe_largest(text: &mut String, outcome: &Outcome) -> fmt::Result {
    let largest = &outcome.finished.tally.largest;
    if largest.is_empty() {
        return Ok(());
    }
    writeln!(text, "the {} largest |score|", largest.len().min(LARGEST))?;
    writeln!(text, "  {:>10}  {:<SHOWN_KEY_CHARACTERS$}  {:>12}  {:>12}", "row", "key", "value", "score")?;
    for &Scored { row, key, value, score } in largest {
        let key = shown(outcome.finished.keys.text(key));
        writeln!(text, "  {row:>10}  {key:<SHOWN_KEY_CHARACTERS$}  {value:>12}  {score:>12}")?;
    }
    Ok(())
}

/// A line of a report: what, and its value.
pub fn line(text: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(text, "  {name:<14} {value}")
}

/// A key on one line, and not a long one.
fn shown(key: &[u8]) -> String {
    let mut shown = String::new();
    for character in String::from_utf8_lossy(key).chars() {
        if shown.chars().count() + 1 >= SHOWN_KEY_CHARACTERS {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn microseconds(nanoseconds: u64) -> String {
    format!("{:.1} µs", nanoseconds as f64 / 1e3)
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn keys_show_on_one_line() {
        assert_eq!(shown(b"a\nb"), "a\\nb");
        assert_eq!(shown("x".repeat(40).as_bytes()).chars().count(), SHOWN_KEY_CHARACTERS);
    }
}
