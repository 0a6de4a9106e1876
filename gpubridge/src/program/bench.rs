//! `gpubridge bench`: the project's figures, from the options to the report, its files and charts.

use std::fs;
use std::path::Path;

use gpubridge::figures::{self, Part, Report, between_markers};

use super::cli::BenchArgs;
use super::error::{EngineError, Error};
use super::interrupt;
use super::output;
use super::report;

/// Measures what `args` name and prints it. Files are written when all was measured.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    let selection = figures::select(&args.place.backend, &args.place.device).map_err(EngineError::Backend)?;
    check_targets(args)?;
    interrupt::install_to_report()?;
    report::write("Ctrl-C stops after the part that is running, a second one at once\n", true)?;
    let parts = Part::of(args.one_area());
    let go_on = || interrupt::check().is_ok();
    let report = figures::run(&selection, &parts, args.quick, go_on).map_err(EngineError::Device)?;
    // Before anything is written: what took minutes is not lost to a full disk.
    if args.json_to_standard_output() {
        report::write(&format!("{}\n", json(&report)), false)?;
    } else {
        report::write(&format!("{}\n{}\n", selection.reason, report.to_markdown()), false)?;
    }
    if report.conditions.interrupted {
        return Err(Error::Interrupted);
    }
    write_files(args, &report)?;
    match &report.failures[..] {
        [] => Ok(()),
        [first, ..] => Err(Error::Bench {
            failed: report.failures.len(),
            parts: parts.len(),
            part: first.part,
            message: first.message.clone(),
        }),
    }
}

/// Looked at first: a run must not find out after minutes.
fn check_targets(args: &BenchArgs) -> Result<(), Error> {
    if let Some(path) = args.json.as_deref().filter(|_| !args.json_to_standard_output()) {
        output::check(path)?;
    }
    if let Some(path) = &args.markdown {
        page_with(path, "")?;
        output::check(path)?;
    }
    if let Some(folder) = &args.svg {
        fs::create_dir_all(folder).map_err(|source| Error::Write { name: folder.display().to_string(), source })?;
        output::check(&folder.join("latency.svg"))?;
    }
    Ok(())
}

fn write_files(args: &BenchArgs, report: &Report) -> Result<(), Error> {
    if let Some(path) = args.json.as_deref().filter(|_| !args.json_to_standard_output()) {
        output::replace(path, &format!("{}\n", json(report)))?;
    }
    if let Some(path) = &args.markdown {
        output::replace(path, &page_with(path, &report.to_markdown())?)?;
    }
    let Some(folder) = &args.svg else { return Ok(()) };
    for chart in report.charts.draw() {
        match chart.svg {
            Some(svg) => output::replace(&folder.join(chart.name), &svg)?,
            None => {
                let why = format!("{}: not drawn, for no {} were measured\n", chart.name, chart.shows);
                report::write(&why, true)?;
            }
        }
    }
    Ok(())
}

fn json(report: &Report) -> String {
    serde_json::to_string(report).expect("names and numbers always serialize")
}

/// The page at `path` with this report in its place.
fn page_with(path: &Path, report: &str) -> Result<String, Error> {
    let name = || path.display().to_string();
    let page = fs::read_to_string(path).map_err(|source| Error::Open { name: name(), source })?;
    between_markers(&page, report).map_err(|source| Error::Markers { name: name(), source })
}
