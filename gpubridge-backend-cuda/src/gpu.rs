//! One GPU as all devices and rings of this process share it: context, kernels, memory, and the window in which the driver
//! may be asked for more.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::backend::CudaConfig;
use crate::driver::{Context, DeviceAttribute, DeviceMemory, Driver, Stream};
use crate::parameters::RECORD_BYTES;
use crate::posted::Region;
use crate::program::{Program, Trial};
use crate::results::RESTART;
use crate::ring::{Core, Window};
use crate::side::{self, SIDES, Side};
use crate::users::Users;

use memory::Memory;
pub(crate) use memory::Part;

/// Streams for rings that are made when the GPU is opened: more take a window each.
const RINGS_AT_ONCE: usize = 4;
/// Modules that are kept for work beside the rings, before a window waits for that.
const RETIRED_MAX: usize = 64;
/// How many of them a window unloads: the rings wait for it.
const RETIRED_PER_WINDOW: usize = 8;
/// How long a window waits for the rings to park.
const WINDOW_DEADLINE: Duration = Duration::from_secs(10);
/// How long rings are held at first for work beside them that has to end, and as long go on before they are held again, twice as
/// long.
const FIRST_HOLD: Duration = Duration::from_millis(20);
/// How long they are held at the most.
const LONGEST_HOLD: Duration = Duration::from_millis(320);

/// How long opening waits for the same GPU's last device to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What this process knows of a GPU.
#[derive(Debug)]
enum Known {
    /// It is open, or being closed: a second device of one, or a ring that outlives its device, finds the first one's.
    Open(Weak<Gpu>),
    /// It stopped answering. There may be a kernel on it still, and what was made in its context is there for good.
    Lost,
}

/// The GPUs, by number.
static KNOWN: Mutex<BTreeMap<u32, Known>> = Mutex::new(BTreeMap::new());
/// One of them was closed.
static CLOSED: Condvar = Condvar::new();

/// That a GPU is open. Dropped last: another one is opened only when nothing of this one calls the driver any more.
#[derive(Debug)]
struct Presence {
    ordinal: u32,
    is_lost: Arc<AtomicBool>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut known = KNOWN.lock();
        // Relaxed: nobody else has the GPU any more.
        if self.is_lost.load(Ordering::Relaxed) {
            known.insert(self.ordinal, Known::Lost);
        } else {
            known.remove(&self.ordinal);
        }
        CLOSED.notify_all();
    }
}

/// What bounds the launches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Multiprocessors.
    pub(crate) units: u32,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Threads of a ring's block.
    pub(crate) ring_threads: u32,
    /// Blocks of rings that may be on the device at once.
    pub(crate) ring_blocks: u32,
}

/// A GPU that is open.
#[derive(Debug)]
pub(crate) struct Gpu {
    // In the order in which they are dropped: what was made in the context before the context.
    memory: Mutex<Memory>,
    // Of each kind, released, and not given back to the driver.
    deferred_bytes_max: u64,
    utility: Stream,
    pub(crate) sides: Vec<Side>,
    // What work beside the rings keeps from launch to launch.
    _partials: DeviceMemory,
    // For rings. The driver is not asked for a stream, nor to destroy one, while a ring runs.
    idle_streams: Mutex<Vec<Stream>>,
    // What the library's kernels are launched of beside the rings, with their graphs: never unloaded.
    library: Arc<Program>,
    // What rings run, and users' kernels are launched of. Replaced in a window alone, and read meanwhile.
    program: RwLock<Arc<Program>>,
    // Those before it, which work beside the rings may still be of. Unloaded in a window that finds nothing at work.
    retired: Mutex<Vec<Arc<Program>>>,
    // What kernels are tried on that are new.
    sample: DeviceMemory,
    /// Where the host posts commands to the device's memory; why not, if it cannot.
    pub(crate) region: Result<Region, String>,
    cuda: CudaConfig,
    pub(crate) users: Users,
    pub(crate) context: Arc<Context>,
    pub(crate) limits: Limits,
    // What the driver had free when it was last asked: asking it under a running ring is one more call that may wait.
    driver_free_bytes: AtomicU64,
    // Buffers that are reserved, by address: what a bind may name.
    buffers: RwLock<BTreeMap<u64, u64>>,
    // The rings there are. Whoever holds the guard keeps others from launching, and from another window.
    rings: Mutex<Vec<Weak<Core>>>,
    _presence: Presence,
}

