//! A ring without threads: its callers serve it.

use std::time::Instant;

use gpubridge_kernels::device::Phase;
use gpubridge_kernels::ring::Wake;
use parking_lot::Mutex;

use crate::serve::Server;
use crate::worker::Tasks;

/// The callers of a ring, one at a time in its server's place.
///
/// To the lanes it is a server that sleeps whenever nobody is here, so that a doorbell comes here then. As long as
/// somebody is, that one serves for all, as a ring thread does that is awake.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    // None before the launch is complete, and after the end.
    place: Mutex<Option<Place>>,
}

/// What a caller who serves works with.
#[derive(Debug)]
struct Place {
    server: Server,
    beside: [Tasks; 2],
    phase: Phase,
}

impl Callers {
    /// Callers may serve with this server from now on.
    pub(crate) fn begin(&self, server: Server, beside: [Tasks; 2]) {
        *self.place.lock() = Some(Place { server, beside, phase: Phase::Inactive });
    }

    /// Follows into the phase that is wanted and serves, unless somebody else is at it until then.
    pub(crate) fn visit_until(&self, until: Instant) {
        if let Some(mut place) = self.place.try_lock_until(until) {
            serve(&mut place);
        }
    }
}

impl Wake for Callers {
    fn wake(&self) {
        serve(&mut self.place.lock());
    }
}

/// Serves until there is nothing left to do.
fn serve(place: &mut Option<Place>) {
    if let Some(at) = place
        && at.serve() == Phase::Terminated
        && let Some(Place { server, .. }) = place.take()
    {
        server.end();
    }
}

impl Place {
    /// Follows into the phase that is wanted and works until there is nothing left. Returns the phase.
    fn serve(&mut self) -> Phase {
        loop {
            let wanted = self.server.control.wanted();
            if wanted != self.phase {
                // Does not wait: what was started beside the ring was done at once.
                self.server.finish_started(wanted);
                self.phase = wanted;
                if wanted != Phase::Terminated {
                    self.server.control.reached(wanted);
                }
            }
            if wanted != Phase::Active || !self.work() {
                return wanted;
            }
        }
    }

    /// Does all that has arrived and says that the server sleeps. Returns whether there is more, or another phase is
    /// wanted.
    fn work(&mut self) -> bool {
        while self.turn() {
            if self.server.control.wanted() != Phase::Active {
                return true;
            }
        }
        self.server.lanes.iter().for_each(|lane| lane.device.announce_sleep());
        // Once more, as a ring thread does before it parks.
        let more = self.turn() || self.server.control.wanted() != Phase::Active;
        if more {
            self.server.lanes.iter().for_each(|lane| lane.device.retract_sleep());
        }
        more
    }

    fn turn(&mut self) -> bool {
        let any = self.server.turn();
        if !self.server.worker.is_idle() {
            self.beside.iter().for_each(Tasks::do_waiting);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use gpubridge_abstractions::{Command, Opcode, Ring, RingConfig, Taken};
    use gpubridge_kernels::KernelLibrary;
    use gpubridge_kernels::device::KernelTable;

    use crate::CpuConfig;
    use crate::ring::CpuRing;

    /// Goal: a doorbell that comes when somebody is about to leave, having looked for the last time, is served. Method:
    /// the place is kept while another thread submits and rings.
    #[test]
    fn a_doorbell_waits_for_a_caller_who_is_about_to_leave() {
        let cpu = CpuConfig { served_by_callers: true, ..CpuConfig::default() };
        let kernels = Arc::new(KernelTable::new(Arc::new(KernelLibrary::empty())));
        let config = RingConfig { lanes: 1, ..RingConfig::default() };
        let ring = CpuRing::launch(config, cpu, kernels, Arc::default()).unwrap();
        ring.activate(Duration::from_secs(60)).unwrap();
        let mut lane = ring.take_lane(0).unwrap();
        let place = ring.callers().place.lock();
        thread::scope(|scope| {
            scope.spawn(move || {
                let command = Command::new(Opcode::Echo, 1, [5; 7]);
                let mut ticket = lane.submitter.try_submit(&command, &[]).unwrap();
                lane.submitter.doorbell();
                let taken = lane.completions.take(&mut ticket, &mut []);
                assert!(matches!(taken, Taken::Ready(_)), "{taken:?} when the doorbell returned");
            });
            while !place.as_ref().unwrap().server.lanes[0].device.has_news() {
                thread::yield_now();
            }
            // The doorbell follows at once; however late it comes, it has to be served.
            (0..1000).for_each(|_| thread::yield_now());
            drop(place);
        });
    }
}
