//! One recorded workload on every backend: integers, indices, order and counts are the CPU backend's, floats within each kernel's
//! tolerance.
//!
//! CUDA is the emulated driver where a C++ compiler is, and Vulkan the first device that there is, llvmpipe perhaps. A backend that
//! is not there is ignored with the reason; `GPUBRIDGE_REQUIRE` turns that into a failure.

mod compare;
#[path = "../../../gpubridge-backend-cuda/tests/emulation/mod.rs"]
mod emulation;
mod planted;
mod record;
mod replay;
mod shapes;
mod workload;

use std::process::ExitCode;
use std::sync::{LazyLock, Mutex, PoisonError};

use gpubridge::kernels::library;
use gpubridge::{Backend, DeviceIndex, backends};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use libtest_mimic::{Arguments, Trial};
use ringkernel_tests::is_required;

use compare::difference;
use replay::{Record, replay};
use workload::Command;

/// What the workload is made from.
const SEED: u64 = 5;

static COMMANDS: LazyLock<Vec<Command>> = LazyLock::new(|| record::record(SEED));
/// What the CPU backend makes of it.
static REFERENCE: LazyLock<Record> = LazyLock::new(|| {
    let device = CpuBackend::new(library()).open(DeviceIndex(0)).expect("there is a processor");
    replay(device, &COMMANDS)
});

/// Held while a device is open: CUDA and Vulkan may be one GPU.
static TURN: Mutex<()> = Mutex::new(());

fn main() -> ExitCode {
    // Says so itself if there is none.
    emulation::ensure_loaded();
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("the_workload_has_all_that_it_is_for", planted::has_all),
        trial("what_is_planted_is_found_and_named", planted::is_found),
        trial("cpu_served_by_callers", || {
            let mut config = CpuConfig::default();
            config.served_by_callers = true;
            let device = CpuBackend::new(library()).with_config(config).open(DeviceIndex(0));
            judge(&replay(device.expect("there is a processor"), &COMMANDS));
        }),
        other("cuda"),
        other("vulkan"),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The replay on the first device of another backend.
fn other(name: &'static str) -> Trial {
    let selected = backends(library()).select(Some(name), None);
    let is_ignored = selected.is_err() && !is_required(name);
    // The device, or why there is none.
    let kind = selected.as_ref().map_or_else(ToString::to_string, |selected| selected.info.name.clone());
    let trial = Trial::test(name, move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let device = selected.and_then(|selected| selected.open()).map_err(|error| error.to_string())?;
        judge(&replay(device, &COMMANDS));
        Ok(())
    });
    trial.with_kind(kind).with_ignored_flag(is_ignored)
}

/// Requires that a record agrees with the reference.
fn judge(record: &Record) {
    if let Some(seen) = difference(&COMMANDS, &REFERENCE, record) {
        panic!("{seen}");
    }
}
