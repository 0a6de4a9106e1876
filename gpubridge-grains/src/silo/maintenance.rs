//! The silo's upkeep: one thread that deactivates idle grains and saves active ones at intervals.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};

use super::{Entry, Shared};
use crate::wait::wait;

/// The finest step of idle time.
const TICK_MIN: Duration = Duration::from_millis(1);
/// Ticks per idle period: a grain is deactivated at most this part of the period late.
const TICKS_PER_PERIOD: u32 = 4;

/// The upkeep thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Maintenance {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the upkeep, if the configuration asks for any.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let periods = [shared.config.idle_after, shared.config.save_interval];
        let Some(shortest) = periods.into_iter().flatten().min() else {
            return Ok(Self { stop: None, thread: None });
        };
        let tick = (shortest / TICKS_PER_PERIOD).max(TICK_MIN);
        let (stop, stopped) = channel();
        // Weak: the upkeep does not keep the silo alive.
        let shared = Arc::downgrade(shared);
        let run = move || {
            let mut saved = Instant::now();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(tick) {
                match Weak::upgrade(&shared) {
                    Some(shared) => shared.upkeep(tick, &mut saved),
                    None => return,
                }
            }
        };
        let thread = thread::Builder::new().name("gpubridge-silo".to_owned()).spawn(run).map_err(|error| {
            Error::new(ErrorKind::Io, "silo.start", "the upkeep thread could not be started").with_source(error)
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the upkeep was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn upkeep(&self, tick: Duration, saved: &mut Instant) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(period) = self.config.idle_after {
            let ticks = period.div_duration_f64(tick).ceil() as u32;
            let idle = |entry: &Entry| now.wrapping_sub(entry.last_used.load(Ordering::Relaxed)) >= ticks;
            for entry in self.active().iter().filter(|entry| idle(entry)) {
                // A grain that cannot be saved stays active and is tried again.
                let _ = wait(self.deactivate(entry));
            }
            self.forget_unused();
        }
        if let Some(period) = self.config.save_interval
            && saved.elapsed() >= period
        {
            *saved = Instant::now();
            for entry in self.active() {
                // Tried again at the next interval, and when the grain is deactivated.
                let _ = wait(self.save(&entry));
            }
        }
    }

    pub(super) fn active(&self) -> Vec<Arc<Entry>> {
        let active = self.directory.iter().filter(|entry| entry.session().is_some());
        active.map(|entry| Arc::clone(&entry)).collect()
    }

    /// Forgets keys that are neither active nor referred to: the next call finds or makes them anew.
    fn forget_unused(&self) {
        // The shard is locked meanwhile, so nobody can take another reference.
        self.directory.retain(|_, entry| entry.session().is_some() || Arc::strong_count(entry) > 1);
    }
}
