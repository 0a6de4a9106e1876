//! Launch, activate, deactivate, terminate, drop: nothing lost, nothing started twice, every deadline kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{DeviceSlot, ErrorKind, Opcode, RingConfig, Status, SubmitError, Taken, Ticket};

use crate::lane::{Bench, Driver, GRAIN, SMALL, bind, echo, transfer, write_word};
use crate::rig::{Joined, SOON, eventually, kind};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("lifecycle",
    Memory {
        a_launched_ring_executes_nothing => "Device::launch/inactive",
        what_waited_is_executed_on_activation => "Ring::activate/starts",
        activating_twice_changes_nothing => "Ring::activate/again",
        a_terminated_ring_cannot_be_activated => "Ring::activate/final-end",
        nothing_wakes_a_ring_that_is_being_terminated => "Ring::activate/final-end",
        an_inactive_ring_keeps_what_comes => "Ring::deactivate/nothing-lost",
        switching_off_and_on_under_load_loses_nothing => "Ring::deactivate/nothing-lost",
        deactivating_twice_changes_nothing => "Ring::deactivate/again",
        a_terminated_ring_cannot_be_deactivated => "Ring::deactivate/final-end",
        termination_cancels_what_was_not_started => "Ring::terminate/cancels",
        termination_keeps_answers => "Ring::terminate/keeps-answers",
        a_terminated_ring_refuses_commands => "Ring::terminate/refuses",
        termination_under_load_answers_everything => "Ring::terminate/refuses",
        a_ring_can_be_terminated_in_any_state => "Ring::terminate/any-state",
        terminating_twice_does_nothing => "Ring::terminate/again",
        a_dropped_ring_is_terminated => "Ring/dropped",
        any_deadline_may_be_given => "Ring/deadline-kept",
    }
);

fn echoes(lane: &mut Driver, count: u64) -> Vec<Ticket> {
    (0..count).map(|number| lane.submit(&echo(GRAIN, number))).collect()
}

/// Requires that each echo is answered, and with its own number.
#[track_caller]
fn all_echoed(lane: &Driver, tickets: Vec<Ticket>) {
    for (number, ticket) in (0..).zip(tickets) {
        let completion = lane.wait(ticket);
        assert_eq!((completion.status, completion.payload), (Status::Ok, [number; 7]));
    }
}

/// Requires that each is answered as cancelled.
#[track_caller]
fn all_cancelled(lane: &Driver, tickets: Vec<Ticket>) {
    for (number, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(lane.wait(ticket).status, Status::Cancelled, "command {number}");
    }
}

/// Work for another ring of the same device, so that there was time for this one to do something wrong.
fn pass_time(bench: &Bench) {
    let mut other = Bench::new(Arc::clone(&bench.device), SMALL);
    (0..100).for_each(|number| other.lane.probe(number));
}

/// Requires that an inactive lane answers nothing.
#[track_caller]
pub(super) fn stays_pending(bench: &Bench, tickets: &mut [Ticket]) {
    pass_time(bench);
    for ticket in tickets {
        assert_eq!(bench.lane.look(ticket), Taken::Pending, "an inactive ring answered");
    }
}

/// Goal: a ring waits for its host. Method: a launched ring is given commands, and other rings work meanwhile.
pub fn a_launched_ring_executes_nothing(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let mut tickets = echoes(&mut bench.lane, 5);
    stays_pending(&bench, &mut tickets);
    assert_eq!(bench.lane.0.submitter.pending(), 5);
}

/// Goal: what was submitted before is executed without another bell. Method: a lane is filled before the first activation,
/// with writes and a read that tells their order; afterwards it answers what comes.
pub fn what_waited_is_executed_on_activation(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let buffer = bench.device.reserve(64, Default::default()).expect("there is memory");
    let slot = DeviceSlot { index: 0, generation: 1 };
    let mut waiting = vec![bench.lane.submit(&bind(GRAIN, slot, buffer.address(), 64, 64))];
    waiting.extend((1..7).map(|number| bench.lane.submit(&write_word(slot, 0, number))));
    let read = bench.lane.submit(&transfer(Opcode::ReadInline, slot, 0, 8));
    stays_pending(&bench, &mut waiting);
    bench.ring.activate(SOON).expect("the ring starts");
    assert_eq!(bench.lane.wait(read).payload[0], 6);
    waiting.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
    bench.lane.probe(1);
}

