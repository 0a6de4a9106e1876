//! `gpubridge conformance`: the suite as a command.
#![cfg(feature = "program")]

mod common;

use common::{Bench, Ran, finish};

fn conformance(arguments: &[&str]) -> Ran {
    Bench::new().run(&[&["conformance"], arguments].concat())
}

#[test]
fn each_case_is_a_line_and_the_last_line_counts_them() {
    let report = conformance(&["--backend", "null", "cache::everything_hits", "requests::message_counters"]).report();
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(
        lines,
        [
            "passed  requests::message_counters_are_exact",
            "ignored cache::everything_hits_when_all_fit: needs capability `compute`",
            "null (null device): 1 passed, 0 failed, 1 ignored",
        ]
    );
}

#[test]
fn as_json_each_case_has_its_area_promise_status_and_time() {
    let report = conformance(&["--backend", "null", "--format", "json", "requests::"]).json();
    assert_eq!((&report["backend"], &report["device"]), (&"null".into(), &"null device".into()));
    let cases = report["cases"].as_array().expect("an array");
    let named = |name: &str| cases.iter().find(|case| case["name"] == name).expect("it is a case of the area");
    let passed = named("message_counters_are_exact");
    assert_eq!((&passed["area"], &passed["status"]), (&"requests".into(), &"passed".into()));
    assert!(passed["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{passed}");
    assert!(passed["behavior"].is_string() && passed["reason"].is_null(), "{passed}");
    let ignored = named("kernel_counters_are_exact");
    assert_eq!((&ignored["status"], &ignored["reason"]), (&"ignored".into(), &"needs capability `compute`".into()));
}

#[test]
fn as_markdown_each_backend_is_a_column() {
    let arguments = ["--backend", "cpu", "--backend", "null", "--format", "markdown", "transfers::nothing"];
    let table = conformance(&arguments).report();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "|  | cpu | null |");
    assert!(lines.contains(&"| compute | yes | no |"), "{table}");
    assert!(lines.contains(&"| cases: runtime | 1 | 1 |"), "{table}");
}

#[test]
fn what_cannot_be_run_is_refused() {
    let line = conformance(&["no_such_case"]).error(2);
    assert_eq!(line, "no case matches no_such_case; without a filter all are run");
    let bench = Bench::new();
    let mut required = bench.command(&["conformance", "--backend", "null", "requests::message"]);
    let line = finish(required.env("GPUBRIDGE_REQUIRE", "null, abacus").spawn().unwrap()).error(2);
    assert_eq!(line, "GPUBRIDGE_REQUIRE requires `abacus`: there is no backend `abacus`; there are: cpu, null");
    let line = conformance(&["--backend", "abacus"]).error(2);
    assert_eq!(line, "there is no backend `abacus`; there are: cpu, null");
}
