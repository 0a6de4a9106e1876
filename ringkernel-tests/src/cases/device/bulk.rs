//! Bulk staging: chunks and who has them, and copies between a chunk and a block.

use std::sync::Arc;

use gpubridge_abstractions::{
    BulkStaging, Chunk, Command, DeviceSlot, KernelSpec, MemoryType, Opcode, Ring, RingConfig, Scalars, Status, Taken,
    Ticket, Transfer,
};
use gpubridge_kernels::id::ADD;

use crate::lane::{Bench, Driver, GRAIN, SMALL, bind, compute, transfer, write_word};
use crate::rig::{SOON, eventually, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("bulk",
    Memory {
        who_claims_bulk_staging_has_it => "Capabilities/bulk-staging",
        a_ring_without_chunks_knows_no_bulk_copies => "Opcode/no-bulk",
    }
    Bulk {
        each_chunk_has_one_holder => "BulkStaging/once",
        a_dropped_chunk_stays_the_devices => "BulkStaging/device-keeps",
        all_chunks_come_back => "BulkStaging/comes-back",
        bulk_copies_of_all_sizes_and_offsets => "Transfer/exact",
        bulk_copies_beyond_an_end_or_a_chunk_are_refused => "Transfer/bounds",
        bulk_copies_need_a_chunk_of_their_own => "Transfer/chunk",
        strangers_copy_nothing_in_bulk => "DeviceSlot/owner",
        bulk_copies_keep_their_grains_order => "Submitter::try_submit/in-order",
    }
    BulkCompute {
        kernels_see_what_bulk_copies_wrote => "Submitter::try_submit/in-order",
    }
);

/// A bulk copy for [`GRAIN`].
fn bulk(opcode: Opcode, slot: DeviceSlot, offset_bytes: u64, size_bytes: usize, chunk: u32) -> Command {
    let command = transfer(opcode, slot, offset_bytes, size_bytes);
    let words = [u64::from(chunk), 0, 0, 0];
    Command { payload: Transfer::from_payload(&command.payload).to_payload(words), ..command }
}

fn chunks_of(ring: &dyn Ring) -> Arc<dyn BulkStaging> {
    ring.bulk_staging().expect("the device claims bulk staging")
}

fn take(staging: &Arc<dyn BulkStaging>) -> Chunk {
    Arc::clone(staging).take().expect("a chunk is free")
}

/// All that can be had now.
fn take_all(staging: &Arc<dyn BulkStaging>) -> Vec<Chunk> {
    std::iter::from_fn(|| Arc::clone(staging).take()).collect()
}

/// Writes by this chunk.
fn write(lane: &mut Driver, slot: DeviceSlot, offset: u64, bytes: &[u8], chunk: &mut Chunk) -> Status {
    chunk.write(bytes);
    lane.status(&bulk(Opcode::WriteBulk, slot, offset, bytes.len(), chunk.number()))
}

/// Reads by this chunk.
fn read(lane: &mut Driver, slot: DeviceSlot, offset: u64, size: usize, chunk: &mut Chunk) -> Vec<u8> {
    let mut bytes = vec![0xee; size];
    // What the last holder left is not taken for what was read.
    chunk.write(&bytes);
    assert_eq!(lane.status(&bulk(Opcode::ReadBulk, slot, offset, size, chunk.number())), Status::Ok);
    chunk.read(&mut bytes);
    bytes
}

/// Goal: the capability is the ring's. Method: a ring, with chunks if the device claims them, and only then.
pub fn who_claims_bulk_staging_has_it(context: &Context) {
    let device = context.device();
    let claims = device.info().capabilities.bulk_staging;
    let ring = device.launch(SMALL).expect("the configuration is good");
    let Some(staging) = ring.bulk_staging() else { return assert!(!claims, "the ring has no bulk staging") };
    assert!(claims, "a ring has bulk staging that its device does not claim");
    assert!(staging.chunks() >= 2 && staging.chunk_bytes() > 0, "{staging:?}");
}

/// Goal: what a device does not have it says so of. Method: both copies on a ring without chunks; with them, naming none.
pub fn a_ring_without_chunks_knows_no_bulk_copies(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 64);
    let has_chunks = bench.ring.bulk_staging().is_some();
    let expected = if has_chunks { Status::InvalidArgument } else { Status::UnknownOpcode };
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        assert_eq!(bench.lane.status(&bulk(opcode, slot, 0, 8, 0)), expected, "{opcode:?}");
        bench.lane.probe(1);
    }
}

