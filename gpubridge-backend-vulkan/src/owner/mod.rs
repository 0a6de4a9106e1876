//! The owner thread of a device: it alone uses the queue, and serves all rings.

mod batch;
mod served;
mod work;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use ash::vk;
use gpubridge_abstractions::{Error, ErrorKind};
use gpubridge_kernels::device::{Chunk as _, Phase};
use gpubridge_kernels::vulkan::only;
use parking_lot::Mutex;

use self::batch::{Batch, GrainKey};
pub(crate) use self::served::{ServedLane, ServedRing};
use self::work::{Whose, Work};
use crate::backend::VulkanConfig;
use crate::gpu::{Buffers, Flight, Gpu, Pipelines, Program};
use crate::heap::{Chunk, Range};
use crate::kernels::Code;

/// Batches of a device: one is filled while others are under way.
const BATCHES: usize = 3;
/// Some drivers compile a shader when it is first used. So long the first batch of each kind may last at the least.
const FIRST_BATCH_LIMIT: Duration = Duration::from_secs(120);
/// Looks for work between two looks at the clock.
const LOOKS: u32 = 64;
/// How long a look at the timeline is waited for before the lanes are looked at again.
const WAIT: Duration = Duration::from_micros(200);

/// What the owner thread is asked for.
#[derive(Debug)]
enum Job {
    Serve(Box<ServedRing>),
    Zero(Box<Work>),
    End,
}

/// The owner thread, as everybody else knows it.
#[derive(Debug)]
pub(crate) struct Owner {
    jobs: Mutex<Sender<Job>>,
    thread: Thread,
    joined: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<OnceLock<String>>,
    pipelines: Arc<Pipelines>,
}

impl Owner {
    /// Starts the thread.
    pub(crate) fn start(buffers: &Arc<Buffers>, config: VulkanConfig, operation: &'static str) -> Result<Self, Error> {
        let gpu = Arc::clone(buffers.gpu());
        let pipelines = buffers.pipelines();
        let mixes = config.mixes_kernels.unwrap_or(!gpu.physical().is_processor());
        let all = mixes.then_some(Program::Walk(only::ALL));
        for program in [Program::Walk(only::NONE), Program::Grid(only::NONE)].into_iter().chain(all) {
            pipelines.get(program, operation)?;
        }
        let slots = buffers.slots(BATCHES, operation)?;
        let free = slots.into_iter().map(|slot| Batch::new(slot, mixes)).collect();
        let (jobs, inbox) = channel();
        let lost = Arc::<OnceLock<String>>::default();
        let mut serving = Serving {
            gpu,
            config,
            inbox,
            rings: Vec::new(),
            free,
            filling: Filling { batch: None, held: None },
            flights: VecDeque::with_capacity(BATCHES),
            value: 0,
            submitted: 0,
            lost: Arc::clone(&lost),
            has_ended: false,
            first: 0,
        };
        let started = thread::Builder::new().name("gpubridge-vulkan".to_owned()).spawn(move || {
            // What panics here would leave everybody waiting.
            match catch_unwind(AssertUnwindSafe(|| serving.run())) {
                Ok(Ok(())) => {}
                Ok(Err(lost)) => serving.lose(&lost),
                Err(_) => serving.lose(&Lost { why: "the owner thread has panicked".to_owned(), is_at_work: true }),
            }
        });
        let handle = started.map_err(|error| {
            Error::new(ErrorKind::Io, operation, "the owner thread could not be started").with_source(error)
        })?;
        let thread = handle.thread().clone();
        Ok(Self {
            jobs: Mutex::new(jobs),
            thread,
            joined: Mutex::new(Some(handle)),
            lost,
            pipelines: Arc::clone(pipelines),
        })
    }

    /// Has a ring served.
    pub(crate) fn serve(&self, ring: ServedRing, operation: &'static str) -> Result<(), Error> {
        ring.control.served_by(self.thread.clone());
        self.ask(Job::Serve(Box::new(ring)), operation)
    }

