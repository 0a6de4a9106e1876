//! Who may use a slot, and when: full lanes, slow commands, answers given up or never taken.

use super::*;

/// A lane full of unread commands gives `Full`, and so does one full of read but unanswered, and of answered but
/// untaken ones. Nothing changes by asking: every command arrives once and every answer is its own.
#[test]
fn full_lanes_change_nothing() {
    const SLOTS: u64 = 4;
    let mut rig = Rig::new(SLOTS as u32, 8);
    for lap in 0..6 {
        let base = lap * SLOTS;
        let mut tickets: Vec<Ticket> = (0..SLOTS).map(|i| rig.submit(base + i)).collect();
        refuse(&mut rig, base + SLOTS, 4);
        let replies: Vec<Reply> = (0..SLOTS).map(|i| rig.poll(base + i)).collect();
        assert!(rig.device.poll_command().is_none(), "a refused command arrived");
        refuse(&mut rig, base + SLOTS, 4);
        for (reply, number) in replies.into_iter().zip(base..) {
            rig.device.complete(reply, &answer(number));
        }
        refuse(&mut rig, base + SLOTS, 0);
        for (ticket, number) in tickets.iter_mut().zip(base..) {
            rig.take(ticket, number);
        }
    }
}

/// Asks the full lane twice, with staged bytes, and checks that nothing is different afterwards.
fn refuse(rig: &mut Rig, next: u64, pending: u32) {
    let words = |rig: &Rig| -> Vec<u64> { rig.memory.words().iter().map(|word| word.load(SeqCst)).collect() };
    let before = words(rig);
    for _ in 0..2 {
        assert_eq!(rig.submitter.try_submit(&numbered(99), &[0xff; 8]), Err(SubmitError::Full));
    }
    assert_eq!(words(rig), before, "a refused submission wrote to the lane");
    assert_eq!((rig.submitter.next_sequence(), rig.submitter.pending()), (next, pending));
    assert_eq!(rig.submitter.completed_below(), next - u64::from(pending));
}

/// A command that was read may not be overwritten until the device says so: between the reading and the saying the
/// lane stays full, although every answer was taken.
#[test]
fn slots_are_free_only_when_published() {
    let mut rig = Rig::new(2, 0);
    let mut tickets = [rig.submit(0), rig.submit(1)];
    for (number, ticket) in tickets.iter_mut().enumerate() {
        let (_, reply) = rig.device.poll_command().unwrap();
        rig.device.complete(reply, &answer(number as u64));
        rig.take(ticket, number as u64);
    }
    assert_eq!(rig.submitter.try_submit(&numbered(2), &[]), Err(SubmitError::Full));
    rig.device.publish_consumed();
    let _ticket = rig.submit(2);
}

/// One slow command is passed over for any number of laps, odd or even, from any slot, and its answer is then its own
/// and not that of the slot's earlier command. The others go on; the slot serves again afterwards.
#[test]
fn slow_commands_are_passed_over() {
    const SLOTS: u64 = 4;
    for slow in 0..3 * SLOTS {
        for laps in 0..6 {
            let mut rig = Rig::new(SLOTS as u32, 0);
            for number in 0..slow {
                let mut ticket = rig.answered(number);
                rig.take(&mut ticket, number);
            }
            let mut ticket = rig.submit(1000);
            assert_eq!(ticket.sequence(), slow);
            let reply = rig.poll(1000);
            for number in 0..laps * (SLOTS - 1) {
                let mut other = rig.answered(number);
                assert_eq!(rig.completions.take(&mut ticket, &mut []), Taken::Pending);
                assert_ne!(other.sequence() % SLOTS, slow % SLOTS, "the slow command's slot was used");
                rig.take(&mut other, number);
            }
            assert_eq!((rig.submitter.pending(), rig.submitter.completed_below()), (1, slow));
            rig.device.complete(reply, &answer(1000));
            rig.take(&mut ticket, 1000);
            assert_eq!(rig.submitter.completed_below(), rig.submitter.next_sequence());
            let slots: Vec<u64> = (0..2 * SLOTS)
                .map(|number| {
                    let mut ticket = rig.answered(number);
                    rig.take(&mut ticket, number);
                    ticket.sequence() % SLOTS
                })
                .collect();
            assert_eq!(slots.iter().filter(|&&slot| slot == slow % SLOTS).count(), 2, "the slot serves again");
        }
    }
}

/// A skipped slot still holds its lap: the device does not take a skip that was not read yet for the next command.
#[test]
fn unread_skips_hold_their_slot() {
    let mut rig = Rig::new(2, 0);
    let mut slow = rig.submit(0);
    let reply = rig.poll(0);
    let mut other = rig.answered(1);
    rig.take(&mut other, 1);
    // Sequence 2 becomes a skip over slot 0, 3 the command.
    let mut other = rig.submit(3);
    assert_eq!(other.sequence(), 3);
    rig.device.complete(reply, &answer(0));
    rig.take(&mut slow, 0);
    // Slot 0 awaits nothing, but its skip is unread.
    assert_eq!(rig.submitter.try_submit(&numbered(4), &[]), Err(SubmitError::Full));
    let reply = rig.poll(3);
    rig.device.complete(reply, &answer(3));
    rig.take(&mut other, 3);
    let mut last = rig.answered(4);
    rig.take(&mut last, 4);
}

