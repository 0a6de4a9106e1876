//! Taking answers: each once, each its own, by any thread, and what a lane says of its state.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use gpubridge_abstractions::{
    Completion, DeviceSlot, Opcode, RingConfig, Status, SubmitError, Submitter, Taken, Ticket,
};

use crate::lane::{Bench, Driver, GRAIN, SMALL, echo, transfer, write_word};
use crate::rig::{Joined, SOON, eventually, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("answers",
    Memory {
        answers_taken_in_any_order_are_their_own => "Completions::take/own",
        threads_take_their_own_answers_at_once => "Completions::take/own",
        answers_are_taken_on_other_threads => "Completions::take/own",
        an_answer_is_taken_once => "Completions::take/once",
        one_of_several_takers_gets_an_answer => "Completions::take/once",
        an_answer_stays_until_it_is_taken => "Completions::take/frees",
        a_read_fills_what_it_is_given => "Completions::take/staged",
        a_failed_read_leaves_the_buffer => "Completions::take/staged",
        ready_answers_are_taken_up_to_the_first_that_is_not => "Completions::take_ready/up-to-first",
        completion_stays => "Completions::is_complete/stays",
        a_given_up_command_is_executed => "Completions::abandon/executed",
        given_up_slots_come_back => "Completions::abandon/slot-returns",
        an_answer_that_is_there_can_be_given_up => "Completions::abandon/slot-returns",
        pending_counts_what_is_not_answered => "Submitter::pending/exact",
        completed_below_is_the_oldest_unanswered => "Submitter::completed_below/oldest",
    }
);

/// Submits an echo of each number.
fn echoes(lane: &mut Driver, numbers: impl IntoIterator<Item = u64>) -> Vec<Ticket> {
    numbers.into_iter().map(|number| lane.submit(&echo(GRAIN, number))).collect()
}

/// Waits until all are answered, without taking any.
fn all_answered(lane: &Driver, tickets: &[Ticket]) {
    eventually("all are answered", || tickets.iter().all(|ticket| lane.is_complete(ticket)));
}

/// Goal: no two answers are exchanged. Method: a full lane whose commands differ in kind, bytes and outcome; the answers are
/// taken in random orders.
pub fn answers_taken_in_any_order_are_their_own(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 1024);
    bench.lane.write_all(slot, &pattern(1, 1024));
    let mut random = fastrand::Rng::with_seed(8);
    for round in 0..400_usize {
        let mut held: Vec<_> = (0..8)
            .map(|i| {
                let command = match i % 4 {
                    0 => echo(GRAIN, (round * 8 + i) as u64),
                    1 => transfer(Opcode::Read, slot, (i * 100) as u64, 90 + i),
                    2 => transfer(Opcode::ReadInline, slot, (i * 50) as u64, 8 * (i - 1)),
                    _ => transfer(Opcode::Read, slot, 1024, i),
                };
                (i, bench.lane.submit(&command))
            })
            .collect();
        random.shuffle(&mut held);
        let model = pattern(1, 1024);
        for (i, ticket) in held {
            let mut bytes = vec![0; 90 + i];
            let completion = bench.lane.wait_into(ticket, &mut bytes);
            let inline = completion.payload.map(u64::to_le_bytes);
            let is_own = match i % 4 {
                0 => completion.payload == [(round * 8 + i) as u64; 7],
                1 => completion.status == Status::Ok && bytes == model[i * 100..i * 100 + 90 + i],
                2 => inline.as_flattened()[..8 * (i - 1)] == model[i * 50..i * 50 + 8 * (i - 1)],
                _ => completion.status == Status::OutOfBounds,
            };
            assert!(is_own, "round {round}: command {i} has another's answer: {completion:?}");
        }
    }
}

