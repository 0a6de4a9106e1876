//! What is counted, and what is otherwise than on the machine at hand.

use std::time::Instant;

use gpubridge_abstractions::{Command, Opcode, Status};

use crate::interposed;
use crate::job::{Failure, SOON, Set, backend, validates, watched};

/// Commands that are called one by one, once all is warm.
const CALLS: u32 = 50;

/// Has each of the batches used.
fn warm_up(set: &mut Set) {
    for _ in 0..4 {
        set.caller.call(&Command::new(Opcode::Echo, 1, [5; 7])).expect("it answers");
    }
}

/// A lone call is one submission; nothing is allocated, made or recorded for it, and there are no descriptors at all.
pub fn a_batch_is_one_submission_and_nothing_else() {
    let backend = backend(false).expect("there is a loader");
    let mut set = Set::up(&backend).expect("nothing fails");
    set.work().expect("nothing fails");
    let echo = Command::new(Opcode::Echo, 1, [5; 7]);
    warm_up(&mut set);
    interposed::plan(None);
    for _ in 0..CALLS {
        assert_eq!(set.caller.call(&echo).expect("it answers").payload, [5; 7]);
    }
    let calls = interposed::calls();
    assert_eq!(calls.get("vkQueueSubmit"), Some(&CALLS), "{calls:?}");
    let waits = ["vkQueueSubmit", "vkGetSemaphoreCounterValue", "vkWaitSemaphores"];
    let others: Vec<_> = calls.keys().filter(|function| !waits.contains(function)).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// Memory that does not keep itself coherent is flushed and invalidated, and everything comes out right.
pub fn memory_that_is_not_coherent_is_kept_so() {
    interposed::hide_coherence(true);
    let backend = backend(validates()).expect("there is a loader");
    interposed::plan(None);
    let outcome = watched(&backend);
    let calls = interposed::calls();
    interposed::hide_coherence(false);
    outcome.expect("nothing fails");
    for function in ["vkFlushMappedMemoryRanges", "vkInvalidateMappedMemoryRanges"] {
        assert!(calls.get(function).is_some_and(|&calls| calls > 5), "{function}: {calls:?}");
    }
    assert_eq!(backend.validation_messages(), Vec::<String>::new());
}

/// A batch that never lands loses the device after its limit: who waits is told, nothing of it is freed, nothing hangs.
pub fn a_batch_that_never_lands_loses_the_device() {
    let backend = backend(false).expect("there is a loader");
    let mut set = Set::up(&backend).expect("nothing fails");
    let echo = Command::new(Opcode::Echo, 1, [5; 7]);
    warm_up(&mut set);
    interposed::stop_time(true);
    let since = Instant::now();
    let told = set.caller.call(&echo).expect_err("the device is lost");
    assert!(matches!(told, Failure::Answered(Status::DeviceLost)), "{told:?}");
    let error = set.ring.terminate(SOON).expect_err("the device is lost");
    assert!(error.message().contains("a batch is under way since 5s"), "{error}");
    drop(set);
    interposed::stop_time(false);
    assert!(since.elapsed() < 4 * SOON, "it hangs");
    // The device can be opened anew.
    watched(&backend).expect("nothing fails");
}
