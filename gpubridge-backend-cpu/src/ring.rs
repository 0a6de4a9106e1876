//! The ring: its lanes, its threads and its lifecycle.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind, Lane, Ring, RingConfig};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostLane, Wake};

use crate::backend::CpuConfig;
use crate::executor::Executor;
use crate::kernels::{KernelCopy, KernelTable};
use crate::memory::{Heap, LaneMemory};
use crate::report;
use crate::serve::{ServedLane, Server};
use crate::worker::Worker;

/// How long dropping a ring waits for work that is under way.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

/// Where a ring thread is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Launched = 0,
    Inactive = 1,
    Active = 2,
    Terminated = 3,
}

impl Phase {
    fn from_number(number: u8) -> Self {
        [Self::Launched, Self::Inactive, Self::Active, Self::Terminated][usize::from(number)]
    }
}

/// What the ring tells a ring thread, and how far that has followed.
#[derive(Debug)]
pub(crate) struct Control {
    wanted: AtomicU8,
    reached: Mutex<Phase>,
    changed: Condvar,
    thread: OnceLock<Thread>,
}

impl Control {
    fn new() -> Self {
        let launched = Phase::Launched;
        Self {
            wanted: AtomicU8::new(launched as u8),
            reached: Mutex::new(launched),
            changed: Condvar::new(),
            thread: OnceLock::new(),
        }
    }

    /// The phase the thread should be in.
    #[inline]
    pub(crate) fn wanted(&self) -> Phase {
        // Acquire: pairs with the Release store in `want`.
        Phase::from_number(self.wanted.load(Ordering::Acquire))
    }

    /// The thread is in this phase now.
    pub(crate) fn reached(&self, phase: Phase) {
        *self.lock() = phase;
        self.changed.notify_all();
    }

    /// Blocks the ring thread while `phase` is wanted.
    pub(crate) fn wait_while(&self, phase: Phase) {
        let guard = self.lock();
        drop(self.changed.wait_while(guard, |_| self.wanted() == phase).unwrap_or_else(PoisonError::into_inner));
    }

    fn want(&self, phase: Phase) {
        let guard = self.lock();
        // Release: pairs with the Acquire load in `wanted`.
        self.wanted.store(phase as u8, Ordering::Release);
        drop(guard);
        self.changed.notify_all();
        self.wake();
    }

    /// Waits until the thread has followed; `None` for as long as it takes.
    fn wait_reached(&self, phase: Phase, until: Option<Instant>) -> bool {
        let guard = self.lock();
        let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let waited = self.changed.wait_timeout_while(guard, left, |reached| *reached != phase);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == phase
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
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

/// A ring on the CPU.
#[derive(Debug)]
pub(crate) struct CpuRing {
    config: RingConfig,
    lanes: Mutex<Vec<Option<Lane>>>,
    completions: Vec<HostCompletions<Arc<LaneMemory>>>,
    threads: Vec<Arc<Control>>,
}

impl CpuRing {
    /// Launches the ring's threads, inactive. The configuration was checked.
    pub(crate) fn launch(
        config: RingConfig,
        cpu: CpuConfig,
        kernels: Arc<KernelTable>,
        heap: Arc<Heap>,
    ) -> Result<Self, Error> {
        let cores = report::cores() as u32;
        let wanted = if cpu.ring_threads == 0 { cores / 2 } else { cpu.ring_threads };
        let threads: Vec<_> = (0..wanted.clamp(1, config.lanes)).map(|_| Arc::new(Control::new())).collect();
        let layout = LaneLayout::new(config.slots, config.staging_bytes);
        let mut served: Vec<Vec<ServedLane>> = threads.iter().map(|_| Vec::new()).collect();
        let (mut lanes, mut completions) = (Vec::new(), Vec::new());
        for index in 0..config.lanes as usize {
            let thread = index % threads.len();
            let memory = Arc::new(LaneMemory::new(layout.words()));
            let wake: Arc<dyn Wake> = Arc::<Control>::clone(&threads[thread]);
            let host = HostLane::new(Arc::clone(&memory), layout, Some(wake));
            served[thread].push(ServedLane::new(
                DeviceLane::new(memory, layout),
                host.completions(),
                Executor::new(Arc::clone(&heap), config.allocations),
            ));
            completions.push(host.completions());
            let lane = Lane { completions: Arc::new(host.completions()), submitter: Box::new(host.into_submitter()) };
            lanes.push(Some(lane));
        }
        let ring = Self { config, lanes: Mutex::new(lanes), completions, threads };
        for (index, (control, lanes)) in ring.threads.iter().zip(served).enumerate() {
            let spin = if cores == 1 { Duration::ZERO } else { cpu.spin };
            start(index, Arc::clone(control), lanes, KernelCopy::new(Arc::clone(&kernels)), spin).map_err(|error| {
                Error::new(ErrorKind::Io, "cpu.launch", "a ring thread could not be started").with_source(error)
            })?;
        }
        Ok(ring)
    }

    /// Brings all threads into `phase`.
    fn move_to(&self, phase: Phase, deadline: Duration, operation: &'static str) -> Result<(), Error> {
        let until = Instant::now().checked_add(deadline);
        if phase != Phase::Terminated && self.threads.iter().any(|control| control.wanted() == Phase::Terminated) {
            return Err(Error::new(ErrorKind::InvalidState, operation, "the ring is terminated: launch another"));
        }
        self.threads.iter().for_each(|control| control.want(phase));
        if self.threads.iter().all(|control| control.wait_reached(phase, until)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Timeout,
            operation,
            format!("a ring thread is still at work after {deadline:?}: a kernel may not end; wait longer or restart"),
        ))
    }
}

fn start(
    index: usize,
    control: Arc<Control>,
    lanes: Vec<ServedLane>,
    kernels: KernelCopy,
    spin: Duration,
) -> std::io::Result<()> {
    let wake: Arc<dyn Wake> = Arc::<Control>::clone(&control);
    let worker = Worker::start(format!("gpubridge-work-{index}"), wake)?;
    thread::Builder::new().name(format!("gpubridge-ring-{index}")).spawn(move || {
        control.thread.get_or_init(thread::current);
        Server { lanes, kernels, worker, control, spin }.run();
    })?;
    Ok(())
}

impl Ring for CpuRing {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).get_mut(lane as usize)?.take()
    }

    fn activate(&self, deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Active, deadline, "ring.activate")
    }

    fn deactivate(&self, deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Inactive, deadline, "ring.deactivate")
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        self.completions.iter().for_each(HostCompletions::refuse_submissions);
        self.move_to(Phase::Terminated, deadline, "ring.terminate")
    }
}

impl Drop for CpuRing {
    fn drop(&mut self) {
        // A thread that does not end in time is left to itself: it owns what it works on.
        let _ = self.terminate(DROP_DEADLINE);
    }
}