/// Goal: activating is a state, not an event. Method: again and again, idle and with commands in flight.
pub fn activating_twice_changes_nothing(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for _ in 0..20 {
        let tickets = echoes(&mut bench.lane, 8);
        bench.ring.activate(SOON).expect("it is active");
        all_echoed(&bench.lane, tickets);
        bench.ring.activate(SOON).expect("it is active");
    }
}

/// Goal: the end is final. Method: activation after termination, once and again.
pub fn a_terminated_ring_cannot_be_activated(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let queued = echoes(&mut bench.lane, 3);
    bench.ring.terminate(SOON).expect("the ring ends");
    for _ in 0..2 {
        assert_eq!(kind(bench.ring.activate(SOON)), ErrorKind::InvalidState);
    }
    all_cancelled(&bench.lane, queued);
}

/// Goal: the end is final also for who comes at the same time. Method: activation and termination race, many times; whoever
/// wins, the ring is terminated and the command is answered.
pub fn nothing_wakes_a_ring_that_is_being_terminated(context: &Context) {
    let device = context.device();
    for _ in 0..100 {
        let Bench { ring, mut lane, .. } = Bench::inactive(Arc::clone(&device), SMALL);
        let ticket = lane.submit(&echo(GRAIN, 1));
        thread::scope(|scope| {
            scope.spawn(|| match ring.activate(SOON) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidState, "{error}"),
            });
            ring.terminate(SOON).expect("the ring ends");
        });
        assert!(matches!(lane.wait(ticket).status, Status::Ok | Status::Cancelled));
        assert_eq!(kind(ring.activate(SOON)), ErrorKind::InvalidState);
    }
}

/// Goal: producers need not know whether a ring is active. Method: a deactivated ring is filled to its last slot; nothing is
/// answered; after activation everything is, in order, many times over.
pub fn an_inactive_ring_keeps_what_comes(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for _ in 0..5 {
        bench.ring.deactivate(SOON).expect("the ring follows");
        let mut tickets = echoes(&mut bench.lane, 8);
        assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full));
        stays_pending(&bench, &mut tickets);
        bench.ring.activate(SOON).expect("the ring follows");
        all_echoed(&bench.lane, tickets);
    }
}

/// Goal: a ring may be switched off at any moment. Method: one thread switches off and on, the other keeps a lane full; every
/// answer is compared.
pub fn switching_off_and_on_under_load_loses_nothing(context: &Context) {
    let Bench { ring, mut lane, .. } = Bench::new(context.device(), SMALL);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ring.deactivate(SOON).expect("the ring follows");
                ring.activate(SOON).expect("the ring follows");
            }
        });
        // Also when an answer is wrong: the other thread ends.
        let _over = SetAtEnd(&over);
        let mut waiting = VecDeque::new();
        for number in 0..10_000 {
            if waiting.len() == 8 {
                let (sent, ticket) = waiting.pop_front().expect("it is full");
                assert_eq!(lane.wait(ticket).payload, [sent; 7]);
            }
            waiting.push_back((number, lane.submit(&echo(GRAIN, number))));
        }
        waiting.into_iter().for_each(|(sent, ticket)| assert_eq!(lane.wait(ticket).payload, [sent; 7]));
    });
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goal: deactivating is a state, not an event. Method: twice in each of several rounds, also before the first activation.
pub fn deactivating_twice_changes_nothing(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    for _ in 0..3 {
        let mut tickets = echoes(&mut bench.lane, 8);
        bench.ring.deactivate(SOON).expect("it is inactive");
        bench.ring.deactivate(SOON).expect("it is inactive");
        stays_pending(&bench, &mut tickets);
        bench.ring.activate(SOON).expect("the ring follows");
        all_echoed(&bench.lane, tickets);
        bench.ring.deactivate(SOON).expect("the ring follows");
    }
}