/// Goal: any number of threads take at once. Method: eight threads share one lane's submitter and take their own answers, each
/// with bytes of its own; every payload and every staged byte is compared.
pub fn threads_take_their_own_answers_at_once(context: &Context) {
    const THREADS: u32 = 8;
    let mut bench = Bench::new(context.device(), RingConfig { slots: 16, ..SMALL });
    let blocks: Vec<_> = (0..THREADS).map(|index| bench.bound(index, 64)).collect();
    for (seed, (_, slot)) in (0..).zip(&blocks) {
        bench.lane.write_all(*slot, &pattern(seed, 64));
    }
    let submitter: Mutex<&mut Box<dyn Submitter>> = Mutex::new(&mut bench.lane.0.submitter);
    let completions = &bench.lane.0.completions;
    let submit = |command| loop {
        let mut submitter = submitter.lock().expect("no panic");
        match submitter.try_submit(&command, &[]) {
            Ok(ticket) => {
                submitter.doorbell();
                return ticket;
            }
            Err(SubmitError::Full) => drop(submitter),
            Err(other) => panic!("{other:?}"),
        }
        thread::yield_now();
    };
    let take = |mut ticket: Ticket, staged: &mut [u8]| {
        let mut answer = Completion::of(Status::Cancelled);
        eventually("the command is answered", || match completions.take(&mut ticket, staged) {
            Taken::Ready(completion) => {
                answer = completion;
                true
            }
            Taken::Pending => false,
            Taken::Gone => panic!("another thread took the answer"),
        });
        answer
    };
    thread::scope(|scope| {
        for (seed, (_, slot)) in (0..).zip(&blocks) {
            let (submit, take) = (&submit, &take);
            scope.spawn(move || {
                for round in 0..500 {
                    let number = seed << 32 | round;
                    let (first, second) = (submit(echo(GRAIN, number)), submit(transfer(Opcode::Read, *slot, 0, 64)));
                    let mut bytes = [0; 64];
                    assert_eq!(take(second, &mut bytes).status, Status::Ok);
                    assert!(bytes[..] == pattern(seed, 64), "thread {seed} has another's bytes");
                    assert_eq!(take(first, &mut []).payload, [number; 7], "thread {seed} has another's answer");
                }
            });
        }
    });
}

/// Goal: a ticket may travel. Method: one thread submits all it can; three others take, in the order in which they get hold
/// of the tickets.
pub fn answers_are_taken_on_other_threads(context: &Context) {
    let Bench { ring: _ring, lane, .. } = &mut Bench::new(context.device(), SMALL);
    let (sender, receiver) = channel::<(u64, Ticket)>();
    let receiver = Mutex::new(receiver);
    let completions = lane.0.completions.clone();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Ok((number, mut ticket)) = receiver.lock().expect("no panic").recv() else { return };
                    eventually("the command is answered", || match completions.take(&mut ticket, &mut []) {
                        Taken::Ready(completion) => {
                            assert_eq!(completion.payload, [number; 7]);
                            true
                        }
                        Taken::Pending => false,
                        Taken::Gone => panic!("{ticket:?} is gone"),
                    });
                }
            });
        }
        for number in 0..5000 {
            eventually("there is a slot", || match lane.try_submit(&echo(GRAIN, number), &[]) {
                Ok(ticket) => sender.send((number, ticket)).is_ok(),
                Err(why) => {
                    assert_eq!(why, SubmitError::Full);
                    false
                }
            });
        }
        drop(sender);
    });
}

/// Goal: an answer is not there twice, not even after laps. Method: the ticket is looked at again when its answer was taken,
/// when its slot was used again, and when that one was answered.
pub fn an_answer_is_taken_once(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 2, ..SMALL });
    for number in 0..20 {
        let mut ticket = bench.lane.submit(&echo(GRAIN, number));
        eventually("it is answered", || bench.lane.is_complete(&ticket));
        assert!(matches!(bench.lane.look(&mut ticket), Taken::Ready(completion) if completion.payload == [number; 7]));
        assert_eq!(bench.lane.look(&mut ticket), Taken::Gone);
        let next = echoes(&mut bench.lane, [100, 101]);
        assert_eq!(bench.lane.look(&mut ticket), Taken::Gone, "its slot is used by another command");
        all_answered(&bench.lane, &next);
        assert_eq!(bench.lane.look(&mut ticket), Taken::Gone, "another command's answer lies in its slot");
        bench.lane.0.completions.abandon(&mut ticket);
        for (number, ticket) in (100..).zip(next) {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7], "a spent ticket gave up another's answer");
        }
    }
}