/// Goal: no chunk is handed out twice, none is lost. Method: all are taken, twice, and one is given back in between.
pub fn each_chunk_has_one_holder(context: &Context) {
    let bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    for _ in 0..2 {
        let mut chunks = take_all(&staging);
        let mut numbers: Vec<u32> = chunks.iter().map(Chunk::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..staging.chunks()).collect::<Vec<_>>());
        for (seed, chunk) in (0..).zip(&mut chunks) {
            chunk.write(&pattern(seed, staging.chunk_bytes()));
        }
        for (seed, chunk) in (0..).zip(&mut chunks) {
            let (expected, mut bytes) = (pattern(seed, staging.chunk_bytes()), vec![0; staging.chunk_bytes()]);
            chunk.read(&mut bytes);
            assert!(bytes == expected, "chunk {seed} shares its memory");
            chunk.fill(|lent| assert!(lent == expected, "in place chunk {seed} is another"));
        }
        let given_back = chunks.pop().expect("there are some").number();
        assert_eq!(Arc::clone(&staging).take().map(|chunk| chunk.number()), Some(given_back));
    }
}

/// Goal: the device's staging is not handed out. Method: chunks are dropped as soon as a copy names them; one that comes again
/// comes behind the answer, and what the copy wrote is what was in it.
pub fn a_dropped_chunk_stays_the_devices(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    let size = staging.chunk_bytes();
    let (_buffer, slot) = bench.bound(0, size as u64);
    let others: Vec<Chunk> = (1..staging.chunks()).map(|_| take(&staging)).collect();
    for round in 0..20 {
        let mut chunk = take(&staging);
        let number = chunk.number();
        chunk.write(&vec![round; size]);
        let ticket = bench.lane.submit(&bulk(Opcode::WriteBulk, slot, 0, size, number));
        drop(chunk);
        let mut again = None;
        eventually("the chunk comes back", || {
            again = Arc::clone(&staging).take();
            again.is_some()
        });
        assert!(bench.lane.is_complete(&ticket), "the chunk was handed out while its command was not answered");
        let mut again = again.expect("it came back");
        assert_eq!(again.number(), number, "{} others are held", others.len());
        again.write(&vec![0xee; size]);
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
        assert!(read(&mut bench.lane, slot, 0, size, &mut again) == vec![round; size], "round {round}");
    }
}

/// Goal: no chunk is lost with its ring. Method: copies by every chunk, answered or cancelled by a termination under way;
/// afterwards every chunk can be had.
pub fn all_chunks_come_back(context: &Context) {
    let device = context.device();
    for held in [false, true] {
        let mut bench = Bench::new(Arc::clone(&device), SMALL);
        let staging = chunks_of(&*bench.ring);
        let size = staging.chunk_bytes();
        let (_buffer, slot) = bench.bound(0, size as u64);
        let chunks = take_all(&staging);
        let copy = |chunk: &Chunk| bulk(Opcode::WriteBulk, slot, 0, size, chunk.number());
        let tickets: Vec<Ticket> = chunks.iter().map(|chunk| bench.lane.submit(&copy(chunk))).collect();
        if !held {
            drop(chunks);
        }
        bench.ring.terminate(SOON).expect("it ends");
        for mut ticket in tickets {
            let Taken::Ready(answer) = bench.lane.look(&mut ticket) else { panic!("every command is answered") };
            assert!(matches!(answer.status, Status::Ok | Status::Cancelled), "{answer:?}");
        }
        assert_eq!(take_all(&staging).len(), if held { 0 } else { staging.chunks() as usize });
    }
}

