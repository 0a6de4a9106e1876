//! A test program that starts itself as a child, hears what it says, and kills it in the middle.
//!
//! The child is the program's one ignored test, called `child`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Says one line at a time, in one piece, at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

/// Starts the child, which finds `path` in the environment as `variable`.
pub fn start(variable: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(variable, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// Kills the child after so many answers. `hear` is told every line that it said until it was dead, and returns how many
/// answers there were so far.
pub fn kill_after(answers: usize, mut child: Child, mut hear: impl FnMut(&str) -> usize) {
    let mut out = BufReader::new(child.stdout.take().expect("the output is a pipe"));
    let (mut line, mut killed) = (String::new(), false);
    while out.read_line(&mut line).expect("the pipe is read") > 0 {
        // A last line without its end was cut off by the kill.
        if let Some(line) = line.strip_suffix('\n')
            && hear(line) >= answers
            && !killed
        {
            child.kill().expect("the child runs");
            killed = true;
        }
        line.clear();
    }
    assert!(killed, "the child ended by itself: {:?}", child.wait());
    child.wait().expect("the child is dead");
}
