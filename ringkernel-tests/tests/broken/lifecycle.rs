//! Faults of the ring's life: started, stopped and ended too early, too late, or not at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpubridge_abstractions::{
    Command, Completion, Device, Error, ErrorKind, Ring, RingConfig, Status, SubmitError, Taken, Ticket,
};

use crate::wrap::{Fault, InnerLane};

/// Starts without being activated.
#[derive(Debug, Default)]
pub struct StartsActive;

impl Fault for StartsActive {
    fn launch(&self, device: &dyn Device, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        let ring = device.launch(config)?;
        ring.activate(Duration::MAX)?;
        Ok(ring)
    }
}

/// Goes on after it was deactivated.
#[derive(Debug, Default)]
pub struct IgnoresDeactivation;

impl Fault for IgnoresDeactivation {
    fn deactivate(&self, _: &dyn Ring, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

/// Ignores the stop flag: goes on after it was terminated.
#[derive(Debug, Default)]
pub struct IgnoresTheStopFlag;

impl Fault for IgnoresTheStopFlag {
    fn terminate(&self, _: &dyn Ring, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}

/// Does not notice that it has ended.
#[derive(Debug, Default)]
pub struct TimesOutAtTheEnd;

impl Fault for TimesOutAtTheEnd {
    fn terminate(&self, ring: &dyn Ring, deadline: Duration) -> Result<(), Error> {
        ring.terminate(deadline)?;
        Err(Error::new(ErrorKind::Timeout, "broken.terminate", "the ring did not end in time"))
    }
}

/// Accepts commands after it has ended.
#[derive(Debug, Default)]
pub struct AcceptsAfterTheEnd;

impl Fault for AcceptsAfterTheEnd {
    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        match lane.submit(command, staged) {
            Err(SubmitError::Stopped) => Ok(Ticket::new(lane.next_sequence())),
            outcome => outcome,
        }
    }
}

/// Waits for as long as it takes, whatever the deadline.
#[derive(Debug, Default)]
pub struct IgnoresDeadlines;

impl Fault for IgnoresDeadlines {
    fn deactivate(&self, ring: &dyn Ring, _: Duration) -> Result<(), Error> {
        ring.deactivate(Duration::MAX)
    }

    fn terminate(&self, ring: &dyn Ring, _: Duration) -> Result<(), Error> {
        ring.terminate(Duration::MAX)
    }
}

/// Cancels what is queued when it is deactivated, where it should keep it for later.
#[derive(Debug, Default)]
pub struct CancelsWhatIsQueued {
    inactive: AtomicBool,
}

impl Fault for CancelsWhatIsQueued {
    fn deactivate(&self, ring: &dyn Ring, deadline: Duration) -> Result<(), Error> {
        self.inactive.store(true, Ordering::Release);
        ring.deactivate(deadline)
    }

    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        let taken = lane.completions.take(ticket, staged);
        if taken != Taken::Pending || !lane.ring.inactive.load(Ordering::Acquire) {
            return taken;
        }
        lane.completions.abandon(ticket);
        Taken::Ready(Completion::of(Status::Cancelled))
    }
}
