//! The device's end against submissions, answers and takes that are under way.

use std::sync::Arc;

use super::*;

/// The device looks once, answers what it finds, and ends, while the host submits. A command that was read has its
/// answer with its staged bytes, whenever it came; one that was not is cancelled; none stays pending.
#[test]
fn commands_are_answered_or_cancelled() {
    explore(3, || {
        let ((mut submitter, completions), mut device) = halves(&memory(Fault::None));
        let completions = Arc::new(completions);
        let server = {
            let completions = Arc::clone(&completions);
            thread::spawn(move || {
                let polled = device.poll_command();
                let was_read = polled.is_some();
                if let Some(polled) = polled {
                    serve(&device, 0, polled);
                }
                completions.device_ended();
                was_read
            })
        };
        let Ok(mut ticket) = submitter.try_submit(&numbered(0), &staged(0)) else {
            assert!(!server.join().unwrap(), "nothing was submitted");
            return;
        };
        let mut bytes = [0; 8];
        let taken = loop {
            match completions.take(&mut ticket, &mut bytes) {
                Taken::Pending => thread::yield_now(),
                taken => break taken,
            }
        };
        if server.join().unwrap() {
            assert_eq!(taken, Taken::Ready(answer(0)));
            assert_eq!(bytes, staged_answer(0), "the answer came without its staged bytes");
        } else {
            assert_eq!(taken, Taken::Ready(Completion::of(Status::Cancelled)));
        }
    });
}

/// The device ends without answering the second command of slot 0, which one thread takes as cancelled while another
/// submits. A command that still gets in must be cancelled too: the first command's answer lies in the slot, and after
/// an even number of commands its answer bit would fit.
#[test]
fn late_commands_do_not_find_old_answers() {
    explore(3, || {
        let (mut host, mut device) = halves(&memory(Fault::None));
        go_round(&mut host, &mut device);
        let mut unanswered = submit(&mut host, 2);
        let _at_work = poll(&mut device);
        device.publish_consumed();
        let (mut submitter, completions) = host;
        let completions = Arc::new(completions);
        let ender = {
            let completions = Arc::clone(&completions);
            thread::spawn(move || {
                completions.device_ended();
                completions.take(&mut unanswered, &mut [])
            })
        };
        let mut late: Vec<Ticket> = Vec::new();
        for number in 3..5 {
            late.extend(submitter.try_submit(&numbered(number), &[]));
        }
        let cancelled = Taken::Ready(Completion::of(Status::Cancelled));
        assert_eq!(ender.join().unwrap(), cancelled);
        for ticket in &mut late {
            assert_eq!(completions.take(ticket, &mut []), cancelled, "the answer is an old one");
        }
        assert_eq!(submitter.pending(), 0);
    });
}

/// A thread that learns only from `is_complete` that a command is answered sees what the device did before, also when
/// the slot already serves another command.
#[test]
fn completeness_is_seen_with_its_effects() {
    explore(3, || {
        let (mut host, mut device) = halves(&memory(Fault::None));
        let effect = Arc::new(AtomicU64::new(0));
        let mut first = submit(&mut host, 0);
        let mut second = submit(&mut host, 1);
        let polled = poll(&mut device);
        device.publish_consumed();
        let (mut submitter, completions) = host;
        let completions = Arc::new(completions);
        let watcher = {
            let (completions, effect) = (Arc::clone(&completions), Arc::clone(&effect));
            thread::spawn(move || {
                if completions.is_complete(0) {
                    assert_eq!(effect.load(Ordering::Relaxed), 7, "complete without its effect");
                }
            })
        };
        let server = thread::spawn(move || {
            effect.store(7, Ordering::Relaxed);
            serve(&device, 0, polled);
            device
        });
        if try_take(&completions, &mut first, 0) {
            let _third = submitter.try_submit(&numbered(2), &[]).unwrap();
        }
        watcher.join().unwrap();
        let mut device = server.join().unwrap();
        let polled = poll(&mut device);
        serve(&device, 1, polled);
        take(&completions, &mut second, 1);
    });
}
