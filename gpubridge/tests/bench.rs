//! `gpubridge bench`: its report, its files, its charts, and what it refuses.
#![cfg(feature = "program")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};

use common::{Bench, interrupt};
use serde_json::Value;

const BEGIN: &str = "<!-- gpubridge bench: begin -->";
const END: &str = "<!-- gpubridge bench: end -->";

/// Of every area, the figures that must be there, and whether they are latencies.
const PROMISED: &[(&str, &str, bool)] = &[
    ("alloc", "pool pair, a random one of 1,024 live", true),
    ("alloc", "pool pair, freed by another running thread", false),
    ("alloc", "pool miss: first allocation, by the driver", true),
    ("alloc", "grain's allocate, same owner", true),
    ("alloc", "grain's allocate, alternating owners", true),
    ("alloc", "grain's release, same owner", true),
    ("alloc", "grain's allocate, pool miss", true),
    ("alloc", "allocation, ours / plain", false),
    ("transfer", "4 KiB write posted", true),
    ("transfer", "4 KiB write, to its completion", true),
    ("transfer", "1 MiB write", false),
    ("transfer", "64 MiB read", false),
    ("transfer", "4 KiB transfer posted, ours / plain", false),
    ("transfer", "4 KiB transfer completed, ours / plain", false),
    ("ring", "bare ring, one call at a time", true),
    ("ring", "grain's spinning call, 64-byte command", true),
    ("ring", "grain's call awaited from a tokio task", true),
    ("ring", "pipelined, 1 in flight", false),
    ("ring", "pipelined, 256 in flight", false),
    ("ring", "grain's calls in batches that take what is due", false),
    ("ring", "kernel execution, small, ours / plain", false),
    ("ring", "kernel execution, large, ours / plain", false),
    ("grains", "memory per grain, allocator", false),
    ("grains", "pipelined, 1 grain, 1 thread", false),
    ("grains", "pipelined, 10 grains, 1 thread", false),
    ("grains", "pipelined, 100 grains, 2 threads", false),
    ("grains", "concurrent, 10 grains × 1,000 calls", false),
    ("grains", "activation of a warm resident grain", true),
    ("grains", "first call to a key with a stored record, restored", true),
    ("grains", "terminate, empty queue", true),
    ("hit-rate", "hit rate without the driver, phase shift", false),
    ("hit-rate", "hit rate of released blocks, the documents' sizes at steady turnover", false),
    ("hit-rate", "hit rate of released blocks, the original's pattern", false),
    ("kernel-cache", "kernel cache hit rate, more kernels than slots", false),
    ("kernel-cache", "kernel cache hit rate, fewer kernels than slots", false),
    ("kernel-cache", "kernel cache miss: call that compiles its kernel", true),
];

fn lines(report: &Value) -> &Vec<Value> {
    report["lines"].as_array().expect("there are lines")
}

fn line<'a>(report: &'a Value, area: &str, figure: &str) -> &'a Value {
    let is_it = |line: &&Value| line["area"] == area && line["figure"] == figure;
    lines(report).iter().find(is_it).unwrap_or_else(|| panic!("{area}: {figure} is missing"))
}