    /// Zeroes memory. Waits until that is done.
    pub(crate) fn zero(&self, chunk: &Arc<Chunk>, operation: &'static str) -> Result<(), Error> {
        let (done, answer) = sync_channel(1);
        let (address, size_bytes) = (chunk.address(), chunk.size_bytes());
        let block = Range { chunk: Arc::clone(chunk), address, size_bytes };
        self.ask(Job::Zero(Box::new(Work::reservation(block, done))), operation)?;
        answer.recv().map_err(|_| self.why_lost(operation))
    }

    fn ask(&self, job: Job, operation: &'static str) -> Result<(), Error> {
        if self.jobs.lock().send(job).is_err() {
            return Err(self.why_lost(operation));
        }
        self.thread.unpark();
        // One that is lost by now may have gone before it saw the job.
        if self.gpu().is_lost() { Err(self.why_lost(operation)) } else { Ok(()) }
    }

    /// The error of a device that was lost.
    pub(crate) fn why_lost(&self, operation: &'static str) -> Error {
        let why = self.lost.get().map_or("the device stopped answering", String::as_str);
        Error::new(ErrorKind::DeviceLost, operation, format!("{why}: open the device again"))
    }

    /// Makes sure that there are pipelines for a kernel.
    pub(crate) fn prepare(&self, code: &Code) -> Result<(), Error> {
        let operation = "vulkan.compile";
        self.pipelines.get(Program::Walk(code.what), operation)?;
        if code.phases > 0 {
            self.pipelines.get(Program::Grid(code.what), operation)?;
        }
        Ok(())
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        self.pipelines.gpu()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Fails only if the thread has ended.
        let _ = self.jobs.lock().send(Job::End);
        self.thread.unpark();
        if let Some(handle) = self.joined.lock().take() {
            // A thread that panicked has said so on standard error.
            let _ = handle.join();
        }
    }
}

/// The batch that is filled, if there is one.
#[derive(Debug)]
struct Filling {
    batch: Option<Batch>,
    // Work that has to be in the next one: the batch is full.
    held: Option<(Work, GrainKey)>,
}

impl Filling {
    /// Takes work on, or holds it. Returns whether there may be room for more. Nothing is held when this is called.
    fn admit(&mut self, work: Work, grain: GrainKey, staging: &[AtomicU64]) -> bool {
        let refused = match &mut self.batch {
            Some(batch) => batch.admit(work, grain, staging),
            None => Some(work),
        };
        self.held = refused.map(|work| (work, grain));
        self.held.is_none()
    }
}

/// What the owner thread works with.
#[derive(Debug)]
struct Serving {
    gpu: Arc<Gpu>,
    config: VulkanConfig,
    inbox: Receiver<Job>,
    rings: Vec<Option<Box<ServedRing>>>,
    free: Vec<Batch>,
    filling: Filling,
    flights: VecDeque<Batch>,
    value: u64,
    // The value of the last batch that the device has taken.
    submitted: u64,
    lost: Arc<OnceLock<String>>,
    has_ended: bool,
    // The ring that has its turn first.
    first: usize,
}

