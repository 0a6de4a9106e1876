//! Host and device on threads of their own, many messages, every one checked.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;

use fastrand::Rng;

use super::*;

const MESSAGES: u64 = if cfg!(debug_assertions) { 100_000 } else { 2_000_000 };
const SLOTS: u32 = 16;
/// The grain of the last command.
const LAST: u32 = u32::MAX;

/// Turns without progress, on one thread, after which a message counts as lost. Each gives up the processor, so the
/// others have had theirs many times over.
const IDLE_TURNS: u64 = 10_000_000;

/// Counts the turns of a thread that found nothing to do, so that a lost message fails a test instead of hanging it.
#[derive(Default)]
struct Patience(u64);

impl Patience {
    fn turn(&mut self) {
        self.0 += 1;
        assert!(self.0 < IDLE_TURNS, "a message was lost");
        thread::yield_now();
    }

    /// Tries until there is a result.
    fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
        let mut patience = Self::default();
        loop {
            match attempt() {
                Some(result) => return result,
                None => patience.turn(),
            }
        }
    }
}

/// A command with its number in the clear, so that whoever sees it can check the rest.
fn stamped(number: u64) -> (Command, [u8; 24]) {
    let mut command = numbered(number);
    command.payload[6] = number;
    (command, std::array::from_fn(|i| (number >> (i % 8)) as u8))
}

/// What the device leaves in the staging area.
fn staged_answer(number: u64) -> [u64; 3] {
    [number, !number, number << 63 | 1]
}

/// A device that checks every command with its staged bytes and answers out of order, until the last command.
fn serve(mut device: DeviceLane<Memory<AtomicU64>>, mut rng: Rng) {
    let mut at_work: Vec<(u64, Reply)> = Vec::new();
    let mut number = 0;
    let mut is_last = false;
    let mut patience = Patience::default();
    while !is_last || !at_work.is_empty() {
        while let Some((command, reply)) = device.poll_command() {
            is_last = command.grain == LAST;
            if !is_last {
                let (expected, staged) = stamped(number);
                assert_eq!(command, expected);
                let area = device.staging(&reply);
                assert!(area.iter().zip(staged.as_chunks().0).all(|(w, b)| w.load(Relaxed) == u64::from_le_bytes(*b)));
            }
            at_work.push((number, reply));
            number += 1;
        }
        device.publish_consumed();
        if at_work.is_empty() {
            patience.turn();
        } else {
            patience = Patience::default();
        }
        for _ in 0..rng.usize(0..=at_work.len()) {
            let (number, reply) = at_work.swap_remove(rng.usize(0..at_work.len()));
            device
                .staging(&reply)
                .iter()
                .zip(staged_answer(number))
                .for_each(|(word, value)| word.store(value, Relaxed));
            device.complete(reply, &answer(number));
        }
    }
}

/// Takes the answer to a stamped command, if it is there, and checks it with its staged bytes.
fn take(completions: &HostCompletions<Memory<AtomicU64>>, ticket: &mut Ticket, number: u64) -> bool {
    let mut bytes = [0; 24];
    match completions.take(ticket, &mut bytes) {
        Taken::Pending => false,
        Taken::Ready(completion) => {
            assert_eq!(completion, answer(number));
            assert_eq!(bytes.as_chunks().0, staged_answer(number).map(u64::to_le_bytes));
            assert!(completions.is_complete(ticket.sequence()));
            true
        }
        Taken::Gone => panic!("the answer to command {number} went to somebody else"),
    }
}

fn try_submit(submitter: &mut impl Submitter, command: &Command, staged: &[u8]) -> Option<Ticket> {
    match submitter.try_submit(command, staged) {
        Ok(ticket) => Some(ticket),
        Err(SubmitError::Full) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Ends [`serve`]. Nobody takes the answer.
fn submit_last(submitter: &mut impl Submitter) {
    let last = Command::new(Opcode::Compute, LAST, [0; PAYLOAD_WORDS]);
    let _ticket = Patience::until(|| try_submit(submitter, &last, &[]));
}

/// One host thread that submits, takes in any order and abandons one answer in sixteen, against one device thread that
/// answers out of order: every command and answer is whole and its own, and none is lost.
#[test]
fn two_threads_lose_nothing() {
    let Rig { mut submitter, completions, device, .. } = Rig::new(SLOTS, 24);
    let server = thread::spawn(|| serve(device, Rng::with_seed(1)));
    let mut rng = Rng::with_seed(2);
    let mut awaited: VecDeque<(u64, Ticket)> = VecDeque::new();
    let mut number = 0;
    let mut patience = Patience::default();
    while number < MESSAGES {
        let (command, staged) = stamped(number);
        if let Some(mut ticket) = try_submit(&mut submitter, &command, &staged) {
            if rng.u8(0..16) == 0 {
                completions.abandon(&mut ticket);
            } else {
                awaited.push_back((number, ticket));
            }
            number += 1;
            patience = Patience::default();
        } else {
            patience.turn();
        }
        if !awaited.is_empty() {
            let chosen = rng.usize(0..awaited.len());
            let (number, ticket) = &mut awaited[chosen];
            if take(&completions, ticket, *number) {
                awaited.remove(chosen);
            }
        }
    }
    for (number, mut ticket) in awaited {
        Patience::until(|| take(&completions, &mut ticket, number).then_some(()));
    }
    submit_last(&mut submitter);
    server.join().unwrap();
    assert_eq!((submitter.pending(), submitter.completed_below()), (0, submitter.next_sequence()));
}

/// One thread submits and hands its tickets to two others that take the answers, against one device thread: whoever
/// holds the ticket gets the answer, with its staged bytes, although the slots are used again at once.
#[test]
fn tickets_are_taken_on_other_threads() {
    let Rig { mut submitter, completions, device, .. } = Rig::new(SLOTS, 24);
    let completions = Arc::new(completions);
    let server = thread::spawn(|| serve(device, Rng::with_seed(3)));
    let takers = [(); 2].map(|()| {
        let (sender, tickets) = mpsc::channel::<(u64, Ticket)>();
        let completions = Arc::clone(&completions);
        let taker = thread::spawn(move || {
            for (number, mut ticket) in tickets {
                Patience::until(|| take(&completions, &mut ticket, number).then_some(()));
            }
        });
        (sender, taker)
    });
    for number in 0..MESSAGES / 4 {
        let (command, staged) = stamped(number);
        let ticket = Patience::until(|| try_submit(&mut submitter, &command, &staged));
        takers[number as usize % 2].0.send((number, ticket)).unwrap();
    }
    submit_last(&mut submitter);
    for (sender, taker) in takers {
        drop(sender);
        taker.join().unwrap();
    }
    server.join().unwrap();
    assert_eq!(submitter.completed_below(), submitter.next_sequence());
}
