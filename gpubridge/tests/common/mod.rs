//! Runs the real program on inputs made for the occasion.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod scored;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// The flights of 2013, as shipped.
pub const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-2013.csv.gz");

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The report of a run that has to succeed, quietly.
    pub fn report(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// The JSON object of a run that has to succeed.
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.report()).expect("standard output is one JSON object")
    }

    /// The one line of a run that has to end with `code`, without `error: `.
    pub fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "", "nothing on standard output");
        let line = self.stderr.strip_prefix("error: ").expect("one prefix");
        let line = line.strip_suffix('\n').expect("a whole line");
        assert!(!line.contains('\n'), "one line: {line}");
        line.to_owned()
    }
}

/// A folder for one test.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Bench { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with this content; its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names of all files in the folder, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `gpubridge stream FILE --key k --value v …`, in the folder.
    pub fn stream(&self, file: &str, more: &[&str]) -> Ran {
        self.run(&[&["stream", file, "--key", "k", "--value", "v"], more].concat())
    }

    /// The program with these arguments, in the folder.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// The scores that a run writes, as they stand in the file.
    pub fn scores(&self, file: &str, more: &[&str]) -> String {
        self.stream(file, &[&["--output", "scores.csv"], more].concat()).report();
        let scores = self.read("scores.csv");
        fs::remove_file(self.path("scores.csv")).unwrap();
        scores
    }

    /// The program with these arguments and all its ends in pipes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpubridge"));
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("GPUBRIDGE_BACKEND").env_remove("GPUBRIDGE_DEVICE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `gpubridge stream - --key k --value v …` with these bytes on its standard input.
    pub fn stream_from_pipe(&self, bytes: &[u8], more: &[&str]) -> Ran {
        let arguments = [&["stream", "-", "--key", "k", "--value", "v"], more].concat();
        let mut child = self.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            // The program may stop before it has read everything.
            scope.spawn(move || drop(stdin.write_all(bytes)));
            finish(child)
        })
    }
}

/// Waits for the program to end.
pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The bytes as one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Waits for something that has to happen soon.
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a small system tool that has to succeed.
pub fn tool(name: &str, arguments: &[&str]) {
    assert!(Command::new(name).args(arguments).status().unwrap().success(), "{name} {arguments:?}");
}

/// Sends SIGINT.
pub fn interrupt(child: &Child) {
    tool("sh", &["-c", &format!("kill -INT {}", child.id())]);
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
