//! Each call fails in turn.

use ash::vk;
use gpubridge_abstractions::{ErrorKind, Status};

use crate::interposed;
use crate::job::{Failure, backend, validates, watched};

/// A function that is called again and again while something is waited for fails so often.
const POLLED_MAX: u32 = 3;

/// What functions may fail with, the worst last.
fn results(function: &str) -> &'static [vk::Result] {
    match function {
        "vkQueueSubmit" => &[vk::Result::ERROR_OUT_OF_HOST_MEMORY, vk::Result::ERROR_DEVICE_LOST],
        "vkGetSemaphoreCounterValue" | "vkWaitSemaphores" => &[vk::Result::ERROR_DEVICE_LOST],
        "vkCreateDevice" => &[vk::Result::ERROR_INITIALIZATION_FAILED],
        _ => &[vk::Result::ERROR_OUT_OF_DEVICE_MEMORY],
    }
}

/// Which kinds of error such a call may come to.
fn kinds(result: vk::Result) -> &'static [ErrorKind] {
    match result {
        vk::Result::ERROR_INITIALIZATION_FAILED => &[ErrorKind::Unsupported],
        vk::Result::ERROR_DEVICE_LOST => &[ErrorKind::DeviceLost],
        // What fails in a batch takes the device with it.
        _ => &[ErrorKind::OutOfMemory, ErrorKind::DeviceLost],
    }
}

/// Nobody hangs, nothing is left alive, and whoever waits is told.
pub fn every_call_fails_in_turn() {
    // The layer says what was left alive.
    let validated = validates();
    let job_of = |fails| {
        let backend = backend(validated).expect("there is a loader");
        interposed::plan(fails);
        let outcome = watched(&backend);
        let calls = interposed::calls();
        interposed::plan(None);
        let messages = backend.validation_messages();
        assert!(messages.is_empty(), "{fails:?}: {messages:#?}");
        (outcome, calls)
    };
    let (outcome, calls) = job_of(None);
    outcome.expect("nothing fails");
    assert!(calls.len() >= 15, "{calls:?}");
    let mut failed = 0;
    for (&function, &count) in &calls {
        let is_polled = matches!(function, "vkGetSemaphoreCounterValue" | "vkWaitSemaphores");
        for number in 1..=if is_polled { count.min(POLLED_MAX) } else { count } {
            for &result in results(function) {
                let (outcome, made) = job_of(Some((function, number, result)));
                // What is polled may be called less often in another run.
                if made.get(function).is_none_or(|&made| made < number) && is_polled {
                    continue;
                }
                let told = match &outcome {
                    Err(Failure::Refused(error)) => kinds(result).contains(&error.kind()),
                    Err(Failure::Answered(status)) => *status == Status::DeviceLost,
                    Ok(()) => false,
                };
                assert!(told, "{function}, call {number}, {result:?}: {outcome:?}");
                failed += 1;
            }
        }
    }
    assert!(failed >= 40, "{failed} calls failed");
}
