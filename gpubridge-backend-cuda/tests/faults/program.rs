//! A program whose cases run in processes of their own: it starts itself anew for each, and judges how that ends.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use ringkernel_tests::is_required;

use crate::emulation;

/// Names the case, in its process.
const CASE_VARIABLE: &str = "FAULTS_CASE";
/// Names its folder there.
const FOLDER_VARIABLE: &str = "FAULTS_FOLDER";
/// A case that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(400);
/// How a process ends whose case goes on in another one.
const GO_ON: u8 = 10;
/// How a process ends whose case cannot be checked here.
const CANNOT: u8 = 11;

/// A case: it returns if all is as it must be, and panics if not.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    /// `EMULATED_CUDA`, with `{folder}` for the case's own; `None` for no emulated driver.
    pub settings: Option<&'static str>,
    pub run: fn(&Path) -> End,
    /// Set beside it.
    pub variables: &'static [(&'static str, &'static str)],
    /// Whether the process may end while a kernel of a ring runs: where there is no way to end it.
    pub leaves_kernel: bool,
}

impl Case {
    pub const fn new(name: &'static str, settings: &'static str, run: fn(&Path) -> End) -> Self {
        Self { name, settings: Some(settings), run, variables: &[], leaves_kernel: false }
    }
}

/// What a case has come to in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Passed,
    /// To be started anew in another process; it has left in its folder where it is.
    GoOn,
    /// There is nothing to be checked here.
    Cannot,
}

/// Runs the cases that the arguments ask for, or the one that this process is for.
pub fn main(cases: &[Case]) -> ExitCode {
    if let Some(name) = env::var_os(CASE_VARIABLE) {
        let case = cases.iter().find(|case| *case.name == *name).expect("the case is known");
        let folder = PathBuf::from(env::var_os(FOLDER_VARIABLE).expect("the case has a folder"));
        return match (case.run)(&folder) {
            End::Passed => ExitCode::SUCCESS,
            End::GoOn => ExitCode::from(GO_ON),
            End::Cannot => ExitCode::from(CANNOT),
        };
    }
    let there = emulation::ensure_loaded();
    let required = is_required("cuda");
    let trials = cases.iter().map(|case| {
        let case = *case;
        let trial = Trial::test(case.name, move || if there { judge(&case) } else { Err("no emulated driver".into()) });
        match obstacle(&case, there) {
            Some(_) if required && !there => trial,
            Some(why) => trial.with_kind(why).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// What keeps a case from running.
fn obstacle(case: &Case, there: bool) -> Option<&'static str> {
    if !there {
        return Some("there is no C++ compiler to build the emulated driver");
    }
    // Only such a process can tell whether there is a driver.
    let cannot = case.settings.is_none() && run(case).is_ok_and(|(status, _)| status.code() == Some(i32::from(CANNOT)));
    cannot.then_some("there is a CUDA driver on this machine")
}

fn judge(case: &Case) -> Result<(), libtest_mimic::Failed> {
    let (status, said) = run(case)?;
    let refuse = |why: &str| Err(format!("{why}; it said:\n{said}").into());
    if !status.success() {
        return refuse(&format!("the case's process ended with {status}"));
    }
    // Of another thread than the case's own.
    if said.contains("panicked at") {
        return refuse("a thread panicked");
    }
    if !case.leaves_kernel && said.contains("ends under a resident kernel") {
        return refuse("a kernel of a ring runs at the process's end");
    }
    Ok(())
}

/// Runs the case's process, and those after it; returns how the last one ended, and what it said.
fn run(case: &Case) -> Result<(ExitStatus, String), String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let until = Instant::now() + DEADLINE;
    loop {
        let said = folder.path().join("said");
        let status = start(case, folder.path(), &said).and_then(|mut child| wait(&mut child, until));
        let said = fs::read_to_string(said).unwrap_or_default();
        match status {
            Ok(status) if status.code() == Some(i32::from(GO_ON)) => {}
            Ok(status) => return Ok((status, said)),
            Err(why) => return Err(format!("{why}; it said:\n{said}")),
        }
    }
}

fn start(case: &Case, folder: &Path, said: &Path) -> Result<Child, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let file = File::create(said).map_err(|error| error.to_string())?;
    let both = file.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.env(CASE_VARIABLE, case.name).env(FOLDER_VARIABLE, folder).stdin(process::Stdio::null());
    command.env("RUST_BACKTRACE", "0").envs(case.variables.iter().copied()).stdout(file).stderr(both);
    match case.settings {
        Some(settings) => command.env("EMULATED_CUDA", settings.replace("{folder}", &folder.to_string_lossy())),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
    command.spawn().map_err(|error| error.to_string())
}

/// Waits for the process; one that is not done in time is ended.
fn wait(child: &mut Child, until: Instant) -> Result<ExitStatus, String> {
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if Instant::now() >= until {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            return Err(format!("the case hangs: its process was ended after {DEADLINE:?}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