/// Goal: no size and no alignment is special, up to a whole chunk. Method: drawn sizes and offsets, each read back by bulk and
/// by slots, with all that lies beside watched.
pub fn bulk_copies_of_all_sizes_and_offsets(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    let most = staging.chunk_bytes();
    let mut random = fastrand::Rng::with_seed(4);
    let (_buffer, slot) = bench.bound(0, most as u64 + 64);
    let mut model = vec![0; most + 64];
    let mut chunks = take_all(&staging);
    let sizes = [0, 1, 3, 7, 8, 9, 63, 64, 65, 255, 1023, 4095, 4096, 4097, 65_535, 65_537];
    for (round, size) in sizes.into_iter().chain([most - 1, most]).enumerate() {
        let chunk = &mut chunks[round % 2];
        let offset = random.usize(..=model.len() - size);
        let bytes = pattern(round as u64, size);
        assert_eq!(write(&mut bench.lane, slot, offset as u64, &bytes, chunk), Status::Ok, "{size} at {offset}");
        model[offset..offset + size].copy_from_slice(&bytes);
        assert!(read(&mut bench.lane, slot, offset as u64, size, chunk) == bytes, "{size} at {offset}");
        // By slots: what lies at the ends, and beside them.
        for end in [offset, offset + size] {
            let (first, last) = (end.saturating_sub(100), (end + 100).min(model.len()));
            let mut near = vec![0; last - first];
            assert_eq!(bench.lane.read(slot, first as u64, &mut near), Status::Ok);
            assert!(near == model[first..last], "beside {size} at {offset}");
        }
    }
    let (first, rest) = (read(&mut bench.lane, slot, 0, most, &mut chunks[0]), bench.lane.read_all(slot, 1000));
    assert!(first == model[..most] && rest == model[..1000]);
}

/// Goal: bounds are looked at by the device. Method: ranges that end at the end, one byte beyond, and beyond all numbers, in a
/// block larger than a chunk; what is refused changes nothing, and leaves the chunk its holder's.
pub fn bulk_copies_beyond_an_end_or_a_chunk_are_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    let chunk_bytes = staging.chunk_bytes();
    let end = chunk_bytes as u64 + 4096;
    let (_buffer, slot) = bench.bound(0, end);
    let mut chunk = take(&staging);
    chunk.write(&vec![0xee; chunk_bytes]);
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        for (offset, size, status) in [
            (end - 8, 9, Status::OutOfBounds),
            (end, 1, Status::OutOfBounds),
            (end + 1, 0, Status::OutOfBounds),
            (u64::MAX, 1, Status::OutOfBounds),
            (u64::MAX - 7, 8, Status::OutOfBounds),
            (0, chunk_bytes + 1, Status::InvalidArgument),
            (0, u32::MAX as usize, Status::InvalidArgument),
            (end, 0, Status::Ok),
        ] {
            let seen = bench.lane.status(&bulk(opcode, slot, offset, size, chunk.number()));
            assert_eq!(seen, status, "{opcode:?} of {size} at {offset}");
        }
    }
    assert!(read(&mut bench.lane, slot, 4096, chunk_bytes, &mut chunk) == vec![0; chunk_bytes]);
}

/// Goal: a chunk cannot be forged. Method: numbers of no chunk, of one that nobody holds, and of one that another command has.
pub fn bulk_copies_need_a_chunk_of_their_own(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    let size = staging.chunk_bytes();
    let (_buffer, slot) = bench.bound(0, size as u64);
    let (chunk, given_back) = (take(&staging), take(&staging).number());
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        for number in [given_back, staging.chunks(), u32::MAX] {
            let status = bench.lane.status(&bulk(opcode, slot, 0, 8, number));
            assert_eq!(status, Status::InvalidArgument, "{opcode:?} by chunk {number}");
        }
    }
    let copy = bulk(Opcode::WriteBulk, slot, 0, size, chunk.number());
    for _ in 0..20 {
        let first = bench.lane.submit(&copy);
        let second = bench.lane.submit(&copy);
        // Either the first was answered before the second was submitted, or the second is refused.
        assert_eq!(bench.lane.wait(first).status, Status::Ok);
        assert!(matches!(bench.lane.wait(second).status, Status::Ok | Status::InvalidArgument));
    }
}

/// Goal: bulk copies reach what their grain owns, under its live name. Method: another grain, a stale name, and none.
pub fn strangers_copy_nothing_in_bulk(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let staging = chunks_of(&*bench.ring);
    let (_buffer, slot) = bench.bound(0, 4096);
    let mut chunk = take(&staging);
    chunk.write(&[0xee; 4096]);
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        let command = bulk(opcode, slot, 0, 4096, chunk.number());
        assert_eq!(bench.lane.status(&Command { grain: GRAIN + 1, ..command }), Status::NotOwner);
        let stale = DeviceSlot { generation: 2, ..slot };
        let status = bench.lane.status(&bulk(opcode, stale, 0, 4096, chunk.number()));
        assert_eq!(status, Status::UnknownAllocation);
    }
    assert_eq!(bench.lane.read_all(slot, 4096), vec![0; 4096]);
}

