//! Writes and reads of every size: each small one at each alignment, those around powers of two, one of 64 MiB.

use fastrand::Rng;
use gpubridge_abstractions::{AllocationId, ReadMessage, StagedRange, WriteMessage};
use gpubridge_runtime::{ResidentMemoryConfig, SessionId};

use crate::rig::{KIB, MIB, Rig, narrow, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("transfers",
    Memory {
        every_small_write_at_every_alignment_arrives => "ResidentMemory::write/any-range",
        every_small_read_at_every_alignment_arrives => "ResidentMemory::read/any-range",
        writes_around_powers_of_two_arrive => "ResidentMemory::write/any-range",
        reads_around_powers_of_two_arrive => "ResidentMemory::read/any-range",
        sixty_four_mib_arrive_whole => "ResidentMemory::write/any-range",
    }
);

/// The small sizes: past every inline limit, and past the staging of the ring that they are sent through.
const SIZES: usize = 258;
/// Offsets modulo this many bytes.
const ALIGNMENTS: usize = 16;
/// Where the place of each size begins, from that of the one before.
const STRIDE: usize = 19 * ALIGNMENTS;
/// Bytes of the places of all sizes.
const TOTAL: usize = SIZES * STRIDE;
/// Transfers under way at once.
const DEPTH: usize = 4;

/// The ranges of one alignment: each size in a place of its own, with bytes before and behind.
fn ranges(alignment: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..SIZES).map(move |size| (size * STRIDE + alignment, size))
}

/// Where in the host's staging the bytes of such a transfer lie: at each alignment in its turn.
fn staged_at(offset: usize, size: usize) -> StagedRange {
    StagedRange { offset_bytes: ((offset + size * 5) % ALIGNMENTS) as u64, size_bytes: size as u64 }
}

/// Goal: no size and no alignment is special to a write, and none touches a byte beside its range. Method: every size
/// from 0 to 257 at each of 16 alignments of the device's offset, from each of the host's; all bytes are compared for
/// each alignment, several writes under way at once.
pub fn every_small_write_at_every_alignment_arrives(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, TOTAL as u64);
    for alignment in 0..ALIGNMENTS {
        let mut model = vec![0xff; TOTAL];
        rig.write(session, id, &model);
        let source = pattern(alignment as u64, TOTAL + ALIGNMENTS);
        let all: Vec<_> = ranges(alignment).collect();
        for some in all.chunks(DEPTH) {
            let calls: Vec<_> = some
                .iter()
                .map(|(offset, size)| {
                    let staged = staged_at(*offset, *size);
                    let message = WriteMessage::new(rig.memory.envelope(), id, *offset as u64, staged);
                    let from = staged.offset_bytes as usize;
                    model[*offset..offset + size].copy_from_slice(&source[from..from + size]);
                    rig.memory.write(session, &message, &source).post().expect("is submitted")
                })
                .collect();
            for ((offset, size), call) in some.iter().zip(calls) {
                let written = call.wait().expect("is written").bytes_written;
                assert_eq!(written, *size as u64, "at {offset}");
            }
        }
        let read = rig.read(session, id, TOTAL);
        if let Some(at) = (0..TOTAL).find(|at| read[*at] != model[*at]) {
            let (size, place) = (at / STRIDE, at % STRIDE);
            panic!(
                "a write of {size} at alignment {alignment}: byte {place} of its place is {}, not {}",
                read[at], model[at]
            );
        }
    }
}

/// Goal: no size and no alignment is special to a read, and none touches a byte of the staging beside its range.
/// Method: as for writes.
pub fn every_small_read_at_every_alignment_arrives(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, TOTAL as u64);
    let held = pattern(3, TOTAL);
    rig.write(session, id, &held);
    for alignment in 0..ALIGNMENTS {
        let all: Vec<_> = ranges(alignment).collect();
        for some in all.chunks(DEPTH) {
            let mut targets = [[0xee; SIZES + 2 * ALIGNMENTS]; DEPTH];
            let calls: Vec<_> = some
                .iter()
                .zip(&mut targets)
                .map(|((offset, size), target)| {
                    let staged = staged_at(*offset, *size);
                    let message = ReadMessage::new(rig.memory.envelope(), id, *offset as u64, staged);
                    rig.memory.read(session, &message, target).post().expect("is submitted")
                })
                .collect();
            for call in calls {
                call.wait().expect("is read");
            }
            for ((offset, size), target) in some.iter().zip(targets) {
                let from = staged_at(*offset, *size).offset_bytes as usize;
                let mut want = [0xee; SIZES + 2 * ALIGNMENTS];
                want[from..from + size].copy_from_slice(&held[*offset..offset + size]);
                let differs = (0..want.len()).find(|at| target[*at] != want[*at]);
                assert_eq!(
                    differs, None,
                    "the first byte that differs; a read of {size} at alignment {alignment} to {from}"
                );
            }
        }
    }
}