/// Goal: the end is final. Method: deactivation after termination, which neither succeeds nor brings the ring back.
pub fn a_terminated_ring_cannot_be_deactivated(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    bench.ring.terminate(SOON).expect("the ring ends");
    for _ in 0..2 {
        assert_eq!(kind(bench.ring.deactivate(SOON)), ErrorKind::InvalidState);
    }
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
}

/// Goal: every command is answered, whatever becomes of the ring. Method: three lanes of an inactive ring are filled to
/// different heights; after termination each command is answered as cancelled, and no write was done.
pub fn termination_cancels_what_was_not_started(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { lanes: 3, ..SMALL });
    let (buffer, slot) = bench.bound(0, 64);
    bench.ring.deactivate(SOON).expect("the ring follows");
    let mut queued = vec![bench.lane.submit(&write_word(slot, 0, u64::MAX))];
    queued.extend(echoes(&mut bench.lane, 7));
    let mut others = [1, 2].map(|lane| Driver::take(&*bench.ring, lane));
    let theirs = [echoes(&mut others[0], 1), echoes(&mut others[1], 5)];
    bench.ring.terminate(SOON).expect("the ring ends");
    all_cancelled(&bench.lane, queued);
    for (lane, tickets) in others.iter().zip(theirs) {
        all_cancelled(lane, tickets);
    }
    assert_eq!([bench.lane.0.submitter.pending(), others[0].0.submitter.pending()], [0; 2]);
    let mut next = Bench::new(Arc::clone(&bench.device), SMALL);
    assert_eq!(next.lane.bind(GRAIN, slot, buffer.address(), 64, 0), Status::Ok);
    assert_eq!(next.lane.read_all(slot, 64), [0; 64], "a cancelled write was done");
}

/// Goal: what was answered stays answered. Method: answers of several kinds are there when the ring is terminated, and are
/// taken afterwards, with their bytes.
pub fn termination_keeps_answers(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 64);
    bench.lane.write_all(slot, &[0x77; 64]);
    let read = bench.lane.submit(&transfer(Opcode::Read, slot, 0, 64));
    let refused = bench.lane.submit(&transfer(Opcode::Read, slot, 60, 8));
    let echoed = echoes(&mut bench.lane, 4);
    let all = || echoed.iter().chain([&read, &refused]);
    eventually("all are answered", || all().all(|ticket| bench.lane.is_complete(ticket)));
    bench.ring.terminate(SOON).expect("the ring ends");
    assert!(all().all(|ticket| bench.lane.is_complete(ticket)));
    let mut bytes = [0; 64];
    assert_eq!((bench.lane.wait_into(read, &mut bytes).status, bytes), (Status::Ok, [0x77; 64]));
    assert_eq!(bench.lane.wait(refused).status, Status::OutOfBounds);
    all_echoed(&bench.lane, echoed);
}

/// Goal: nobody waits for a ring that is gone. Method: every lane of a terminated ring, also one that is handed out later,
/// refuses single commands and runs.
pub fn a_terminated_ring_refuses_commands(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { lanes: 2, ..SMALL });
    bench.ring.terminate(SOON).expect("the ring ends");
    let refused = |lane: &mut Driver| {
        assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
        let mut tickets = Vec::new();
        assert_eq!(lane.0.submitter.try_submit_run(&[echo(GRAIN, 0)], &mut tickets), Err(SubmitError::Stopped));
        lane.0.submitter.doorbell();
        assert!(tickets.is_empty() && lane.0.submitter.pending() == 0);
    };
    refused(&mut bench.lane);
    if let Some(lane) = bench.ring.take_lane(1) {
        refused(&mut Driver(lane));
    }
}

