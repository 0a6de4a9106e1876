//! `--output`: all or nothing, in a file, a pipe or a device; and what a signal leaves behind.
#![cfg(feature = "program")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Bench, finish, interrupt, text, tool, wait_until};

const ROWS: &str = "k,v\na,1\na,3\na,5\n";
const SCORES: &str = "row,key,value,score\n1,a,1,0\n2,a,3,0\n3,a,5,3\n";
const STREAM: [&str; 6] = ["stream", "f.csv", "--key", "k", "--value", "v"];

#[test]
fn an_existing_file_is_replaced_at_the_end_and_keeps_its_mode() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    let old = bench.file("s.csv", "old");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    bench.stream("f.csv", &["--output", "s.csv"]).report();
    assert_eq!(bench.read("s.csv"), SCORES);
    assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(bench.names(), ["f.csv", "s.csv"]);
}

#[test]
fn a_new_file_gets_the_mode_of_any_new_file() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    bench.stream("f.csv", &["--output", "s.csv"]).report();
    let mode = |name| fs::metadata(bench.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("s.csv"), mode("f.csv"));
}

#[test]
fn a_failure_leaves_an_existing_file_as_it_was() {
    let bench = Bench::new();
    bench.file("f.csv", format!("{ROWS}a,x\n"));
    bench.file("s.csv", "old");
    bench.stream("f.csv", &["--output", "s.csv"]).error(2);
    assert_eq!(bench.read("s.csv"), "old");
    assert_eq!(bench.names(), ["f.csv", "s.csv"]);
}

#[test]
fn the_input_itself_can_be_the_output() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    bench.stream("f.csv", &["--output", "f.csv"]).report();
    assert_eq!(bench.read("f.csv"), SCORES);
}

#[test]
fn a_link_stays_a_link() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    bench.file("s.csv", "old");
    symlink("s.csv", bench.path("link")).unwrap();
    bench.stream("f.csv", &["--output", "link"]).report();
    assert_eq!(bench.read("s.csv"), SCORES);
    assert!(bench.path("link").is_symlink());
}

#[test]
fn links_to_nothing_stay_links_too() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    fs::create_dir(bench.path("deep")).unwrap();
    symlink("deep/second", bench.path("first")).unwrap();
    symlink("../s.csv", bench.path("deep/second")).unwrap();
    bench.stream("f.csv", &["--output", "first"]).report();
    assert_eq!(bench.read("s.csv"), SCORES);
    assert!(bench.path("first").is_symlink() && bench.path("deep/second").is_symlink());
    assert_eq!(bench.names(), ["deep", "f.csv", "first", "s.csv"]);

    symlink("no/s.csv", bench.path("nowhere")).unwrap();
    let line = bench.stream("f.csv", &["--output", "nowhere"]).error(2);
    assert_eq!(line, "cannot write nowhere: No such file or directory (os error 2)");
    symlink("round", bench.path("round")).unwrap();
    let line = bench.stream("f.csv", &["--output", "round"]).error(2);
    assert!(line.starts_with("cannot write round: Too many levels of symbolic links"), "{line}");
    assert!(bench.path("nowhere").is_symlink() && bench.path("round").is_symlink());
}

#[test]
fn targets_that_cannot_be_written() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    // What the user gave is named, and not the temporary file beside it.
    let line = bench.stream("f.csv", &["--output", "no/s.csv"]).error(2);
    assert_eq!(line, "cannot write no/s.csv: No such file or directory (os error 2)");
    assert!(bench.stream("f.csv", &["--output", "."]).error(2).starts_with("cannot write .: is a directory"));
}

#[test]
fn a_full_disk_ends_with_2() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    let line = bench.stream("f.csv", &["--output", "/dev/full"]).error(2);
    assert_eq!(line, "cannot write /dev/full: No space left on device (os error 28)");
    // Enough rows that the write buffer runs over long before the end.
    bench.file("f.csv", format!("k,v\n{}", "a,1\n".repeat(100_000)));
    let line = bench.stream("f.csv", &["--output", "/dev/full"]).error(2);
    assert_eq!(line, "cannot write /dev/full: No space left on device (os error 28)");
}

#[test]
fn a_report_on_a_full_disk_ends_with_2() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    for more in [&[][..], &["--json"], &["--output", "-"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = finish(bench.command(&[&STREAM, more].concat()).stdout(full).spawn().unwrap());
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    }
}

