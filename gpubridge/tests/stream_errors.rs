//! Everything that the program refuses: one clear line on standard error, exit code 2, no output.
#![cfg(feature = "program")]

mod common;

use common::{Bench, gzip, tool};

/// The error line for a file with this content.
fn refused(content: impl AsRef<[u8]>, more: &[&str]) -> String {
    let bench = Bench::new();
    bench.file("f.csv", content);
    let line = bench.stream("f.csv", &[more, &["--output", "s.csv"]].concat()).error(2);
    assert_eq!(bench.names(), ["f.csv"], "no output, and nothing else is left behind");
    line
}

#[test]
fn inputs_that_cannot_be_opened() {
    let bench = Bench::new();
    let missing = bench.stream("nothing.csv", &[]).error(2);
    assert_eq!(missing, "cannot open nothing.csv: No such file or directory (os error 2)");
    let directory = bench.stream(".", &[]).error(2);
    assert_eq!(directory, ". is a directory, not a CSV file");
    let strange = bench.stream("no\nthing", &[]).error(2);
    assert_eq!(strange, "cannot open no\\nthing: No such file or directory (os error 2)");
}

#[test]
fn headers() {
    let columns = "no column \"k\" in f.csv; its columns are: a, b c, v";
    assert_eq!(refused("a,b c,v\n1,2,3\n", &[]), columns);
    assert_eq!(refused("k,v,k\n1,2,3\n", &[]), "column \"k\" is named 2 times in the header of f.csv");
    assert_eq!(refused("", &[]), "f.csv has no header line: it is empty");
    assert_eq!(refused(gzip(b""), &[]), "f.csv has no header line: it is empty");
    assert_eq!(refused("\n\r\n", &[]), "f.csv has no header line: it is empty");
    let bench = Bench::new();
    assert_eq!(bench.stream_from_pipe(b"", &[]).error(2), "standard input has no header line: it is empty");
}

#[test]
fn a_column_named_twice_is_fine_when_nobody_asks_for_it() {
    let bench = Bench::new();
    let file = bench.file("f.csv", "o,k,o,v\n,a,,1\n");
    bench.stream(&file, &[]).report();
}

#[test]
fn rows_of_another_length_name_the_physical_line() {
    assert_eq!(refused("k,v\na,1\na,1,2\n", &[]), "line 3: 3 fields where the header has 2");
    assert_eq!(refused("k,v\n\"a\nb\",1\n\na\n", &[]), "line 5: 1 fields where the header has 2");
    assert_eq!(refused("k,v\r\na,1\r\n\"a\",1,\r\n", &[]), "line 3: 3 fields where the header has 2");
}

#[test]
fn bytes_that_are_not_utf8_name_their_line() {
    assert_eq!(refused(b"k,v\na,1\n\xff,2\n", &[]), "line 3: bytes that are not UTF-8");
    assert_eq!(refused(b"k,v,o\na,1,\xe9\n", &[]), "line 2: bytes that are not UTF-8");
    assert_eq!(refused(b"k,v\n\"a\n\n\xff\",1\n", &[]), "line 4: bytes that are not UTF-8");
    assert_eq!(refused(b"k,v,\xff\na,1,\n", &[]), "line 1: bytes that are not UTF-8");
    assert_eq!(refused(b"k,v\n,\xff\n", &["--skip-bad"]), "line 2: bytes that are not UTF-8");
}

#[test]
fn values_that_are_no_finite_f32_name_line_and_text() {
    for text in ["x", "1e39", "-inf", "NaN", "1 2", "0x1", "na", "3.5e38"] {
        let line = refused(format!("k,v\n\"a\n\",1\na,{text}\n"), &[]);
        assert_eq!(line, format!("line 4: {text:?} is no finite f32 number (--skip-bad counts such rows instead)"));
    }
    let long = refused(format!("k,v\na,{}\n", "x".repeat(100_000)), &[]);
    assert!(long.len() < 200, "{long}");
    let lines = refused("k,v\na,\"1\n2\"\n", &[]);
    assert!(lines.starts_with("line 2: \"1\\n2\" is no finite"), "{lines}");
}

