//! The report, for people and as JSON; `--verify`, `--baseline`; the demonstration.
#![cfg(feature = "program")]

mod common;

use std::collections::{HashMap, VecDeque};
use std::io::Read;

use common::{Bench, FLIGHTS};
use flate2::read::GzDecoder;

const FIELDS: [&str; 13] = [
    "anomalies",
    "backend",
    "bad",
    "device",
    "events_per_second",
    "keys",
    "latency_ns",
    "max_abs_error",
    "metrics",
    "rows",
    "scored",
    "skipped",
    "verified",
];

/// Twenty rows of one key, all 0 or 2, then two that stand out.
fn rows() -> String {
    let mut rows = "k,v\n".to_owned();
    for index in 0..20 {
        rows.push_str(if index % 2 == 0 { "a,0\n" } else { "a,2\n" });
    }
    rows + "a,101\na,1\n\"b,\"\"c\",7\n"
}

#[test]
fn json_has_exactly_the_promised_fields() {
    let bench = Bench::new();
    let file = bench.file("f.csv", rows());
    let json = bench.stream(&file, &["--json"]).json();
    let mut fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, FIELDS);
    for count in ["rows", "scored", "skipped", "bad", "keys", "anomalies"] {
        assert!(json[count].is_u64(), "{count}");
    }
    assert!(json["events_per_second"].as_f64().unwrap() > 0.0);
    let latency = json["latency_ns"].as_object().unwrap();
    assert_eq!(latency.len(), 3);
    let [p50, p99, p999] = ["p50", "p99", "p999"].map(|name| latency[name].as_u64().unwrap());
    assert!(0 < p50 && p50 <= p99 && p99 <= p999);
    assert!(json["backend"].is_string() && json["device"].is_string() && json["metrics"].is_object());
    assert!(json["verified"].is_null() && json["max_abs_error"].is_null());
    let verified = bench.stream(&file, &["--json", "--verify"]).json();
    assert_eq!(verified["verified"], true);
    assert!(verified["max_abs_error"].as_f64().unwrap() < 1e-3);
}

#[test]
fn a_file_without_rows_has_a_report_too() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k,v\n");
    let json = bench.stream(&file, &["--json", "--verify"]).json();
    assert_eq!((&json["rows"], &json["scored"], &json["keys"]), (&0.into(), &0.into(), &0.into()));
    assert!(json["latency_ns"]["p50"].is_null());
    assert!(bench.stream(&file, &[]).report().contains("no rows, no latency"));
}

#[test]
fn anomalies_are_scores_at_or_above_the_threshold() {
    let bench = Bench::new();
    // Scores 0, 0, 3 and then -3: mean 2 and sigma 1 among 1 and 3.
    let file = bench.file("f.csv", "k,v\na,1\na,3\na,5\nb,1\nb,3\nb,-1\n");
    let anomalies = |threshold| bench.stream(&file, &["--json", "--threshold", threshold]).json()["anomalies"].clone();
    assert_eq!(["3", "3.0001", "0"].map(anomalies), [2.into(), 0.into(), serde_json::Value::from(6)]);
}

#[test]
fn the_text_report_says_it_all() {
    let bench = Bench::new();
    let file = bench.file("f.csv", rows());
    let report = bench.stream(&file, &["--verify", "--skip-bad"]).report();
    for part in [
        "rows           23",
        "scored         23",
        "skipped        0",
        "bad            0",
        "keys           2",
        "anomalies      1, |score| ≥ 3",
        "verified       all 23 scores",
        "events/s",
        "p50",
        "p99.9",
        "submit → completion",
        "backend",
        "device",
        "the 10 largest |score|",
        "metrics",
    ] {
        assert!(report.contains(part), "{part} in\n{report}");
    }
}

#[test]
fn the_ten_largest_are_listed_in_order() {
    let bench = Bench::new();
    let file = bench.file("f.csv", rows());
    let report = bench.stream(&file, &[]).report();
    let list: Vec<Vec<&str>> = report
        .lines()
        .skip_while(|line| !line.starts_with("the 10 largest"))
        .skip(2)
        .take_while(|line| line.starts_with(' '))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(list.len(), 10);
    assert_eq!(list[0], ["21", "a", "101", "100"]);
    let sizes: Vec<f32> = list.iter().map(|line| line[3].parse::<f32>().unwrap().abs()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
}

#[test]
fn two_runs_give_equal_scores_and_leave_nothing_behind() {
    let bench = Bench::new();
    let scores = [(); 2].map(|()| {
        let output = ["stream", FLIGHTS, "--key", "dest", "--value", "arr_delay", "--output", "s.csv"];
        bench.run(&output).report();
        bench.read("s.csv")
    });
    assert!(scores[0] == scores[1]);
    assert_eq!(bench.names(), ["s.csv"]);
}

/// Recomputes every score of the flights from the text of the file, by its own simple means.
#[test]
fn the_flights_come_out_in_order_with_the_scores_of_the_definition() {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(FLIGHTS).unwrap()).read_to_string(&mut text).unwrap();
    let bench = Bench::new();
    bench.run(&["stream", FLIGHTS, "--key", "tailnum", "--value", "dep_delay", "--output", "s.csv"]).report();
    let scores = bench.read("s.csv");
    let mut lines = scores.lines();
    assert_eq!(lines.next(), Some("row,key,value,score"));
    let mut windows: HashMap<&str, VecDeque<f64>> = HashMap::new();
    for (index, row) in text.lines().skip(1).enumerate() {
        let fields: Vec<&str> = row.split(',').collect();
        let (key, value) = (fields[2], fields[5]);
        if key.is_empty() || value.is_empty() {
            continue;
        }
        let line = lines.next().expect("a line for each scored row");
        let (start, score) = line.rsplit_once(',').unwrap();
        assert_eq!(start, format!("{},{key},{value}", index + 1));
        let score: f64 = score.parse().unwrap();
        let value: f64 = value.parse().unwrap();
        let window = windows.entry(key).or_default();
        let count = window.len() as f64;
        let mean = window.iter().sum::<f64>() / count;
        let sigma = (window.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / count).sqrt();
        let is_flat = window.len() < 2 || sigma <= 1e-6 * mean.abs().max(1.0);
        let expected = if is_flat { 0.0 } else { (value - mean) / sigma };
        assert!((score - expected).abs() <= 1e-3 * expected.abs().max(1.0), "{line}: {expected}");
        window.push_back(value);
        if window.len() > 64 {
            window.pop_front();
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn the_baseline_prints_two_ratios() {
    let bench = Bench::new();
    let file = bench.file("f.csv", rows());
    let report = bench.stream(&file, &["--baseline"]).report();
    assert!(report.contains("from the file") && report.contains("23 rows already parsed"), "{report}");
    let json = bench.stream(&file, &["--baseline", "--json"]).json();
    for ratio in ["from_file", "from_rows"] {
        assert!(json["baseline"][ratio].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn no_arguments_means_the_demonstration() {
    let bench = Bench::new();
    let report = bench.run(&[]).report();
    for part in [
        "rows           336,776",
        "scored         328,521",
        "skipped        8,255",
        "keys           4,037",
        "verified       all 328521 scores",
    ] {
        assert!(report.contains(part), "{part} in\n{report}");
    }
    assert_eq!(bench.names(), [] as [&str; 0], "nothing is left behind");
}

#[test]
fn devices_are_listed() {
    let report = Bench::new().run(&["devices"]).report();
    let device = report.lines().find(|line| line.starts_with("cpu · 0 ")).expect(&report);
    assert!(device.contains(" · can be opened · ") && device.ends_with(" · cpu:0"), "{device}");
}
