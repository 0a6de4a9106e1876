//! What a ring tells whoever serves it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};

use crate::ring::Wake;

/// Longer deadlines are cut to this, so that any may be given.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where a ring, or one of its threads, is in its life. It is launched inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It consumes nothing.
    Inactive = 0,
    /// It executes what arrives.
    Active = 1,
    /// It has ended, for good.
    Terminated = 2,
}

impl Phase {
    fn from_number(number: u8) -> Self {
        [Self::Inactive, Self::Active, Self::Terminated][usize::from(number)]
    }
}

/// What the ring tells the thread that serves it, and how far that has followed.
#[derive(Debug)]
pub struct Control {
    wanted: AtomicU8,
    reached: Mutex<Phase>,
    changed: Condvar,
    thread: OnceLock<Thread>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            wanted: AtomicU8::new(Phase::Inactive as u8),
            reached: Mutex::new(Phase::Inactive),
            changed: Condvar::new(),
            thread: OnceLock::new(),
        }
    }
}

impl Control {
    /// Brings all that serve a ring into `phase`, by `controls`. Once all are told, `meanwhile` is called with the time until
    /// when they are waited for.
    ///
    /// # Errors
    /// `InvalidState` when one was told to terminate before, or does meanwhile; `Timeout` when one does not follow in time.
    pub fn bring<'a>(
        controls: impl Iterator<Item = &'a Self> + Clone,
        phase: Phase,
        deadline: Duration,
        operation: &'static str,
        meanwhile: impl FnOnce(Instant),
    ) -> Result<(), Error> {
        let until = Instant::now() + deadline.min(LONGEST_WAIT);
        let wanted = controls.clone().all(|control| control.want(phase));
        meanwhile(until);
        let mut reached = controls.map(|control| control.wait_reached(phase, until));
        let other = if wanted { reached.find(|reached| *reached != phase) } else { Some(Phase::Terminated) };
        match other {
            None => Ok(()),
            Some(Phase::Terminated) => {
                Err(Error::new(ErrorKind::InvalidState, operation, "the ring is terminated: launch another"))
            }
            Some(_) => Err(Error::new(
                ErrorKind::Timeout,
                operation,
                format!("the ring is still at work after {deadline:?}: a kernel may not end; wait longer or restart"),
            )),
        }
    }

    /// Names the thread that serves, once: it is unparked when another phase is wanted, and by [`Wake::wake`].
    pub fn served_by(&self, thread: Thread) {
        self.thread.get_or_init(|| thread);
    }

    /// The phase the thread should be in.
    #[inline]
    pub fn wanted(&self) -> Phase {
        // Acquire: pairs with the Release store in `want`.
        Phase::from_number(self.wanted.load(Ordering::Acquire))
    }

    /// The thread is in this phase now.
    pub fn reached(&self, phase: Phase) {
        *self.lock() = phase;
        self.changed.notify_all();
    }

    /// Blocks the thread while `phase` is wanted.
    pub fn wait_while(&self, phase: Phase) {
        let guard = self.lock();
        drop(self.changed.wait_while(guard, |_| self.wanted() == phase).unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells the thread to follow into `phase`; false when it was told to terminate, which is final.
    fn want(&self, phase: Phase) -> bool {
        let guard = self.lock();
        if self.wanted() == Phase::Terminated && phase != Phase::Terminated {
            return false;
        }
        // Release: pairs with the Acquire load in `wanted`.
        self.wanted.store(phase as u8, Ordering::Release);
        drop(guard);
        self.changed.notify_all();
        self.wake();
        true
    }

    /// Waits for the thread to come into `phase`, or to end, and returns the phase it is in.
    fn wait_reached(&self, phase: Phase, until: Instant) -> Phase {
        let left = until.saturating_duration_since(Instant::now());
        let on_the_way = |reached: &mut Phase| *reached != phase && *reached != Phase::Terminated;
        let waited = self.changed.wait_timeout_while(self.lock(), left, on_the_way);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Control {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
