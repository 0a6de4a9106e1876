//! What the program takes in, in every shape that it promises to understand.
#![cfg(feature = "program")]

mod common;

use std::fs;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Bench, finish, gzip, tool};

const ROWS: &str = "o,k,v\nx,a,1\nx,b,10\nx,a,3\n,a,5\nx,a,5\n";
/// Among 1, 3 five is 3 sigma; among 1, 3, 5 it is 2 / sqrt(8/3).
const SCORES: &str = "row,key,value,score\n1,a,1,0\n2,b,10,0\n3,a,3,0\n4,a,5,3\n5,a,5,1.2247449\n";

#[test]
fn hand_computed_scores_come_out_in_input_order() {
    let bench = Bench::new();
    let file = bench.file("f.csv", ROWS);
    assert_eq!(bench.scores(&file, &["--verify"]), SCORES);
}

#[test]
fn every_shape_of_the_same_rows_gives_the_same_scores() {
    let bench = Bench::new();
    let crlf = ROWS.replace('\n', "\r\n");
    let halves = ROWS.split_at(20);
    let shapes: [(&str, Vec<u8>); 9] = [
        ("CRLF", crlf.clone().into_bytes()),
        ("BOM", format!("\u{feff}{ROWS}").into_bytes()),
        ("no last line feed", ROWS.trim_end().as_bytes().to_vec()),
        ("no last CRLF", crlf.trim_end().as_bytes().to_vec()),
        ("empty lines", ROWS.replace('\n', "\n\n\r\n").into_bytes()),
        ("quotes", ROWS.replace('a', "\"a\"").replace('v', "\"v\"").replace(",5", ",\"5\"").into_bytes()),
        ("gzip", gzip(ROWS.as_bytes())),
        ("two gzip members", [gzip(halves.0.as_bytes()), gzip(halves.1.as_bytes())].concat()),
        ("gzip with an empty member", [gzip(b""), gzip(ROWS.as_bytes()), gzip(b"")].concat()),
    ];
    for (shape, bytes) in shapes {
        let file = bench.file("f", &bytes);
        assert_eq!(bench.scores(&file, &["--verify"]), SCORES, "{shape}");
        bench.stream_from_pipe(&bytes, &["--output", "scores.csv"]).report();
        assert_eq!(bench.read("scores.csv"), SCORES, "{shape}, from a pipe");
    }
}

#[test]
fn quoted_fields_hold_commas_quotes_and_line_feeds() {
    let bench = Bench::new();
    let text = "\"o\n\",\"k\",v\n\"x,\n\",\"a,\"\"b\"\"\nc\",1\nx,\"a,\"\"b\"\"\nc\",2\nx,plain,3\n";
    let file = bench.file("f.csv", text);
    let expected = "row,key,value,score\n1,\"a,\"\"b\"\"\nc\",1,0\n2,\"a,\"\"b\"\"\nc\",2,0\n3,plain,3,0\n";
    assert_eq!(bench.scores(&file, &[]), expected);
    let json = bench.stream(&file, &["--json"]).json();
    assert_eq!(json["keys"], 2);
}

#[test]
fn rows_without_a_value_or_a_key_are_skipped_and_counted() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k,v\na,1\na,\na,NA\n,2\n,x\na, \na, 2\n");
    let json = bench.stream(&file, &["--json", "--output", "s.csv"]).json();
    assert_eq!((&json["rows"], &json["scored"], &json["skipped"]), (&7.into(), &2.into(), &5.into()));
    assert_eq!(bench.read("s.csv"), "row,key,value,score\n1,a,1,0\n7,a, 2,0\n");
}

#[test]
fn keys_are_counted_only_once_they_have_a_value() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k,v\na,\nb,1\nc,NA\n");
    assert_eq!(bench.stream(&file, &["--json"]).json()["keys"], 1);
}

#[test]
fn skip_bad_counts_what_else_would_stop_the_run() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k,v\na,1\na,x\na,inf\na,1e39\na,nan\na,3\na,5\n");
    let json = bench.stream(&file, &["--json", "--skip-bad", "--output", "s.csv"]).json();
    assert_eq!((&json["rows"], &json["scored"], &json["bad"]), (&7.into(), &3.into(), &4.into()));
    assert!(bench.read("s.csv").ends_with("\n7,a,5,3\n"), "bad values do not enter the window");
}