/// Goal: who comes first gets it. Method: threads pass one ticket round under a lock; one finds the answer, and all others
/// that it is gone.
pub fn one_of_several_takers_gets_an_answer(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for round in 0..100 {
        let ticket = Mutex::new(bench.lane.submit(&echo(GRAIN, round)));
        let completions = &bench.lane.0.completions;
        let taken: usize = thread::scope(|scope| {
            let look = || loop {
                match completions.take(&mut ticket.lock().expect("no panic"), &mut []) {
                    Taken::Ready(completion) => {
                        assert_eq!(completion.payload, [round; 7]);
                        return 1;
                    }
                    Taken::Gone => return 0,
                    Taken::Pending => thread::yield_now(),
                }
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|thread| thread.joined()).sum()
        });
        assert_eq!(taken, 1, "takers of one answer");
    }
}

/// Goal: nothing overwrites an answer that nobody took. Method: all slots but one are kept for hundreds of laps of that one;
/// then each gives its answer, and its slot to the next command.
pub fn an_answer_stays_until_it_is_taken(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let kept = echoes(&mut bench.lane, 1000..1007);
    for number in 0..300 {
        bench.lane.probe(number);
    }
    let last = bench.lane.submit(&echo(GRAIN, 1007));
    eventually("all are answered", || bench.lane.is_complete(&last));
    for (number, ticket) in (1000..).zip(kept.into_iter().chain([last])) {
        if number == 1000 {
            assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full));
        }
        assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
        bench.lane.probe(number);
    }
}

/// Goal: the buffer decides how much of a read is wanted. Method: reads taken into buffers as long, shorter by a byte, by
/// parts of a word, and empty.
pub fn a_read_fills_what_it_is_given(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 1024);
    let data = pattern(4, 1024);
    bench.lane.write_all(slot, &data);
    for size in [1, 7, 8, 9, 100, 1023, 1024] {
        for wanted in [size, size - 1, size / 2, size.min(3), 0] {
            let ticket = bench.lane.submit(&transfer(Opcode::Read, slot, 0, size));
            let mut bytes = vec![0; wanted];
            assert_eq!(bench.lane.wait_into(ticket, &mut bytes).status, Status::Ok);
            assert!(bytes == data[..wanted], "{wanted} of {size}");
        }
    }
}

/// Goal: no stale bytes in an error. Method: reads that are refused, in slots whose staging areas were full before.
pub fn a_failed_read_leaves_the_buffer(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 1024);
    let stale = DeviceSlot { generation: 9, ..slot };
    (0..SMALL.slots).for_each(|_| bench.lane.write_all(slot, &[0xff; 1024]));
    for (name, offset, size) in [(slot, 1, 1024), (slot, 0, 1025), (slot, u64::MAX, 1), (stale, 0, 64)] {
        let ticket = bench.lane.submit(&transfer(Opcode::Read, name, offset, size));
        let mut bytes = [0x5a; 64];
        assert_ne!(bench.lane.wait_into(ticket, &mut bytes).status, Status::Ok, "{size} at {offset}");
        assert_eq!(bytes, [0x5a; 64], "{size} at {offset}");
    }
}

