//! Where things lie, and what a slot holds.

use gpubridge_abstractions::{DeviceSlot, PAYLOAD_BYTES, PAYLOAD_WORDS, Transfer};

use super::super::layout::*;
use super::*;

const CONFIGURATIONS: [(u32, u32); 6] = [(2, 0), (2, 8), (4, 64), (8, 264), (64, 4096), (1024, 128)];

/// No two things share a word, everything lies inside, and nothing is left over but the spare words of the control
/// area. Each word of the lane is claimed in turn.
#[test]
fn areas_do_not_overlap() {
    for (slots, staging_bytes) in CONFIGURATIONS {
        let layout = LaneLayout::new(slots, staging_bytes);
        let mut claimed = vec![false; layout.words()];
        let mut claim =
            |word: usize| assert!(!std::mem::replace(&mut claimed[word], true), "word {word} is claimed twice");
        for slot in 0..slots as usize {
            (0..SLOT_WORDS).for_each(|i| claim(layout.command(slot) + i));
            (0..SLOT_WORDS).for_each(|i| claim(layout.completion(slot) + i));
            assert_eq!(layout.staging(slot).len() * 8, layout.staging_bytes());
            layout.staging(slot).for_each(&mut claim);
        }
        (0..CONTROL_WORDS).for_each(|word| claim(layout.control(word)));
        assert!(claimed.into_iter().all(|is_claimed| is_claimed), "{slots} slots, {staging_bytes} bytes");
    }
}

/// Slots and control words start on lines of 64 bytes, so no line has writers on both sides.
#[test]
fn lines_are_not_shared() {
    for (slots, staging_bytes) in CONFIGURATIONS {
        let layout = LaneLayout::new(slots, staging_bytes);
        for slot in 0..slots as usize {
            assert!(layout.command(slot).is_multiple_of(8) && layout.completion(slot).is_multiple_of(8));
        }
        let lines = [CONSUMED, PARKED].map(|word| layout.control(word) / 8);
        assert_ne!(lines[0], lines[1]);
        assert!(layout.staging(0).start.is_multiple_of(8));
    }
}

/// Zeroed memory reads as empty on both sides: the first lap's bit is 1, and no command is pending.
#[test]
fn zeros_are_an_empty_ring() {
    let mut rig = Rig::new(2, 8);
    assert!(rig.device.poll_command().is_none());
    assert_eq!((rig.submitter.pending(), rig.submitter.completed_below(), rig.submitter.next_sequence()), (0, 0, 0));
    assert!(!rig.completions.is_complete(0) && !rig.completions.is_complete(1), "nothing was submitted");
    let layout = LaneLayout::new(8, 0);
    assert!((0..8).all(|sequence| layout.lap(sequence)) && (8..16).all(|sequence| !layout.lap(sequence)));
}

/// Slots must be a power of two of at least 2, and staging whole words: anything else is refused at once.
#[test]
fn bad_configurations_are_refused() {
    for (slots, staging_bytes) in [(0, 8), (1, 8), (3, 8), (1000, 8), (2, 1), (2, 63)] {
        let refused = std::panic::catch_unwind(|| LaneLayout::new(slots, staging_bytes));
        assert!(refused.is_err(), "{slots} slots of {staging_bytes} bytes were accepted");
    }
}

/// Memory that is smaller than the layout is refused by both halves.
#[test]
fn small_memory_is_refused() {
    let (small, large) = (LaneLayout::new(2, 8), LaneLayout::new(4, 8));
    let memory = || Memory::<AtomicU64>::new(small, |_| Word::new(0));
    assert!(std::panic::catch_unwind(|| HostLane::new(memory(), large, None)).is_err());
    assert!(std::panic::catch_unwind(|| DeviceLane::new(memory(), large)).is_err());
}

