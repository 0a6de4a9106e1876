//! The lifecycle beside work that was started: finished, waited for, and given no more than the deadline.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, RingConfig, Status, SubmitError, Taken, Ticket};

use super::lifecycle::stays_pending;
use crate::lane::{Bench, Driver, GRAIN, SMALL, call, echo};
use crate::rig::{Gate, Joined, OpenAtEnd, SOON, kind};
use crate::twins::{GATED, Journal, NOTED, NOTED_BESIDE, gated, noted};
use crate::{Case, Context};

/// The cases of the area `lifecycle` that need a kernel at a gate.
pub const CASES: &[Case] = crate::cases::table!("lifecycle",
    Twins {
        deactivation_waits_for_what_was_started => "Ring::deactivate/finishes-started",
        a_deactivation_that_timed_out_is_taken_back => "Ring::deactivate/taken-back",
        every_lane_is_cancelled_beside_a_kernel_that_does_not_end => "Ring::terminate/cancels",
        termination_waits_for_what_was_started => "Ring::terminate/finishes-started",
        a_termination_that_timed_out_is_waited_for_again => "Ring::terminate/again",
        a_kernel_that_does_not_end_makes_a_change_time_out => "Ring/deadline-kept",
    }
);

/// Too short for a kernel that waits for the case, however slow or fast the machine is.
const SHORT: Duration = Duration::from_millis(1);

/// The kernel slots of [`at_the_gate`].
const AT_GATE: u16 = 0;
const IN_RING: u16 = 1;
const BESIDE: u16 = 2;

/// A ring of two lanes, in the first of which a call of [`GRAIN`] is at the gate.
fn at_the_gate(context: &Context) -> (Bench, Arc<Gate>, Arc<Journal>, Ticket) {
    let (gate, journal) = (Gate::closed(), Journal::new());
    let [in_ring, beside] = noted(&journal);
    let device = context.device_with(&[gated(&gate), in_ring, beside]);
    let config = RingConfig { lanes: 2, ..SMALL };
    let mut bench = Bench::with_kernels(device, config, &[GATED, NOTED, NOTED_BESIDE]);
    let slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
    gate.wait_arrived(1);
    (bench, gate, journal, slow)
}