/// Goal: several answers in one call, and none lost. Method: a row of tickets of which one is spent, at every place; those
/// before it are taken, those behind it keep theirs; in an inactive ring nothing is taken.
pub fn ready_answers_are_taken_up_to_the_first_that_is_not(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for gone in 0..=6 {
        let mut tickets = echoes(&mut bench.lane, 0..6);
        all_answered(&bench.lane, &tickets);
        if gone < 6 {
            assert!(matches!(bench.lane.look(&mut tickets[gone]), Taken::Ready(_)));
        }
        let mut answers = vec![Completion::of(Status::Cancelled); 6];
        assert_eq!(bench.lane.0.completions.take_ready(&mut tickets, &mut answers), gone);
        let is_right = |(number, answer): (u64, &Completion)| answer.payload == [number; 7];
        assert!((0..).zip(&answers[..gone]).all(is_right), "{answers:?}");
        assert!(answers[gone..].iter().all(|answer| *answer == Completion::of(Status::Cancelled)), "{answers:?}");
        for (number, ticket) in (0..).zip(tickets).skip(gone + 1) {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
        }
    }
    bench.ring.deactivate(SOON).expect("the ring follows");
    let mut tickets = echoes(&mut bench.lane, 0..6);
    let mut answers = [Completion::of(Status::Cancelled); 6];
    assert_eq!(bench.lane.0.completions.take_ready(&mut tickets, &mut answers), 0);
    bench.ring.activate(SOON).expect("the ring follows");
    all_answered(&bench.lane, &tickets);
    // No more than there is room for.
    assert_eq!(bench.lane.0.completions.take_ready(&mut tickets, &mut answers[..2]), 2);
    assert_eq!(bench.lane.0.completions.take_ready(&mut tickets[2..], &mut answers[2..]), 4);
    assert!(answers.iter().zip(0..).all(|(answer, number)| answer.payload == [number; 7]), "{answers:?}");
}

/// Goal: completion can be asked for by number, at any time. Method: numbers not submitted, waiting, answered, taken, and
/// laps ago, also of a command that was given up.
pub fn completion_stays(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let next = bench.lane.0.submitter.next_sequence();
    let is_complete = |lane: &Driver, sequence| lane.0.completions.is_complete(sequence);
    assert!(!is_complete(&bench.lane, next) && !is_complete(&bench.lane, next + 1), "nothing was submitted");
    let mut tickets = echoes(&mut bench.lane, 0..3);
    let numbers: Vec<_> = tickets.iter().map(Ticket::sequence).collect();
    bench.lane.0.completions.abandon(&mut tickets[0]);
    assert!(numbers.iter().all(|&number| !is_complete(&bench.lane, number)), "the ring is inactive");
    bench.ring.activate(SOON).expect("the ring starts");
    eventually("all are answered", || numbers.iter().all(|&number| is_complete(&bench.lane, number)));
    assert_eq!(bench.lane.wait(tickets.remove(1)).payload, [1; 7]);
    for number in 0..40 {
        assert!(numbers.iter().all(|&number| is_complete(&bench.lane, number)), "{number} commands later");
        let next = bench.lane.0.submitter.next_sequence();
        assert!(!is_complete(&bench.lane, next + u64::from(SMALL.slots)), "a lap ahead of what was submitted");
        bench.lane.probe(number);
    }
}

/// Goal: giving up an answer is not cancelling. Method: writes whose answers are given up before the ring runs; a later read
/// sees them.
pub fn a_given_up_command_is_executed(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 64);
    for round in 1..50 {
        bench.ring.deactivate(SOON).expect("the ring follows");
        let mut given_up: Vec<_> =
            (0..4).map(|place| bench.lane.submit(&write_word(slot, place * 8, round * 10 + place))).collect();
        for ticket in &mut given_up {
            bench.lane.0.completions.abandon(ticket);
            assert_eq!(bench.lane.look(ticket), Taken::Gone);
        }
        let read = bench.lane.submit(&transfer(Opcode::ReadInline, slot, 0, 32));
        bench.ring.activate(SOON).expect("the ring follows");
        let seen = bench.lane.wait(read).payload;
        assert_eq!(seen[..4], [0, 1, 2, 3].map(|place| round * 10 + place));
    }
}

