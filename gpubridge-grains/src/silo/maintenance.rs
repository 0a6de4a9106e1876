//! The silo's upkeep: one thread that deactivates idle grains and saves active ones at intervals.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};
use parking_lot::Mutex;

use super::{Entry, Shared};
use gpubridge_runtime::wait;

/// The finest step of idle time.
const TICK_MIN: Duration = Duration::from_millis(1);
/// Ticks per idle period: a grain is deactivated at most this part of the period late.
const TICKS_PER_PERIOD: u32 = 4;

/// The upkeep thread, if there is one. It ends when this is dropped, or sooner by [`Maintenance::end`].
///
/// Dropping it does not wait: the thread may be waiting itself, for a save that needs the dropping thread to go on.
#[derive(Debug)]
pub(super) struct Maintenance {
    thread: Mutex<Option<Upkeep>>,
}

#[derive(Debug)]
struct Upkeep {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Maintenance {
    /// Starts the upkeep, if the configuration asks for any.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let periods = [shared.config.idle_after, shared.config.save_interval];
        let Some(shortest) = periods.into_iter().flatten().min() else {
            return Ok(Self { thread: Mutex::new(None) });
        };
        let tick = (shortest / TICKS_PER_PERIOD).max(TICK_MIN);
        let (stop, stopped) = channel();
        let (end, ended) = channel();
        // Weak: the upkeep does not keep the silo alive.
        let shared = Arc::downgrade(shared);
        let run = move || {
            // Dropped with the thread, after its last hold on the silo.
            let _end: Sender<()> = end;
            let mut saved = Instant::now();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(tick) {
                match Weak::upgrade(&shared) {
                    Some(shared) => shared.upkeep(tick, &mut saved),
                    None => return,
                }
            }
        };
        thread::Builder::new().name("gpubridge-silo".to_owned()).spawn(run).map_err(|error| {
            Error::new(ErrorKind::Io, "silo.start", "the upkeep thread could not be started").with_source(error)
        })?;
        Ok(Self { thread: Mutex::new(Some(Upkeep { stop, ended })) })
    }

    /// Ends the upkeep and waits for it until `deadline`: afterwards it holds nothing of the silo.
    pub(super) fn end(&self, deadline: Instant) {
        if let Some(Upkeep { stop, ended }) = self.thread.lock().take() {
            drop(stop);
            // Either its end is seen, or it is left to itself.
            let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

impl Shared {
    fn upkeep(&self, tick: Duration, saved: &mut Instant) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(period) = self.config.idle_after {
            let ticks = period.div_duration_f64(tick).ceil() as u32;
            let idle = |entry: &Entry| now.wrapping_sub(entry.hot.last_used.load(Ordering::Relaxed)) >= ticks;
            // A grain that cannot be saved stays active and is tried again.
            self.for_each_active(idle, |entry| wait(self.deactivate(entry)));
            self.forget_unused();
        }
        if let Some(period) = self.config.save_interval
            && saved.elapsed() >= period
        {
            *saved = Instant::now();
            // Tried again at the next interval, and when the grain is deactivated.
            self.for_each_active(|_| true, |entry| wait(self.save(entry)));
        }
    }

    /// Does something with the active grains, until the silo is shut down. A failure is the next round's matter.
    fn for_each_active(&self, chosen: impl Fn(&Entry) -> bool, act: impl Fn(&Entry) -> Result<(), Error>) {
        // Listed first: acting under a shard's lock would keep calls from finding their grains.
        let active = self.directory.iter().filter(|entry| entry.session().is_some());
        let active: Vec<_> = active.map(|entry| Arc::clone(&entry)).collect();
        for entry in active.iter().filter(|entry| chosen(entry)) {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            let _ = act(entry);
        }
    }

    /// Forgets keys that are neither active nor referred to: the next call finds or makes them anew.
    fn forget_unused(&self) {
        // The shard is locked meanwhile, so nobody can take another reference.
        self.directory.retain(|_, entry| entry.session().is_some() || Arc::strong_count(entry) > 1);
    }
}
