//! Slots are used again only when they may be.

use std::sync::Arc;

use super::*;

/// Three commands through two slots, all answers taken: the third reuses the first's slot and staging word, while the
/// device is at work.
#[test]
fn slots_are_used_again() {
    explore(2, || {
        let (mut host, mut device) = halves(&memory(Fault::None));
        let server = thread::spawn(move || {
            for number in 0..3 {
                let polled = poll(&mut device);
                device.publish_consumed();
                serve(&device, number, polled);
            }
        });
        let mut first = submit(&mut host, 0);
        let mut second = submit(&mut host, 1);
        take(&host.1, &mut first, 0);
        let mut third = submit(&mut host, 2);
        assert_eq!(third.sequence(), 2);
        take(&host.1, &mut second, 1);
        take(&host.1, &mut third, 2);
        server.join().unwrap();
    });
}

/// A slow command in slot 0 is passed over: number 2 becomes a skip, 3 a command in slot 1. Then, at once, the device
/// answers the slow one and reads on, and the host takes that answer and submits into slot 0 again. The skip must have
/// been read before; with the fault the device says so before it has.
fn pass_over(fault: Fault) {
    let memory = memory(fault);
    let (mut host, mut device) = halves(&memory);
    let mut slow = submit(&mut host, 0);
    let at_work = poll(&mut device);
    let mut other = submit(&mut host, 1);
    let polled = poll(&mut device);
    device.publish_consumed();
    serve(&device, 1, polled);
    take(&host.1, &mut other, 1);
    let mut other = submit(&mut host, 3);
    assert_eq!(other.sequence(), 3);

    let server = thread::spawn(move || {
        serve(&device, 0, at_work);
        if fault == Fault::EarlyConsumed {
            memory.words()[layout().control(super::super::layout::CONSUMED)].store(4, Ordering::Release);
        }
        let polled = device.poll_command().expect("the next command was overwritten before it was read");
        device.publish_consumed();
        serve(&device, 3, polled);
        device
    });
    let slow_was_taken = try_take(&host.1, &mut slow, 0);
    let last = host.0.try_submit(&numbered(4), &staged(4));
    let mut device = server.join().unwrap();

    if !slow_was_taken {
        take(&host.1, &mut slow, 0);
    }
    take(&host.1, &mut other, 3);
    let mut last = last.unwrap_or_else(|_| submit(&mut host, 4));
    let polled = poll(&mut device);
    serve(&device, 4, polled);
    take(&host.1, &mut last, 4);
}

/// A slow command's slot is passed over and used again when its answer was taken and its skip was read.
#[test]
fn slow_commands_are_passed_over() {
    explore(3, || pass_over(Fault::None));
}

/// Fault (c): the host uses a slot again that the device has published but not read.
#[test]
#[should_panic(expected = "the next command was overwritten before it was read")]
fn fault_early_consumed_slots_are_overwritten() {
    explore(3, || pass_over(Fault::EarlyConsumed));
}

/// The slot of an abandoned answer is used again only after the device has answered, whose staged word is then not
/// written over the next command's.
#[test]
fn abandoned_slots_wait_for_their_answer() {
    explore(3, || {
        let (mut host, mut device) = halves(&memory(Fault::None));
        let mut given_up = submit(&mut host, 0);
        let at_work = poll(&mut device);
        let mut other = submit(&mut host, 1);
        let polled = poll(&mut device);
        device.publish_consumed();
        serve(&device, 1, polled);
        take(&host.1, &mut other, 1);
        let server = thread::spawn(move || {
            serve(&device, 0, at_work);
            let polled = poll(&mut device);
            serve(&device, 2, polled);
        });
        host.1.abandon(&mut given_up);
        let mut next = submit(&mut host, 2);
        take(&host.1, &mut next, 2);
        server.join().unwrap();
    });
}

/// Two threads take the answers to different commands while the device answers, and the submitter uses the slot that
/// came free: whoever holds a ticket gets its answer.
#[test]
fn two_threads_take_their_own() {
    explore(3, || {
        let ((mut submitter, completions), mut device) = halves(&memory(Fault::None));
        let completions = Arc::new(completions);
        let [mut first, mut second] =
            [0, 1].map(|number| submitter.try_submit(&numbered(number), &staged(number)).unwrap());
        let polled = [poll(&mut device), poll(&mut device)];
        device.publish_consumed();
        let server = thread::spawn(move || {
            for (number, polled) in (0..).zip(polled) {
                serve(&device, number, polled);
            }
            device
        });
        let taker = {
            let completions = Arc::clone(&completions);
            thread::spawn(move || (try_take(&completions, &mut first, 0), first))
        };
        let second_was_taken = try_take(&completions, &mut second, 1);
        let third = submitter.try_submit(&numbered(2), &staged(2));
        let mut device = server.join().unwrap();
        let (first_was_taken, mut first) = taker.join().unwrap();

        if !first_was_taken {
            take(&completions, &mut first, 0);
        }
        if !second_was_taken {
            take(&completions, &mut second, 1);
        }
        if let Ok(mut third) = third {
            let polled = poll(&mut device);
            serve(&device, 2, polled);
            take(&completions, &mut third, 2);
        }
    });
}
