//! The ring: its lanes, its threads and its lifecycle.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gpubridge_abstractions::{Error, ErrorKind, Lane, Ring, RingConfig};
use gpubridge_kernels::device::{Control, Executor, KernelCopy, KernelTable, LaneChunks, Phase};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostLane, HostMemory, Wake};

use crate::backend::CpuConfig;
use crate::callers::Callers;
use crate::memory::Heap;
use crate::report;
use crate::serve::{ServedLane, Server};
use crate::worker::Worker;

/// How long dropping a ring waits for work that is under way.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

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
        let controls: Vec<_> = (0..wanted.clamp(1, config.lanes)).map(|_| Arc::<Control>::default()).collect();
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
                Executor::new(LaneChunks::new(Arc::clone(&heap.chunks)), config.allocations),
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
        Control::bring(self.controls.iter().map(|control| &**control), phase, deadline, operation, |until| {
            if let Some(callers) = &self.callers {
                callers.visit_until(until);
            }
        })
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
        control.served_by(thread::current());
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
