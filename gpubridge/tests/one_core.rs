//! One core for everything: the reader, the ring's thread and whoever waits take turns, and nothing is lost or late.
#![cfg(all(feature = "program", target_os = "linux"))]

mod common;

use std::process::Child;
use std::thread;

use common::{Bench, finish};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Starts the program with these arguments on one of the processors that this test may use.
fn spawn_on_one_core(bench: &Bench, arguments: &[&str]) -> Child {
    thread::scope(|scope| {
        let spawn = || {
            let allowed = sched_getaffinity(None).unwrap();
            let core = (0..CpuSet::MAX_CPU).find(|&core| allowed.is_set(core)).expect("this thread runs somewhere");
            let mut one = CpuSet::new();
            one.set(core);
            // Of this thread alone; the program inherits it.
            sched_setaffinity(None, &one).unwrap();
            bench.command(arguments).spawn().unwrap()
        };
        scope.spawn(spawn).join().unwrap()
    })
}

/// The processors that a running program may use.
fn cores(child: &Child) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).expect("a mask of processors");
    mask.chars().filter_map(|digit| digit.to_digit(16)).map(u32::count_ones).sum()
}

#[test]
fn the_demonstration_holds_on_one_core() {
    let bench = Bench::new();
    let child = spawn_on_one_core(&bench, &[]);
    assert_eq!(cores(&child), 1);
    let report = finish(child).report();
    let counts =
        ["rows           336,776", "scored         328,521", "keys           4,037", "all 328521 scores within"];
    for count in counts {
        assert!(report.contains(count), "{count} is missing in {report}");
    }
}

#[test]
fn a_stream_counts_the_same_on_one_core() {
    let bench = Bench::new();
    let rows: String = (0..20_000).map(|row| format!("{},{}\n", row % 700, row % 13)).collect();
    bench.file("f.csv", format!("k,v\n{rows}x,\n"));
    let arguments = ["stream", "f.csv", "--key", "k", "--value", "v", "--verify", "--json", "--output", "s.csv"];
    let report = finish(spawn_on_one_core(&bench, &arguments)).json();
    let counts = ["rows", "scored", "skipped", "keys", "verified"].map(|name| report[name].clone());
    assert_eq!(serde_json::json!(counts), serde_json::json!([20_001, 20_000, 1, 700, true]));
    let scores = bench.read("s.csv");
    bench.stream("f.csv", &["--output", "s.csv"]).report();
    assert!(scores == bench.read("s.csv"), "the scores differ from those of a run on all cores");
}
