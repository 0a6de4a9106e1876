//! What a run plays on: a silo of its own, and who watches how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{Silo, SiloConfig, wait};
use gpubridge::runtime::Selection;
use gpubridge::{DeviceInfo, Error};

use super::super::progress::Progress;
use super::memory::{Sample, Samples};

/// How long the silo may take to stop.
pub const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The most operations between two looks at memory, and two steps of the progress...
const MOST_BETWEEN_LOOKS: u64 = 4096;
/// ...of which a run makes at least so many, if it has as many operations.
const LOOKS: u64 = 200;

/// A silo on the selected device, as a user has it by default. Its storage is memory: a run leaves nothing behind.
#[derive(Debug)]
pub struct Stage {
    /// The silo.
    pub silo: Silo,
    /// The device.
    pub device: DeviceInfo,
    /// The memory budget.
    pub budget_bytes: u64,
    /// Before the silo was started, and after it.
    started: [Instant; 2],
}

/// How long the silo had run when it answered: at least and at most.
pub type Uptime = [Duration; 2];

impl Stage {
    /// Starts the silo.
    pub fn open(selection: &Selection) -> Result<Self, Error> {
        let device = selection.info.clone();
        let mut config = SiloConfig::default();
        let budget_bytes = config.memory.memory_budget_bytes.min(device.available_memory_bytes);
        config.memory.memory_budget_bytes = budget_bytes;
        let opened = selection.open()?;
        let before = Instant::now();
        let silo = wait(Silo::start(opened, Arc::new(MemoryStorage::new()), config))?;
        Ok(Self { silo, device, budget_bytes, started: [before, Instant::now()] })
    }

    /// What the silo answers, and how long it had run.
    pub fn ask<R>(&self, question: impl FnOnce(&Silo) -> R) -> (R, Uptime) {
        let [before, after] = self.started;
        let least = after.elapsed();
        let answer = question(&self.silo);
        (answer, [least, before.elapsed()])
    }
}

/// Hands out the operations of a run, one at a time, to however many threads; watches memory and shows the progress.
pub struct Monitor<'r> {
    planned: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    failed: AtomicBool,
    stop: &'r (dyn Fn(u64) -> bool + Sync),
    silo: &'r Silo,
    progress: Progress,
    samples: Mutex<Samples>,
}

impl<'r> Monitor<'r> {
    /// For a run of so many operations on the silo; `stop` is asked before each, with the number of those begun.
    pub fn new(name: &'static str, planned: u64, silo: &'r Silo, stop: &'r (dyn Fn(u64) -> bool + Sync)) -> Self {
        Self {
            planned,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            stop,
            silo,
            progress: Progress::of_operations(name, planned),
            samples: Mutex::new(Samples::new()),
        }
    }

    /// How many operations were done.
    pub fn done(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Takes the next operation; false when there is none, or the run is to end. [`Monitor::end`] follows.
    // Relaxed, here and below: the counts order nothing; threads are joined before their sum is used.
    pub fn begin(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        if self.failed.load(Ordering::Relaxed) || (self.stop)(begun) {
            return false;
        }
        let below = |begun: u64| (begun < self.planned).then_some(begun + 1);
        self.begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    /// The operation is done.
    pub fn end(&self) {
        let done = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of((self.planned / LOOKS).clamp(1, MOST_BETWEEN_LOOKS)) {
            self.progress.set_operations(done);
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.look(done, || self.silo.memory_info().reserved_bytes);
        }
    }

    /// A thread has failed: no other begins anything more.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// What memory was seen, in the order of the operations.
    pub fn into_samples(self) -> Vec<Sample> {
        self.samples.into_inner().unwrap_or_else(PoisonError::into_inner).into_ordered()
    }
}
