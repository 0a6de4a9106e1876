//! Every call of the driver's that a short job makes fails, each time that it is made: nothing hangs, nothing is left alive,
//! and whoever waits is told.
//!
//! Without a Vulkan driver all is ignored with that reason; `GPUBRIDGE_REQUIRE=vulkan` turns it into a failure.
#![expect(unsafe_code, reason = "the functions in between are given to the backend")]

mod exact;
mod interposed;
mod job;
mod sweep;

use std::process::ExitCode;

use gpubridge_abstractions::Backend;
use libtest_mimic::{Arguments, Trial};
use ringkernel_tests::is_required;

fn main() -> ExitCode {
    let is_required = is_required("vulkan");
    let has_device = job::backend(false).is_some_and(|backend| backend.devices().is_ok());
    let ignored = !has_device && !is_required;
    let kind = if ignored { "needs a Vulkan device" } else { "" };
    let trial = |name, test: fn()| {
        let test = move || {
            test();
            Ok(())
        };
        Trial::test(name, test).with_kind(kind).with_ignored_flag(ignored)
    };
    let trials = vec![
        trial("a_batch_is_one_submission_and_nothing_else", exact::a_batch_is_one_submission_and_nothing_else),
        trial("a_batch_may_hold_calls_of_several_kernels", exact::a_batch_may_hold_calls_of_several_kernels),
        trial("the_validation_layer_is_heard", exact::the_validation_layer_is_heard)
            .with_ignored_flag(ignored || !job::validates() && !is_required),
        trial("memory_that_is_not_coherent_is_kept_so", exact::memory_that_is_not_coherent_is_kept_so),
        trial("every_call_fails_in_turn", sweep::every_call_fails_in_turn),
        trial("a_batch_that_never_lands_loses_the_device", exact::a_batch_that_never_lands_loses_the_device),
    ];
    // What stands in between is the process's: one after the other.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}
