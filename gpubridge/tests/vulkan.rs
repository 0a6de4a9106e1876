//! The program built with Vulkan: on a device that is chosen it does its work there, llvmpipe is not taken unasked, and without a
//! loader it says so.

mod common;

use std::process::ExitCode;
use std::sync::Arc;

use common::scored::{scores, trial};
use common::{Bench, finish};
use gpubridge::kernels::library;
use gpubridge::runtime::BackendRegistry;
use gpubridge::{Backend, Device, DeviceIndex, DeviceInfo, Error, ErrorKind, NullBackend};
use libtest_mimic::Arguments;
use ringkernel_tests::is_required;

/// A backend that reaches the device of another.
#[derive(Debug)]
struct Posing(DeviceInfo);

impl Backend for Posing {
    fn name(&self) -> &str {
        "posing"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        Ok(vec![self.0.clone()])
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        NullBackend::default().open(index)
    }
}

fn main() -> ExitCode {
    let devices = finish(Bench::new().command(&["devices"]).spawn().unwrap()).report();
    let has_device = devices.lines().any(|line| line.starts_with("vulkan · 0"));
    let is_processor = devices.contains("llvmpipe");
    let required = is_required("vulkan");
    // Where Vulkan is required, the test runs without a device, and fails.
    let device = if has_device || required { "" } else { "needs a Vulkan device" };
    let processor = if is_processor || required { "" } else { "needs llvmpipe" };
    let trials = vec![
        trial("every_score_comes_from_the_device_that_was_chosen_and_is_right", device, || {
            let report = scores(|program| program.env("GPUBRIDGE_BACKEND", "vulkan"));
            assert!(report.contains("backend vulkan"), "{report}");
        }),
        trial("every_stress_run_adds_up", device, || {
            for (run, operations) in [("pool", 300), ("grains", 300), ("transfer", 4), ("long", 300)] {
                let operations = operations.to_string();
                let arguments = ["stress", run, "--backend", "vulkan", "--operations", &operations];
                // It fails when an account does not add up.
                let report = finish(Bench::new().command(&arguments).spawn().unwrap()).report();
                assert!(report.contains("the caller's choice"), "{report}");
            }
        }),
        trial("a_device_is_chosen_by_a_part_of_its_name", processor, || {
            let report =
                scores(|program| program.env("GPUBRIDGE_BACKEND", "vulkan").env("GPUBRIDGE_DEVICE", "LLVMpipe"));
            assert!(report.contains("llvmpipe") && report.contains(", GPUBRIDGE_DEVICE=llvmpipe): "), "{report}");
        }),
        trial("what_vulkan_has_open_is_refused_to_another_backend", device, || {
            let vulkan = gpubridge::backends(library()).select(Some("vulkan"), None).expect("there is a device");
            let mut registry = BackendRegistry::new();
            registry.register(Arc::new(Posing(vulkan.info.clone()))).expect("the name is free");
            let posing = registry.select(Some("posing"), None).expect("it has a device");
            let open = vulkan.open().expect("it opens");
            let error = posing.open().expect_err("is refused");
            assert!(error.kind() == ErrorKind::InvalidState && error.message().contains("`vulkan`"), "{error}");
            drop(open);
            assert!(posing.open().is_ok());
        }),
        trial("a_processor_is_not_taken_unasked", processor, || {
            let report = scores(|program| program);
            assert!(report.contains("is a processor, for which there is `cpu`"), "{report}");
        }),
        trial("without_a_driver_it_says_so_and_takes_the_cpu", "", || {
            let report =
                scores(|program| program.env("VK_ICD_FILENAMES", "/nowhere").env("VK_DRIVER_FILES", "/nowhere"));
            assert!(report.contains("vulkan: vulkan.devices: "), "{report}");
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