/// Goal: a command is either refused or answered, also when it comes at that moment. Method: a producer runs while its ring is
/// terminated, many times; every ticket has an answer.
pub fn termination_under_load_answers_everything(context: &Context) {
    let device = context.device();
    for _ in 0..50 {
        let Bench { ring, mut lane, .. } = Bench::new(Arc::clone(&device), SMALL);
        thread::scope(|scope| {
            let producer = scope.spawn(move || {
                let mut waiting = VecDeque::new();
                for number in 0.. {
                    match lane.try_submit(&echo(GRAIN, number), &[]) {
                        Ok(ticket) => waiting.push_back((number, ticket)),
                        Err(SubmitError::Stopped) => break,
                        Err(why) => assert_eq!(why, SubmitError::Full),
                    }
                    if waiting.len() == 8 {
                        let (sent, ticket) = waiting.pop_front().expect("it is full");
                        let completion = lane.wait(ticket);
                        let is_right = completion.status == Status::Cancelled || completion.payload == [sent; 7];
                        assert!(is_right, "{sent}: {completion:?}");
                    }
                }
                for (_, ticket) in waiting {
                    assert!(matches!(lane.wait(ticket).status, Status::Ok | Status::Cancelled));
                }
            });
            ring.terminate(SOON).expect("the ring ends");
            producer.joined();
        });
    }
}

/// Goal: a ring ends wherever it is in its life. Method: one that was never activated, an active one, a deactivated one, each
/// with a command in its lane.
pub fn a_ring_can_be_terminated_in_any_state(context: &Context) {
    let device = context.device();
    for changes in 0..3 {
        let mut bench = Bench::inactive(Arc::clone(&device), SMALL);
        if changes > 0 {
            bench.ring.activate(SOON).expect("the ring follows");
        }
        if changes > 1 {
            bench.ring.deactivate(SOON).expect("the ring follows");
        }
        let ticket = bench.lane.submit(&echo(GRAIN, 1));
        bench.ring.terminate(SOON).expect("the ring ends");
        let status = bench.lane.wait(ticket).status;
        assert!(
            status == Status::Cancelled || changes == 1 && status == Status::Ok,
            "{status:?} after {changes} changes"
        );
    }
}

/// Goal: terminating is a state, not an event. Method: again, from two threads at once, and again.
pub fn terminating_twice_does_nothing(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    let queued = echoes(&mut bench.lane, 3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| bench.ring.terminate(SOON).expect("the ring ends"));
        }
    });
    bench.ring.terminate(SOON).expect("it is terminated");
    all_cancelled(&bench.lane, queued);
    bench.ring.terminate(SOON).expect("it is terminated");
}

/// Goal: a ring does not outlive its owner. Method: rings are dropped active and inactive with commands in their lanes; each is
/// answered, and more are refused.
pub fn a_dropped_ring_is_terminated(context: &Context) {
    let device = context.device();
    for round in 0..20 {
        let Bench { ring, mut lane, .. } = Bench::inactive(Arc::clone(&device), SMALL);
        if round % 2 == 1 {
            ring.activate(SOON).expect("the ring starts");
        }
        let queued = echoes(&mut lane, 8);
        drop(ring);
        for ticket in queued {
            let status = lane.wait(ticket).status;
            assert!(status == Status::Cancelled || round % 2 == 1 && status == Status::Ok, "{status:?}");
        }
        assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
    }
}

/// Goal: a deadline is a number that callers choose. Method: the longest there is, for every change.
pub fn any_deadline_may_be_given(context: &Context) {
    let mut bench = Bench::inactive(context.device(), SMALL);
    bench.ring.activate(Duration::MAX).expect("the ring follows");
    bench.lane.probe(1);
    bench.ring.deactivate(Duration::MAX).expect("the ring follows");
    bench.ring.terminate(Duration::MAX).expect("the ring ends");
}
