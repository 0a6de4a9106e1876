//! The runner: one test for each case, named `area::claim`, with the usual filters and `--list`.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Case, Check, Context, cases};

/// A case that takes longer hangs. Far beyond what any takes, on the slowest machine.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Runs the cases that need no backend, and exits.
pub fn run_plain() -> ! {
    let plain = |case: &'static Case| match case.check {
        Check::Plain(check) => Some(Trial::test(name(case), move || {
            check();
            Ok(())
        })),
        Check::Backend(..) => None,
    };
    exit(cases::all().filter_map(plain).collect())
}

/// Runs the cases that take a backend on that of `context`, and exits.
pub fn run(context: &Context) -> ! {
    exit(cases::all().filter_map(|case| backend_trial(case, context)).collect())
}

fn exit(trials: Vec<Trial>) -> ! {
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

fn name(case: &Case) -> String {
    format!("{}::{}", case.area, case.name)
}

fn backend_trial(case: &'static Case, context: &Context) -> Option<Trial> {
    let Check::Backend(needs, check) = case.check else { return None };
    if let Some(why) = context.lacks(needs) {
        let reason = why.clone();
        return Some(Trial::test(name(case), move || Err(why.into())).with_kind(reason).with_ignored_flag(true));
    }
    let context = context.clone();
    Some(Trial::test(name(case), move || guarded(move || check(&context))))
}

/// Runs a case on a thread of its own, so that one that hangs fails.
fn guarded(case: impl FnOnce() + Send + 'static) -> Result<(), Failed> {
    let (done, finished) = channel::<()>();
    let thread = thread::spawn(move || {
        // Dropped at the end, or when the case panics.
        let _done = done;
        case();
    });
    match finished.recv_timeout(HANGS_AFTER) {
        Err(RecvTimeoutError::Timeout) => Err(format!("hangs: not done after {HANGS_AFTER:?}").into()),
        _ => match thread.join() {
            Ok(()) => Ok(()),
            Err(panic) => resume_unwind(panic),
        },
    }
}