impl Gpu {
    /// The GPU with this number, opened unless it is. Whoever opens it first says how it is used.
    pub(crate) fn open(driver: Driver, ordinal: u32, cuda: CudaConfig) -> Result<Arc<Self>, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "cuda.open", why));
        let lost = || refuse(ErrorKind::DeviceLost, format!("device {ordinal} stopped answering: {RESTART}"));
        let until = Instant::now() + CLOSE_DEADLINE;
        let mut known = KNOWN.lock();
        loop {
            match known.get(&ordinal) {
                None => break,
                Some(Known::Lost) => return lost(),
                Some(Known::Open(gpu)) => match gpu.upgrade() {
                    Some(gpu) if gpu.context.is_lost() => {
                        // Released first: this may be the last one that holds the GPU.
                        drop(known);
                        return lost();
                    }
                    Some(gpu) => return Ok(gpu),
                    None if CLOSED.wait_until(&mut known, until).timed_out() => {
                        let why = format!("device {ordinal} is still being closed after {CLOSE_DEADLINE:?}: try again");
                        return refuse(ErrorKind::Timeout, why);
                    }
                    None => {}
                },
            }
        }
        let gpu = Arc::new(Self::new(driver, ordinal, cuda)?);
        known.insert(ordinal, Known::Open(Arc::downgrade(&gpu)));
        Ok(gpu)
    }

    /// Whether the GPU with this number stopped answering.
    pub(crate) fn is_lost(ordinal: u32) -> bool {
        matches!(KNOWN.lock().get(&ordinal), Some(Known::Lost))
            || Self::if_open(ordinal).is_some_and(|gpu| gpu.context.is_lost())
    }

    /// Whether the driver's exit handlers may have to wait for a kernel: a device is lost, a ring has not ended, or somebody is at
    /// it just now.
    pub(crate) fn any_may_hold_up_exit() -> bool {
        let Some(known) = KNOWN.try_lock() else { return true };
        let open: Vec<_> = known
            .values()
            .filter_map(|known| if let Known::Open(gpu) = known { gpu.upgrade() } else { None })
            .collect();
        let any_lost = known.values().any(|known| matches!(known, Known::Lost));
        // Released first: one of them may be dropped here.
        drop(known);
        let holds_up = |gpu: &Arc<Self>| {
            let rings = gpu.rings.try_lock();
            gpu.context.is_lost()
                || rings.is_none_or(|rings| rings.iter().filter_map(Weak::upgrade).any(|ring| !ring.has_ended()))
        };
        any_lost || open.iter().any(holds_up)
    }

    /// The GPU with this number, if it is open.
    pub(crate) fn if_open(ordinal: u32) -> Option<Arc<Self>> {
        match KNOWN.lock().get(&ordinal) {
            Some(Known::Open(gpu)) => gpu.upgrade(),
            _ => None,
        }
    }

    fn new(driver: Driver, ordinal: u32, cuda: CudaConfig) -> Result<Self, Error> {
        let device = driver.device(ordinal)?;
        let context = Context::open(device)?;
        let units = device.attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let threads = device.attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
        let ring_threads = threads.min(gpubridge_kernels::cuda::RING_THREADS_MAX);
        let utility = context.stream()?;
        let partials = side::reserve_partials(&context, units)?;
        let side = |number| Ok(Side::new(number, context.stream()?, units, &partials));
        let sides = (0..SIDES).map(side).collect::<Result<_, Error>>()?;
        let idle_streams = (0..RINGS_AT_ONCE).map(|_| context.urgent_stream()).collect::<Result<_, _>>()?;
        let sample = context.allocate(RECORD_BYTES)?;
        // A copy each way, as each kernel: whatever the first one waits for is done before there is a ring.
        let pinned = context.allocate_pinned(RECORD_BYTES)?;
        utility.copy(pinned.address(), sample.address(), RECORD_BYTES)?;
        utility.copy(sample.address(), pinned.address(), RECORD_BYTES)?;
        let graph_phases_min = cuda.graph_phases_min;
        let trial = Trial { stream: &utility, record: &sample, ring_threads, graph_phases_min };
        let program = Arc::new(Program::of_the_library(&context, trial)?);
        // Half of what fits: the other half is left to work beside the rings.
        let limits = Limits { units, threads, ring_threads, ring_blocks: (units * program.blocks_per_unit / 2).max(1) };
        let capability = (
            device.attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device.attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let region = Region::new(device, &context, &utility);
        let free = context.free_memory_bytes()?;
        // An eighth of the device: more is wanted by others rather than here again.
        let deferred_bytes_max = device.total_memory_bytes()? / 8;
        // Last of all, and nothing fails behind it: whoever opens the GPU holds what its drop waits for.
        let presence = Presence { ordinal, is_lost: context.loss() };
        Ok(Self {
            memory: Mutex::new(Memory::new()),
            deferred_bytes_max,
            utility,
            sides,
            _partials: partials,
            idle_streams: Mutex::new(idle_streams),
            library: Arc::clone(&program),
            program: RwLock::new(program),
            retired: Mutex::default(),
            sample,
            region,
            cuda,
            users: Users::new(capability),
            context,
            limits,
            driver_free_bytes: AtomicU64::new(free),
            buffers: RwLock::default(),
            rings: Mutex::default(),
            _presence: presence,
        })
    }

    /// Launches some of the module's kernels as they are now.
    pub(crate) fn with_program<R>(&self, launch: impl FnOnce(&Program) -> R) -> R {
        launch(&self.program.read())
    }

    /// The library's module, whose kernels are launched beside the rings whatever is linked with those that the rings run.
    pub(crate) fn library(&self) -> &Program {
        &self.library
    }

    /// Has rings and work beside them go on with another module, made of this image, whose users' kernels have so many phases.
    /// The old one stays if that fails.
    ///
    /// Blocks; parks the rings for a moment. What is at work beside them goes on, unless modules have gathered behind it.
    pub(crate) fn replace_program(&self, image: &[u8], phases: &BTreeSet<u32>) -> Result<(), Error> {
        // So that modules do not gather where there is always something at work.
        let drains = self.retired.lock().len() >= RETIRED_MAX;
        self.window("cuda.compile", drains, WINDOW_DEADLINE, || {
            let (ring_threads, graph_phases_min) = (self.limits.ring_threads, self.cuda.graph_phases_min);
            let trial = Trial { stream: &self.utility, record: &self.sample, ring_threads, graph_phases_min };
            let program = Program::with_users(&self.context, image, phases.iter().copied(), trial)?;
            program.check_occupancy(self.library.blocks_per_unit)?;
            let before = mem::replace(&mut *self.program.write(), Arc::new(program));
            self.retired.lock().push(before);
            Ok(())
        })
    }

    /// Whether nothing is at work beside the rings.
    pub(crate) fn is_drained(&self) -> Result<bool, Error> {
        for side in &self.sides {
            if !side.stream.is_done()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A stream for a ring's kernel.
    ///
    /// Blocks; parks the rings for a moment if all streams are taken.
    pub(crate) fn ring_stream(self: &Arc<Self>) -> Result<RingStream, Error> {
        let idle = self.idle_streams.lock().pop();
        let stream = match idle {
            Some(stream) => stream,
            None => self.window("cuda.launch", true, WINDOW_DEADLINE, || self.context.urgent_stream())?,
        };
        Ok(RingStream { gpu: Arc::clone(self), stream: Some(stream) })
    }

    /// Does `work` while no ring runs: those that do are parked before, and go on afterwards where they were. If the window `drains`,
    /// nothing is at work beside them either.
    fn window<R>(
        &self,
        operation: &'static str,
        drains: bool,
        deadline: Duration,
        work: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.window_of(&self.rings.lock(), Window { operation, deadline, drains }, work)
    }

    /// [`Gpu::window`] of these rings, whose guard the caller holds.
    fn window_of<R>(
        &self,
        rings: &[Weak<Core>],
        window: Window,
        work: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        let running: Vec<Arc<Core>> = rings.iter().filter_map(Weak::upgrade).collect();
        let parked = Self::park(&running, window);
        let done = parked.and_then(|()| {
            let done = work();
            // Whatever was done may have taken some of it. A figure: what was done is not undone where it is not to be had.
            self.ask_free_bytes().ok();
            // A failure is what the next call of the driver says too.
            if self.is_drained().unwrap_or(false) {
                let mut retired = self.retired.lock();
                let few = retired.len().min(RETIRED_PER_WINDOW);
                retired.drain(..few);
            }
            done
        });
        running.iter().for_each(|core| core.go_on());
        done
    }

    /// Parks these rings. Where work beside them has to end, they are not held for as long as it may take: others' commands have
    /// their turn meanwhile.
    fn park(rings: &[Arc<Core>], window: Window) -> Result<(), Error> {
        let until = Instant::now() + window.deadline;
        let mut hold = FIRST_HOLD;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let deadline = if window.drains { hold.min(left) } else { left };
            match Core::park_all(rings, Window { deadline, ..window }) {
                Err(error) if error.kind() == ErrorKind::Timeout && deadline < left => {
                    rings.iter().for_each(|core| core.go_on());
                    thread::sleep(hold.min(until.saturating_duration_since(Instant::now())));
                    hold = LONGEST_HOLD.min(hold * 2);
                }
                parked => return parked,
            }
        }
    }

    /// Launches a ring, and knows of it from then on.
    pub(crate) fn launch(&self, core: &Arc<Core>) -> Result<(), Error> {
        let mut rings = self.rings.lock();
        rings.retain(|ring| ring.strong_count() > 0);
        let resident: u32 = rings.iter().filter_map(Weak::upgrade).map(|ring| ring.resident_blocks()).sum();
        let (blocks, most) = (core.resident_blocks(), self.limits.ring_blocks);
        if resident + blocks > most {
            let why = format!(
                "a ring of {blocks} blocks was asked for; {resident} of {most} that rings may have on the device at once are \
                 taken: terminate another ring, or use fewer lanes"
            );
            return Err(Error::new(ErrorKind::OutOfMemory, "cuda.launch", why));
        }
        core.launch_kernel()?;
        rings.push(Arc::downgrade(core));
        Ok(())
    }
}

/// A stream that a ring's kernel runs on, kept for another ring when dropped. Its kernel has ended then.
#[derive(Debug)]
pub(crate) struct RingStream {
    gpu: Arc<Gpu>,
    // Taken by `drop` alone.
    stream: Option<Stream>,
}

impl Deref for RingStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        self.stream.as_ref().expect("the stream is there until the drop")
    }
}

impl Drop for RingStream {
    fn drop(&mut self) {
        self.gpu.idle_streams.lock().extend(self.stream.take());
    }
}
