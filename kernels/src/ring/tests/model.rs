//! Random histories of a lane against a model in plain collections.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SLOTS: u64 = 4;
const STAGING_BYTES: usize = 24;

/// One step of a history. A number chooses among those that there are, wrapping around.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit { grain: u32, staged_bytes: usize },
    Poll,
    Publish,
    Complete(usize),
    Take(usize),
    Abandon(usize),
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = 0..64usize;
    let step = prop_oneof![
        60 => (0..3u32, 0..=STAGING_BYTES + 1).prop_map(|(grain, staged_bytes)| Step::Submit { grain, staged_bytes }),
        60 => Just(Step::Poll),
        40 => Just(Step::Publish),
        60 => any.clone().prop_map(Step::Complete),
        60 => any.clone().prop_map(Step::Take),
        15 => any.prop_map(Step::Abandon),
        1 => Just(Step::End),
    ];
    prop::collection::vec(step, 0..400)
}

/// What the model knows of a command that was submitted.
#[derive(Clone, Debug)]
struct Entry {
    sequence: u64,
    grain: u32,
    staged: Vec<u8>,
    is_answered: bool,
    // Neither taken nor abandoned.
    is_awaited: bool,
}

/// A lane as its rules say, without slots' words, laps or answer bits.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    // By index into `entries`: not read by the device; read and not answered.
    unread: VecDeque<usize>,
    at_work: Vec<(usize, Reply)>,
    next: u64,
    read_below: u64,
    published: u64,
    has_ended: bool,
}

impl Model {
    /// The sequence number that a submission should get.
    fn submit(&self, staged_bytes: usize) -> Result<u64, SubmitError> {
        if staged_bytes > STAGING_BYTES {
            return Err(SubmitError::TooLarge);
        }
        if self.has_ended {
            return Err(SubmitError::Stopped);
        }
        let is_held = |slot: u64| {
            let holds = |entry: &Entry| entry.sequence % SLOTS == slot && (entry.is_awaited || !entry.is_answered);
            self.entries.iter().any(holds)
        };
        let free = (self.next..self.next + SLOTS).find(|sequence| !is_held(sequence % SLOTS));
        free.filter(|free| free - self.published < SLOTS).ok_or(SubmitError::Full)
    }

    fn completed_below(&self) -> u64 {
        let unanswered = self.entries.iter().find(|entry| !entry.is_answered);
        unanswered.filter(|_| !self.has_ended).map_or(self.next, |entry| entry.sequence)
    }
}

/// The lane and its model, stepped together. Ticket *i* belongs to entry *i*; spent tickets stay, to be asked again.
struct Pair {
    rig: Rig,
    model: Model,
    tickets: Vec<Ticket>,
}

