//! Launch, activate, deactivate, terminate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, Placement, RingConfig, Status, SubmitError, Taken};
use gpubridge_kernels::KernelLibrary;

use crate::bench::{Bench, GRAIN, HANG, SMALL, call, echo, open, parking};
use crate::kernels::{Gate, Journal, compile_all, declaration, gated, kernel, library, noted};

/// Too short for a kernel that waits for the test, however slow or fast the machine is.
const SHORT: Duration = Duration::from_millis(1);

fn bench() -> Bench {
    Bench::new(KernelLibrary::empty(), SMALL)
}

fn at_the_gate() -> (Bench, Arc<Gate>, Journal) {
    let (gate, journal) = (Arc::new(Gate::default()), Journal::default());
    let kernels = library([gated(0, &gate), noted(1, "noted", Placement::InRing, &journal)]);
    let bench = Bench::new(kernels, SMALL);
    compile_all(&*bench.device);
    (bench, gate, journal)
}

#[test]
fn a_ring_hands_out_each_lane_once() {
    let device = open(KernelLibrary::empty(), parking());
    let config = RingConfig { lanes: 3, ..SMALL };
    let ring = device.launch(config).unwrap();
    assert_eq!(ring.config(), config);
    for lane in 0..3 {
        assert!(ring.take_lane(lane).is_some());
        assert!(ring.take_lane(lane).is_none());
    }
    assert!(ring.take_lane(3).is_none());
}

#[test]
fn an_inactive_ring_leaves_commands_until_it_is_activated() {
    let (mut bench, _gate, journal) = at_the_gate();
    bench.ring.deactivate(HANG).unwrap();
    bench.ring.deactivate(Duration::MAX).unwrap();
    let mut tickets: Vec<_> = (0..8).map(|number| bench.lane.submit(&call(1, GRAIN, number))).collect();
    // Another ring does its work meanwhile; this one does none.
    let mut other = self::bench();
    (0..100).for_each(|number| assert_eq!(other.lane.run(&echo(GRAIN, number)).payload[0], number));
    for ticket in &mut tickets {
        assert_eq!(bench.lane.0.completions.take(ticket, &mut []), Taken::Pending);
    }
    assert!(journal.lock().unwrap().is_empty());
    bench.ring.activate(HANG).unwrap();
    bench.ring.activate(HANG).unwrap();
    for (number, ticket) in (0..).zip(tickets) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
}

#[test]
fn switching_off_and_on_under_load_loses_nothing() {
    let Bench { ring, mut lane, .. } = bench();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ring.deactivate(HANG).unwrap();
                ring.activate(HANG).unwrap();
            }
        });
        let mut waiting = std::collections::VecDeque::new();
        for number in 0..20_000 {
            if waiting.len() == 8 {
                let (sent, ticket) = waiting.pop_front().unwrap();
                assert_eq!(lane.wait(ticket).payload, [sent; 7]);
            }
            waiting.push_back((number, lane.submit(&echo(GRAIN, number))));
        }
        waiting.into_iter().for_each(|(sent, ticket)| assert_eq!(lane.wait(ticket).payload, [sent; 7]));
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn termination_cancels_what_is_queued() {
    let (mut bench, _gate, journal) = at_the_gate();
    let answered = bench.lane.submit(&call(1, GRAIN, 1));
    while !bench.lane.0.completions.is_complete(answered.sequence()) {
        thread::yield_now();
    }
    bench.ring.deactivate(HANG).unwrap();
    let queued: Vec<_> = (2..6).map(|number| bench.lane.submit(&call(1, GRAIN, number))).collect();
    bench.ring.terminate(HANG).unwrap();
    bench.ring.terminate(HANG).unwrap();
    assert_eq!(bench.lane.wait(answered).status, Status::Ok, "an answer given before stays");
    queued.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Cancelled));
    assert_eq!(journal.lock().unwrap().len(), 1);
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
    assert_eq!(bench.lane.0.submitter.pending(), 0);
    assert_eq!(bench.ring.activate(HANG).unwrap_err().kind(), ErrorKind::InvalidState);
    assert_eq!(bench.ring.deactivate(HANG).unwrap_err().kind(), ErrorKind::InvalidState);
}

