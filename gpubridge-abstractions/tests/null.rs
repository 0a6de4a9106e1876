//! The null backend keeps what the traits promise.

use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, DeviceBuffer, DeviceIndex, DeviceKind, DeviceSlot, ErrorKind,
    KernelId, KernelSpec, Lane, MemoryType, NullBackend, Opcode, PAYLOAD_BYTES, Ring, RingConfig, Status, SubmitError,
    Taken, Ticket, Transfer,
};

const NO_WAIT: Duration = Duration::ZERO;
const GRAIN: u32 = 7;
const SLOT: DeviceSlot = DeviceSlot { index: 3, generation: 5 };

struct Bench {
    ring: Box<dyn Ring>,
    lane: Lane,
    buffer: Box<dyn DeviceBuffer>,
}

impl Bench {
    fn new() -> Self {
        let device = NullBackend::default().open(DeviceIndex(0)).unwrap();
        let ring = device.launch(RingConfig { lanes: 1, slots: 4, staging_bytes: 64, allocations: 8 }).unwrap();
        let lane = ring.take_lane(0).unwrap();
        Self { ring, lane, buffer: device.reserve(8192, MemoryType::Default).unwrap() }
    }

    fn active() -> Self {
        let bench = Self::new();
        bench.ring.activate(NO_WAIT).unwrap();
        bench
    }

    fn submit(&mut self, command: Command) -> Result<Ticket, SubmitError> {
        self.lane.submitter.try_submit(&command, &[])
    }

    fn run(&mut self, command: Command, staged: &mut [u8]) -> Completion {
        let mut ticket = self.lane.submitter.try_submit(&command, staged).unwrap();
        match self.lane.completions.take(&mut ticket, staged) {
            Taken::Ready(completion) => completion,
            other => panic!("not answered at once: {other:?}"),
        }
    }

    fn status(&mut self, command: Command) -> Status {
        self.run(command, &mut []).status
    }

    fn bind(&mut self, size_bytes: u64, zero_bytes: u64) -> Status {
        let bind = Bind { slot: SLOT, address: self.buffer.address(), size_bytes, zero_bytes };
        self.status(Command::new(Opcode::Bind, GRAIN, bind.to_payload()))
    }
}

fn echo(number: u64) -> Command {
    Command::new(Opcode::Echo, GRAIN, [number; 7])
}

fn transfer(opcode: Opcode, offset_bytes: u64, size_bytes: u32) -> Command {
    Command::new(opcode, GRAIN, Transfer { slot: SLOT, offset_bytes, size_bytes }.to_payload([0; 4]))
}