#[test]
fn a_named_pipe_is_written_directly_and_stays() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    let pipe = bench.path("pipe");
    tool("mkfifo", &[text(&pipe)]);
    let reader = thread::spawn(move || fs::read_to_string(pipe).unwrap());
    bench.stream("f.csv", &["--output", "pipe"]).report();
    assert_eq!(reader.join().unwrap(), SCORES);
    assert_eq!(bench.names(), ["f.csv", "pipe"]);
}

#[test]
fn scores_on_standard_output_move_the_report_to_standard_error() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    for target in ["/dev/stdout", "-"] {
        let ran = bench.stream("f.csv", &["--output", target]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), SCORES));
        assert!(ran.stderr.contains("rows           3"), "{}", ran.stderr);
        let line = bench.stream("f.csv", &["--json", "--output", target]).error(2);
        assert!(line.starts_with("--json wants standard output for itself"), "{line}");
    }
}

#[test]
fn standard_output_in_a_file_is_appended_to_and_not_replaced() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    for target in ["/dev/stdout", "-"] {
        let mut log = fs::File::create(bench.path("log")).unwrap();
        log.write_all(b"before\n").unwrap();
        let child = bench.command(&[&STREAM[..], &["--output", target]].concat()).stdout(log).spawn().unwrap();
        assert_eq!(finish(child).code, Some(0));
        assert_eq!(bench.read("log"), format!("before\n{SCORES}"));
    }
}

#[test]
fn readers_that_go_away_are_no_panic() {
    let bench = Bench::new();
    bench.file("f.csv", format!("k,v\n{}", "a,1\n".repeat(200_000)));
    for more in [&[][..], &["--json"], &["--output", "-"]] {
        let mut child = bench.command(&[&STREAM[..], more].concat()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stderr, "");
    }
    for help in [&["--help"][..], &["stream", "--help"], &["devices"]] {
        let mut child = bench.command(help).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(finish(child).stderr, "");
    }
}

/// Starts a run on an open pipe that writes beside `s.csv`; returns once its file is there.
fn begin_run(bench: &Bench) -> Child {
    let arguments = ["stream", "-", "--key", "k", "--value", "v", "--output", "s.csv"];
    let mut child = bench.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(ROWS.as_bytes()).unwrap();
    wait_until("a temporary file", || bench.names().iter().any(|name| name.ends_with(".part")));
    child
}

#[test]
fn ctrl_c_while_waiting_for_input_leaves_nothing() {
    let bench = Bench::new();
    bench.file("s.csv", "old");
    let mut child = begin_run(&bench);
    interrupt(&child);
    wait_until("the end", || child.try_wait().unwrap().is_some());
    assert_eq!(finish(child).error(130), "interrupted");
    assert_eq!((bench.names(), bench.read("s.csv")), (vec!["s.csv".to_owned()], "old".to_owned()));
}

/// Interrupts a run to which rows keep coming; how long it took to end.
fn interrupt_while_rows_come() -> Duration {
    let bench = Bench::new();
    let mut child = begin_run(&bench);
    let mut stdin = child.stdin.take().unwrap();
    let feeder = thread::spawn(move || while stdin.write_all(&b"a,1\n".repeat(1000)).is_ok() {});
    interrupt(&child);
    let start = Instant::now();
    wait_until("the end", || child.try_wait().unwrap().is_some());
    let took = start.elapsed();
    feeder.join().unwrap();
    assert_eq!(finish(child).error(130), "interrupted");
    assert_eq!(bench.names(), [] as [&str; 0]);
    took
}

/// The row loop itself ends the run, without the 300 ms that a blocked one is given. On a busy
/// machine one try may be late.
#[test]
fn ctrl_c_while_rows_come_ends_at_once_and_leaves_nothing() {
    let is_at_once = |_| interrupt_while_rows_come() < Duration::from_millis(250);
    assert!((0..8).any(is_at_once));
}

#[test]
fn ctrl_c_while_nobody_reads_the_output_pipe() {
    let bench = Bench::new();
    bench.file("f.csv", ROWS);
    tool("mkfifo", &[text(&bench.path("pipe"))]);
    let mut child = bench.command(&[&STREAM[..], &["--output", "pipe"]].concat()).spawn().unwrap();
    // Opening the pipe blocks; there is nothing to see from outside but that the handler is there.
    let signals = || fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    wait_until("a signal handler", || {
        let caught = signals().lines().find_map(|line| line.strip_prefix("SigCgt:").map(str::to_owned));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 2 != 0)
    });
    interrupt(&child);
    wait_until("the end", || child.try_wait().unwrap().is_some());
    assert_eq!(finish(child).error(130), "interrupted");
}