#[test]
fn a_ring_that_was_never_activated_can_be_terminated() {
    let mut bench = Bench::inactive(KernelLibrary::empty(), SMALL);
    let queued = bench.lane.submit(&echo(GRAIN, 1));
    bench.ring.terminate(HANG).unwrap();
    assert_eq!(bench.lane.wait(queued).status, Status::Cancelled);
}

#[test]
fn a_kernel_that_does_not_end_makes_termination_time_out() {
    let (mut bench, gate, journal) = at_the_gate();
    let mut endless = bench.lane.submit(&call(0, GRAIN, 7));
    gate.wait_for(1);
    let behind = bench.lane.submit(&call(1, GRAIN, 8));
    let other = bench.lane.run(&echo(GRAIN + 1, 9));
    assert_eq!(other.status, Status::Ok);
    assert_eq!(bench.ring.terminate(SHORT).unwrap_err().kind(), ErrorKind::Timeout);
    // What was not started is answered all the same; what is at work is not.
    assert_eq!(bench.lane.wait(behind).status, Status::Cancelled);
    assert_eq!(bench.lane.0.completions.take(&mut endless, &mut []), Taken::Pending);
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
    assert_eq!(bench.ring.activate(HANG).unwrap_err().kind(), ErrorKind::InvalidState);
    gate.open();
    bench.ring.terminate(HANG).unwrap();
    let completion = bench.lane.wait(endless);
    assert_eq!((completion.status, completion.payload[0]), (Status::Ok, 7));
    assert!(journal.lock().unwrap().is_empty());
}

#[test]
fn a_deactivation_that_times_out_can_be_taken_back() {
    let (mut bench, gate, _journal) = at_the_gate();
    let endless = bench.lane.submit(&call(0, GRAIN, 7));
    gate.wait_for(1);
    assert_eq!(bench.ring.deactivate(SHORT).unwrap_err().kind(), ErrorKind::Timeout);
    bench.ring.activate(HANG).unwrap();
    assert_eq!(bench.lane.run(&echo(GRAIN + 1, 5)).payload, [5; 7]);
    assert_eq!(bench.ring.deactivate(SHORT).unwrap_err().kind(), ErrorKind::Timeout);
    gate.open();
    bench.ring.deactivate(HANG).unwrap();
    assert_eq!(bench.lane.wait(endless).payload[0], 7);
    bench.ring.activate(HANG).unwrap();
    assert_eq!(bench.lane.run(&echo(GRAIN, 6)).payload, [6; 7]);
}

#[test]
fn nothing_wakes_a_terminated_ring() {
    for _ in 0..200 {
        let Bench { ring, mut lane, .. } = bench();
        let ticket = lane.submit(&echo(GRAIN, 1));
        thread::scope(|scope| {
            scope.spawn(|| match ring.activate(HANG) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidState, "{error}"),
            });
            ring.terminate(HANG).unwrap();
        });
        assert!(matches!(lane.wait(ticket).status, Status::Ok | Status::Cancelled));
        assert_eq!(ring.activate(HANG).unwrap_err().kind(), ErrorKind::InvalidState);
    }
}

#[test]
fn dropping_a_ring_ends_its_threads() {
    for _ in 0..50 {
        let token = Arc::new(());
        let (kept, watched): (_, Weak<()>) = (Arc::clone(&token), Arc::downgrade(&token));
        drop(token);
        let holds = move |_: &gpubridge_kernels::Invocation<'_>, _: &mut gpubridge_kernels::Answer| {
            assert_eq!(Arc::strong_count(&kept), 1);
        };
        let bench = Bench::new(library([kernel(declaration(0, "holds", Placement::Beside), holds)]), SMALL);
        compile_all(&*bench.device);
        let Bench { device, ring, mut lane } = bench;
        assert_eq!(lane.status(&call(0, GRAIN, 0)), Status::Ok);
        let queued = lane.submit(&call(0, GRAIN, 1));
        drop(ring);
        assert!(matches!(lane.wait(queued).status, Status::Ok | Status::Cancelled));
        assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
        drop(device);
        // The ring's threads held the last references to the kernel.
        assert!(watched.upgrade().is_none(), "a thread of the ring is still there");
    }
}
