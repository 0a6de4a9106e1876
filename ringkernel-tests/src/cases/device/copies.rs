//! Echo and the four copies, as a lane carries them: what comes back is what was sent, and nothing else changes.

use gpubridge_abstractions::{Command, Completion, DeviceSlot, Opcode, PAYLOAD_BYTES, RingConfig, Status, Transfer};

use super::binding::COPIES;
use crate::lane::{Bench, Driver, GRAIN, SMALL, bind, echo, transfer};
use crate::rig::pattern;
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("copies",
    Memory {
        every_payload_bit_is_echoed => "Opcode/echo",
        what_is_no_operation_is_answered_so => "Opcode/unknown",
        staged_copies_of_all_sizes_and_offsets => "Transfer/exact",
        inline_copies_of_all_sizes_and_offsets => "Transfer/exact",
        a_full_staging_area_of_any_size_arrives => "Transfer/exact",
        no_bytes_may_be_copied => "Transfer/nothing",
        ranges_beyond_the_allocation_are_refused => "Transfer/bounds",
        more_than_a_command_carries_is_refused => "Transfer/limit",
        a_refused_copy_changes_nothing => "Transfer/refused-keeps",
        inline_answers_end_with_zeros => "Completion/zeros-beyond",
        failed_commands_answer_nothing_else => "Completion/failed-empty",
    }
);

/// Goal: no bit of a payload is used by the ring for itself. Method: every bit alone, every bit missing, and thousands of
/// random payloads, with all other fields at their largest.
pub fn every_payload_bit_is_echoed(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let mut random = fastrand::Rng::with_seed(1);
    let single_bits = (0..448).map(|bit| std::array::from_fn(|word| u64::from(bit / 64 == word) << (bit % 64)));
    let payloads = single_bits
        .flat_map(|bits: [u64; 7]| [bits, bits.map(|word| !word)])
        .chain([[0; 7], [u64::MAX; 7], [1 << 63; 7], [u64::MAX >> 1; 7]])
        .chain((0..2000).map(|_| std::array::from_fn(|_| random.u64(..))));
    for (payload, grain) in payloads.zip([0, 1, GRAIN, u32::MAX].into_iter().cycle()) {
        let command = Command { kernel: u16::MAX, ..Command::new(Opcode::Echo, grain, payload) };
        let completion = bench.lane.run(&command);
        assert_eq!((completion.status, completion.payload), (Status::Ok, payload), "grain {grain}");
        assert_eq!(usize::from(completion.result_bytes), PAYLOAD_BYTES);
    }
}

/// Goal: no number is dropped or taken for another. Method: every byte that is no opcode, and a Skip, which only the ring
/// itself may write; an echo between them finds the lane going on.
pub fn what_is_no_operation_is_answered_so(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let unknown = (0..=u8::MAX).filter(|number| Opcode::from_number(*number).is_none());
    for opcode in unknown.chain([Opcode::Skip as u8]) {
        let status = bench.lane.status(&Command { opcode, ..echo(GRAIN, u64::MAX) });
        assert_eq!(status, Status::UnknownOpcode, "opcode {opcode}");
        bench.lane.probe(u64::from(opcode));
    }
}

/// Goal: no size and no alignment is special. Method: 0 to 257 bytes and some near the staging area's end at sixteen offsets,
/// each read back, with all that lies beside watched.
pub fn staged_copies_of_all_sizes_and_offsets(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let mut random = fastrand::Rng::with_seed(2);
    let (_buffer, slot) = bench.bound(0, 1024);
    let mut model = vec![0; 1024];
    let sizes = (0..=257).chain([1007, 1008, 1009]);
    for (size, offset) in sizes.flat_map(|size| (0..16).map(move |offset| (size, offset))) {
        if offset + size > model.len() {
            continue;
        }
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        assert_eq!(bench.lane.write(slot, offset as u64, &bytes), Status::Ok, "{size} at {offset}");
        model[offset..offset + size].copy_from_slice(&bytes);
        let mut read = vec![0; size];
        assert_eq!(bench.lane.read(slot, offset as u64, &mut read), Status::Ok, "{size} at {offset}");
        assert_eq!(read, bytes, "{size} at {offset}");
        assert!(bench.lane.read_all(slot, 1024) == model, "beside {size} at {offset}");
    }
}