impl Serving {
    /// Serves until it is told to end and nothing is left to do.
    fn run(&mut self) -> Result<(), Lost> {
        let mut idle_since = Instant::now();
        let mut looks = 0;
        loop {
            if self.turn()? {
                (idle_since, looks) = (Instant::now(), 0);
                continue;
            }
            if self.has_ended && !self.has_work() {
                return Ok(());
            }
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
                continue;
            }
            looks = 0;
            if idle_since.elapsed() >= self.config.spin {
                self.rest()?;
            }
        }
    }

    /// Whether anything that was taken is not answered.
    fn has_work(&self) -> bool {
        let fills = self.filling.batch.as_ref().is_some_and(|batch| !batch.is_empty());
        fills || !self.flights.is_empty() || self.filling.held.is_some()
    }

    /// Does what there is to do. Returns whether there was anything.
    fn turn(&mut self) -> Result<bool, Lost> {
        let mut any = false;
        while self.filling.held.is_none()
            && let Ok(job) = self.inbox.try_recv()
        {
            any = true;
            match job {
                Job::Serve(ring) => self.enter(ring),
                Job::Zero(work) => {
                    self.filling.admit(*work, (usize::MAX, 0, 0), &[]);
                }
                Job::End => self.has_ended = true,
            }
        }
        any |= self.follow();
        any |= self.land(Duration::ZERO)?;
        any |= self.fill();
        any |= self.collect();
        any |= self.submit()?;
        Ok(any)
    }

    fn enter(&mut self, ring: Box<ServedRing>) {
        match self.rings.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(ring),
            None => self.rings.push(Some(ring)),
        }
    }

    /// Follows each ring into the phase that is wanted. Returns whether one came into another.
    fn follow(&mut self) -> bool {
        let mut any = false;
        for place in &mut self.rings {
            let Some(ring) = place else { continue };
            let wanted = ring.control.wanted();
            if wanted == ring.phase {
                continue;
            }
            if wanted == Phase::Terminated {
                // Whatever does not end holds nobody else up.
                ring.cancel();
            }
            if ring.outstanding > 0 && wanted != Phase::Active {
                continue;
            }
            any = true;
            ring.phase = wanted;
            if wanted == Phase::Terminated {
                ring.end();
                *place = None;
            } else {
                ring.control.reached(wanted);
            }
        }
        any
    }

    /// Begins a new batch with what was held, when there is one. Returns whether anything was.
    fn fill(&mut self) -> bool {
        if self.filling.batch.is_some() || self.free.is_empty() {
            return false;
        }
        self.filling.batch = self.free.pop();
        let Some((work, grain)) = self.filling.held.take() else { return false };
        let staging: &[AtomicU64] = match &work.whose {
            Whose::Command { ring, lane, reply } => {
                let ring = self.rings[*ring].as_ref().expect("a ring stays as long as a command of it");
                ring.lanes[*lane].device.staging(reply)
            }
            Whose::Reservation(_) => &[],
        };
        self.filling.admit(work, grain, staging);
        true
    }

    /// Takes what has arrived in the rings. Returns whether there was anything.
    fn collect(&mut self) -> bool {
        let Self { rings, filling, first, .. } = self;
        let mut any = false;
        for turn in 0..rings.len() {
            if filling.batch.is_none() || filling.held.is_some() {
                return any;
            }
            let index = (*first + turn) % rings.len();
            let Some(ring) = &mut rings[index] else { continue };
            if ring.phase != Phase::Active || ring.control.wanted() != Phase::Active {
                continue;
            }
            any |= ring.take(index, |work, lane, grain, staging| filling.admit(work, (index, lane, grain), staging));
            if filling.held.is_some() {
                // The others come first next time.
                *first = index + 1;
            }
        }
        any
    }

    /// Submits the batch that is filled, if it is time.
    fn submit(&mut self) -> Result<bool, Lost> {
        let Some(batch) = &self.filling.batch else { return Ok(false) };
        let is_due =
            self.filling.held.is_some() || self.flights.is_empty() || batch.since.elapsed() >= self.config.gather;
        if batch.is_empty() || !is_due {
            return Ok(false);
        }
        let mut batch = self.filling.batch.take().expect("it was looked at");
        let submitted = if batch.has_work() {
            self.value += 1;
            batch.submit(&self.gpu, self.value)
        } else {
            batch.value = self.value;
            Ok(())
        };
        self.flights.push_back(batch);
        submitted.map_err(|result| Lost::of("a batch could not be submitted", result))?;
        self.submitted = self.value;
        Ok(true)
    }

    /// Answers the batches that have landed; waits for the first for so long. Returns whether one has.
    fn land(&mut self, wait: Duration) -> Result<bool, Lost> {
        let mut any = false;
        while let Some(batch) = self.flights.front_mut() {
            let flight = if wait.is_zero() { self.gpu.look(batch.value) } else { self.gpu.wait(batch.value, wait) };
            match flight.map_err(|result| Lost::of("a batch is not waited for", result))? {
                Flight::UnderWay => {
                    let first = if batch.is_first { FIRST_BATCH_LIMIT } else { Duration::ZERO };
                    let limit = self.config.batch_limit.max(first);
                    if batch.since.elapsed() < limit {
                        return Ok(any);
                    }
                    let why = format!("a batch is under way since {limit:?}");
                    return Err(Lost { why, is_at_work: true });
                }
                Flight::Landed => {}
            }
            let mut batch = self.flights.pop_front().expect("it was looked at");
            if let Some(next) = self.flights.front_mut() {
                // The device is at work on it from now on.
                next.since = Instant::now();
            }
            let rings = &mut self.rings;
            let landed = batch.land(|whose, completion, staged| match whose {
                Whose::Command { ring, lane, reply } => {
                    let Some(ring) = &mut rings[ring] else { return };
                    let device = &ring.lanes[lane].device;
                    staged.copy_to(device.staging(&reply));
                    device.complete(reply, completion);
                    ring.outstanding -= 1;
                }
                Whose::Reservation(done) => {
                    // Nobody waits any more if this fails.
                    let _ = done.send(());
                }
            });
            landed.map_err(|result| Lost::of("results are not to be had", result))?;
            self.free.push(batch);
            any = true;
        }
        Ok(any)
    }

    /// Waits for what is under way, or sleeps until there is something to do.
    fn rest(&mut self) -> Result<(), Lost> {
        if !self.flights.is_empty() {
            return self.land(WAIT).map(drop);
        }
        let active = || self.rings.iter().flatten().filter(|ring| ring.phase == Phase::Active);
        active().flat_map(|ring| &ring.lanes).for_each(|lane| lane.device.announce_sleep());
        // Looking once more after the announcement is what keeps a wake-up from being lost. Jobs and changes of phase leave a
        // token behind, so parking returns at once.
        if !active().any(|ring| ring.has_news()) {
            thread::park();
        }
        active().flat_map(|ring| &ring.lanes).for_each(|lane| lane.device.retract_sleep());
        Ok(())
    }

    /// Whether the device is at work no more: what it was given has landed within the limit, or it says that it is lost.
    fn is_at_rest(&self) -> bool {
        match self.gpu.wait(self.submitted, self.config.batch_limit) {
            Ok(flight) => flight == Flight::Landed,
            Err(result) => result == vk::Result::ERROR_DEVICE_LOST,
        }
    }

    /// The device stopped answering: so does everything that waits for it.
    fn lose(&mut self, lost: &Lost) {
        // Set once: this is the end of the thread.
        let _ = self.lost.set(lost.why.clone());
        self.gpu.lose(lost.is_at_work || !self.is_at_rest());
        self.flights.iter_mut().chain(&mut self.filling.batch).for_each(Batch::clear);
        self.filling.held = None;
        self.rings.iter_mut().flatten().for_each(|ring| ring.lose());
        // Rings that come too late are told as well.
        while let Ok(job) = self.inbox.try_recv() {
            if let Job::Serve(mut ring) = job {
                ring.lose();
            }
        }
    }
}

/// Why a device counts as lost.
#[derive(Debug)]
struct Lost {
    why: String,
    /// Whether it is at work still, so that nothing of it may be freed.
    is_at_work: bool,
}

impl Lost {
    fn of(what: &str, result: vk::Result) -> Self {
        Self { why: format!("{what}: the driver says {result:?}"), is_at_work: false }
    }
}