/// Goal: a bulk copy is a command of its grain like any other. Method: many grains in one lane, each with copies of both kinds
/// and small writes and reads between them, submitted without waiting; each read finds what was written before it.
pub fn bulk_copies_keep_their_grains_order(context: &Context) {
    const SIZE: usize = 100_001;
    const GRAINS: u32 = 6;
    let device = context.device();
    let mut bench = Bench::new(Arc::clone(&device), RingConfig { slots: 64, ..SMALL });
    let staging = chunks_of(&*bench.ring);
    let apart = SIZE.next_multiple_of(256) as u64;
    let buffer = device.reserve(apart * u64::from(GRAINS), MemoryType::Default).expect("there is memory");
    for grain in 0..GRAINS {
        let slot = DeviceSlot { index: grain, generation: 1 };
        let address = buffer.address() + apart * u64::from(grain);
        assert_eq!(bench.lane.status(&bind(grain, slot, address, SIZE as u64, 0)), Status::Ok);
    }
    let mut random = fastrand::Rng::with_seed(9);
    for round in 0..60_u64 {
        let grain = random.u32(..GRAINS);
        let (mut written, result) = (take(&staging), take(&staging));
        let slot = DeviceSlot { index: grain, generation: 1 };
        let offset = random.u64(..64);
        let size = SIZE - offset as usize;
        written.write(&pattern(round, size));
        let word = random.u64(..);
        let commands = [
            bulk(Opcode::WriteBulk, slot, offset, size, written.number()),
            write_word(slot, offset + 9, word),
            bulk(Opcode::ReadBulk, slot, offset, size, result.number()),
            write_word(slot, offset + 9, 0),
            transfer(Opcode::ReadInline, slot, offset + 8, 10),
        ];
        let tickets = commands.map(|command| bench.lane.submit(&Command { grain, ..command }));
        let [.., last] = tickets.map(|ticket| {
            let answer = bench.lane.wait(ticket);
            assert_eq!(answer.status, Status::Ok, "round {round}");
            answer
        });
        let mut expected = pattern(round, size);
        let beside = [expected[8], 0, 0, 0, 0, 0, 0, 0, 0, expected[17]];
        expected[9..17].copy_from_slice(&word.to_le_bytes());
        let mut bytes = vec![0; size];
        result.read(&mut bytes);
        assert!(bytes == expected, "round {round}: a bulk read saw another order");
        assert_eq!(last.payload.map(u64::to_le_bytes).as_flattened()[..10], beside, "round {round}");
    }
}

/// Goal: kernels and bulk copies of a grain see each other's bytes. Method: inputs by bulk, a sum in the ring or beside it right
/// behind them, the result by bulk.
pub fn kernels_see_what_bulk_copies_wrote(context: &Context) {
    let mut bench = Bench::with_kernels(context.device(), SMALL, &[KernelSpec::new(ADD)]);
    let staging = chunks_of(&*bench.ring);
    for count in [100_u32, 50_000, 200_000] {
        let size = count as usize * 4;
        let names = [0, 1, 2].map(|index| DeviceSlot { index, generation: count });
        let buffers = names.map(|slot| {
            let buffer = bench.device.reserve(size as u64, MemoryType::Default).expect("there is memory");
            assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), size as u64, 0), Status::Ok);
            buffer
        });
        for round in 0..5_u32 {
            let value = |i: u32, which: u32| ((i * 3 + which * 7 + round) % 1000) as f32;
            let (mut first, mut second) = (take(&staging), take(&staging));
            for (chunk, which) in [(&mut first, 0), (&mut second, 1)] {
                let bytes: Vec<u8> = (0..count).flat_map(|i| value(i, which).to_le_bytes()).collect();
                chunk.write(&bytes);
            }
            let commands = [
                bulk(Opcode::WriteBulk, names[0], 0, size, first.number()),
                bulk(Opcode::WriteBulk, names[1], 0, size, second.number()),
                compute(0, names, count, Scalars::default()),
            ];
            for ticket in commands.map(|command| bench.lane.submit(&command)) {
                assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
            }
            let bytes = read(&mut bench.lane, names[2], 0, size, &mut first);
            let sums = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            assert!(sums.zip(0..).all(|(sum, i)| sum == value(i, 0) + value(i, 1)), "{count} elements, round {round}");
        }
        drop(buffers);
    }
}
