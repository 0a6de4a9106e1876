//! `gpubridge conformance`: the conformance suite on the backends of this program.

use std::sync::Arc;
use std::{panic, thread};

use gpubridge::kernels::{KernelLibrary, library};
use gpubridge::runtime::{AUTO, BackendRegistry};
use gpubridge::{Backend, DeviceIndex, DeviceKind, NullBackend};
use ringkernel_tests::{Case, REQUIRE_VARIABLE, Report, Suite, capability_table};

use super::cli::{ConformanceArgs, Format};
use super::engine;
use super::error::{EngineError, Error};
use super::place::Place;
use super::report;

/// Runs the suite on each backend in turn and reports. Fails if any case does.
pub fn run(args: &ConformanceArgs) -> Result<(), Error> {
    let wanted =
        |case: &Case| args.filters.is_empty() || args.filters.iter().any(|each| case.full_name().contains(each));
    if !Suite::cases().any(wanted) {
        let why = format!("no case matches {}; without a filter all are run", args.filters.join(", "));
        return Err(Error::Usage(why));
    }
    check_required()?;
    keep_panics_of_cases_quiet();
    let suites = args.backend.iter().map(|name| suite(name)).collect::<Result<Vec<_>, _>>()?;
    let mut reports = Vec::new();
    for (suite, backend) in suites {
        // What takes long to open stays open from case to case; what keeps it from opening is for the cases to say.
        let _open = backend.open(DeviceIndex(0));
        reports.push(run_one(&suite, wanted, args.format)?);
    }
    match args.format {
        Format::Text => {}
        Format::Markdown => report::write(&capability_table(&reports), false)?,
        Format::Json => report::write(&format!("{}\n", json(&reports)), false)?,
    }
    match reports.iter().find(|report| !report.is_success()) {
        None => Ok(()),
        Some(failed) => Err(Error::Conformance {
            failed: failed.tally().failed,
            run: failed.cases.len(),
            backend: failed.backend.clone(),
        }),
    }
}

/// A backend that must be there has to be one of this program's: a name that no run carries would require nothing.
fn check_required() -> Result<(), EngineError> {
    let registry = registry(library());
    let required = std::env::var(REQUIRE_VARIABLE).unwrap_or_default().to_ascii_lowercase();
    let mut names = required.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.try_for_each(|name| {
        registry.backend(name).map(drop).map_err(|error| {
            let why = format!("{REQUIRE_VARIABLE} requires `{name}`: {}", error.message());
            EngineError::Backend(gpubridge::Error::new(error.kind(), "conformance", why))
        })
    })
}

/// Cases panic to fail, and some let kernels panic: what was seen stands in the report, not on standard error as well.
fn keep_panics_of_cases_quiet() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if thread::current().name() == Some("main") {
            tell(panic);
        }
    }));
}

/// Runs the suite on one backend; as text, each case shows as it ends.
fn run_one(suite: &Suite, wanted: impl FnMut(&Case) -> bool, format: Format) -> Result<Report, Error> {
    let mut shown = Ok(());
    let report = suite.run_watched(wanted, |case| {
        if format == Format::Text && shown.is_ok() {
            shown = report::write(&format!("{case}\n"), false);
        }
    });
    shown?;
    if format == Format::Text {
        report::write(&format!("{}\n", report.summary()), false)?;
    }
    Ok(report)
}

/// The backends that the suite can run on: those of the program and the null backend.
fn registry(library: KernelLibrary) -> BackendRegistry {
    let mut registry = gpubridge::backends(library);
    registry.register(Arc::new(NullBackend::default())).expect("no built-in backend is called null");
    registry
}

fn suite(name: &str) -> Result<(Suite, Arc<dyn Backend>), EngineError> {
    let find = |name: &str| registry(library()).backend(name).cloned().map_err(EngineError::Backend);
    let backend = if name == AUTO { engine::select(&Place::default())?.backend } else { find(name)? };
    // Kernels' twins run on the host: a device that is the host's processor can be given the suite's own.
    let runs_twins = backend.devices().is_ok_and(|devices| devices.iter().any(|device| device.kind == DeviceKind::Cpu));
    let name = backend.name().to_owned();
    let suite = Suite::new(Arc::clone(&backend));
    if !runs_twins {
        return Ok((suite, backend));
    }
    let anew = move |library| -> Arc<dyn Backend> {
        Arc::clone(registry(library).backend(&name).expect("it was found before"))
    };
    Ok((suite.running_twins(anew), backend))
}

fn json(reports: &[Report]) -> String {
    let text = match reports {
        [report] => serde_json::to_string_pretty(report),
        reports => serde_json::to_string_pretty(reports),
    };
    text.expect("names and numbers always serialize")
}
