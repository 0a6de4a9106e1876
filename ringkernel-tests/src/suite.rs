//! The suite: which cases run on a backend, and what becomes of each.

use std::any::Any;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::Backend;
use gpubridge_kernels::KernelLibrary;
use libtest_mimic::{Arguments, Trial};

use crate::report::{CaseReport, Report, Status};
use crate::{Case, Check, Context, Needs, cases};

/// The environment variable that names backends (with commas between) that must be there: without a device all their
/// cases fail instead of being ignored.
pub const REQUIRE_VARIABLE: &str = "GPUBRIDGE_REQUIRE";

/// Whether [`REQUIRE_VARIABLE`] names this backend.
pub fn is_required(backend: &str) -> bool {
    let names = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
    names.split(',').any(|name| name.trim().eq_ignore_ascii_case(backend))
}

/// A case that takes longer hangs. Far beyond what any takes, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A case that is known to fail on a backend, and why. When it passes after all, the suite fails: the entry is out of
/// date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedFailure {
    /// The case, as `area::name`.
    pub case: &'static str,
    /// Why it fails.
    pub reason: &'static str,
}

/// The suite on one backend.
#[derive(Clone, Debug)]
pub struct Suite {
    context: Context,
    expected: &'static [ExpectedFailure],
    deadline: Duration,
    required: bool,
}

