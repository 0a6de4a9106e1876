//! The end of a device, and of submissions.

use super::*;

/// After the device's end, answered commands keep their answers with staged bytes; unanswered ones, read or not, read
/// as cancelled, once.
#[test]
fn unanswered_commands_are_cancelled() {
    let mut rig = Rig::new(4, 8);
    let mut answered = rig.submitter.try_submit(&numbered(0), &[3; 8]).unwrap();
    let reply = rig.poll(0);
    rig.device.complete(reply, &answer(0));
    let mut read = rig.submit(1);
    let _reply = rig.poll(1);
    let mut unread = rig.submit(2);
    assert_eq!(rig.submitter.pending(), 2);
    rig.completions.device_ended();
    assert_eq!((rig.submitter.pending(), rig.submitter.completed_below()), (0, 3));
    let mut bytes = [0; 8];
    assert_eq!(rig.completions.take(&mut answered, &mut bytes), Taken::Ready(answer(0)));
    assert_eq!(bytes, [3; 8]);
    for ticket in [&mut read, &mut unread] {
        assert!(rig.completions.is_complete(ticket.sequence()));
        assert_eq!(rig.completions.take(ticket, &mut bytes), Taken::Ready(Completion::of(Status::Cancelled)));
        assert_eq!(rig.completions.take(ticket, &mut bytes), Taken::Gone);
        assert!(rig.completions.is_complete(ticket.sequence()));
    }
    assert_eq!(bytes, [3; 8], "a cancelled command copies nothing");
    assert_eq!(rig.submitter.pending(), 0);
}

/// A command submitted after the device's last look, before its end is known, is cancelled too.
#[test]
fn commands_after_the_last_look_are_cancelled() {
    let mut rig = Rig::new(2, 0);
    assert!(rig.device.poll_command().is_none());
    let mut late = rig.submit(0);
    assert_eq!(rig.completions.take(&mut late, &mut []), Taken::Pending);
    rig.completions.device_ended();
    assert_eq!(rig.completions.take(&mut late, &mut []), Taken::Ready(Completion::of(Status::Cancelled)));
}

/// Refused submissions are `Stopped`, also on a full lane and with too little room; what was submitted before is still
/// read and answered.
#[test]
fn submissions_are_refused_after_the_stop() {
    let mut rig = Rig::new(2, 0);
    let mut before = rig.submit(0);
    rig.completions.refuse_submissions();
    for _ in 0..2 {
        assert_eq!(rig.submitter.try_submit(&numbered(1), &[]), Err(SubmitError::Stopped));
    }
    let reply = rig.poll(0);
    rig.device.complete(reply, &answer(0));
    rig.take(&mut before, 0);
    assert!(rig.device.poll_command().is_none(), "a refused command arrived");
}

/// The end stays the end, whatever is asked of the lane afterwards, and it refuses submissions by itself.
#[test]
fn ends_are_final() {
    let mut rig = Rig::new(2, 0);
    let mut unread = rig.submit(0);
    rig.completions.device_ended();
    assert_eq!(rig.submitter.try_submit(&numbered(1), &[]), Err(SubmitError::Stopped));
    rig.completions.refuse_submissions();
    rig.completions.device_ended();
    assert_eq!(rig.submitter.try_submit(&numbered(1), &[]), Err(SubmitError::Stopped));
    assert_eq!(rig.completions.take(&mut unread, &mut []), Taken::Ready(Completion::of(Status::Cancelled)));
}

/// What a device that was lost has not answered reads as `DeviceLost`; its earlier answers are kept.
#[test]
fn a_lost_device_is_told_from_one_that_ended() {
    let mut rig = Rig::new(4, 0);
    let mut answered = rig.submit(0);
    let mut unread = rig.submit(1);
    let reply = rig.poll(0);
    rig.device.complete(reply, &answer(0));
    rig.completions.device_lost();
    rig.take(&mut answered, 0);
    assert_eq!(rig.completions.take(&mut unread, &mut []), Taken::Ready(Completion::of(Status::DeviceLost)));
    assert_eq!(rig.submitter.try_submit(&numbered(2), &[]), Err(SubmitError::Stopped));
}
