//! The program built with Vulkan: on a device that is chosen it does its work there, llvmpipe is not taken unasked, and without a
//! loader it says so.

mod common;

use std::process::ExitCode;

use common::scored::{scores, trial};
use common::{Bench, finish};
use libtest_mimic::Arguments;
use ringkernel_tests::is_required;

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