/// Goal: as for staged copies. Method: all sizes that fit a payload at sixteen offsets; unused bytes of the command are noise.
pub fn inline_copies_of_all_sizes_and_offsets(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let mut random = fastrand::Rng::with_seed(3);
    let (_buffer, slot) = bench.bound(0, 128);
    let mut model = vec![0_u8; 128];
    for (size, offset) in (0..=PAYLOAD_BYTES).flat_map(|size| (0..16_usize).map(move |offset| (size, offset))) {
        if size <= Transfer::INLINE_WRITE_BYTES {
            let words: [u64; 4] = std::array::from_fn(|_| random.u64(..));
            let inline = Transfer { slot, offset_bytes: offset as u64, size_bytes: size as u32 }.to_payload(words);
            assert_eq!(bench.lane.status(&Command::new(Opcode::WriteInline, GRAIN, inline)), Status::Ok);
            model[offset..offset + size].copy_from_slice(&words.map(u64::to_le_bytes).as_flattened()[..size]);
            assert!(bench.lane.read_all(slot, 128) == model, "beside {size} at {offset}");
        }
        let completion = bench.lane.run(&transfer(Opcode::ReadInline, slot, offset as u64, size));
        assert_eq!(completion.status, Status::Ok, "{size} at {offset}");
        let bytes = completion.payload.map(u64::to_le_bytes);
        assert_eq!(bytes.as_flattened()[..size], model[offset..offset + size], "{size} at {offset}");
    }
}

/// Goal: a staging area is as large as it was asked for. Method: rings of several sizes; the whole area travels both ways,
/// from every slot.
pub fn a_full_staging_area_of_any_size_arrives(context: &Context) {
    let device = context.device();
    for staging_bytes in [64, 128, 4096, RingConfig::STAGING_BYTES_MAX] {
        let mut bench = Bench::new(device.clone(), RingConfig { slots: 4, staging_bytes, ..SMALL });
        let size = staging_bytes as usize;
        let (_buffer, slot) = bench.bound(0, u64::from(staging_bytes));
        for seed in 0..4 {
            let data = pattern(seed, size);
            assert_eq!(bench.lane.write(slot, 0, &data), Status::Ok, "{size}");
            let mut bytes = vec![0; size];
            assert_eq!(bench.lane.read(slot, 0, &mut bytes), Status::Ok, "{size}");
            assert!(bytes == data, "{size} bytes came back otherwise");
        }
    }
}

/// Goal: nothing is a size too. Method: all four copies of 0 bytes, from the start to the very end.
pub fn no_bytes_may_be_copied(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 100);
    bench.lane.write_all(slot, &pattern(1, 100));
    for opcode in COPIES {
        for offset in [0, 1, 50, 99, 100] {
            let completion = bench.lane.run(&transfer(opcode, slot, offset, 0));
            assert_eq!(
                completion,
                Completion { device_time_ns: completion.device_time_ns, ..Completion::of(Status::Ok) }
            );
        }
    }
    assert_eq!(bench.lane.read_all(slot, 100), pattern(1, 100));
}

/// Goal: bounds are looked at by the device. Method: ranges that end at the end, one byte beyond, and beyond all numbers, for
/// all four copies.
pub fn ranges_beyond_the_allocation_are_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 100);
    for opcode in COPIES {
        for (offset, size, status) in [
            (0, 8, Status::Ok),
            (92, 8, Status::Ok),
            (99, 1, Status::Ok),
            (93, 8, Status::OutOfBounds),
            (100, 1, Status::OutOfBounds),
            (101, 0, Status::OutOfBounds),
            (1 << 32, 1, Status::OutOfBounds),
            (u64::MAX, 0, Status::OutOfBounds),
            (u64::MAX, 1, Status::OutOfBounds),
            (u64::MAX - 7, 8, Status::OutOfBounds),
            (u64::MAX - 3, 8, Status::OutOfBounds),
        ] {
            let seen = bench.lane.status(&transfer(opcode, slot, offset, size));
            assert_eq!(seen, status, "{opcode:?} of {size} at {offset}");
        }
    }
}

/// Goal: a command cannot reach beyond what it carries. Method: one byte more than fits, and the largest size, within an
/// allocation that would hold the first.
pub fn more_than_a_command_carries_is_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 4096);
    let staging = SMALL.staging_bytes as usize;
    for (opcode, most) in [
        (Opcode::Write, staging),
        (Opcode::Read, staging),
        (Opcode::WriteInline, Transfer::INLINE_WRITE_BYTES),
        (Opcode::ReadInline, PAYLOAD_BYTES),
    ] {
        for (size, status) in
            [(most, Status::Ok), (most + 1, Status::InvalidArgument), (u32::MAX as usize, Status::InvalidArgument)]
        {
            assert_eq!(bench.lane.status(&transfer(opcode, slot, 0, size)), status, "{opcode:?} of {size}");
        }
    }
}