#[test]
fn every_area_is_measured_and_every_form_of_the_report_written() {
    let bench = Bench::new();
    let page = bench.file("page.md", format!("# By hand\n\n{BEGIN}\nold\n{END}\n\nmore\n"));
    let ran = bench.run(&["bench", "--quick", "--json", "-", "--markdown", &page, "--svg", "charts"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).expect("standard output is one JSON object");
    for (area, figure, is_latency) in PROMISED {
        let line = line(&report, area, figure);
        if *is_latency {
            quantiles_are_in_order(line);
        } else {
            assert!(line["value"].as_f64().is_some_and(f64::is_finite) && line["unit"].is_string(), "{line}");
        }
    }
    for line in lines(&report) {
        assert!(line["not_measured"].is_null() && line["conditions"].is_string(), "{line}");
        // What a smoke run measures means nothing.
        assert!(line["reached"].is_null(), "{line}");
        let not_judged = line["target"].is_string().then_some("a quick run does not judge");
        assert_eq!(line["not_judged"].as_str(), not_judged, "{line}");
        open_loops_are_there_or_why_not(line);
    }
    // What does not depend on the machine is the same in a smoke run.
    for (area, figure, bar) in [
        ("hit-rate", "hit rate of released blocks, the documents' sizes at steady turnover", 90.0),
        ("kernel-cache", "kernel cache hit rate, more kernels than slots", 95.0),
        ("kernel-cache", "kernel cache hit rate, fewer kernels than slots", 95.0),
    ] {
        assert!(line(&report, area, figure)["value"].as_f64() >= Some(bar), "{figure}");
    }
    conditions_are_said(&report["conditions"]);
    assert_eq!(report["failures"], serde_json::json!([]));
    the_page_has_the_same_lines(&bench.read("page.md"), &report);
    charts_are_well_formed(&bench);
}

fn quantiles_are_in_order(of: &Value) {
    let [p50, p99, p999] = ["p50_ns", "p99_ns", "p999_ns"].map(|name| of[name].as_f64().expect("a number"));
    assert!(0.0 < p50 && p50 <= p99 && p99 <= p999, "{of}");
}

/// What times single calls has open loops, or says why it has none.
fn open_loops_are_there_or_why_not(line: &Value) {
    let is_timed = line["p50_ns"].is_number() || ["ns", "GB/s"].iter().any(|unit| line["unit"] == *unit);
    let Some(open) = line["open_loop"].as_array() else {
        let reason = line["no_open_loop"].as_str();
        assert!(
            !is_timed || reason.is_some_and(|reason| !reason.is_empty()),
            "neither open loops nor a reason: {line}"
        );
        return;
    };
    let [half, most] = &open[..] else { panic!("two open loops: {line}") };
    assert_eq!((&half["share_percent"], &most["share_percent"]), (&50.into(), &80.into()));
    for offered in open {
        quantiles_are_in_order(offered);
        assert!(
            offered["achieved_percent"].as_f64().is_some_and(|percent| 0.0 < percent && percent <= 100.0),
            "{line}"
        );
    }
    // Both are shares of one peak.
    let interval = |offered: &Value| offered["interval_ns"].as_f64().expect("a number");
    assert!((interval(half) / interval(most) - 80.0 / 50.0).abs() < 1e-6, "{line}");
}

fn conditions_are_said(conditions: &Value) {
    let texts = ["date", "machine", "load_average_at_start", "load_average_at_end", "compiler", "build", "commit"];
    for name in texts.into_iter().chain(["device"]) {
        assert!(conditions[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {conditions}");
    }
    assert!(conditions["compiler"].as_str().is_some_and(|said| said.starts_with("rustc ")), "{conditions}");
    assert!(conditions["cores"].as_u64() > Some(0) && conditions["two_clock_readings_ns"].as_f64() > Some(0.0));
    assert_eq!((&conditions["backend"], &conditions["run"]), (&"cpu".into(), &"quick".into()));
    assert_eq!(conditions["interrupted"], false);
}

fn the_page_has_the_same_lines(page: &str, report: &Value) {
    let (before, rest) = page.split_once(BEGIN).expect("the page keeps its markers");
    let (between, after) = rest.split_once(END).expect("the page keeps its markers");
    assert_eq!((before, after), ("# By hand\n\n", "\n\nmore\n"));
    assert!(!between.contains("old"));
    let rows: Vec<&str> = between.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| figure")).collect();
    assert_eq!(rows.len(), lines(report).len());
    for (row, line) in rows.iter().zip(lines(report)) {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 7, "{row}");
        assert_eq!(cells[0].strip_prefix("| "), line["figure"].as_str());
        let starts = match (line["open_loop"].is_array(), line["no_open_loop"].as_str()) {
            (true, _) => ["p50 ", "p50 "].map(str::to_owned),
            (false, Some(reason)) => [format!("none: {reason}"), "none".to_owned()],
            (false, None) => Default::default(),
        };
        for (cell, start) in cells[3..5].iter().zip(starts) {
            assert!(cell.starts_with(&start) && cell.is_empty() == start.is_empty(), "{cell:?} in {row}");
        }
        assert_eq!(cells[5], if line["target"].is_string() { "not judged" } else { "" }, "{row}");
    }
    let headings: Vec<_> = between.lines().filter_map(|row| row.strip_prefix("### ")).collect();
    assert_eq!(headings, ["alloc", "transfer", "ring", "grains", "hit-rate", "kernel-cache"]);
    assert!(
        between.contains("- run: quick: it shows that everything runs, its figures mean nothing and are not judged")
    );
}

fn charts_are_well_formed(bench: &Bench) {
    for (name, words) in [
        ("latency.svg", ["closed loop", "open loop, 80 % of the peak", "grain's call awaited from a tokio task"]),
        ("throughput.svg", ["bare ring", "calls in flight", "millions per second"]),
        ("hit-rate.svg", ["actor mix", "footprint", "hit rate, %"]),
    ] {
        let text = bench.read(&format!("charts/{name}"));
        let svg = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(svg.root_element().tag_name().name(), "svg");
        let texts: Vec<&str> = svg.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for word in words {
            assert!(texts.iter().any(|text| text.contains(word)), "{name}: {word} is not among {texts:?}");
        }
    }
}

#[test]
fn one_area_alone_has_its_own_lines_and_charts() {
    let bench = Bench::new();
    let ran = bench.run(&["bench", "hit-rate", "--quick", "--backend", "cpu", "--json", "r.json", "--svg", "."]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("\n### hit-rate\n") && ran.stdout.matches("### ").count() == 1, "{}", ran.stdout);
    assert_eq!(bench.names(), ["hit-rate.svg", "r.json"]);
    assert!(ran.stderr.contains("latency.svg: not drawn, for no latencies were measured\n"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&bench.read("r.json")).expect("the file is one JSON object");
    assert!(lines(&report).len() >= 7 && lines(&report).iter().all(|line| line["area"] == "hit-rate"));
    assert_eq!(report["conditions"]["areas"], serde_json::json!(["hit-rate"]));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_measured() {
    let bench = Bench::new();
    let refused = |arguments: &[&str]| bench.run(&[&["bench", "--quick"], arguments].concat()).error(2);
    let area = refused(&["juggling"]);
    assert!(area.contains("juggling") && area.contains("alloc") && area.contains("kernel-cache"), "{area}");
    let backend = refused(&["--backend", "abacus"]);
    let known =
        backend.strip_prefix("there is no backend `abacus` (the caller's choice); there are: ").expect(&backend);
    assert!(known.contains("cpu") && known.ends_with(", auto"), "{known}");
    let device = refused(&["--device", "7"]);
    assert!(device.contains("there is no device `7` (the caller's choice); there are: 0 ("), "{device}");
    let folder = refused(&["--json", "."]);
    assert_eq!(folder, "cannot write .: is a directory");
    let nowhere = refused(&["--json", "nowhere/r.json"]);
    assert!(nowhere.starts_with("cannot write nowhere/r.json: "), "{nowhere}");
    let missing = refused(&["--markdown", "page.md"]);
    assert_eq!(missing, "cannot open page.md: No such file or directory (os error 2)");
    for (content, marker) in [("no place\n", BEGIN), (BEGIN, END)] {
        let page = bench.file("page.md", content);
        let line = refused(&["--markdown", &page]);
        assert!(line.contains("page.md: it has no line `") && line.contains(&format!("`{marker}`")), "{line}");
        assert_eq!(bench.read("page.md"), content);
        fs::remove_file(&page).unwrap();
    }
    let file = bench.file("taken", "");
    assert!(refused(&["--svg", &file]).starts_with("cannot write "));
    assert_eq!(bench.names(), ["taken"]);
}

#[test]
fn a_run_that_is_interrupted_prints_what_it_measured() {
    let bench = Bench::new();
    let mut child = bench.command(&["bench", "--quick", "--json", "-", "--svg", "charts"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // The first part has begun.
    while !said.contains("grains: ") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    assert!(said.starts_with("Ctrl-C stops after the part that is running, a second one at once\n"), "{said}");
    interrupt(&child);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(rest.ends_with("error: interrupted\n"), "{rest}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("standard output is one JSON object");
    assert_eq!(report["conditions"]["interrupted"], true);
    assert!(!lines(&report).is_empty() && lines(&report).len() < PROMISED.len());
    assert_eq!(fs::read_dir(bench.path("charts")).unwrap().count(), 0, "no file is written");
}
