//! Ctrl-C, SIGTERM and SIGHUP: stop soon, leave no temporary file behind, exit with 130.
//!
//! The row loop looks at a flag, as a stress run does before each operation. A thread that is blocked in the system (a pipe that gives nothing,
//! or takes nothing) cannot look, so after a grace period the program is ended from outside it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::{EXIT_INTERRUPTED, Error};
use super::process;

/// How long the row loop may take to notice.
const GRACE: Duration = Duration::from_millis(300);

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// The temporary file there is now. Whoever moves or removes it holds the lock.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Begins to watch for signals.
pub fn install() -> Result<(), Error> {
    watch(|| {
        REQUESTED.store(true, Ordering::Relaxed);
        thread::sleep(GRACE);
        end();
    })
}

/// Begins to watch for signals, for a run that reports what it has done until then: it is asked by the first one, and
/// ended at once by the second.
pub fn install_to_report() -> Result<(), Error> {
    watch(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            end();
        }
    })
}

fn watch(handler: impl FnMut() + Send + 'static) -> Result<(), Error> {
    ctrlc::set_handler(handler).map_err(|error| Error::Signals(error.to_string()))
}

/// Ends the program from outside whatever it is at.
fn end() {
    // Held until the process ends: the file cannot be moved to its place any more.
    let mut temporary = lock();
    if let Some(path) = temporary.take() {
        let _ = fs::remove_file(path);
    }
    let _ = writeln!(io::stderr(), "error: {}", Error::Interrupted);
    process::exit(EXIT_INTERRUPTED);
}

/// Whether a signal has come.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Stops with an error if a signal has come.
pub fn check() -> Result<(), Error> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

/// From now on `path` is removed when a signal ends the program.
pub fn protect(path: &Path) {
    *lock() = Some(path.to_owned());
}

/// Runs `settle`, which moves or removes the protected file; no signal comes between.
pub fn settle<T>(settle: impl FnOnce() -> T) -> T {
    let mut temporary = lock();
    let settled = settle();
    *temporary = None;
    settled
}

fn lock() -> MutexGuard<'static, Option<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}