#[test]
fn values_are_rounded_to_f32_before_anything_else() {
    let bench = Bench::new();
    // As f32 both first values are 16777216: their sigma is 0, so the score is 0.
    let file = bench.file("f.csv", "k,v\na,16777217\na,16777216\na,16777300\n");
    assert!(bench.scores(&file, &["--verify"]).ends_with("3,a,16777300,0\n"));
}

#[test]
fn a_mean_of_100_000_with_sigma_1_loses_nothing() {
    let bench = Bench::new();
    let mut text = "k,v\n".to_owned();
    for index in 0..64 {
        text.push_str(if index % 2 == 0 { "a,99999\n" } else { "a,100001\n" });
    }
    text.push_str("a,100003\n");
    let file = bench.file("f.csv", text);
    assert!(bench.scores(&file, &["--verify"]).ends_with("65,a,100003,3\n"));
}

#[test]
fn the_window_option_bounds_what_a_score_looks_at() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k,v\na,1000\na,1\na,3\na,5\na,10\n");
    assert!(bench.scores(&file, &["--window", "2"]).ends_with("5,a,10,6\n"));
    assert!(!bench.scores(&file, &["--window", "3"]).ends_with("5,a,10,6\n"));
    bench.stream(&file, &["--window", "65536"]).report();
}

#[test]
fn one_column_can_be_both_key_and_value() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "k\n1\n2\n1\n");
    let json = bench.run(&["stream", &file, "--key", "k", "--value", "k", "--json"]).json();
    assert_eq!((&json["scored"], &json["keys"]), (&3.into(), &2.into()));
}

#[test]
fn a_named_pipe_is_read_like_a_file() {
    let bench = Bench::new();
    let pipe = bench.path("pipe");
    tool("mkfifo", &[common::text(&pipe)]);
    let child = bench.command(&["stream", "pipe", "--key", "k", "--value", "v", "--json"]).spawn().unwrap();
    fs::write(&pipe, ROWS).unwrap();
    assert_eq!(finish(child).json()["scored"], 5);
}

/// Memory grows with keys only: 60 MB of rows pass through, far less stays.
#[test]
fn memory_does_not_grow_with_rows() {
    let bench = Bench::new();
    let arguments = ["stream", "-", "--key", "k", "--value", "v", "--json"];
    let mut child = bench.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let filler = "x".repeat(1000);
    let block: String = (0..1000).map(|row| format!("key {},{row},{filler}\n", row % 50)).collect();
    stdin.write_all(b"k,v,o\n").unwrap();
    let blocks = 60;
    for _ in 0..blocks {
        stdin.write_all(block.as_bytes()).unwrap();
    }
    // All but what the pipe holds has been read by now.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 40 * 1024, "peak of {peak_kib} KiB");
    drop(stdin);
    assert_eq!(finish(child).json()["rows"], blocks * 1000);
}

/// Rows come through while the input is still open: it is read as a stream.
#[test]
fn scores_come_out_before_the_input_ends() {
    let bench = Bench::new();
    let pipe = bench.path("pipe");
    tool("mkfifo", &[common::text(&pipe)]);
    let arguments = ["stream", "-", "--key", "k", "--value", "v", "--json", "--output", "pipe"];
    let mut child = bench.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (first_piece, first) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut file = fs::File::open(pipe).unwrap();
        let mut piece = vec![0; 4096];
        file.read_exact(&mut piece).unwrap();
        first_piece.send(piece).unwrap();
        io::copy(&mut file, &mut io::sink()).unwrap();
    });
    stdin.write_all(b"k,v\n").unwrap();
    stdin.write_all("a,1\n".repeat(100_000).as_bytes()).unwrap();
    let piece = first.recv_timeout(Duration::from_secs(30)).expect("a first piece of output");
    assert!(piece.starts_with(b"row,key,value,score\n1,a,1,0\n"));
    drop(stdin);
    reader.join().unwrap();
    assert_eq!(finish(child).json()["rows"], 100_000);
}