#[test]
fn quotes_that_are_never_closed() {
    let line = refused("k,v\na,1\n\"a,1\na,2\n", &[]);
    assert_eq!(line, "line 3: a quoted field that begins in this row is never closed");
    let endless = format!("k,v\n\"{}", "a,1\n".repeat(2_000_000));
    let line = refused(endless, &[]);
    assert_eq!(line, "line 2: a row of more than 1048576 bytes (is a quote left open?)");
}

#[test]
fn gzip_that_is_cut_short_anywhere() {
    let whole = gzip("k,v\na,1\na,2\nb,3\n".repeat(3).as_bytes());
    let bench = Bench::new();
    for length in 2..whole.len() {
        let file = bench.file("f.gz", &whole[..length]);
        let line = bench.stream(&file, &["--skip-bad"]).error(2);
        assert!(line.contains("f.gz is damaged gzip (after line "), "{length} bytes: {line}");
    }
    let second = [&whole[..], &whole[..whole.len() / 2]].concat();
    let file = bench.file("f.gz", second);
    assert!(bench.stream(&file, &["--skip-bad"]).error(2).contains("is damaged gzip"));
}

#[test]
fn gzip_with_a_wrong_checksum_or_length_or_garbage_behind() {
    let whole = gzip(b"k,v\na,1\na,2\nb,3\n");
    for from_end in [1, 5, 8] {
        let mut damaged = whole.clone();
        let at = damaged.len() - from_end;
        damaged[at] ^= 1;
        assert!(refused(damaged, &[]).contains("is damaged gzip"), "byte {from_end} from the end");
    }
    let garbage = [&whole[..], b"garbage"].concat();
    assert!(refused(garbage, &[]).contains("is damaged gzip"));
}

#[test]
fn options_out_of_range() {
    let usage = |more: &[&str]| refused("k,v\na,1\n", more);
    for window in ["1", "0", "65537", "-3", "x", "2.5"] {
        let line = usage(&["--window", window]);
        assert!(line.contains("--window") && line.contains(window), "{line}");
    }
    for threshold in ["-1", "-0.001", "nan", "inf", "-inf", "x"] {
        let line = usage(&[&format!("--threshold={threshold}")]);
        assert!(line.contains("--threshold") && line.contains(threshold), "{line}");
    }
    assert!(usage(&["--threshold", "-1"]).contains("finite and not negative"));
    assert!(usage(&["--max-keys", "0"]).contains("--max-keys"));
    assert!(usage(&["--what"]).contains("--what"));
    assert_eq!(
        usage(&["--backend", "abacus"]),
        "there is no backend `abacus` (the caller's choice); there are: cpu, auto"
    );
    let line = usage(&["--device", "abacus"]);
    assert!(line.contains("there is no device `abacus` (the caller's choice); there are: 0 ("), "{line}");
}

#[test]
fn missing_arguments_are_named() {
    let bench = Bench::new();
    let line = bench.run(&["stream", "f.csv"]).error(2);
    assert!(line.contains("--key") && line.contains("--value"), "{line}");
    assert!(bench.run(&["stream"]).error(2).contains("<FILE>"));
    assert!(bench.run(&["juggle"]).error(2).contains("juggle"));
}

#[test]
fn too_many_keys() {
    let rows = "k,v\na,1\nb,1\na,2\nb,3\n";
    assert_eq!(refused(format!("{rows}c,1\n"), &["--max-keys", "2"]), "line 6: more than 2 distinct keys (--max-keys)");
    let bench = Bench::new();
    let file = bench.file("f.csv", rows);
    bench.stream(&file, &["--max-keys", "2"]).report();
}

#[test]
fn the_baseline_needs_an_input_that_can_be_read_again() {
    let bench = Bench::new();
    let line = bench.stream_from_pipe(b"k,v\n", &["--baseline"]).error(2);
    assert!(line.starts_with("--baseline reads its input more than once"), "{line}");
    tool("mkfifo", &[common::text(&bench.path("pipe"))]);
    let line = bench.stream("pipe", &["--baseline"]).error(2);
    assert_eq!(line, "--baseline reads its input more than once: pipe cannot be");
}