#[test]
fn says_that_it_is_null_and_lends_what_it_has() {
    let backend = NullBackend::with_memory_bytes(10_000);
    assert_eq!(backend.name(), "null");
    assert_eq!(backend.devices().unwrap()[0].kind, DeviceKind::Null);
    assert_eq!(backend.open(DeviceIndex(1)).unwrap_err().kind(), ErrorKind::NotFound);
    let device = backend.open(DeviceIndex(0)).unwrap();
    let first = device.reserve(6000, MemoryType::Shared).unwrap();
    assert_eq!((first.size_bytes(), first.memory_type()), (6000, MemoryType::Shared));
    assert!(first.address() > 0 && first.address().is_multiple_of(256));
    assert_eq!(device.info().available_memory_bytes, 4000);
    let refused = device.reserve(4001, MemoryType::Default).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
    assert!(refused.message().contains("4001") && refused.message().contains("4000"), "{refused}");
    assert_eq!(device.reserve(0, MemoryType::Default).unwrap_err().kind(), ErrorKind::InvalidArgument);
    for memory_type in [MemoryType::Pinned, MemoryType::Texture, MemoryType::Constant] {
        assert_eq!(device.reserve(1, memory_type).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    drop(first);
    assert!(device.reserve(10_000, MemoryType::Default).is_ok());
}

#[test]
fn runs_no_kernel() {
    let device = NullBackend::default().open(DeviceIndex(0)).unwrap();
    assert!(device.kernels().is_empty());
    assert_eq!(device.compile(&KernelSpec::new(KernelId(1)), 0).unwrap_err().kind(), ErrorKind::NotFound);
    let call = Compute { input: SLOT, operand: DeviceSlot::NONE, output: SLOT, count: 0, scalars: [0; 3] };
    let command = Command::new(Opcode::Compute, GRAIN, call.to_payload());
    assert_eq!(Bench::active().status(command), Status::UnknownKernel);
}

#[test]
fn copies_what_was_staged_and_what_was_inline() {
    let mut bench = Bench::active();
    assert_eq!(bench.bind(128, 128), Status::Ok);
    let mut staged: [u8; 64] = std::array::from_fn(|i| i as u8 | 0x80);
    let written = staged;
    assert_eq!(bench.run(transfer(Opcode::Write, 64, 64), &mut staged).status, Status::Ok);
    staged.fill(0);
    assert_eq!(bench.run(transfer(Opcode::Read, 64, 64), &mut staged).status, Status::Ok);
    assert_eq!(staged, written);

    let inline = Transfer { slot: SLOT, offset_bytes: 61, size_bytes: 5 }.to_payload([u64::MAX; 4]);
    assert_eq!(bench.status(Command::new(Opcode::WriteInline, GRAIN, inline)), Status::Ok);
    let read = bench.run(transfer(Opcode::ReadInline, 60, 8), &mut []);
    assert_eq!((read.status, read.result_bytes), (Status::Ok, 8));
    assert_eq!(read.payload, [0x8382_ffff_ffff_ff00, 0, 0, 0, 0, 0, 0]);

    assert_eq!(bench.bind(128, 64), Status::Ok);
    assert_eq!(bench.run(transfer(Opcode::ReadInline, 60, 8), &mut []).payload[0], 0x8382_ffff_0000_0000);
    let probe = bench.run(echo(u64::MAX), &mut []);
    assert_eq!((usize::from(probe.result_bytes), probe.payload), (PAYLOAD_BYTES, [u64::MAX; 7]));
}

#[test]
fn checks_every_name_and_range() {
    let mut bench = Bench::active();
    assert_eq!(bench.status(transfer(Opcode::Read, 0, 8)), Status::UnknownAllocation);
    assert_eq!(bench.bind(8193, 0), Status::InvalidArgument);
    assert_eq!(bench.bind(8192, 8193), Status::InvalidArgument);
    let bind = |address, index| {
        let bind = Bind { slot: DeviceSlot { index, generation: 1 }, address, size_bytes: 64, zero_bytes: 0 };
        Command::new(Opcode::Bind, GRAIN, bind.to_payload())
    };
    let address = bench.buffer.address();
    for forged in [0, address - 64, address + 1, address + 8192, !63] {
        assert_eq!(bench.status(bind(forged, 0)), Status::InvalidArgument, "{forged:#x}");
    }
    assert_eq!(bench.status(bind(address, 8)), Status::OutOfBounds);
    assert_eq!(bench.bind(40, 0), Status::Ok);
    for (offset, size, status) in [
        (0, 40, Status::Ok),
        (40, 0, Status::Ok),
        (33, 8, Status::OutOfBounds),
        (u64::MAX, 1, Status::OutOfBounds),
        (0, 65, Status::InvalidArgument),
    ] {
        assert_eq!(bench.status(transfer(Opcode::Read, offset, size)), status, "{size} at {offset}");
    }
    assert_eq!(bench.status(transfer(Opcode::WriteInline, 0, 33)), Status::InvalidArgument);
    let stranger = Command { grain: GRAIN + 1, ..transfer(Opcode::Read, 0, 8) };
    assert_eq!(bench.status(stranger), Status::NotOwner);
    let stale = Transfer { slot: DeviceSlot { generation: 4, ..SLOT }, offset_bytes: 0, size_bytes: 8 };
    let stale = Command::new(Opcode::Read, GRAIN, stale.to_payload([0; 4]));
    assert_eq!(bench.status(stale), Status::UnknownAllocation);
    for opcode in [Opcode::Skip as u8, Opcode::Compute as u8 + 1, u8::MAX] {
        assert_eq!(bench.status(Command { opcode, ..echo(0) }), Status::UnknownOpcode);
    }
    assert_eq!(bench.bind(0, 0), Status::Ok);
    assert_eq!(bench.bind(0, 0), Status::UnknownAllocation);
}

#[test]
fn a_lane_holds_as_many_answers_as_it_has_slots() {
    let mut bench = Bench::active();
    let mut tickets: Vec<_> = (0..4).map(|i| bench.submit(echo(i)).unwrap()).collect();
    assert_eq!(bench.submit(echo(4)), Err(SubmitError::Full));
    assert_eq!((bench.lane.submitter.pending(), bench.lane.submitter.completed_below()), (0, 4));
    let too_large = bench.lane.submitter.try_submit(&echo(4), &[0; 65]);
    assert_eq!(too_large, Err(SubmitError::TooLarge));
    // A freed slot is found wherever it lies, and the others keep their answers.
    assert!(matches!(bench.lane.completions.take(&mut tickets[2], &mut []), Taken::Ready(c) if c.payload[0] == 2));
    assert_eq!(bench.lane.completions.take(&mut tickets[2], &mut []), Taken::Gone);
    let later = bench.submit(echo(9)).unwrap();
    assert!(later.sequence() >= 4 && bench.lane.submitter.next_sequence() > later.sequence());
    assert_eq!(bench.submit(echo(10)), Err(SubmitError::Full));
    bench.lane.completions.abandon(&mut tickets[0]);
    assert_eq!(bench.lane.completions.take(&mut tickets[0], &mut []), Taken::Gone);
    assert!(bench.submit(echo(11)).is_ok());
    assert!(matches!(bench.lane.completions.take(&mut tickets[1], &mut []), Taken::Ready(c) if c.payload[0] == 1));
    assert!(bench.ring.take_lane(0).is_none() && bench.ring.take_lane(1).is_none());
}

#[test]
fn commands_wait_for_activation_in_their_order() {
    let mut bench = Bench::new();
    let bind = Bind { slot: SLOT, address: bench.buffer.address(), size_bytes: 64, zero_bytes: 64 };
    let mut first = bench.submit(Command::new(Opcode::Bind, GRAIN, bind.to_payload())).unwrap();
    let mut given_up = bench.submit(echo(0)).unwrap();
    let mut last = bench.submit(transfer(Opcode::ReadInline, 0, 8)).unwrap();
    bench.lane.completions.abandon(&mut given_up);
    assert_eq!(bench.lane.completions.take(&mut first, &mut []), Taken::Pending);
    assert_eq!(bench.lane.completions.take(&mut given_up, &mut []), Taken::Gone);
    assert_eq!((bench.lane.submitter.pending(), bench.lane.submitter.completed_below()), (3, 0));
    assert!(!bench.lane.completions.is_complete(first.sequence()));
    bench.ring.activate(NO_WAIT).unwrap();
    assert_eq!((bench.lane.submitter.pending(), bench.lane.submitter.completed_below()), (0, 3));
    for ticket in [&mut first, &mut last] {
        assert!(bench.lane.completions.is_complete(ticket.sequence()));
        let taken = bench.lane.completions.take(ticket, &mut []);
        assert!(matches!(taken, Taken::Ready(completion) if completion.status == Status::Ok), "{taken:?}");
    }
}

#[test]
fn passed_over_slots_do_not_change_the_order() {
    let mut bench = Bench::active();
    let mut early: Vec<_> = (0..4).map(|i| bench.submit(echo(i)).unwrap()).collect();
    let mut free = |bench: &Bench, slot: usize| {
        assert!(matches!(bench.lane.completions.take(&mut early[slot], &mut []), Taken::Ready(_)));
    };
    bench.ring.deactivate(NO_WAIT).unwrap();
    // The slots are used in the order 0, 3, 1.
    free(&bench, 0);
    free(&bench, 3);
    let bind = Bind { slot: SLOT, address: bench.buffer.address(), size_bytes: 64, zero_bytes: 64 };
    let first = bench.submit(Command::new(Opcode::Bind, GRAIN, bind.to_payload())).unwrap();
    let inline = Transfer { slot: SLOT, offset_bytes: 0, size_bytes: 8 }.to_payload([42, 0, 0, 0]);
    let second = bench.submit(Command::new(Opcode::WriteInline, GRAIN, inline)).unwrap();
    free(&bench, 1);
    let third = bench.submit(transfer(Opcode::ReadInline, 0, 8)).unwrap();
    bench.ring.activate(NO_WAIT).unwrap();
    let taken = [first, second, third].map(|mut ticket| bench.lane.completions.take(&mut ticket, &mut []));
    assert!(matches!(taken[2], Taken::Ready(c) if c.payload[0] == 42), "{taken:?}");
}

#[test]
fn termination_cancels_what_was_not_started() {
    let mut bench = Bench::active();
    let mut done = bench.submit(echo(1)).unwrap();
    bench.ring.deactivate(NO_WAIT).unwrap();
    let mut waiting = bench.submit(echo(2)).unwrap();
    bench.ring.terminate(NO_WAIT).unwrap();
    bench.ring.terminate(NO_WAIT).unwrap();
    assert!(matches!(bench.lane.completions.take(&mut done, &mut []), Taken::Ready(c) if c.status == Status::Ok));
    let cancelled = bench.lane.completions.take(&mut waiting, &mut []);
    assert!(matches!(cancelled, Taken::Ready(c) if c.status == Status::Cancelled), "{cancelled:?}");
    assert_eq!(bench.submit(echo(3)), Err(SubmitError::Stopped));
    assert_eq!(bench.ring.activate(NO_WAIT).unwrap_err().kind(), ErrorKind::InvalidState);
    let Bench { ring, mut lane, .. } = Bench::active();
    drop(ring);
    assert_eq!(lane.submitter.try_submit(&echo(4), &[]), Err(SubmitError::Stopped));
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let device = NullBackend::default().open(DeviceIndex(0)).unwrap();
    let good = RingConfig { lanes: 1, slots: 2, staging_bytes: 64, allocations: 1 };
    assert!(device.launch(good).is_ok());
    for bad in [
        RingConfig { lanes: 0, ..good },
        RingConfig { lanes: RingConfig::LANES_MAX + 1, ..good },
        RingConfig { slots: 1, ..good },
        RingConfig { slots: 3, ..good },
        RingConfig { slots: RingConfig::SLOTS_MAX * 2, ..good },
        RingConfig { staging_bytes: 0, ..good },
        RingConfig { staging_bytes: 72, ..good },
        RingConfig { staging_bytes: RingConfig::STAGING_BYTES_MAX + 64, ..good },
        RingConfig { allocations: 0, ..good },
    ] {
        assert_eq!(device.launch(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}