impl Suite {
    /// The suite on the first device of `backend`. The backend is asked what it has; nothing is opened yet.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let required = is_required(backend.name());
        Self { context: Context::new(backend), expected: &[], deadline: DEADLINE, required }
    }

    /// For a backend that runs kernels' CPU twins: `factory` makes it over another kernel library, so that the suite can
    /// register kernels of its own, which count, wait at a gate, panic or fail to compile.
    #[must_use]
    pub fn running_twins(
        mut self,
        factory: impl Fn(KernelLibrary) -> Arc<dyn Backend> + Send + Sync + 'static,
    ) -> Self {
        self.context.set_twins(factory);
        self
    }

    /// The cases that are known to fail on this backend.
    ///
    /// # Panics
    /// When an entry names no case.
    #[must_use]
    pub fn expecting(mut self, expected: &'static [ExpectedFailure]) -> Self {
        for ExpectedFailure { case, .. } in expected {
            let known = Self::find(case).is_some();
            assert!(known, "the table of expected failures names `{case}`, which is no case (`--list` shows them)");
        }
        self.expected = expected;
        self
    }

    /// After how long a case that is not done counts as hanging; two minutes unless said otherwise.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether the backend must be there; [`REQUIRE_VARIABLE`] says so unless this does.
    #[must_use]
    pub fn requiring(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// The cases that take a backend, in the order of the catalogue.
    pub fn cases() -> impl Iterator<Item = &'static Case> {
        cases::all().filter(|case| matches!(case.check, Check::Backend(..)))
    }

    /// The case of this name (`area::name`) among those that take a backend.
    pub fn find(name: &str) -> Option<&'static Case> {
        Self::cases().find(|case| case.full_name() == name)
    }

    /// Runs the cases that `wanted` picks, one after the other.
    pub fn run(&self, wanted: impl FnMut(&Case) -> bool) -> Report {
        self.run_watched(wanted, |_| ())
    }

    /// [`Suite::run`], with a word to `watch` after each case.
    pub fn run_watched(&self, mut wanted: impl FnMut(&Case) -> bool, mut watch: impl FnMut(&CaseReport)) -> Report {
        let run = |case| {
            let report = self.run_case(case);
            watch(&report);
            report
        };
        let cases = Self::cases().filter(|case| wanted(case)).map(run).collect();
        let info = self.context.info();
        Report {
            backend: self.context.name().to_owned(),
            device: info.map_or_else(|why| format!("none: {why}"), |info| info.name.clone()),
            capabilities: info.ok().map(|info| info.capabilities),
            cases,
        }
    }

    /// Runs one case. One that counts allocations waits until all others of the process have ended, and they for it.
    pub fn run_case(&self, case: &'static Case) -> CaseReport {
        let _turn = Turn::take(case);
        let started = Instant::now();
        let (status, reason) = match self.obstacle(case) {
            Some(why) if self.fails_without_device() => (Status::Failed, Some(why)),
            Some(why) => (Status::Ignored, Some(why)),
            None => self.judge(case, self.attempt(case)),
        };
        let seconds = if status == Status::Ignored { 0.0 } else { started.elapsed().as_secs_f64() };
        CaseReport {
            name: case.name,
            area: case.area,
            layer: case.layer,
            behavior: case.behavior,
            status,
            reason,
            seconds,
        }
    }

    /// Runs the cases that take a backend as a test program: filters, `--list`, one case alone, also under nextest.
    pub fn main(self) -> ExitCode {
        let suite = Arc::new(self);
        conclude(Self::cases().map(|case| suite.trial(case)).collect())
    }

    fn trial(self: &Arc<Self>, case: &'static Case) -> Trial {
        let suite = Arc::clone(self);
        let trial = Trial::test(case.full_name(), move || match suite.run_case(case) {
            CaseReport { status: Status::Failed, reason, .. } => Err(reason.unwrap_or_default().into()),
            _ => Ok(()),
        });
        match (self.obstacle(case), self.expected_failure(case)) {
            (Some(why), _) if !self.fails_without_device() => trial.with_kind(why).with_ignored_flag(true),
            (None, Some(expected)) => trial.with_kind(format!("expected failure: {}", expected.reason)),
            _ => trial,
        }
    }

    /// What keeps a case from running.
    fn obstacle(&self, case: &Case) -> Option<String> {
        if let Err(why) = self.context.info() {
            return Some(format!("the {} backend has no device here: {why}", self.context.name()));
        }
        match case.check {
            Check::Plain(_) => None,
            Check::Backend(needs, _) => self.context.lacks(needs),
        }
    }

    fn fails_without_device(&self) -> bool {
        self.required && self.context.info().is_err()
    }

    fn expected_failure(&self, case: &Case) -> Option<&'static ExpectedFailure> {
        self.expected.iter().find(|expected| expected.case == case.full_name())
    }

    /// Holds what a case came to against the table of expected failures.
    fn judge(&self, case: &Case, outcome: Result<(), String>) -> (Status, Option<String>) {
        match (self.expected_failure(case), outcome) {
            (None, Ok(())) => (Status::Passed, None),
            (None, Err(seen)) => (Status::Failed, Some(seen)),
            (Some(expected), Err(seen)) => {
                (Status::Ignored, Some(format!("expected failure: {}; seen: {seen}", expected.reason)))
            }
            (Some(expected), Ok(())) => {
                let why = format!("passes, but is expected to fail: {}; take it out of the table", expected.reason);
                (Status::Failed, Some(why))
            }
        }
    }

    /// Runs a case on a thread of its own, so that one that hangs is given up.
    fn attempt(&self, case: &Case) -> Result<(), String> {
        let (done, finished) = channel::<()>();
        let (check, context) = (case.check, self.context.clone());
        let thread = thread::spawn(move || {
            // Dropped at the end, or when the case panics.
            let _done = done;
            match check {
                Check::Plain(check) => check(),
                Check::Backend(_, check) => check(&context),
            }
        });
        match finished.recv_timeout(self.deadline) {
            Err(RecvTimeoutError::Timeout) => Err(format!("hangs: not done after {:?}", self.deadline)),
            _ => thread.join().map_err(|panic| panic_message(&*panic)),
        }
    }
}

/// Held while a case runs; what a case counts must be its own.
#[derive(Debug)]
enum Turn {
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
}

impl Turn {
    fn take(case: &Case) -> Self {
        static TURNS: RwLock<()> = RwLock::new(());
        match case.check {
            Check::Backend(Needs::CountedAllocations | Needs::CountedCompute, _) => {
                Self::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
            }
            _ => Self::Shared(TURNS.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Runs the suite on a backend as a test program; see [`Suite`] for backends that can more, or are known to fail some.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     ringkernel_tests::main(&gpubridge_abstractions::NullBackend::default())
/// }
/// ```
pub fn main(backend: &(impl Backend + Clone + 'static)) -> ExitCode {
    Suite::new(Arc::new(backend.clone())).main()
}

/// Runs the cases that need no backend, as a test program.
pub fn plain_main() -> ExitCode {
    let plain = |case: &'static Case| match case.check {
        Check::Plain(check) => Some(Trial::test(case.full_name(), move || {
            check();
            Ok(())
        })),
        Check::Backend(..) => None,
    };
    conclude(cases::all().filter_map(plain).collect())
}

fn conclude(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked without a message").to_owned()
}
