//! What travels on a ring, and what may be asked of one: numbers, payloads and limits, without any device.

use gpubridge_abstractions::{Bind, Compute, DeviceSlot, ErrorKind, Opcode, RingConfig, Status, Transfer};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("commands":
    opcodes_keep_their_numbers => "Opcode/numbers",
    statuses_keep_their_numbers => "Status/numbers",
    every_failure_says_what_to_do => "Status/advice",
    a_binds_payload_holds_it_whole => "Bind/round-trip",
    a_transfers_payload_holds_it_whole => "Transfer/round-trip",
    a_calls_payload_holds_it_whole => "Compute/round-trip",
    ring_limits_are_exact => "RingConfig::check/limits",
);

const SLOT: DeviceSlot = DeviceSlot { index: 7, generation: u32::MAX };

/// Goal: the numbers are part of the layout. Method: the table of them, and every byte through `from_number`.
pub fn opcodes_keep_their_numbers() {
    const TABLE: [Opcode; 10] = [
        Opcode::Skip,
        Opcode::Echo,
        Opcode::Bind,
        Opcode::Write,
        Opcode::WriteInline,
        Opcode::Read,
        Opcode::ReadInline,
        Opcode::Compute,
        Opcode::WriteBulk,
        Opcode::ReadBulk,
    ];
    for number in 0..=u8::MAX {
        assert_eq!(Opcode::from_number(number), TABLE.get(usize::from(number)).copied(), "{number}");
    }
    assert!((0..).zip(TABLE).all(|(number, opcode)| opcode as u8 == number));
}

/// Goal: the numbers are part of the layout. Method: the table of them, and every byte through `from_number`.
pub fn statuses_keep_their_numbers() {
    const TABLE: [Status; 11] = [
        Status::Ok,
        Status::UnknownOpcode,
        Status::UnknownAllocation,
        Status::OutOfBounds,
        Status::NotOwner,
        Status::UnknownKernel,
        Status::InvalidArgument,
        Status::KernelFault,
        Status::Cancelled,
        Status::DeviceLost,
        Status::Unsupported,
    ];
    for number in 0..=u8::MAX {
        assert_eq!(Status::from_number(number), TABLE.get(usize::from(number)).copied(), "{number}");
    }
    assert_eq!(Status::ALL, TABLE);
    assert!((0..).zip(TABLE).all(|(number, status)| status as u8 == number));
}

/// Goal: a status byte is enough to react to. Method: each failure has the kind of a failure and a text of two parts.
pub fn every_failure_says_what_to_do() {
    for failure in &Status::ALL[1..] {
        assert_ne!(failure.kind(), Status::Ok.kind(), "{failure:?}");
        let text = failure.to_string();
        assert!(text.contains([';', ',']), "{failure:?} does not say what to do: {text}");
    }
}

/// Goal: nothing is cut on the way. Method: fields with all their bits in use.
pub fn a_binds_payload_holds_it_whole() {
    for (address, size_bytes, zero_bytes) in [(u64::MAX, 1 << 63, 9), (0, 0, u64::MAX), (64, u64::MAX, 0)] {
        let bind = Bind { slot: SLOT, address, size_bytes, zero_bytes };
        assert_eq!(Bind::from_payload(&bind.to_payload()), bind);
    }
}

/// Goal: nothing is cut on the way. Method: fields with all their bits in use, and the inline words behind them.
pub fn a_transfers_payload_holds_it_whole() {
    let transfer = Transfer { slot: SLOT, offset_bytes: u64::MAX - 1, size_bytes: u32::MAX };
    let payload = transfer.to_payload([1, 2, 3, u64::MAX]);
    assert_eq!(Transfer::from_payload(&payload), transfer);
    assert_eq!(payload[Transfer::HEADER_WORDS..], [1, 2, 3, u64::MAX]);
}

/// Goal: nothing is cut on the way. Method: fields with all their bits in use, each buffer another.
pub fn a_calls_payload_holds_it_whole() {
    let output = DeviceSlot { index: u32::MAX - 1, generation: 1 };
    let operand = DeviceSlot::NONE;
    let compute = Compute { input: SLOT, operand, output, count: u32::MAX, scalars: [1, 2, u64::MAX] };
    assert_eq!(Compute::from_payload(&compute.to_payload()), compute);
    assert!(operand.is_none() && !SLOT.is_none());
}

/// Configurations beyond each limit, otherwise as `good`, with the value that is wrong.
pub fn malformed(good: RingConfig) -> [(RingConfig, u32); 11] {
    const LANES: u32 = RingConfig::LANES_MAX + 1;
    const SLOTS: u32 = RingConfig::SLOTS_MAX * 2;
    const STAGING: u32 = RingConfig::STAGING_BYTES_MAX + 64;
    let lanes = |lanes| (RingConfig { lanes, ..good }, lanes);
    let slots = |slots| (RingConfig { slots, ..good }, slots);
    let staging = |staging_bytes| (RingConfig { staging_bytes, ..good }, staging_bytes);
    [
        lanes(0),
        lanes(LANES),
        slots(0),
        slots(1),
        slots(3),
        slots(SLOTS),
        staging(0),
        staging(32),
        staging(72),
        staging(STAGING),
        (RingConfig { allocations: 0, ..good }, 0),
    ]
}

/// Goal: the limits are where they are said to be. Method: each field on its limits and beyond them.
pub fn ring_limits_are_exact() {
    let good = RingConfig { lanes: 1, slots: 2, staging_bytes: 64, allocations: 1 };
    let largest = RingConfig {
        lanes: RingConfig::LANES_MAX,
        slots: RingConfig::SLOTS_MAX,
        staging_bytes: RingConfig::STAGING_BYTES_MAX,
        allocations: u32::MAX,
    };
    for fine in [good, largest, RingConfig::default()] {
        fine.check("check").unwrap_or_else(|why| panic!("{fine:?}: {why}"));
    }
    for (bad, value) in malformed(good) {
        let error = bad.check("check").expect_err("this cannot be");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        assert!(error.message().contains(&value.to_string()), "does not say what was asked for: {error}");
    }
}
