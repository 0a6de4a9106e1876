//! What is special to the null backend; the conformance suite has the rest.

use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Device, DeviceIndex, DeviceKind, DeviceSlot, ErrorKind, Lane, MemoryType,
    NullBackend, Opcode, Ring, RingConfig, Status, Taken, Ticket, Transfer,
};

const NO_WAIT: Duration = Duration::ZERO;
const GRAIN: u32 = 7;
const SLOT: DeviceSlot = DeviceSlot { index: 3, generation: 5 };

fn launch(device: &dyn Device) -> (Box<dyn Ring>, Lane) {
    let ring = device.launch(RingConfig { lanes: 1, slots: 4, staging_bytes: 64, allocations: 8 }).unwrap();
    ring.activate(NO_WAIT).unwrap();
    let lane = ring.take_lane(0).unwrap();
    (ring, lane)
}

fn submit(lane: &mut Lane, command: Command) -> Ticket {
    lane.submitter.try_submit(&command, &[]).unwrap()
}

/// Takes what must be there.
fn answer(lane: &Lane, mut ticket: Ticket) -> Completion {
    match lane.completions.take(&mut ticket, &mut []) {
        Taken::Ready(completion) => completion,
        other => panic!("not answered at once: {other:?}"),
    }
}

fn echo(number: u64) -> Command {
    Command::new(Opcode::Echo, GRAIN, [number; 7])
}

#[test]
fn says_that_it_is_null_and_lends_what_it_has_to_the_byte() {
    let backend = NullBackend::with_memory_bytes(10_000);
    assert_eq!(backend.devices().unwrap()[0].kind, DeviceKind::Null);
    let device = backend.open(DeviceIndex(0)).unwrap();
    assert_eq!((device.info().total_memory_bytes, device.info().available_memory_bytes), (10_000, 10_000));
    let first = device.reserve(6000, MemoryType::Shared).unwrap();
    assert_eq!(device.info().available_memory_bytes, 4000);
    let refused = device.reserve(4001, MemoryType::Default).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
    assert!(refused.message().contains("4001") && refused.message().contains("4000"), "{refused}");
    drop(first);
    assert!(device.reserve(10_000, MemoryType::Default).is_ok());
}

#[test]
fn an_answer_is_there_when_the_submission_returns() {
    let (ring, mut lane) = launch(&*NullBackend::default().open(DeviceIndex(0)).unwrap());
    for number in 0..100 {
        // No bell, no waiting.
        let ticket = submit(&mut lane, echo(number));
        assert_eq!((lane.submitter.pending(), lane.submitter.completed_below()), (0, number + 1));
        assert_eq!(answer(&lane, ticket).payload, [number; 7]);
    }
    ring.deactivate(NO_WAIT).unwrap();
    let waiting = submit(&mut lane, echo(1));
    ring.terminate(NO_WAIT).unwrap();
    assert_eq!(answer(&lane, waiting).status, Status::Cancelled);
}

/// A ring of slots in memory finds a free slot beyond occupied ones when the device has read those; this lane at once. The
/// order is that of the tickets all the same.
#[test]
fn slots_far_apart_are_found_without_the_device() {
    let device = NullBackend::default().open(DeviceIndex(0)).unwrap();
    let buffer = device.reserve(64, MemoryType::Default).unwrap();
    let (ring, mut lane) = launch(&*device);
    let mut early: Vec<_> = (0..4).map(|number| Some(submit(&mut lane, echo(number)))).collect();
    let mut free = |lane: &Lane, slot: usize| {
        answer(lane, early[slot].take().unwrap());
    };
    ring.deactivate(NO_WAIT).unwrap();
    // The slots are used in the order 0, 3, 1.
    free(&lane, 0);
    free(&lane, 3);
    let bind = Bind { slot: SLOT, address: buffer.address(), size_bytes: 64, zero_bytes: 64 };
    let first = submit(&mut lane, Command::new(Opcode::Bind, GRAIN, bind.to_payload()));
    let transfer = Transfer { slot: SLOT, offset_bytes: 0, size_bytes: 8 };
    let second = submit(&mut lane, Command::new(Opcode::WriteInline, GRAIN, transfer.to_payload([42, 0, 0, 0])));
    free(&lane, 1);
    let third = submit(&mut lane, Command::new(Opcode::ReadInline, GRAIN, transfer.to_payload([0; 4])));
    ring.activate(NO_WAIT).unwrap();
    assert_eq!([first, second].map(|ticket| answer(&lane, ticket).status), [Status::Ok; 2]);
    assert_eq!(answer(&lane, third).payload[0], 42);
}
