//! Waiting for answers: who waits for which slot, and the driver thread that wakes them when nobody polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::Waker;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use gpubridge_abstractions::Completions;
use parking_lot::Mutex;

/// How long the driver looks without pause after it found something to do.
const EAGER: Duration = Duration::from_micros(50);
/// The longest pause of the driver between two looks while somebody waits.
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// What one slot's waiter left.
#[derive(Debug, Default)]
struct Waiter {
    waker: AtomicWaker,
    sequence: AtomicU64,
    deadline_ns: AtomicU64,
}

/// The waiters of one lane. Bounded: one per slot.
#[derive(Debug)]
pub(crate) struct Waiters {
    completions: Arc<dyn Completions>,
    slots: Box<[Waiter]>,
    // One bit per slot that somebody waits for.
    waiting: Box<[AtomicU64]>,
    // Callers that found the lane full or a grain's turn taken.
    blocked: Mutex<Vec<Waker>>,
    any_blocked: AtomicBool,
}

impl Waiters {
    pub(crate) fn new(completions: Arc<dyn Completions>, slots: usize) -> Self {
        Self {
            completions,
            slots: (0..slots).map(|_| Waiter::default()).collect(),
            waiting: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            blocked: Mutex::default(),
            any_blocked: AtomicBool::new(false),
        }
    }

    /// Wakes `waker` when the command `sequence` is answered or `deadline_ns` has passed. The caller looks at the answer
    /// once more afterwards.
    pub(crate) fn register(&self, sequence: u64, deadline_ns: u64, waker: &Waker) {
        let slot = sequence as usize % self.slots.len();
        let waiter = &self.slots[slot];
        waiter.waker.register(waker);
        waiter.sequence.store(sequence, Ordering::Relaxed);
        waiter.deadline_ns.store(deadline_ns, Ordering::Relaxed);
        // Release: pairs with the Acquire load in `wake_ready`; the three above are visible with the bit.
        self.waiting[slot / 64].fetch_or(1 << (slot % 64), Ordering::Release);
    }

    /// Nobody waits for `sequence` any more. To be called before its answer is taken or given up: its place here goes
    /// to the next command of its slot then.
    pub(crate) fn unregister(&self, sequence: u64) {
        let slot = sequence as usize % self.slots.len();
        self.waiting[slot / 64].fetch_and(!(1 << (slot % 64)), Ordering::Relaxed);
        self.slots[slot].waker.take();
    }

    /// Wakes `waker` at the next look of whoever drives.
    pub(crate) fn register_blocked(&self, waker: &Waker) {
        self.blocked.lock().push(waker.clone());
        self.any_blocked.store(true, Ordering::Release);
    }

    /// Wakes everybody whose answer is there or whose deadline has passed.
    pub(crate) fn wake_ready(&self, now_ns: u64) -> Look {
        let mut look = Look::default();
        for (index, word) in self.waiting.iter().enumerate() {
            // Acquire: pairs with the Release in `register`.
            let mut bits = word.load(Ordering::Acquire);
            while bits != 0 {
                let slot = index * 64 + bits.trailing_zeros() as usize;
                let bit = bits & bits.wrapping_neg();
                bits &= bits - 1;
                let waiter = &self.slots[slot];
                let answered = self.completions.is_complete(waiter.sequence.load(Ordering::Relaxed));
                if answered || waiter.deadline_ns.load(Ordering::Relaxed) <= now_ns {
                    word.fetch_and(!bit, Ordering::Relaxed);
                    waiter.waker.wake();
                    look.woke = true;
                } else {
                    look.waiting = true;
                }
            }
        }
        look.waiting |= self.wake_blocked();
        look
    }

    /// Wakes everybody, whatever they wait for, so that they look at the state of their session.
    pub(crate) fn wake_all(&self) {
        self.slots.iter().for_each(|waiter| waiter.waker.wake());
        self.wake_blocked();
    }

    /// Wakes those who found the lane full or a turn taken; cheap when there are none.
    #[inline]
    pub(crate) fn room(&self) {
        if self.any_blocked.load(Ordering::Relaxed) {
            self.wake_blocked();
        }
    }

    fn wake_blocked(&self) -> bool {
        if !self.any_blocked.swap(false, Ordering::Acquire) {
            return false;
        }
        let blocked = std::mem::take(&mut *self.blocked.lock());
        let any = !blocked.is_empty();
        blocked.into_iter().for_each(Waker::wake);
        any
    }

    fn somebody_waits(&self) -> bool {
        self.any_blocked.load(Ordering::Acquire) || self.waiting.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }
}

/// What a look at a lane's waiters found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    waiting: bool,
    woke: bool,
}

#[derive(Debug)]
struct Shared {
    lanes: Vec<Arc<Waiters>>,
    started: Instant,
    sleeping: AtomicBool,
    stop: AtomicBool,
}

/// The driver: one thread per device that drains answers for those who wait without polling. It sleeps while nobody
/// waits.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    pub(crate) fn start(lanes: Vec<Arc<Waiters>>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            lanes,
            started: Instant::now(),
            sleeping: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let drive = Arc::clone(&shared);
        let thread = thread::Builder::new().name("gpubridge-driver".to_owned()).spawn(move || drive.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The end of `deadline`, counted from `started`, as [`Waiters::register`] takes it.
    pub(crate) fn deadline_ns(&self, started: Instant, deadline: Duration) -> u64 {
        let end = started.saturating_duration_since(self.shared.started).saturating_add(deadline);
        u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Makes sure that the driver looks after those who registered before this call.
    pub(crate) fn notify(&self) {
        // SeqCst: either the driver's look after its own fence sees the registration, or this sees it sleeping.
        fence(Ordering::SeqCst);
        if self.shared.sleeping.load(Ordering::Relaxed) && self.shared.sleeping.swap(false, Ordering::Relaxed) {
            self.thread().unpark();
        }
    }

    fn thread(&self) -> &Thread {
        self.thread.as_ref().expect("the thread is joined by drop alone").thread()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread().unpark();
        let thread = self.thread.take().expect("drop runs once");
        // The last owner of the memory may be a task that the driver itself just woke.
        if thread.thread().id() != thread::current().id() {
            // A panic of the driver was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut since = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            let now_ns = self.started.elapsed().as_nanos() as u64;
            let mut look = Look::default();
            for lane in &self.lanes {
                let Look { waiting, woke } = lane.wake_ready(now_ns);
                look = Look { waiting: look.waiting | waiting, woke: look.woke | woke };
            }
            let idle = since.elapsed();
            if look.woke || !look.waiting && self.sleep(None) {
                since = Instant::now();
            } else if idle < EAGER {
                thread::yield_now();
            } else if self.sleep(Some((idle / 4).min(PAUSE_MAX))) {
                since = Instant::now();
            }
        }
        self.lanes.iter().for_each(|lane| lane.wake_all());
    }

    /// Sleeps until somebody registers, or for `pause`. Returns whether somebody did.
    fn sleep(&self, pause: Option<Duration>) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `Driver::notify`.
        fence(Ordering::SeqCst);
        match pause {
            Some(pause) => thread::park_timeout(pause),
            None if self.lanes.iter().any(|lane| lane.somebody_waits()) || self.stop.load(Ordering::Acquire) => {}
            None => thread::park(),
        }
        !self.sleeping.swap(false, Ordering::Relaxed)
    }
}
