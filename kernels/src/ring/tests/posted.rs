//! Commands that are posted to memory of the device's own.

use std::sync::Mutex;

use super::super::layout::SLOT_WORDS;
use super::super::slot;
use super::*;

/// A lane's memory whose commands are posted, and what the posted slots held at each fence.
#[derive(Clone, Debug)]
struct Posting {
    memory: Memory<AtomicU64>,
    posted: Arc<[AtomicU64]>,
    fences: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Posting {
    fn new(layout: LaneLayout) -> Self {
        let posted = (0..layout.completion(0)).map(|_| Word::new(0)).collect();
        Self { memory: Memory::new(layout, |_| Word::new(0)), posted, fences: Arc::default() }
    }

    fn values(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|word| word.load(Relaxed)).collect()
    }

    fn forget_fences(&self) {
        self.fences.lock().expect("nobody panics under it").clear();
    }

    /// What was in the posted slots at the only two fences since.
    fn around(&self) -> [Vec<u64>; 2] {
        let fences = std::mem::take(&mut *self.fences.lock().expect("nobody panics under it"));
        fences.try_into().expect("one fence before a run, one behind it")
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
        self.fences.lock().expect("nobody panics under it").push(Self::values(&self.posted));
    }
}

/// Goal: what is posted is what stands in the lane, skips included, lap for lap, and a run lies between two fences. Method: the
/// device answers all but one command, so that its slot is passed over.
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
    for number in 0..40 {
        memory.forget_fences();
        let before = Posting::values(&memory.posted);
        let mut ticket = submitter.try_submit(&numbered(number), &[1, 2, 3]).expect("there is room");
        same();
        assert_eq!(memory.around(), [before, Posting::values(&memory.posted)]);
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

    memory.forget_fences();
    let before = Posting::values(&memory.posted);
    submitter.try_submit_run(&[numbered(40), numbered(41)], &mut Vec::new()).expect("there is room");
    same();
    let [first, last] = memory.around();
    assert_eq!(first, before);
    let changed = first.chunks(SLOT_WORDS).zip(last.chunks(SLOT_WORDS)).filter(|(before, after)| before != after);
    assert!(changed.count() >= 2);
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
