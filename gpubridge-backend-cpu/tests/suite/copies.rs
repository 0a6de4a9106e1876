//! Echo, Bind and the four copies: what comes back is what was sent.

use std::collections::VecDeque;

use gpubridge_abstractions::{Command, DeviceSlot, Opcode, PAYLOAD_BYTES, RingConfig, Status, Transfer};
use gpubridge_kernels::KernelLibrary;

use crate::bench::{Bench, GRAIN, SMALL, bind, transfer};

fn bench() -> Bench {
    Bench::new(KernelLibrary::empty(), SMALL)
}

#[test]
fn every_payload_bit_crosses_in_every_lap() {
    let mut bench = bench();
    let mut random = fastrand::Rng::with_seed(1);
    let single_bits = (0..448).map(|bit| std::array::from_fn(|word| u64::from(bit / 64 == word) << (bit % 64)));
    let patterns: Vec<[u64; 7]> = single_bits
        .flat_map(|bits: [u64; 7]| [bits, bits.map(|word| !word)])
        .chain([[0; 7], [u64::MAX; 7], [1 << 63; 7], [u64::MAX >> 1; 7]])
        .chain((0..5000).map(|_| std::array::from_fn(|_| random.u64(..))))
        .collect();
    // As many in flight as there are slots, so that every slot carries every kind of pattern in odd and even laps.
    let mut waiting = VecDeque::new();
    for payload in patterns {
        if waiting.len() == SMALL.slots as usize {
            let (sent, ticket) = waiting.pop_front().unwrap();
            assert_eq!(bench.lane.wait(ticket).payload, sent);
        }
        let command = Command { kernel: u16::MAX, ..Command::new(Opcode::Echo, u32::MAX, payload) };
        waiting.push_back((payload, bench.lane.submit(&command)));
    }
    for (sent, ticket) in waiting {
        let completion = bench.lane.wait(ticket);
        assert_eq!((completion.status, completion.payload), (Status::Ok, sent));
        assert_eq!(usize::from(completion.result_bytes), PAYLOAD_BYTES);
    }
}

#[test]
fn binding_zeroes_exactly_what_is_asked() {
    let mut bench = bench();
    // The last size is zeroed beside the ring.
    for (index, size) in [64, 1000, 4096, 64 << 10, 300_001].into_iter().enumerate() {
        let (buffer, slot) = bench.bound(index as u32, size as u64);
        assert_eq!(bench.lane.read_all(slot, size, 1024), vec![0; size]);
        bench.lane.write_all(slot, &vec![0xff; size], 1024);
        for zero in [0, 1, size / 2, size] {
            let again = DeviceSlot { generation: slot.generation + 1 + zero as u32, ..slot };
            // The reads are under way while the zeroing may be.
            let bound = bench.lane.submit(&bind(GRAIN, again, buffer.address(), size as u64, zero as u64));
            let read = bench.lane.read_all(again, size, 1024);
            assert_eq!(bench.lane.wait(bound).status, Status::Ok);
            let zeroed = read.iter().take_while(|byte| **byte == 0).count();
            assert_eq!(zeroed, zero, "of {size}");
            assert!(read[zero..].iter().all(|byte| *byte == 0xff), "{zero} of {size}");
        }
    }
}

#[test]
fn a_block_may_be_zeroed_beyond_what_its_slot_reaches() {
    let mut bench = bench();
    let (buffer, whole) = bench.bound(0, 256);
    bench.lane.write_all(whole, &[0xff; 256], 256);
    let part = DeviceSlot { index: 1, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, part, buffer.address() + 64, 10, 64), Status::Ok);
    assert_eq!(bench.lane.status(&transfer(Opcode::ReadInline, part, 0, 11)), Status::OutOfBounds);
    let read = bench.lane.read_all(whole, 256, 256);
    let expected: Vec<u8> = (0..256).map(|i| if (64..128).contains(&i) { 0 } else { 0xff }).collect();
    assert_eq!(read, expected);
}

#[test]
fn staged_copies_of_all_sizes_and_alignments() {
    let mut bench = bench();
    let mut random = fastrand::Rng::with_seed(2);
    let (_buffer, slot) = bench.bound(0, 1024);
    let mut model = vec![0; 1024];
    let sizes = (0..=257).chain([1023 - 15, 1024 - 15]);
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
        if size.is_multiple_of(16) {
            assert_eq!(bench.lane.read_all(slot, 1024, 1024), model, "around {size} at {offset}");
        }
    }
    // A full staging area, and one byte more.
    let full: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1024).collect();
    bench.lane.write_all(slot, &full, 1024);
    assert_eq!(bench.lane.read_all(slot, 1024, 1024), full);
    assert_eq!(bench.lane.status(&transfer(Opcode::Read, slot, 0, 1025)), Status::InvalidArgument);
}

#[test]
fn inline_copies_of_all_sizes_and_alignments() {
    let mut bench = bench();
    let mut random = fastrand::Rng::with_seed(3);
    let (_buffer, slot) = bench.bound(0, 128);
    let mut model = vec![0_u8; 128];
    for (size, offset) in (0..=PAYLOAD_BYTES).flat_map(|size| (0..16_usize).map(move |offset| (size, offset))) {
        if size <= Transfer::INLINE_WRITE_BYTES {
            let words: [u64; 4] = std::array::from_fn(|_| random.u64(..));
            let inline = Transfer { slot, offset_bytes: offset as u64, size_bytes: size as u32 }.to_payload(words);
            assert_eq!(bench.lane.status(&Command::new(Opcode::WriteInline, GRAIN, inline)), Status::Ok);
            let bytes = words.map(u64::to_le_bytes);
            model[offset..offset + size].copy_from_slice(&bytes.as_flattened()[..size]);
        }
        let completion = bench.lane.run(&transfer(Opcode::ReadInline, slot, offset as u64, size));
        assert_eq!((completion.status, usize::from(completion.result_bytes)), (Status::Ok, size));
        let mut expected = [0; PAYLOAD_BYTES];
        expected[..size].copy_from_slice(&model[offset..offset + size]);
        assert_eq!(completion.payload.map(u64::to_le_bytes).as_flattened(), expected, "{size} at {offset}");
    }
    assert_eq!(bench.lane.read_all(slot, 128, 128), model);
}

#[test]
fn a_pipeline_of_writes_and_reads_keeps_its_order() {
    let config = RingConfig { slots: 64, ..SMALL };
    let mut bench = Bench::new(KernelLibrary::empty(), config);
    let (_buffer, slot) = bench.bound(0, 64);
    let mut waiting = VecDeque::new();
    for number in 0..50_000_u64 {
        let inline = Transfer { slot, offset_bytes: 8, size_bytes: 8 }.to_payload([number, 0, 0, 0]);
        let written = bench.lane.submit(&Command::new(Opcode::WriteInline, GRAIN, inline));
        let read = bench.lane.submit(&transfer(Opcode::ReadInline, slot, 8, 8));
        waiting.push_back((number, written, read));
        if waiting.len() == 32 {
            let (number, written, read) = waiting.pop_front().unwrap();
            assert_eq!(bench.lane.wait(written).status, Status::Ok);
            assert_eq!(bench.lane.wait(read).payload[0], number);
        }
    }
}