/// Goal: after deactivation nothing is at work. Method: a call at a gate and two behind it; a thread opens the gate while the
/// ring is told to deactivate; then the first is answered and the others have not run.
pub fn deactivation_waits_for_what_was_started(context: &Context) {
    let (mut bench, gate, journal, slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    let mut behind = [IN_RING, BESIDE].map(|kernel| bench.lane.submit(&call(kernel, GRAIN, u32::from(kernel))));
    // The ring follows only when the gate is open.
    assert_eq!(kind(bench.ring.deactivate(SHORT)), ErrorKind::Timeout);
    thread::scope(|scope| {
        scope.spawn(|| gate.open());
        bench.ring.deactivate(SOON).expect("the ring follows");
    });
    assert!(bench.lane.is_complete(&slow), "the ring is inactive and a call is still at work");
    stays_pending(&bench, &mut behind);
    assert!(journal.numbers().is_empty(), "an inactive ring started a call");
    bench.ring.activate(SOON).expect("the ring follows");
    for (number, ticket) in [1, 2].into_iter().zip(behind) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
}

/// Goal: a deactivation that does not come about harms nothing. Method: with a call at a gate it times out; the ring is
/// activated again and answers others; then once more, with the gate open.
pub fn a_deactivation_that_timed_out_is_taken_back(context: &Context) {
    let (mut bench, gate, _journal, slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    for number in 0..3 {
        assert_eq!(kind(bench.ring.deactivate(SHORT)), ErrorKind::Timeout);
        bench.ring.activate(SOON).expect("the ring follows");
        assert_eq!(bench.lane.run(&echo(GRAIN + 1, number)).payload, [number; 7]);
    }
    gate.open();
    bench.ring.deactivate(SOON).expect("the ring follows");
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
    bench.ring.activate(SOON).expect("the ring follows");
    bench.lane.probe(6);
}

/// Goal: whatever does not end holds up nobody else. Method: behind a call at a gate some of its grain wait in the device, and
/// more of several grains in a ring that is told to deactivate, in both lanes; termination times out, and all of them are
/// answered while the call is at its gate: as done if they ran, which those of its grain cannot, as cancelled if not.
pub fn every_lane_is_cancelled_beside_a_kernel_that_does_not_end(context: &Context) {
    let (mut bench, gate, journal, mut slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    let mut other = Driver::take(&*bench.ring, 1);
    let mut own: Vec<_> = (0..3).map(|i| bench.lane.submit(&call(IN_RING, GRAIN, i))).collect();
    // It is answered when the device has read those before it.
    assert_eq!(bench.lane.run(&echo(GRAIN + 1, 1)).payload, [1; 7]);
    assert_eq!(kind(bench.ring.deactivate(SHORT)), ErrorKind::Timeout);
    own.extend((3..7).map(|i| bench.lane.submit(&call(IN_RING, GRAIN + i % 2, i))));
    let theirs: Vec<_> = (10..18).map(|i| other.submit(&call(IN_RING, GRAIN, i))).collect();
    assert_eq!(kind(bench.ring.terminate(SHORT)), ErrorKind::Timeout);
    let mut ran = Vec::new();
    for (number, ticket) in (0..7).zip(own) {
        let status = bench.lane.wait(ticket).status;
        let behind = number < 3 || number % 2 == 0;
        assert!(status == Status::Cancelled || (status == Status::Ok && !behind), "command {number}: {status}");
        ran.extend((status == Status::Ok).then_some(number));
    }
    for (number, ticket) in (10..18).zip(theirs) {
        let status = other.wait(ticket).status;
        assert!(matches!(status, Status::Cancelled | Status::Ok), "command {number}: {status}");
        ran.extend((status == Status::Ok).then_some(number));
    }
    assert_eq!(bench.lane.look(&mut slow), Taken::Pending, "a call at work was answered");
    gate.open();
    bench.ring.terminate(SOON).expect("the ring ends");
    let mut noted = journal.numbers();
    noted.sort_unstable();
    assert_eq!(noted, ran, "those that ran are those that were answered so");
}

/// Goal: work that was started is not thrown away. Method: termination with a call at a gate; when the gate opens, the call is
/// answered as done.
pub fn termination_waits_for_what_was_started(context: &Context) {
    let (bench, gate, _journal, slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    thread::scope(|scope| {
        let terminating = scope.spawn(|| bench.ring.terminate(SOON));
        gate.open();
        terminating.joined().expect("the ring ends");
    });
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
}

/// Goal: a timeout is not the end of waiting. Method: termination times out twice beside a call at a gate, refuses everything
/// meanwhile, and comes about when the gate is open.
pub fn a_termination_that_timed_out_is_waited_for_again(context: &Context) {
    let (mut bench, gate, _journal, slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    for _ in 0..2 {
        assert_eq!(kind(bench.ring.terminate(SHORT)), ErrorKind::Timeout);
        assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
        assert_eq!(kind(bench.ring.activate(SHORT)), ErrorKind::InvalidState);
        assert_eq!(kind(bench.ring.deactivate(SHORT)), ErrorKind::InvalidState);
    }
    gate.open();
    bench.ring.terminate(SOON).expect("the ring ends");
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
}

/// Goal: no change blocks its caller for ever. Method: deactivation and termination beside a call that does not end return
/// with a deadline of a millisecond and of nothing, and say that they did not come about.
pub fn a_kernel_that_does_not_end_makes_a_change_time_out(context: &Context) {
    let (bench, gate, _journal, mut slow) = at_the_gate(context);
    let _open = OpenAtEnd(&gate);
    for deadline in [SHORT, Duration::ZERO, SHORT] {
        assert_eq!(kind(bench.ring.deactivate(deadline)), ErrorKind::Timeout);
    }
    for deadline in [SHORT, Duration::ZERO, SHORT] {
        assert_eq!(kind(bench.ring.terminate(deadline)), ErrorKind::Timeout);
    }
    assert_eq!(bench.lane.look(&mut slow), Taken::Pending);
    gate.open();
    bench.ring.terminate(SOON).expect("the ring ends");
}