/// An opcode of more than 7 bits arrives as one that no device knows, never as another command, and so does a Skip that a
/// caller submits: it would never be answered. All others arrive as they are.
#[test]
fn opcodes_arrive_or_stay_unknown() {
    for opcode in 0..=u8::MAX {
        let command = Command { opcode, kernel: u16::MAX, grain: u32::MAX, payload: [u64::MAX; PAYLOAD_WORDS] };
        let mut decoded = Command::new(Opcode::Skip, 0, [0; PAYLOAD_WORDS]);
        assert!(decode_command(&encode_command(&command, false, true), &mut decoded));
        let arrives = if opcode == Opcode::Skip as u8 { 127 } else { opcode.min(127) };
        assert_eq!(decoded, Command { opcode: arrives, ..command });
    }
    let mut decoded = Command::new(Opcode::Echo, 1, [1; PAYLOAD_WORDS]);
    decode_command(&encode_skip(true), &mut decoded);
    assert_eq!(decoded, Command::new(Opcode::Skip, 0, [0; PAYLOAD_WORDS]));
}

/// Every status survives the way; a number that is none reads as a lost device.
#[test]
fn statuses_survive() {
    let mut known = 0;
    for number in 0..=u8::MAX {
        let Some(status) = Status::from_number(number) else { continue };
        known += 1;
        let completion = Completion { status, device_time_ns: u32::MAX, result_bytes: 56, payload: [1; PAYLOAD_WORDS] };
        let mut decoded = Completion::of(Status::Cancelled);
        decode_completion(&encode_completion(&completion, true), &mut decoded);
        assert_eq!(decoded, completion);
    }
    let mut words = encode_completion(&Completion::of(Status::Ok), false);
    words[0] |= known << 48;
    let mut decoded = Completion::of(Status::Ok);
    decode_completion(&words, &mut decoded);
    assert_eq!(decoded.status, Status::DeviceLost);
}

/// `kernels/cuda/layout.cuh` has the same numbers, all of them and no others.
#[test]
fn the_cuda_header_says_the_same() {
    let mut expected: Vec<(String, u64)> = [
        ("SLOT_WORDS", SLOT_WORDS as u64),
        ("PAYLOAD_WORDS", PAYLOAD_WORDS as u64),
        ("PAYLOAD_BYTES", PAYLOAD_BYTES as u64),
        ("CONTROL_WORDS", CONTROL_WORDS as u64),
        ("CONSUMED", CONSUMED as u64),
        ("DISPLACED_SHIFT", DISPLACED_SHIFT.into()),
        ("ANSWER_BIT_SHIFT", ANSWER_BIT_SHIFT.into()),
        ("OPCODE_SHIFT", OPCODE_SHIFT.into()),
        ("OPCODE_MASK", OPCODE_MASK),
        ("KERNEL_SHIFT", KERNEL_SHIFT.into()),
        ("RESULT_SHIFT", RESULT_SHIFT.into()),
        ("STATUS_SHIFT", STATUS_SHIFT.into()),
        ("TRANSFER_HEADER_WORDS", Transfer::HEADER_WORDS as u64),
        ("INLINE_WRITE_BYTES", Transfer::INLINE_WRITE_BYTES as u64),
        ("BLOCK_ALIGNMENT", crate::device::BLOCK_ALIGNMENT),
        ("NO_SLOT", DeviceSlot::NONE.index.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    // As the enums spell their names, in capitals and with underscores.
    let screaming = |name: String| {
        let parts =
            name.char_indices().map(|(i, c)| if i > 0 && c.is_uppercase() { format!("_{c}") } else { c.into() });
        parts.collect::<String>().to_uppercase()
    };
    let opcodes = (0..).map_while(Opcode::from_number);
    expected.extend(opcodes.map(|opcode| (format!("OPCODE_{}", screaming(format!("{opcode:?}"))), opcode as u64)));
    expected.extend(Status::ALL.map(|status| (format!("STATUS_{}", screaming(format!("{status:?}"))), status as u64)));
    let header = include_str!("../../../cuda/layout.cuh");
    let mut found: Vec<(String, u64)> = header
        .lines()
        .filter_map(|line| line.strip_prefix("constexpr u32 ")?.strip_suffix(';')?.split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
