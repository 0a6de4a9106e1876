//! Staged bytes, both ways.

use super::*;

/// The largest staging area of these tests: not a power of two, so that sizes end inside, at and past a word.
const AREA_BYTES: usize = 264;

fn pattern(seed: usize, size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|i| (i * 31 + seed * 7 + 1) as u8).collect()
}

/// Bytes of every size from 0 to 257, and a full area, reach the device through every slot, whatever lay there before;
/// the device answers with other bytes of every size, and a buffer gets as many as it holds and no more.
#[test]
fn staged_bytes_survive_both_ways() {
    let mut rig = Rig::new(4, AREA_BYTES as u32);
    for size_bytes in (0..=257).chain([AREA_BYTES]) {
        for slot in 0..4 {
            let sent = pattern(size_bytes + slot, size_bytes);
            let mut ticket = rig.submitter.try_submit(&numbered(1), &sent).unwrap();
            let reply = rig.poll(1);
            let area = rig.device.staging(&reply);
            let mut arrived: Vec<u8> = area.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
            arrived.truncate(size_bytes);
            assert_eq!(arrived, sent);
            let answered = pattern(size_bytes + slot + 100, AREA_BYTES);
            for (word, bytes) in area.iter().zip(answered.as_chunks().0) {
                word.store(u64::from_le_bytes(*bytes), Relaxed);
            }
            rig.device.complete(reply, &answer(1));
            let mut taken = vec![0xee; size_bytes];
            assert_eq!(rig.completions.take(&mut ticket, &mut taken), Taken::Ready(answer(1)));
            assert_eq!(taken, answered[..size_bytes]);
        }
    }
}

/// The last partial word of a staged write is filled with zeros, and no word after it is touched.
#[test]
fn staging_writes_no_more_than_its_words() {
    let mut rig = Rig::new(2, 24);
    let full = rig.submitter.try_submit(&numbered(0), &[0xff; 24]).unwrap();
    let mut ticket = full;
    let reply = rig.poll(0);
    rig.device.complete(reply, &answer(0));
    rig.take(&mut ticket, 0);
    let mut other = rig.answered(1);
    rig.take(&mut other, 1);
    let _ticket = rig.submitter.try_submit(&numbered(2), &[1, 2, 3]).unwrap();
    let reply = rig.poll(2);
    let words: Vec<u64> = rig.device.staging(&reply).iter().map(|word| word.load(Relaxed)).collect();
    assert_eq!(words, [0x030201, u64::MAX, u64::MAX]);
}

/// A buffer larger than the staging area gets the area's bytes and keeps its own after them.
#[test]
fn large_buffers_keep_their_rest() {
    for spare_bytes in [1, 7, 8, 9, 64] {
        let mut rig = Rig::new(2, 16);
        let mut ticket = rig.submitter.try_submit(&numbered(0), &[5; 16]).unwrap();
        let reply = rig.poll(0);
        rig.device.complete(reply, &answer(0));
        let mut taken = vec![0xee; 16 + spare_bytes];
        assert_eq!(rig.completions.take(&mut ticket, &mut taken), Taken::Ready(answer(0)));
        assert_eq!(taken[..16], [5; 16]);
        assert!(taken[16..].iter().all(|&byte| byte == 0xee));
    }
}

/// More staged bytes than an area holds are refused, and nothing changes.
#[test]
fn too_many_bytes_are_refused() {
    for staging_bytes in [0, 8, 64] {
        let mut rig = Rig::new(2, staging_bytes);
        let staged = vec![1; staging_bytes as usize + 1];
        assert_eq!(rig.submitter.try_submit(&numbered(0), &staged), Err(SubmitError::TooLarge));
        assert!(rig.memory.words().iter().all(|word| word.load(Relaxed) == 0));
        assert_eq!((rig.submitter.next_sequence(), rig.submitter.pending()), (0, 0));
    }
}

/// A failed command copies nothing into the caller's buffer, and the staging of other slots is its own.
#[test]
fn failed_reads_copy_nothing() {
    let mut rig = Rig::new(2, 8);
    let mut tickets = [1, 2].map(|fill| rig.submitter.try_submit(&numbered(fill.into()), &[fill; 8]).unwrap());
    let replies = [1, 2].map(|number| rig.poll(number));
    let statuses = [Status::OutOfBounds, Status::Ok];
    for (reply, status) in replies.into_iter().zip(statuses) {
        rig.device.complete(reply, &Completion::of(status));
    }
    for ((ticket, status), bytes) in tickets.iter_mut().zip(statuses).zip([[9; 8], [2; 8]]) {
        let mut taken = [9; 8];
        assert_eq!(rig.completions.take(ticket, &mut taken), Taken::Ready(Completion::of(status)));
        assert_eq!(taken, bytes);
    }
}
