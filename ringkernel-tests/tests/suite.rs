//! The suite says what it should of backends that are not there, fail as expected, pass unexpectedly or hang.

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, DeviceInfo, Error, ErrorKind, NullBackend};
use ringkernel_tests::{Case, ExpectedFailure, Status, Suite};

/// What goes wrong with a null backend.
#[derive(Debug)]
enum Odd {
    /// No device is there.
    Absent,
    /// Opening the device fails.
    Closed,
    /// Opening the device never ends.
    Stuck,
}

static NULL: LazyLock<NullBackend> = LazyLock::new(NullBackend::default);

impl Backend for Odd {
    fn name(&self) -> &str {
        "odd"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        match self {
            Self::Absent => Err(Error::new(ErrorKind::Unsupported, "odd.devices", "no driver is installed")),
            Self::Closed | Self::Stuck => NULL.devices(),
        }
    }

    fn open(&self, _: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        match self {
            Self::Stuck => loop {
                thread::park();
            },
            Self::Absent | Self::Closed => Err(Error::new(ErrorKind::Unsupported, "odd.open", "it is in use")),
        }
    }
}

fn suite(backend: Odd) -> Suite {
    Suite::new(Arc::new(backend)).requiring(false)
}

const CASE: &str = "requests::message_counters_are_exact";
const EXPECTED: &[ExpectedFailure] = &[ExpectedFailure { case: CASE, reason: "it cannot be opened" }];

fn chosen(case: &Case) -> bool {
    case.full_name() == CASE
}

#[test]
fn a_backend_that_is_not_there_is_ignored_unless_it_is_required() {
    let all = Suite::cases().count();
    let ignored = suite(Odd::Absent).run(|_| true);
    assert_eq!((ignored.tally().ignored, ignored.is_success()), (all, true));
    assert!(ignored.cases.iter().all(|case| case.reason.as_ref().is_some_and(|why| why.contains("no driver"))));
    let failed = suite(Odd::Absent).requiring(true).run(|_| true);
    assert_eq!((failed.tally().failed, failed.is_success()), (all, false));
    assert!(failed.to_string().contains("no driver"), "{failed}");
}

#[test]
fn a_missing_capability_is_ignored_with_its_name() {
    let report = Suite::new(Arc::new(NullBackend::default())).requiring(true).run(|case| case.area == "cache");
    assert!(report.tally().ignored > 0 && report.is_success(), "{report}");
    let reasons = report.cases.iter().filter_map(|case| case.reason.as_deref());
    assert!(reasons.into_iter().any(|why| why.contains("`compute`")), "{report}");
}

#[test]
fn a_failure_is_reported_with_what_was_seen() {
    let report = suite(Odd::Closed).run(chosen);
    let [case] = &report.cases[..] else { panic!("one case was chosen: {report}") };
    assert_eq!(case.status, Status::Failed);
    assert!(case.reason.as_ref().is_some_and(|seen| seen.contains("it is in use")), "{report}");
}

#[test]
fn an_expected_failure_is_no_failure_and_no_pass() {
    let report = suite(Odd::Closed).expecting(EXPECTED).run(chosen);
    let [case] = &report.cases[..] else { panic!("one case was chosen: {report}") };
    assert_eq!(case.status, Status::Ignored);
    let reason = case.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("it cannot be opened") && reason.contains("it is in use"), "{reason}");
}

#[test]
fn an_unexpected_pass_fails() {
    let report = Suite::new(Arc::new(NullBackend::default())).expecting(EXPECTED).run(chosen);
    assert_eq!(report.tally().failed, 1, "{report}");
    assert!(report.to_string().contains("take it out of the table"), "{report}");
}

#[test]
#[should_panic(expected = "`requests::no_such_case`, which is no case")]
fn an_expected_failure_of_no_case_is_refused() {
    const WRONG: &[ExpectedFailure] = &[ExpectedFailure { case: "requests::no_such_case", reason: "" }];
    let _ = suite(Odd::Closed).expecting(WRONG);
}

#[test]
fn a_case_that_hangs_is_given_up_at_its_deadline() {
    let report = suite(Odd::Stuck).with_deadline(Duration::from_millis(50)).run(chosen);
    assert_eq!(report.tally().failed, 1, "{report}");
    assert!(report.to_string().contains("hangs: not done after 50ms"), "{report}");
}