/// Goal: a refusal is no half of a copy. Method: writes that are refused for every reason there is; the block and the one
/// beside it keep their bytes.
pub fn a_refused_copy_changes_nothing(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (buffer, whole) = bench.bound(0, 4096);
    bench.lane.write_all(whole, &pattern(1, 4096));
    let slot = DeviceSlot { index: 1, generation: 5 };
    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address() + 64, 2000, 0), Status::Ok);
    let stale = DeviceSlot { generation: 4, ..slot };
    for (name, offset, size) in
        [(slot, 1999, 2), (slot, 1000, 1001), (slot, 0, 1025), (slot, u64::MAX, 2), (stale, 0, 8)]
    {
        let command = transfer(Opcode::Write, name, offset, size);
        let ticket = bench.lane.try_submit(&command, &[0xee; 1024]).expect("there is a slot");
        assert_ne!(bench.lane.wait(ticket).status, Status::Ok, "{size} at {offset}");
    }
    let inline = |name, offset_bytes, size_bytes| {
        let payload = Transfer { slot: name, offset_bytes, size_bytes }.to_payload([u64::MAX; 4]);
        Command::new(Opcode::WriteInline, GRAIN, payload)
    };
    for command in [inline(slot, 1999, 2), inline(slot, 0, 33), inline(stale, 0, 8)] {
        assert_ne!(bench.lane.status(&command), Status::Ok);
        assert_ne!(bench.lane.status(&Command { grain: GRAIN + 1, ..inline(slot, 0, 8) }), Status::Ok);
    }
    assert!(bench.lane.read_all(whole, 4096) == pattern(1, 4096), "a refused write left something behind");
}

/// Goal: an answer carries its result and nothing from before. Method: inline reads of every size, right after an echo that
/// filled the slot's answer; the rest is zeros. Operations without a result have none.
pub fn inline_answers_end_with_zeros(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 2, ..SMALL });
    let (buffer, slot) = bench.bound(0, 64);
    bench.lane.write_all(slot, &[0xff; 64]);
    let fill = |lane: &mut Driver| (0..2).for_each(|_| lane.probe(u64::MAX));
    for size in 0..=PAYLOAD_BYTES {
        fill(&mut bench.lane);
        let completion = bench.lane.run(&transfer(Opcode::ReadInline, slot, 0, size));
        assert_eq!((completion.status, usize::from(completion.result_bytes)), (Status::Ok, size));
        let bytes = completion.payload.map(u64::to_le_bytes);
        assert!(bytes.as_flattened()[size..].iter().all(|byte| *byte == 0), "{size}: {bytes:x?}");
    }
    let without = [
        bind(GRAIN, DeviceSlot { index: 1, generation: 1 }, buffer.address(), 64, 0),
        transfer(Opcode::Write, slot, 0, 8),
        transfer(Opcode::WriteInline, slot, 0, 8),
        transfer(Opcode::Read, slot, 0, 8),
    ];
    for command in without {
        fill(&mut bench.lane);
        let completion = bench.lane.run(&command);
        assert_eq!((completion.status, completion.result_bytes, completion.payload), (Status::Ok, 0, [0; 7]));
    }
}

/// Goal: an error tells nothing but itself. Method: a failure of every opcode right after an echo that filled the slot's
/// answer.
pub fn failed_commands_answer_nothing_else(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 2, ..SMALL });
    let (_buffer, slot) = bench.bound(0, 64);
    bench.lane.write_all(slot, &[0xff; 64]);
    let copies = COPIES.map(|opcode| transfer(opcode, slot, 60, 8));
    let no_opcode = Command { opcode: u8::MAX, ..echo(GRAIN, u64::MAX) };
    let no_address = bind(GRAIN, slot, 1, 64, 0);
    for command in copies.into_iter().chain([no_opcode, no_address]) {
        (0..2).for_each(|_| bench.lane.probe(u64::MAX));
        let Completion { status, result_bytes, payload, .. } = bench.lane.run(&command);
        assert_ne!(status, Status::Ok, "{command:?}");
        assert_eq!((result_bytes, payload), (0, [0; 7]), "{command:?}");
    }
}
