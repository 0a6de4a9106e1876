//! `gpubridge stress`: the five runs, small; stopped half way; and what it does not take.
#![cfg(feature = "program")]

mod common;

use std::process::Child;

use common::{Bench, Ran, finish, interrupt, wait_until};
use serde_json::Value;

const RUNS: [(&str, u64); 5] = [("pool", 1200), ("grains", 2000), ("transfer", 8), ("kernels", 400), ("long", 3000)];

fn stress(bench: &Bench, arguments: &[&str]) -> Ran {
    bench.run(&[&["stress"], arguments].concat())
}

fn small(bench: &Bench, run: &str, operations: u64, more: &[&str]) -> Value {
    let operations = operations.to_string();
    let mut json = stress(bench, &[&[run, "--json", "--operations", &operations], more].concat()).json();
    assert_eq!((&json["exact"], &json["seed"].is_u64()), (&Value::Bool(true), &true));
    assert_eq!(json["runs"].as_array().unwrap().len(), 1);
    json["runs"][0].take()
}

/// What a check of this run found; the check must hold.
fn found(run: &Value, name: &str) -> u64 {
    let checks = run["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}"));
    assert_eq!(check["holds"], true, "{check}");
    assert_eq!(check["expected"], check["found"]);
    check["found"].as_u64().unwrap()
}

fn holds_in_all(run: &Value) {
    let checks = run["checks"].as_array().unwrap();
    assert!(checks.len() > 50, "{} checks", checks.len());
    for check in checks {
        assert_eq!(check["holds"], true, "{check}");
    }
}

#[test]
fn each_run_is_exact_and_releases_everything() {
    let bench = Bench::new();
    for (name, operations) in RUNS {
        let run = small(&bench, name, operations, &[]);
        assert_eq!(
            (&run["run"], run["done"].as_u64(), run["planned"].as_u64()),
            (&name.into(), Some(operations), Some(operations))
        );
        assert_eq!(
            (&run["interrupted"], &run["failed"], &run["first_fault"]),
            (&false.into(), &Value::Null, &Value::Null)
        );
        holds_in_all(&run);
        assert_eq!(found(&run, "active_allocation_count"), 0);
        assert_eq!(found(&run, "used_pool_size_bytes"), 0);
        assert!(found(&run, "allocations released") > 0);
        assert!(found(&run, "total_messages_processed") > operations);
        assert!(run["bytes_compared"].as_u64().unwrap() > 0 && run["answers_compared"].as_u64().unwrap() > 0);
        // Too short to tell; it must not look as if it had been told.
        assert!(run["memory"]["resident_bytes"].is_null() && run["memory"]["not_judged"].is_string());
    }
}

#[test]
fn each_run_does_what_it_is_for() {
    let bench = Bench::new();
    let pool = small(&bench, "pool", 2500, &[]);
    assert_eq!(found(&pool, "tracker allocations"), 2500);
    assert_eq!(found(&pool, "before the release, active_allocation_count"), 2048);
    assert!(found(&pool, "pool_hit_count") > 0);
    let grains = small(&bench, "grains", 500, &[]);
    assert!(grains["figures"]["grains"].as_u64().unwrap() >= 10 && grains["figures"]["threads"].as_u64().unwrap() > 1);
    let kernels = small(&bench, "kernels", 62, &[]);
    let [of_library, specializations] = ["kernels", "specializations"].map(|name| kernels["figures"][name].as_u64());
    assert_eq!(of_library, Some(gpubridge::kernels::library().kernels().len() as u64));
    assert_eq!(Some(found(&kernels, "kernel_cache_size")), specializations);
    assert_eq!(found(&kernels, "tracker computes"), 62);
    let long = small(&bench, "long", 5000, &[]);
    assert!(found(&long, "pool_hit_count") > 0 && found(&long, "pool_miss_count") > 0, "blocks brought back included");
    // What deactivations and activations say and move comes on top of what the trackers see of the calls.
    let seen = ["allocations", "writes", "reads", "computes", "releases"].map(|name| format!("tracker {name}"));
    let seen: u64 = seen.iter().map(|name| found(&long, name)).sum();
    assert!(found(&long, "total_messages_processed") > seen + 66, "some grains were deactivated");
}

