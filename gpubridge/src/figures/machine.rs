//! Under which conditions the figures were taken.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use gpubridge_runtime::Selection;
use serde::Serialize;

use super::measure::clock_cost_ns;

/// Under which conditions a report's figures were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// When the run began, in UTC.
    pub date: String,
    /// The model of the processor.
    pub machine: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Load averages over 1, 5 and 15 minutes when the run began; `unknown` where the system does not say.
    pub load_average_at_start: String,
    /// The same when it ended.
    pub load_average_at_end: String,
    /// What reading the clock twice costs: it is part of every latency that is measured one by one.
    pub two_clock_readings_ns: f64,
    /// The compiler that built this program.
    pub compiler: &'static str,
    /// Whether it was built to be fast.
    pub build: &'static str,
    /// The commit of the sources that it was built from, if they are still there.
    pub commit: String,
    /// The name of the backend.
    pub backend: String,
    /// The device.
    pub device: String,
    /// The areas that were asked for.
    pub areas: Vec<&'static str>,
    /// `whole`, or `quick`: then the figures mean nothing.
    pub run: &'static str,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
}

impl Conditions {
    /// The conditions now, before anything is measured.
    pub(super) fn now(selection: &Selection, areas: Vec<&'static str>, quick: bool) -> Self {
        let load = load();
        let info = &selection.info;
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            machine: model(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_average_at_end: load.clone(),
            load_average_at_start: load,
            two_clock_readings_ns: clock_cost_ns(),
            compiler: env!("GPUBRIDGE_COMPILER"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            commit: commit(),
            backend: selection.backend.name().to_owned(),
            device: format!("{} ({})", info.name, info.kind),
            areas,
            run: if quick { "quick" } else { "whole" },
            interrupted: false,
        }
    }

    /// Why figures of such a run reach no bar and miss none, if so.
    pub fn not_judged(&self) -> Option<&'static str> {
        match (self.run, self.build) {
            ("quick", _) => Some("a quick run does not judge"),
            (_, "debug") => Some("a debug build does not judge"),
            _ => None,
        }
    }

    /// Looks at the load again.
    pub(super) fn end(&mut self, interrupted: bool) {
        self.load_average_at_end = load();
        self.interrupted = interrupted;
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaningless = "it shows that everything runs, its figures mean nothing and are not judged";
        writeln!(f, "- date: {}", self.date)?;
        writeln!(f, "- machine: {}, {} cores", self.machine, self.cores)?;
        writeln!(f, "- backend: {}, {}", self.backend, self.device)?;
        writeln!(
            f,
            "- load average: {} at the start, {} at the end",
            self.load_average_at_start, self.load_average_at_end
        )?;
        writeln!(f, "- two clock readings: {:.0} ns", self.two_clock_readings_ns)?;
        writeln!(f, "- compiler: {}, {} build", self.compiler, self.build)?;
        writeln!(f, "- commit: {}", self.commit)?;
        writeln!(f, "- areas: {}", self.areas.join(", "))?;
        match (self.interrupted, self.not_judged().is_some()) {
            (false, false) => writeln!(f, "- run: {}", self.run),
            (false, true) => writeln!(f, "- run: {}: {meaningless}", self.run),
            (true, false) => writeln!(f, "- run: {}, stopped before its end", self.run),
            (true, true) => writeln!(f, "- run: {}, stopped before its end: {meaningless}", self.run),
        }
    }
}

fn load() -> String {
    let read = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first: Vec<&str> = read.split_whitespace().take(3).collect();
    if first.is_empty() { "unknown".to_owned() } else { first.join(" ") }
}

/// Bytes of memory that the process holds, if the system says.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn model() -> String {
    let read = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = read.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

/// The commit of the folder that this was built in.
fn commit() -> String {
    let said_by_git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = said_by_git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match said_by_git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}
