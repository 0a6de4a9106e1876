//! A model of the race between calls and a deactivation: the real sessions, guard, submission and shutdown on the null
//! device, in orders that shuttle chooses.
//!
//! The claim: a call looks at its session's epoch under the very guard under which it is submitted. So whatever is
//! accepted is in what the deactivation saves, and nothing is accepted afterwards, by the session or by another one that
//! was given its place.

use std::sync::Arc;

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, Backend, Command, DeviceIndex, InitializeMessage, NullBackend, Opcode,
    PAYLOAD_WORDS, ReadMessage, RingConfig, ShutdownMessage, StagedRange, Status, Taken, WriteMessage,
};
use shuttle::thread;

use super::lane::LaneState;
use super::operation::Operation;
use super::transfers::Write;
use super::{ResidentMemory, ResidentMemoryConfig, SessionId};

const ITERATIONS: usize = 1000;
const WORD: StagedRange = StagedRange { offset_bytes: 0, size_bytes: 8 };

/// Writes a number; whether it was accepted.
type Submit = fn(&ResidentMemory, SessionId, AllocationId, u64) -> bool;

/// As every caller does.
fn call(memory: &ResidentMemory, session: SessionId, id: AllocationId, value: u64) -> bool {
    let message = WriteMessage::new(memory.envelope(), id, 0, WORD);
    memory.write(session, &message, &value.to_le_bytes()).wait().is_ok()
}

/// The fault to be found: the epoch is checked under the guard, but the guard is let go and taken again to submit.
fn checked_before_the_guard(memory: &ResidentMemory, session: SessionId, id: AllocationId, value: u64) -> bool {
    let bytes = value.to_le_bytes();
    let message = WriteMessage::new(memory.envelope(), id, 0, WORD);
    let mut operation = Write::new(&message, &bytes);
    let mut command = Command::new(Opcode::Skip, session.index, [0; PAYLOAD_WORDS]);
    let checked = {
        let mut lane = memory.lane(session).lock();
        let LaneState { sessions, kernels, .. } = &mut *lane;
        sessions.find(session).and_then(|found| operation.command(&found.allocations, kernels, 64, &mut command))
    };
    if checked.is_err() {
        return false;
    }
    let submitted = memory.lane(session).lock().submit(&command, operation.staged());
    let mut ticket = submitted.expect("the lane has room");
    match memory.lane(session).completions.take(&mut ticket, &mut []) {
        Taken::Ready(completion) => completion.status == Status::Ok,
        other => panic!("the null device answers at once, not {other:?}"),
    }
}

fn read(memory: &ResidentMemory, session: SessionId, id: AllocationId) -> u64 {
    let mut bytes = [0; 8];
    let message = ReadMessage::new(memory.envelope(), id, 0, WORD);
    memory.read(session, &message, &mut bytes).wait().expect("the session is the reader's alone");
    u64::from_le_bytes(bytes)
}

fn open_session(memory: &ResidentMemory) -> (SessionId, AllocationId) {
    let session = memory.session(0);
    memory.initialize(session, &InitializeMessage::new(memory.envelope())).expect("it is new");
    let allocated = memory.allocate(session, &AllocateMessage::new(memory.envelope(), 8)).expect("there is room");
    (session, allocated.handle.id)
}

fn open_memory() -> ResidentMemory {
    let device = NullBackend::with_memory_bytes(8 << 20).open(DeviceIndex(0)).expect("there is a null device");
    let ring = RingConfig { lanes: 1, slots: 16, staging_bytes: 64, allocations: 16 };
    let config = ResidentMemoryConfig { ring, memory_budget_bytes: 4 << 20, ..ResidentMemoryConfig::default() };
    ResidentMemory::open(device, config).expect("the memory opens")
}

/// Two callers and a deactivation that saves, then gives the session's place and its block to another.
fn deactivation(submit: Submit) {
    let memory = Arc::new(open_memory());
    let (session, id) = open_session(&memory);
    let callers: Vec<_> = [1_u64, 2]
        .map(|value| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || (value, submit(&memory, session, id, value)))
        })
        .into();
    let sealed = memory.seal(session).expect("nothing in pieces is under way");
    let saved = read(&memory, sealed, id);
    let shutdown = ShutdownMessage::new(memory.envelope());
    memory.shutdown(sealed, &shutdown, memory.config().lifecycle_deadline).expect("closes");
    let (next, other) = open_session(&memory);
    assert_eq!(next.index, session.index, "the place is used again");
    assert_eq!(read(&memory, next, other), 0, "a call reached the next session");
    let answers: Vec<_> = callers.into_iter().map(|caller| caller.join().expect("no panic")).collect();
    let accepted: Vec<u64> = answers.into_iter().filter(|(_, accepted)| *accepted).map(|(value, _)| value).collect();
    assert!(
        if accepted.is_empty() { saved == 0 } else { accepted.contains(&saved) },
        "an accepted write is not in what was saved: {accepted:?} were accepted, {saved} was saved"
    );
    assert_eq!(read(&memory, next, other), 0, "a call reached the next session");
}

/// A save between two turns: the grain goes on under a new name, which the callers look up.
fn save(submit: Submit) {
    let memory = Arc::new(open_memory());
    let (session, id) = open_session(&memory);
    let caller = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || submit(&memory, session, id, 7))
    };
    let sealed = memory.seal(session).expect("nothing in pieces is under way");
    let saved = read(&memory, sealed, id);
    let still = read(&memory, sealed, id);
    let accepted = caller.join().expect("no panic");
    assert_eq!(saved, still, "an accepted write is not in what was saved: the grain changed while it was saved");
    assert_eq!(accepted, saved == 7, "an accepted write is not in what was saved");
    assert!(!call(&memory, session, id, 8) && call(&memory, sealed, id, 9), "the new name is the only one");
    assert_eq!(read(&memory, sealed, id), 9);
}

/// Goal: no order of calls and a deactivation loses or misplaces a write. Method: random orders, and orders with few
/// preemptions at chosen depths.
#[test]
fn what_is_accepted_is_saved() {
    shuttle::check_random(|| deactivation(call), ITERATIONS);
    shuttle::check_pct(|| deactivation(call), ITERATIONS, 3);
}

/// Goal: as above for a save. Method: as above.
#[test]
fn a_save_sees_all_or_nothing_of_a_call() {
    shuttle::check_random(|| save(call), ITERATIONS);
    shuttle::check_pct(|| save(call), ITERATIONS, 3);
}

/// Goal: the model finds the fault it is there for. Method: the epoch is checked before the guard is taken.
#[test]
#[should_panic(expected = "an accepted write is not in what was saved")]
fn an_epoch_checked_before_the_guard_is_found_by_the_deactivation() {
    shuttle::check_random(|| deactivation(checked_before_the_guard), ITERATIONS);
}

/// As above, by the model of a save.
#[test]
#[should_panic(expected = "an accepted write is not in what was saved")]
fn an_epoch_checked_before_the_guard_is_found_by_the_save() {
    shuttle::check_random(|| save(checked_before_the_guard), ITERATIONS);
}