#[test]
fn a_transfer_of_each_size_moves_18_mib_each_way_and_tells_how_fast() {
    let bench = Bench::new();
    let run = small(&bench, "transfer", 8, &[]);
    let cycle = 1 + 257 + 4096 + 4097 + 65_536 + (1 << 20) + (1 << 20) + 3 + (16 << 20);
    assert_eq!(run["figures"]["read_bytes"], cycle);
    assert!(run["figures"]["write_bytes"].as_u64().unwrap() > cycle, "each is written in part once more");
    assert_eq!(found(&run, "tracker read bytes"), cycle);
    for way in ["write", "read"] {
        assert!(run["figures"][format!("{way}_megabytes_per_second")].as_f64().unwrap() > 0.0);
        assert!(run["figures"][format!("{way}_megabytes_per_second_of_16777216_bytes")].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_same_seed_gives_the_same_load() {
    let bench = Bench::new();
    let load = |seed| {
        let run = small(&bench, "pool", 200, &["--seed", seed]);
        ["tracker allocated bytes", "tracker read bytes", "total_messages_processed"].map(|name| found(&run, name))
    };
    assert_eq!(load("5"), load("5"));
    assert_ne!(load("5"), load("6"));
}

#[test]
fn the_text_says_what_was_done_and_lists_every_count() {
    let bench = Bench::new();
    let report = stress(&bench, &["kernels", "--operations", "62"]).report();
    assert!(report.contains("  calls          62 of 62 in "), "{report}");
    assert!(report.contains("  memory         not judged: "), "{report}");
    assert!(report.contains(" checks hold\n") && !report.contains("DOES NOT HOLD"), "{report}");
    assert!(report.lines().any(|line| line.split_whitespace().eq(["tracker", "computes", "62"])), "{report}");
}

#[test]
fn all_runs_follow_each_other() {
    let bench = Bench::new();
    let json = stress(&bench, &["--json", "--operations", "4"]).json();
    let names: Vec<_> = json["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(names, RUNS.map(|(name, _)| name));
    assert_eq!((&json["not_begun"], &json["exact"]), (&Value::Array(Vec::new()), &true.into()));
}

/// Processor time that the program has used, in the system's ticks.
fn ticks(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    fields.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Interrupts a run of far too many operations once it is well under way.
fn interrupt_under_way(bench: &Bench, arguments: &[&str]) -> Ran {
    let arguments = [&["stress", "--operations", "1000000000000"], arguments].concat();
    let mut child = bench.command(&arguments).spawn().unwrap();
    wait_until("half a second of work", || ticks(&child) >= 50);
    interrupt(&child);
    wait_until("the end", || child.try_wait().unwrap().is_some());
    let ran = finish(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(130), "error: interrupted\n"), "{}", ran.stdout);
    ran
}

#[test]
fn an_interrupted_run_accounts_for_what_it_did() {
    let bench = Bench::new();
    for name in ["long", "pool"] {
        let ran = interrupt_under_way(&bench, &[name, "--json"]);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        let run = &json["runs"][0];
        assert_eq!((&json["exact"], &run["interrupted"]), (&true.into(), &true.into()));
        let done = run["done"].as_u64().unwrap();
        assert!(0 < done && done < run["planned"].as_u64().unwrap());
        holds_in_all(run);
        assert_eq!(found(run, "active_allocation_count"), 0);
        assert!(found(run, "total_messages_processed") > done);
        if name == "pool" {
            assert_eq!(found(run, "tracker allocations"), done);
        }
    }
}

#[test]
fn an_interrupted_run_says_after_how_many_and_what_was_not_begun() {
    let bench = Bench::new();
    let report = interrupt_under_way(&bench, &["all"]).stdout;
    let stopped = report.lines().find(|line| line.contains("interrupted after ")).expect("it says so");
    assert!(stopped.contains(" of 1,000,000,000,000 allocations"), "{stopped}");
    assert!(report.ends_with("\nnot begun: grains, transfer, kernels, long\n"), "{report}");
    assert!(!report.contains("DOES NOT HOLD"), "{report}");
}

#[test]
fn what_cannot_be_run_ends_with_2() {
    let bench = Bench::new();
    let line = stress(&bench, &["everything"]).error(2);
    assert!(line.starts_with("invalid value 'everything' for '[RUN]'"), "{line}");
    assert!(line.contains("pool, grains, transfer, kernels, long, all"), "{line}");
    for operations in ["0", "-1", "many"] {
        assert!(stress(&bench, &["pool", "--operations", operations]).error(2).contains("--operations <NUMBER>"));
    }
    let line = stress(&bench, &["pool", "--backend", "abacus"]).error(2);
    assert!(line.contains("abacus") && line.contains("cpu"), "{line}");
    let line = stress(&bench, &["pool", "--device", "7"]).error(2);
    assert!(line.contains("there is no device `7`"), "{line}");
}