impl Pair {
    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { grain, staged_bytes } => self.submit(grain, staged_bytes),
            Step::Poll => self.poll(),
            Step::Publish => {
                self.rig.device.publish_consumed();
                self.model.published = self.model.read_below;
            }
            Step::Complete(choice) => self.complete(choice),
            Step::Take(choice) => self.take(choice),
            Step::Abandon(choice) => {
                if let Some(chosen) = self.recent(choice) {
                    self.rig.completions.abandon(&mut self.tickets[chosen]);
                    self.model.entries[chosen].is_awaited = false;
                }
            }
            Step::End => {
                self.rig.completions.device_ended();
                self.model.has_ended = true;
            }
        }
    }

    fn submit(&mut self, grain: u32, staged_bytes: usize) {
        let number = self.model.entries.len();
        let staged: Vec<u8> = (0..staged_bytes).map(|i| (number * 31 + i) as u8).collect();
        let command = Command { grain, ..numbered(number as u64) };
        let submitted = self.rig.submitter.try_submit(&command, &staged);
        assert_eq!(submitted.as_ref().map(Ticket::sequence), self.model.submit(staged_bytes).as_ref().copied());
        if let Ok(ticket) = submitted {
            let sequence = ticket.sequence();
            self.model.entries.push(Entry { sequence, grain, staged, is_answered: false, is_awaited: true });
            self.model.unread.push_back(number);
            self.model.next = sequence + 1;
            self.tickets.push(ticket);
        }
    }

    fn poll(&mut self) {
        let polled = self.rig.device.poll_command();
        let expected = self.model.unread.pop_front();
        assert_eq!(polled.is_some(), expected.is_some());
        let Some(((command, reply), number)) = polled.zip(expected) else { return };
        let entry = &self.model.entries[number];
        assert_eq!(command, Command { grain: entry.grain, ..numbered(number as u64) });
        let area = self.rig.device.staging(&reply).iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        assert!(area.take(entry.staged.len()).eq(entry.staged.iter().copied()));
        self.model.read_below = entry.sequence + 1;
        self.model.at_work.push((number, reply));
    }

    /// Answers one command that is at work, but no two commands of a grain out of order.
    fn complete(&mut self, choice: usize) {
        let Some(choice) = choice.checked_rem(self.model.at_work.len()) else { return };
        let grain = self.model.entries[self.model.at_work[choice].0].grain;
        let is_first = |(number, _): &(usize, Reply)| self.model.entries[*number].grain == grain;
        let first = self.model.at_work.iter().position(is_first).unwrap();
        let (number, reply) = self.model.at_work.remove(first);
        let words = self.rig.device.staging(&reply).iter();
        words.zip(staged_answer(number)).for_each(|(word, value)| word.store(value, Relaxed));
        self.rig.device.complete(reply, &answer(number as u64));
        self.model.entries[number].is_answered = true;
    }

    fn take(&mut self, choice: usize) {
        let Some(chosen) = self.recent(choice) else { return };
        let entry = &mut self.model.entries[chosen];
        let expected = match (entry.is_awaited, entry.is_answered) {
            (false, _) => Taken::Gone,
            (true, true) => Taken::Ready(answer(chosen as u64)),
            (true, false) if self.model.has_ended => Taken::Ready(Completion::of(Status::Cancelled)),
            (true, false) => Taken::Pending,
        };
        let mut bytes = [0; STAGING_BYTES];
        assert_eq!(self.rig.completions.take(&mut self.tickets[chosen], &mut bytes), expected);
        if entry.is_awaited && entry.is_answered {
            assert_eq!(bytes.as_chunks().0, staged_answer(chosen).map(u64::to_le_bytes));
        } else {
            assert_eq!(bytes, [0; STAGING_BYTES]);
        }
        entry.is_awaited &= expected == Taken::Pending;
    }

    /// One of the latest tickets: enough of them to meet spent ones, too few to meet little else.
    fn recent(&self, choice: usize) -> Option<usize> {
        choice.checked_rem(self.tickets.len().min(2 * SLOTS as usize)).map(|back| self.tickets.len() - 1 - back)
    }

    /// What can be asked at any time agrees with the model.
    fn check(&mut self) {
        let Self { rig, model, .. } = self;
        let unanswered = model.entries.iter().filter(|entry| !entry.is_answered).count();
        assert_eq!(rig.submitter.next_sequence(), model.next);
        assert_eq!(rig.submitter.pending() as usize, if model.has_ended { 0 } else { unanswered });
        assert_eq!(rig.submitter.completed_below(), model.completed_below());
        for entry in model.entries.iter().rev().take(4 * SLOTS as usize) {
            let is_complete = rig.completions.is_complete(entry.sequence);
            assert_eq!(is_complete, entry.is_answered || model.has_ended, "command {}", entry.sequence);
        }
        for sequence in model.next..model.next + SLOTS {
            assert!(!rig.completions.is_complete(sequence), "command {sequence} is yet to come");
        }
    }
}

fn staged_answer(number: usize) -> [u64; STAGING_BYTES / 8] {
    [number as u64, !number as u64, 1 << 63]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any history of submissions, readings, answers out of order across grains, takings and givings-up, with or
    /// without the device's end, agrees with the model after every step: what is accepted under which number, what
    /// arrives with which bytes, what every ticket finds, and what counts as answered.
    #[test]
    fn histories_agree_with_the_model(steps in steps()) {
        let rig = Rig::new(SLOTS as u32, STAGING_BYTES as u32);
        let mut pair = Pair { rig, model: Model::default(), tickets: Vec::new() };
        for step in steps {
            pair.step(step);
            pair.check();
        }
    }
}
