//! Commands that are posted to memory of the device's own.

use std::sync::Mutex;

use super::super::layout::SLOT_WORDS;
use super::super::slot;
use super::*;

/// A lane's memory whose commands are posted, and what the posted slots and the staging areas held at each fence.
#[derive(Clone, Debug)]
struct Posting {
    memory: Memory<AtomicU64>,
    posted: Arc<[AtomicU64]>,
    first_staged: usize,
    fences: Arc<Mutex<Vec<[Vec<u64>; 2]>>>,
}

impl Posting {
    fn new(layout: LaneLayout) -> Self {
        let posted = (0..layout.completion(0)).map(|_| Word::new(0)).collect();
        let first_staged = layout.staging(0).start;
        Self { memory: Memory::new(layout, |_| Word::new(0)), posted, first_staged, fences: Arc::default() }
    }

    fn values(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|word| word.load(Relaxed)).collect()
    }

    /// What is in the posted slots and in the staging areas.
    fn now(&self) -> [Vec<u64>; 2] {
        [&self.posted, &self.memory.words()[self.first_staged..]].map(Self::values)
    }

    /// What was there at each fence since this was asked last.
    fn fences(&self) -> Vec<[Vec<u64>; 2]> {
        std::mem::take(&mut *self.fences.lock().expect("nobody panics under it"))
    }
}

impl Words for Posting {
    type Word = AtomicU64;

    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    fn posted(&self) -> Option<&[AtomicU64]> {
        Some(&self.posted)
    }

    fn fence(&self) {
        self.fences.lock().expect("nobody panics under it").push(self.now());
    }
}

/// Goal: what is posted is what stands in the lane, skips included, lap for lap; fences stand before a run, between staged bytes and
/// their command, and behind. Method: the device answers all but one command, so that its slot is passed over.
#[test]
fn posted_is_what_stands_in_the_lane() {
    let layout = LaneLayout::new(4, 8);
    let memory = Posting::new(layout);
    let host = HostLane::new(memory.clone(), layout, None);
    let completions = host.completions();
    let mut submitter = host.into_submitter();
    let mut device = DeviceLane::new(memory.clone(), layout);
    let same = || {
        let slots = &memory.words()[..layout.completion(0)];
        assert_eq!(Posting::values(slots), Posting::values(&memory.posted));
    };

    let mut slow = None;
    for number in 0..40_u64 {
        memory.fences();
        let before = memory.now();
        let first = submitter.next_sequence();
        let mut ticket = submitter.try_submit(&numbered(number), &number.to_le_bytes()).expect("there is room");
        same();
        let after = memory.now();
        let [at_first, staged, at_last] = memory.fences().try_into().expect("three fences");
        assert_eq!([&at_first, &at_last], [&before, &after]);
        assert_eq!(staged[1], after[1], "the bytes are staged before their command");
        let slot = layout.command(layout.slot(ticket.sequence()));
        assert_eq!(staged[0][slot..][..SLOT_WORDS], before[0][slot..][..SLOT_WORDS]);
        assert!(ticket.sequence() > first || staged[0] == before[0], "skips alone stand before the fence");
        let (_, reply) = device.poll_command().expect("a command was submitted");
        device.publish_consumed();
        if slow.is_none() {
            slow = Some((ticket, reply));
        } else {
            device.complete(reply, &Completion::of(Status::Ok));
            assert!(matches!(completions.take(&mut ticket, &mut []), Taken::Ready(_)));
        }
    }
    assert!(submitter.next_sequence() > 40, "no slot was passed over");

    memory.fences();
    let before = memory.now();
    submitter.try_submit_run(&[numbered(40), numbered(41)], &mut Vec::new()).expect("there is room");
    same();
    assert_eq!(memory.fences(), [before, memory.now()]);
}

/// Goal: nobody reads what was posted back. Method: the posted slots are spoilt, and the host finds its command as it was.
#[test]
fn what_was_posted_is_not_read_back() {
    let layout = LaneLayout::new(4, 8);
    let memory = Posting::new(layout);
    let host = HostLane::new(memory.clone(), layout, None);
    let completions = host.completions();
    let mut submitter = host.into_submitter();
    submitter.try_submit(&numbered(7), &[]).expect("there is room");
    slot::write(slot::at(&memory.posted, 0), &[u64::MAX; SLOT_WORDS]);
    assert_eq!(completions.unanswered(0), Some((0, Some(numbered(7)))));
    assert!(completions.has_unread());
}
