//! Runs the suite on the Vulkan backend, under the validation layer where that is there: whatever it says fails the run.
//!
//! Without a Vulkan driver every case is ignored with that reason; `GPUBRIDGE_REQUIRE=vulkan` turns it into a failure, and
//! the lack of the validation layer as well. That its messages arrive is proved by `faults`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{Backend, DeviceIndex};
use gpubridge_backend_vulkan::{VulkanBackend, VulkanConfig};
use gpubridge_kernels::library;
use ringkernel_tests::{Suite, is_required};

ringkernel_tests::count_allocations!();

/// A case that takes longer hangs: on a processor the driver compiles each kernel for seconds when it is first used.
const DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let mut config = VulkanConfig::default();
    config.validates = true;
    let validated = VulkanBackend::new(library()).with_config(config);
    if !is_required(validated.name())
        && let Err(why) = validated.devices()
    {
        eprintln!("without the validation layer: {why}");
        return Suite::new(Arc::new(VulkanBackend::new(library()))).with_deadline(DEADLINE).main();
    }
    // Kept open: what a driver compiles when it is first used, it compiles once for all cases.
    let open = validated.open(DeviceIndex(0)).ok();
    let code = Suite::new(Arc::new(validated.clone())).with_deadline(DEADLINE).main();
    drop(open);
    let messages = validated.validation_messages();
    if !messages.is_empty() {
        eprintln!("the validation layer says:\n{}", messages.join("\n"));
        return ExitCode::FAILURE;
    }
    code
}
