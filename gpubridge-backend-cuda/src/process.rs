//! What a program may have its process do for the driver's sake, at its beginning and at its end. The library does none of it by
//! itself.
#![expect(unsafe_code, reason = "the environment and the end of a process have no safe functions; this file has them")]

use std::ffi::c_int;
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, process, thread};

use gpubridge_abstractions::Error;
use parking_lot::Mutex;

use crate::driver::Driver;
use crate::gpu::Gpu;

const LOADING_VARIABLE: &str = "CUDA_MODULE_LOADING";
/// How long what is left to be written is waited for.
const AT_THE_END: Duration = Duration::from_secs(1);

/// What the process does when a device is lost.
static AT_LOSS: Mutex<AtLoss> = Mutex::new(AtLoss { is_lost: false, watchdog: None });

struct AtLoss {
    is_lost: bool,
    watchdog: Option<Watchdog>,
}

#[derive(Clone, Copy)]
struct Watchdog {
    within: Duration,
    code: u8,
}

/// Asks the driver to load whole modules at once, by `CUDA_MODULE_LOADING=EAGER`: otherwise the first use of a kernel of another
/// library in this process may wait for a ring, for good. Returns whether the variable asks for that now.
///
/// To be called first in `main`. A variable that is set already stays as it is, and nothing is done once the process has other
/// threads, which may be reading the environment, nor where that cannot be told (outside Linux).
pub fn request_eager_loading() -> bool {
    if env::var_os(LOADING_VARIABLE).is_none_or(|value| value.is_empty()) && is_only_thread() {
        // SAFETY: nobody reads the environment meanwhile: this thread is the only one, and it is here.
        unsafe { env::set_var(LOADING_VARIABLE, "EAGER") };
    }
    env::var_os(LOADING_VARIABLE).is_some_and(|value| value.eq_ignore_ascii_case("EAGER"))
}

fn is_only_thread() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Whether the driver loads the functions of a module with it, not when they are first used. The backend itself works with
/// both: it uses each of its functions once before the first ring.
///
/// # Errors
/// `Unsupported` without a driver.
pub fn loads_eagerly() -> Result<bool, Error> {
    Driver::load()?.loads_eagerly()
}

/// Has the process end with `code` if it has not ended `within` this time after a device was lost, whatever holds it up: a
/// thread that waits for the driver, or the driver's own exit handlers, which wait for a kernel that does not end.
///
/// For a program; a library leaves it to the program it is in. What was written and not flushed is lost then.
pub fn end_process_when_lost(within: Duration, code: u8) {
    let mut at_loss = AT_LOSS.lock();
    let watchdog = Watchdog { within, code };
    at_loss.watchdog = Some(watchdog);
    if at_loss.is_lost {
        watchdog.start();
    }
}

/// Ends the process with `code` as [`std::process::exit`] does; but without exit handlers, the driver's among them, where a device
/// is lost or a ring's kernel is still on one: those would wait for it, perhaps for good.
pub fn exit(code: u8) -> ! {
    if Gpu::any_may_hold_up_exit() {
        at_most(AT_THE_END, || drop(io::stdout().flush()));
        exit_at_once(code)
    }
    process::exit(code.into())
}

/// A device is lost, for the first time.
pub(crate) fn device_is_lost() {
    let mut at_loss = AT_LOSS.lock();
    // One watchdog is enough, however many devices there are.
    if !at_loss.is_lost
        && let Some(watchdog) = at_loss.watchdog
    {
        watchdog.start();
    }
    at_loss.is_lost = true;
}

impl Watchdog {
    fn start(self) {
        let wait = move || {
            thread::sleep(self.within);
            let within = self.within;
            at_most(AT_THE_END, move || {
                let why = format!("error: the device was lost, and the process has not ended within {within:?}");
                drop(writeln!(io::stderr(), "{why}"));
            });
            exit_at_once(self.code)
        };
        if let Err(error) = thread::Builder::new().name("gpubridge-watchdog".to_owned()).spawn(wait) {
            let _ = writeln!(io::stderr(), "error: there is no thread for the watchdog: {error}");
        }
    }
}

/// Does `write` in another thread, which is given up when it takes longer: whoever holds the process up may hold what is written to.
fn at_most(longest: Duration, write: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        write();
        done.send(())
    });
    if thread.is_ok() {
        // Either way there is nothing more to do about it.
        let _ = is_done.recv_timeout(longest);
    }
}

fn exit_at_once(code: u8) -> ! {
    unsafe extern "C" {
        /// Of the C library that the standard library is linked to, on every platform.
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: ends the process and touches no memory of it.
    unsafe { _exit(code.into()) }
}
