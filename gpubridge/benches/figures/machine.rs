//! Under which conditions the figures were taken.

use std::fs;
use std::process::Command;

use super::measure::clock_cost_ns;

/// The load averages over 1, 5 and 15 minutes; `unknown` where the system does not say.
pub fn load() -> String {
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

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

/// The machine, the load when the run began, the compiler and the commit.
pub fn conditions(quick: bool) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let changed = if said_by("git", &["status", "--porcelain"]).is_empty() { "" } else { " with changes" };
    format!(
        "- machine: {}, {cores} cores\n- load average at the start: {}\n- two clock readings: {:.0} ns\n- compiler: {}\n\
         - commit: {}{changed}\n- run: {}",
        model(),
        load(),
        clock_cost_ns(),
        said_by("rustc", &["--version"]),
        said_by("git", &["rev-parse", "--short", "HEAD"]),
        if quick { "quick: it shows that everything runs, its figures mean nothing" } else { "whole" },
    )
}
