//! The ring: its lanes, its threads and its lifecycle.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind, Lane, Ring, RingConfig};
use gpubridge_kernels::device::{Executor, KernelCopy, KernelTable};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostLane, HostMemory, Wake};

use crate::backend::CpuConfig;
use crate::callers::Callers;
use crate::memory::{Heap, LaneHeap};
use crate::report;
use crate::serve::{ServedLane, Server};
use crate::worker::Worker;

/// Longer deadlines are cut to this, so that any may be given.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long dropping a ring waits for work that is under way.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

/// Where a ring thread is in its life. It is launched inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Inactive = 0,
    Active = 1,
    Terminated = 2,
}

impl Phase {
    fn from_number(number: u8) -> Self {
        [Self::Inactive, Self::Active, Self::Terminated][usize::from(number)]
    }
}

/// What the ring tells whoever serves it, and how far that has followed.
#[derive(Debug)]
pub(crate) struct Control {
    wanted: AtomicU8,
    reached: Mutex<Phase>,
    changed: Condvar,
    thread: OnceLock<Thread>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            wanted: AtomicU8::new(Phase::Inactive as u8),
            reached: Mutex::new(Phase::Inactive),
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
    completions: Vec<HostCompletions<Arc<HostMemory>>>,
    controls: Vec<Arc<Control>>,
    // Either threads serve, or callers do.
    threads: Vec<JoinHandle<()>>,
    callers: Option<Arc<Callers>>,
}

impl CpuRing {
    /// Launches the ring's threads, if it has any, inactive. The configuration was checked.
    pub(crate) fn launch(
        config: RingConfig,
        cpu: CpuConfig,
        kernels: Arc<KernelTable>,
        heap: Arc<Heap>,
    ) -> Result<Self, Error> {
        let cores = report::cores() as u32;
        let callers = cpu.served_by_callers.then(|| Arc::new(Callers::default()));
        let wanted = match cpu.ring_threads {
            _ if callers.is_some() => 1,
            0 => cores / 2,
            threads => threads,
        };
        let controls: Vec<_> = (0..wanted.clamp(1, config.lanes)).map(|_| Arc::new(Control::new())).collect();
        let layout = LaneLayout::new(config.slots, config.staging_bytes);
        let mut served: Vec<Vec<ServedLane>> = controls.iter().map(|_| Vec::new()).collect();
        let (mut lanes, mut completions) = (Vec::new(), Vec::new());
        for index in 0..config.lanes as usize {
            let server = index % controls.len();
            let memory = Arc::new(HostMemory::new(layout));
            let wake: Arc<dyn Wake> = match &callers {
                Some(callers) => Arc::<Callers>::clone(callers),
                None => Arc::<Control>::clone(&controls[server]),
            };
            let host = HostLane::new(Arc::clone(&memory), layout, Some(wake));
            served[server].push(ServedLane::new(
                DeviceLane::new(memory, layout),
                host.completions(),
                Executor::new(LaneHeap::new(Arc::clone(&heap)), config.allocations),
            ));
            completions.push(host.completions());
            let lane = Lane { completions: Arc::new(host.completions()), submitter: Box::new(host.into_submitter()) };
            lanes.push(Some(lane));
        }
        let lanes = Mutex::new(lanes);
        let mut ring = Self { config, lanes, completions, controls, threads: Vec::new(), callers };
        for (index, lanes) in served.into_iter().enumerate() {
            let spin = if cores == 1 { Duration::ZERO } else { cpu.spin };
            let control = Arc::clone(&ring.controls[index]);
            let kernels = KernelCopy::new(Arc::clone(&kernels));
            if let Some(callers) = &ring.callers {
                let (worker, beside) = Worker::without_threads();
                callers.begin(Server { lanes, kernels, worker, control, spin }, beside);
                continue;
            }
            let started = start(index, control, lanes, kernels, spin).map_err(|error| {
                Error::new(ErrorKind::Io, "cpu.launch", "a ring thread could not be started").with_source(error)
            })?;
            ring.threads.push(started);
        }
        Ok(ring)
    }

    #[cfg(test)]
    pub(crate) fn callers(&self) -> &Callers {
        self.callers.as_ref().expect("the ring was launched to be served by its callers")
    }

    /// Brings whoever serves into `phase`.
    fn move_to(&self, phase: Phase, deadline: Duration, operation: &'static str) -> Result<(), Error> {
        let until = Instant::now() + deadline.min(LONGEST_WAIT);
        let wanted = self.controls.iter().all(|control| control.want(phase));
        if let Some(callers) = &self.callers {
            callers.visit_until(until);
        }
        let mut reached = self.controls.iter().map(|control| control.wait_reached(phase, until));
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
}

fn start(
    index: usize,
    control: Arc<Control>,
    lanes: Vec<ServedLane>,
    kernels: KernelCopy,
    spin: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let wake: Arc<dyn Wake> = Arc::<Control>::clone(&control);
    let worker = Worker::start(index, &wake)?;
    thread::Builder::new().name(format!("gpubridge-ring-{index}")).spawn(move || {
        control.thread.get_or_init(thread::current);
        Server { lanes, kernels, worker, control, spin }.run();
    })
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
        if self.terminate(DROP_DEADLINE).is_ok() {
            // A thread that panicked has said so on standard error; there is nothing left of it to end.
            self.threads.drain(..).for_each(|thread| drop(thread.join()));
        }
    }
}