/// A ring whose staging is smaller than most of these transfers, so that they go in pieces.
fn large() -> ResidentMemoryConfig {
    let mut config = ResidentMemoryConfig { memory_budget_bytes: 256 * MIB, ..narrow(16) };
    config.ring.staging_bytes = 64 << 10;
    config
}

/// Around each power of two from 512 bytes to 1 MiB.
fn around_powers() -> impl Iterator<Item = usize> {
    (9..=20).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1])
}

fn random(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

/// What lies from `from` to `from + size` and eight bytes to either side.
fn with_edges(rig: &Rig, session: SessionId, id: AllocationId, from: usize, size: usize) -> Vec<u8> {
    rig.try_read(session, id, from as u64 - 8, size + 16).expect("is read")
}

/// Goal: sizes around powers of two are not special to a write. Method: one less, the power, one more, to 1 MiB, at an
/// offset that is aligned and at one that is not; the bytes beside stay.
pub fn writes_around_powers_of_two_arrive(context: &Context) {
    let rig = Rig::new(context.device(), large());
    let session = rig.session(0);
    let id = rig.allocate(session, MIB + KIB);
    let source = random(&mut Rng::with_seed(1), (MIB + KIB) as usize);
    for size in around_powers() {
        for offset in [64, 77] {
            let mut want = vec![0xc3; size + 16];
            rig.try_write(session, id, offset as u64 - 8, &want).expect("is written");
            rig.try_write(session, id, offset as u64, &source[..size]).expect("is written");
            want[8..8 + size].copy_from_slice(&source[..size]);
            assert!(with_edges(&rig, session, id, offset, size) == want, "{size} bytes at {offset} differ");
        }
    }
}

/// Goal: sizes around powers of two are not special to a read. Method: as for writes; the staging beside stays.
pub fn reads_around_powers_of_two_arrive(context: &Context) {
    let rig = Rig::new(context.device(), large());
    let session = rig.session(0);
    let id = rig.allocate(session, MIB + KIB);
    let held = random(&mut Rng::with_seed(2), (MIB + KIB) as usize);
    rig.write(session, id, &held);
    for size in around_powers() {
        for offset in [64, 77] {
            let mut target = vec![0xee; size + 16];
            let mut want = target.clone();
            want[8..8 + size].copy_from_slice(&held[offset..offset + size]);
            let staged = StagedRange { offset_bytes: 8, size_bytes: size as u64 };
            let message = ReadMessage::new(rig.memory.envelope(), id, offset as u64, staged);
            rig.memory.read(session, &message, &mut target).wait().expect("is read");
            assert!(target == want, "{size} bytes at {offset} differ");
        }
    }
}

/// Goal: 64 MiB arrive, each byte in its place. Method: random bytes at an odd offset, a few more than 64 MiB; all of
/// them are read back, and the bytes beside.
pub fn sixty_four_mib_arrive_whole(context: &Context) {
    const SIZE: usize = (64 << 20) + 5;
    let rig = Rig::new(context.device(), large());
    let session = rig.session(0);
    let id = rig.allocate(session, SIZE as u64 + 24);
    let source = random(&mut Rng::with_seed(3), SIZE);
    rig.try_write(session, id, 11, &source).expect("is written");
    let read = with_edges(&rig, session, id, 11, SIZE);
    assert!(
        read[8..8 + SIZE] == source,
        "the bytes differ from {:?} on",
        (0..SIZE).find(|at| read[8 + at] != source[*at])
    );
    assert!(read[..8] == [0; 8] && read[8 + SIZE..] == [0; 8], "bytes beside were touched");
}
