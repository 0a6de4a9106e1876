//! What is counted, and what is otherwise than on the machine at hand.

use gpubridge_abstractions::{Backend, Command, DeviceIndex, Opcode, Status};

use crate::interposed;
use crate::job::{Failure, SOON, Set, backend, backend_with, validates, watched};

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

/// Calls of several kernels that come together are one batch, which the shader of all kernels executes.
pub fn a_batch_may_hold_calls_of_several_kernels() {
    let backend = backend_with(|config| config.mixes_kernels = Some(true)).expect("there is a loader");
    let mut set = Set::up(&backend).expect("nothing fails");
    set.work().expect("nothing fails");
    interposed::plan(None);
    let (fill, sum) = (set.fill(2.0), set.sum());
    let answers = set.caller.call_together(&[fill, sum, Command::new(Opcode::Echo, 1, [5; 7])]).expect("nothing fails");
    assert_eq!(f32::from_bits(answers[1].payload[0] as u32), 2.0 * 1024.0);
    assert_eq!(answers[2].payload, [5; 7]);
    let submissions = interposed::calls()["vkQueueSubmit"];
    assert_eq!(submissions, 1, "they are one batch");
}

/// What the validation layer has to say arrives: otherwise its silence says nothing.
pub fn the_validation_layer_is_heard() {
    let backend = backend(true).expect("there is a loader");
    interposed::spoil_layouts(true);
    // Opened and no more: what would be executed with such a layout is anything.
    drop(backend.open(DeviceIndex(0)));
    interposed::spoil_layouts(false);
    let messages = backend.validation_messages();
    assert!(messages.iter().any(|message| message.contains("VUID-VkPushConstantRange-size")), "{messages:#?}");
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
    let told = set.caller.call(&echo).expect_err("the device is lost");
    assert!(matches!(told, Failure::Answered(Status::DeviceLost)), "{told:?}");
    let error = set.ring.terminate(SOON).expect_err("the device is lost");
    assert!(error.message().contains("a batch is under way since 5s"), "{error}");
    drop(set);
    interposed::stop_time(false);
    // The device can be opened anew.
    watched(&backend).expect("nothing fails");
}