/// The slot of an abandoned answer serves again only after the device has answered, through both parities of its
/// answer bit; nobody gets the answer.
#[test]
fn abandoned_slots_wait_for_their_answer() {
    let mut rig = Rig::new(2, 0);
    for round in 0..6 {
        let mut given_up = rig.submit(round);
        rig.completions.abandon(&mut given_up);
        assert_eq!(rig.completions.take(&mut given_up, &mut []), Taken::Gone);
        let reply = rig.poll(round);
        for number in 0..3 {
            let mut other = rig.answered(number);
            assert_ne!(other.sequence() % 2, given_up.sequence() % 2);
            rig.take(&mut other, number);
        }
        assert!(!rig.completions.is_complete(given_up.sequence()));
        assert_eq!((rig.submitter.pending(), rig.submitter.completed_below()), (1, given_up.sequence()));
        rig.device.complete(reply, &answer(round));
        assert!(rig.completions.is_complete(given_up.sequence()));
        assert_eq!(rig.submitter.pending(), 0);
        let slots = [0, 1].map(|number| {
            let mut ticket = rig.answered(number);
            rig.take(&mut ticket, number);
            ticket.sequence() % 2
        });
        assert!(slots.contains(&(given_up.sequence() % 2)), "the slot serves again");
        assert_eq!(rig.completions.take(&mut given_up, &mut []), Taken::Gone);
    }
}

/// A ticket that was taken or abandoned is gone: at once, while its slot serves another command, and afterwards.
/// Abandoning it again, or after taking it, harms nobody.
#[test]
fn spent_tickets_are_gone() {
    let mut rig = Rig::new(2, 8);
    let mut spent = rig.answered(0);
    rig.take(&mut spent, 0);
    let mut bytes = [7; 8];
    for number in 1..9 {
        assert_eq!(rig.completions.take(&mut spent, &mut bytes), Taken::Gone);
        let mut ticket = rig.submit(number);
        rig.completions.abandon(&mut spent);
        assert_eq!(rig.completions.take(&mut spent, &mut bytes), Taken::Gone);
        let reply = rig.poll(number);
        rig.device.complete(reply, &answer(number));
        assert_eq!(rig.completions.take(&mut spent, &mut bytes), Taken::Gone);
        rig.take(&mut ticket, number);
        assert!(rig.completions.is_complete(spent.sequence()));
    }
    assert_eq!(bytes, [7; 8]);
}

/// Answers that nobody takes hold their own slots only: the others go on for several laps, until every slot is so
/// held; taking one answer is then enough to go on.
#[test]
fn untaken_answers_hold_only_their_slots() {
    const SLOTS: u64 = 8;
    let mut rig = Rig::new(SLOTS as u32, 0);
    let mut held = Vec::new();
    for keep in 0..SLOTS {
        for number in 0..3 * SLOTS {
            let mut ticket = rig.answered(number);
            rig.take(&mut ticket, number);
        }
        held.push((rig.answered(1000 + keep), 1000 + keep));
    }
    assert_eq!(rig.submitter.try_submit(&numbered(0), &[]), Err(SubmitError::Full));
    assert_eq!((rig.submitter.pending(), rig.submitter.completed_below()), (0, rig.submitter.next_sequence()));
    for (mut ticket, number) in held {
        rig.take(&mut ticket, number);
        let another = rig.answered(number);
        assert_eq!(another.sequence() % SLOTS, ticket.sequence() % SLOTS, "only this slot was free");
    }
}

/// What a slot's unanswered command is stays known until other commands have passed it over; that there is one, for good.
#[test]
fn who_looks_after_the_device_sees_what_it_owes() {
    let mut rig = Rig::new(2, 0);
    assert_eq!(rig.completions.unanswered(0), None);
    let slow = rig.submit(0);
    assert_eq!(rig.completions.unanswered(0), Some((0, Some(numbered(0)))));
    let slow_reply = rig.poll(0);
    for number in 1..8 {
        let mut quick = rig.answered(number);
        rig.take(&mut quick, number);
        let known = if number == 1 { Some(numbered(0)) } else { None };
        assert_eq!(rig.completions.unanswered(0), Some((0, known)), "after {number} others");
        assert_eq!(rig.completions.unanswered(1), None);
    }
    rig.device.complete(slow_reply, &answer(0));
    assert_eq!((rig.completions.unanswered(0), rig.completions.is_complete(slow.sequence())), (None, true));
    let abandoned = &mut rig.submit(9);
    let slot = rig.layout.slot(abandoned.sequence());
    rig.completions.abandon(abandoned);
    assert_eq!(rig.completions.unanswered(slot), Some((abandoned.sequence(), Some(numbered(9)))));
    rig.completions.device_ended();
    assert_eq!(rig.completions.unanswered(slot), None, "nothing is owed any more");
}

/// Whether there is something to read is known, lap for lap, of commands and of places that are passed over.
#[test]
fn who_starts_the_device_sees_what_it_has_not_read() {
    let mut rig = Rig::new(2, 0);
    assert!(!rig.completions.has_unread(), "an unused lane");
    let mut slow = rig.submit(0);
    assert!(rig.completions.has_unread());
    let reply = rig.poll(0);
    for number in 1..6 {
        assert!(!rig.completions.has_unread(), "after {number} commands");
        let mut quick = rig.submit(number);
        assert!(rig.completions.has_unread());
        let reply = rig.poll(number);
        assert!(!rig.completions.has_unread());
        rig.device.complete(reply, &answer(number));
        rig.take(&mut quick, number);
    }
    rig.device.complete(reply, &answer(0));
    rig.take(&mut slow, 0);
    assert!(!rig.completions.has_unread());
}