/// Goal: a slot that was given up is the device's until it has answered, and then the lane's. Method: in an inactive ring all
/// slots are given up: the lane stays full; when the ring has run it has all its slots again, lap after lap.
pub fn given_up_slots_come_back(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    for lap in 0..20 {
        let mut tickets = echoes(&mut bench.lane, 0..8);
        tickets.iter_mut().for_each(|ticket| bench.lane.0.completions.abandon(ticket));
        assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full), "the device has them still");
        assert_eq!(bench.lane.0.submitter.pending(), 8);
        bench.ring.activate(SOON).expect("the ring follows");
        all_answered(&bench.lane, &tickets);
        for (number, ticket) in (lap..).zip(echoes(&mut bench.lane, lap..lap + 8)) {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7], "lap {lap}");
        }
        bench.ring.deactivate(SOON).expect("the ring follows");
    }
}

/// Goal: an answer that is there is dropped with its ticket. Method: a full lane of answers, each given up at another place;
/// its slot takes the next command at once.
pub fn an_answer_that_is_there_can_be_given_up(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for place in 0..8 {
        let mut tickets = echoes(&mut bench.lane, 0..8);
        all_answered(&bench.lane, &tickets);
        let mut given_up = tickets.remove(place);
        bench.lane.0.completions.abandon(&mut given_up);
        assert_eq!(bench.lane.look(&mut given_up), Taken::Gone);
        bench.lane.probe(50);
        let others = (0..8).filter(|number| *number != place as u64);
        for (number, ticket) in others.zip(tickets) {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
        }
    }
}

/// Goal: a figure that is right to the command. Method: counted in an inactive ring, where nothing is answered: submitted,
/// refused and given up; then answered but not taken, and taken.
pub fn pending_counts_what_is_not_answered(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    for _ in 0..10 {
        let mut tickets = Vec::new();
        for count in 0..8 {
            assert_eq!(bench.lane.0.submitter.pending(), count);
            tickets.push(bench.lane.submit(&echo(GRAIN, 0)));
        }
        assert!(bench.lane.try_submit(&echo(GRAIN, 0), &[]).is_err());
        bench.lane.0.completions.abandon(&mut tickets[2]);
        assert_eq!(bench.lane.0.submitter.pending(), 8);
        bench.ring.activate(SOON).expect("the ring follows");
        all_answered(&bench.lane, &tickets);
        assert_eq!(bench.lane.0.submitter.pending(), 0, "none was taken, but all are answered");
        tickets.remove(2);
        tickets.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
        assert_eq!(bench.lane.0.submitter.pending(), 0);
        bench.ring.deactivate(SOON).expect("the ring follows");
    }
}

/// Goal: a bound behind which memory may be used again, and no lower than it must be. Method: nothing submitted, all waiting,
/// all answered, with a kept answer that has its slot passed over, and a lap later.
pub fn completed_below_is_the_oldest_unanswered(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let kept = bench.lane.submit(&echo(GRAIN, 9));
    assert_eq!(bench.lane.0.submitter.completed_below(), kept.sequence());
    bench.ring.activate(SOON).expect("the ring follows");
    all_answered(&bench.lane, std::slice::from_ref(&kept));
    for lap in 0..20 {
        let submitter = &mut bench.lane.0.submitter;
        assert_eq!(submitter.completed_below(), submitter.next_sequence(), "lap {lap}: all are answered");
        bench.ring.deactivate(SOON).expect("the ring follows");
        let tickets = echoes(&mut bench.lane, 0..5);
        for _ in 0..2 {
            assert_eq!(bench.lane.0.submitter.completed_below(), tickets[0].sequence(), "lap {lap}");
        }
        bench.ring.activate(SOON).expect("the ring follows");
        all_answered(&bench.lane, &tickets);
        tickets.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
    }
    assert_eq!(bench.lane.wait(kept).payload, [9; 7]);
}
