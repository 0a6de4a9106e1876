//! A ring: its memory, its kernel's launches, and its lifecycle as the host sees it.

mod parking;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{BulkStaging, Error, ErrorKind, Lane, Ring, RingConfig, SharedMemory};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{HostCompletions, HostLane};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::attendant;
use crate::backend::CudaConfig;
use crate::bulk::BulkChunks;
use crate::driver::Shape;
use crate::gpu::{Gpu, Part, RingStream};
use crate::heap::Kind;
use crate::kernels::KernelSlots;
use crate::parameters::{
    BLOCK_STATE_BYTES, BOUND_BYTES, CONTROL_WORDS, EXECUTORS_MAX, Parameters, REACHED, RECORD_BYTES, RESTS, WANTED,
    Wanted,
};
use crate::posted::{LaneWords, PostedWords};
use crate::results::RESTART;
use crate::submit::CudaSubmitter;
use crate::words::PinnedWords;

/// Longer deadlines are cut to this, so that any may be given.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long dropping a ring waits for work that is under way.
const DROP_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at what the device has reached.
const PAUSE: Duration = Duration::from_micros(20);

/// Where the ring is in its life.
#[derive(Debug)]
struct Life {
    /// What is wanted, as the control words say it: it counts, so that each wish has an answer of its own.
    desired: u64,
    count: u64,
    told: Told,
    /// Somebody has a window open, or waits for one: a kernel that has ended is not launched again meanwhile.
    in_window: bool,
    end: Option<End>,
}

pub(crate) use parking::Window;

/// What the control words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// What is desired.
    Desired,
    /// To hold or to pause, by this word, for a window: all blocks are there, and may be told anything else.
    Hold(u64),
    /// To end, for a window: some blocks may have left, so nothing else can be told before the kernel is launched again.
    Exit,
}

impl Life {
    /// A word of its own for a wish.
    fn word(&mut self, wanted: Wanted) -> u64 {
        self.count += 1;
        self.count << 8 | wanted as u64
    }
}

/// How a ring ended.
#[derive(Clone, Debug)]
enum End {
    Terminated,
    Lost(String),
}

fn state_of(word: u64) -> u8 {
    word as u8
}

/// What the ring's threads and handles share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) cuda: CudaConfig,
    pub(crate) shape: Shape,
    pub(crate) stream: RingStream,
    pub(crate) parameters: Parameters,
    pub(crate) control: PinnedWords,
    pub(crate) outbox: PinnedWords,
    pub(crate) records: u64,
    pub(crate) bulk: Option<Arc<BulkChunks>>,
    lanes: Vec<Arc<PinnedWords>>,
    layout: LaneLayout,
    pub(crate) completions: Vec<HostCompletions<LaneWords>>,
    _memory: Part,
    life: Mutex<Life>,
    ended: Condvar,
}

impl Core {
    /// Blocks that its kernel takes of the device, until it has ended.
    pub(crate) fn resident_blocks(&self) -> u32 {
        if self.life.lock().end.is_some() { 0 } else { self.shape.blocks }
    }

    /// Whether its kernel has ended for good; false too while somebody is at it.
    pub(crate) fn has_ended(&self) -> bool {
        self.life.try_lock().is_some_and(|life| matches!(life.end, Some(End::Terminated)))
    }

    /// Launches the kernel over what there is. It goes on where it was.
    pub(crate) fn launch_kernel(&self) -> Result<(), Error> {
        let arguments = self.parameters.to_words(&self.gpu.arenas());
        self.gpu.with_program(|program| self.stream.launch(program.functions.ring, self.shape, true, [&arguments]))
    }

    /// The words of a command's staging area.
    pub(crate) fn staging(&self, lane: u32, slot: u32) -> &[AtomicU64] {
        &self.lanes[lane as usize].words()[self.layout.staging(slot as usize)]
    }

    /// Control word `word` of each block.
    pub(crate) fn control_words(&self, word: usize) -> impl Iterator<Item = u64> {
        // Acquire: pairs with the device's fence before it stores what it has reached.
        (0..self.shape.blocks as usize)
            .map(move |block| self.control.words()[block * CONTROL_WORDS + word].load(Ordering::Acquire))
    }

    fn tell(&self, wanted: u64) {
        for block in 0..self.shape.blocks as usize {
            // Release: what was submitted before is seen by a device that was told to run, unless it was posted: that crosses the
            // bus by itself, and is read when it is there.
            self.control.words()[block * CONTROL_WORDS + WANTED].store(wanted, Ordering::Release);
        }
    }

    /// Tells the device what is wanted, and returns the word that it will answer with.
    fn want(&self, wanted: Wanted, operation: &'static str) -> Result<u64, Error> {
        let mut life = self.life.lock();
        self.check_alive(&life, wanted, operation)?;
        if state_of(life.desired) != wanted as u8 && life.end.is_none() {
            life.desired = life.word(wanted);
            // A ring that is to stop does so without a window, and cancels at once what waits.
            if life.told == Told::Desired || matches!(life.told, Told::Hold(_)) && wanted == Wanted::Stop {
                life.told = Told::Desired;
                self.tell(life.desired);
            }
        }
        Ok(life.desired)
    }

    fn check_alive(&self, life: &Life, wanted: Wanted, operation: &'static str) -> Result<(), Error> {
        match &life.end {
            Some(End::Lost(why)) if wanted != Wanted::Stop => Err(lost(operation, why)),
            _ if state_of(life.desired) == Wanted::Stop as u8 && wanted != Wanted::Stop => Err(terminated(operation)),
            _ => Ok(()),
        }
    }

    /// Brings the device to run or to hold.
    fn move_to(&self, wanted: Wanted, deadline: Duration, operation: &'static str) -> Result<(), Error> {
        let until = Instant::now() + deadline.min(LONGEST_WAIT);
        let word = self.want(wanted, operation)?;
        loop {
            if self.control_words(REACHED).all(|reached| reached == word) {
                return Ok(());
            }
            let life = self.life.lock();
            self.check_alive(&life, wanted, operation)?;
            drop(life);
            if Instant::now() >= until {
                return Err(timeout(operation, deadline));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        let until = Instant::now() + deadline.min(LONGEST_WAIT);
        self.completions.iter().for_each(HostCompletions::refuse_submissions);
        self.want(Wanted::Stop, "ring.terminate")?;
        let mut life = self.life.lock();
        while life.end.is_none() {
            if self.ended.wait_until(&mut life, until).timed_out() && life.end.is_none() {
                return Err(timeout("ring.terminate", deadline));
            }
        }
        Ok(())
    }

    /// Looks after the kernel: launches it again if it was parked, or has ended by itself and there is something to do, such as to
    /// answer what `has_beside`; notes its end. Returns whether there is more to look after.
    pub(crate) fn look_after(&self, has_beside: bool) -> Result<bool, Error> {
        // Asked before the life is taken: somebody else's call may hold the driver until the kernel ends, which then takes
        // no more than telling it so.
        let may_be_done = self.stream.is_done()?;
        let mut life = self.life.lock();
        if life.end.is_some() {
            return Ok(false);
        }
        // Asked again: it may have been launched in between.
        if !may_be_done || !self.stream.is_done()? {
            return Ok(true);
        }
        let stopped = state_of(life.desired) == Wanted::Stop as u8
            && self.control_words(REACHED).all(|reached| reached == life.desired);
        if stopped {
            self.end(life, End::Terminated);
            return Ok(false);
        }
        if !life.in_window {
            life.told = Told::Desired;
            self.tell(life.desired);
            if self.cuda.max_commands.is_none() || has_beside || self.has_work(life.desired) {
                self.forget_said();
                // Under the lock even where the launch returns only when the kernel has ended: nobody opens a window meanwhile.
                self.launch_kernel()?;
            }
        }
        Ok(true)
    }

    /// Does `work`, which launches what the kernel asks for beside it, but not in a window: a kernel that ends by itself may have
    /// ended before that was launched, and is no longer there to be waited for.
    pub(crate) fn outside_windows(&self, work: impl FnOnce() -> Result<bool, Error>) -> Result<bool, Error> {
        // Any other kernel ends in a window only when nothing is beside it any more.
        if self.cuda.max_commands.is_none() {
            return work();
        }
        let life = self.life.lock();
        if life.in_window { Ok(false) } else { work() }
    }

    /// Whether a kernel that has ended by itself has something to do: a wish to answer, or commands to read.
    fn has_work(&self, desired: u64) -> bool {
        self.control_words(REACHED).any(|reached| reached != desired)
            || self.completions.iter().any(HostCompletions::has_unread)
    }

    /// Makes what the blocks have said nothing, so that the words of a kernel that has ended are not taken for the next one's.
    fn forget_said(&self) {
        for block in self.control.words().chunks(CONTROL_WORDS) {
            // Relaxed: the kernel that wrote them has ended, and the next one is launched afterwards.
            block[REACHED..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// Which blocks have left, as they were told, or by themselves.
    pub(crate) fn left(&self) -> impl Iterator<Item = bool> {
        let ends = [Wanted::Exit, Wanted::Stop].map(|wanted| wanted as u8);
        let words = self.control_words(REACHED).zip(self.control_words(RESTS));
        words.map(move |(reached, rests)| rests != 0 || ends.contains(&state_of(reached)))
    }

    /// Answers what is pending: the device stopped answering.
    pub(crate) fn lose(&self, why: &Error) {
        self.gpu.context.lose();
        let mut life = self.life.lock();
        // No call of the driver: a kernel that still looks ends, and does not keep the process from ending.
        let word = life.word(Wanted::Abandon);
        self.tell(word);
        self.completions.iter().for_each(HostCompletions::device_lost);
        let why = why.to_string();
        let said = why.strip_suffix(RESTART).map_or(&*why, |why| why.trim_end_matches(": "));
        self.end(life, End::Lost(said.to_owned()));
    }

    fn end(&self, mut life: MutexGuard<'_, Life>, end: End) {
        if matches!(end, End::Terminated) {
            self.completions.iter().for_each(HostCompletions::device_ended);
        }
        life.end.get_or_insert(end);
        drop(life);
        self.ended.notify_all();
    }
}

fn terminated(operation: &'static str) -> Error {
    Error::new(ErrorKind::InvalidState, operation, "the ring is terminated: launch another")
}

fn lost(operation: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::DeviceLost, operation, format!("the device stopped answering: {why}: {RESTART}"))
}

fn timeout(operation: &'static str, deadline: Duration) -> Error {
    let why =
        format!("the ring is still at work after {deadline:?}: work beside it may not end; wait longer or restart");
    Error::new(ErrorKind::Timeout, operation, why)
}

/// A ring on a GPU.
#[derive(Debug)]
pub(crate) struct CudaRing {
    config: RingConfig,
    core: Arc<Core>,
    lanes: Mutex<Vec<Option<Lane>>>,
    attendant: Option<JoinHandle<()>>,
}

impl CudaRing {
    /// Launches the ring's kernel, inactive. The configuration was checked.
    pub(crate) fn launch(
        gpu: &Arc<Gpu>,
        config: RingConfig,
        cuda: CudaConfig,
        kernels: &Arc<KernelSlots>,
    ) -> Result<Self, Error> {
        let most = cuda.multiprocessors.unwrap_or(gpu.limits.units / 8).max(1);
        let blocks = config.lanes.min(most);
        let layout = LaneLayout::new(config.slots, config.staging_bytes);
        let requests_max = config.lanes.div_ceil(blocks) * config.slots;
        let requests_max = requests_max.next_power_of_two();
        let sizes = Sizes::of(config, blocks, requests_max);
        let memory = gpu.take(Kind::Device, sizes.total())?;
        let control = PinnedWords::new(gpu, blocks as usize * CONTROL_WORDS)?;
        let outbox = PinnedWords::new(gpu, blocks as usize * requests_max as usize)?;
        let held = memory.address() + sizes.tables + sizes.records + sizes.blocks;
        let mut parameters = Parameters {
            lanes: [[0; 4]; _],
            blocks: memory.address() + sizes.tables + sizes.records,
            held,
            control: control.device_address(),
            outbox: outbox.device_address(),
            config,
            requests_max,
            max_commands: cuda.max_commands.map_or(0, |most| most.max(1)),
            bulk: [0; 2],
        };
        let records = memory.address() + sizes.tables;
        let (mut words_of, mut hosts) = (Vec::new(), Vec::new());
        let command_words = layout.completion(0);
        let all_commands = config.lanes as usize * command_words;
        let posted = if cuda.posts_commands { PostedWords::new(gpu, all_commands)? } else { None };
        for lane in 0..u64::from(config.lanes) {
            let words = Arc::new(PinnedWords::new(gpu, layout.words())?);
            let first = lane as usize * command_words;
            let posted = posted.clone().map(|posted| (posted, first..first + command_words));
            let lane_words = LaneWords::new(Arc::clone(&words), posted);
            parameters.lanes[lane as usize] = [
                lane_words.commands_address(),
                words.device_address(),
                memory.address() + lane * u64::from(config.allocations) * BOUND_BYTES,
                records + lane * u64::from(config.slots) * RECORD_BYTES,
            ];
            words_of.push(words);
            hosts.push(HostLane::new(lane_words, layout, None));
        }
        let completions = || hosts.iter().map(HostLane::completions).collect::<Vec<_>>();
        let bulk = BulkChunks::new(gpu, &cuda, completions())?;
        parameters.bulk = bulk.as_ref().map_or([0; 2], |chunks| [chunks.chunks(), cuda.bulk_chunk_bytes]);
        let completions = completions();
        let lane = |(number, host): (usize, HostLane<_>)| {
            let completions = Arc::new(host.completions());
            let bulk = bulk.as_ref().map(|chunks| (Arc::clone(chunks), number));
            let (kernels, gpu) = (Arc::clone(kernels), Arc::clone(gpu));
            let submitter = Box::new(CudaSubmitter { lane: host.into_submitter(), kernels, gpu, bulk });
            Some(Lane { submitter, completions })
        };
        let lanes = hosts.into_iter().enumerate().map(lane).collect();
        let desired = 1 << 8 | Wanted::Hold as u64;
        let core = Arc::new(Core {
            gpu: Arc::clone(gpu),
            cuda,
            shape: Shape { blocks, threads: gpu.limits.ring_threads },
            stream: gpu.ring_stream()?,
            parameters,
            control,
            outbox,
            records,
            bulk,
            lanes: words_of,
            layout,
            completions,
            _memory: memory,
            life: Mutex::new(Life { desired, count: 1, told: Told::Desired, in_window: false, end: None }),
            ended: Condvar::new(),
        });
        core.tell(desired);
        gpu.launch(&core)?;
        let mut ring = Self { config, core, lanes: Mutex::new(lanes), attendant: None };
        ring.attendant = Some(attendant::start(&ring.core, kernels)?);
        Ok(ring)
    }
}

/// Bytes of the ring's device memory.
struct Sizes {
    tables: u64,
    records: u64,
    blocks: u64,
    held: u64,
}

impl Sizes {
    fn of(config: RingConfig, blocks: u32, requests_max: u32) -> Self {
        let lanes = u64::from(config.lanes);
        Self {
            tables: lanes * u64::from(config.allocations) * BOUND_BYTES,
            records: lanes * u64::from(config.slots) * RECORD_BYTES,
            blocks: u64::from(blocks) * BLOCK_STATE_BYTES,
            held: u64::from(blocks) * EXECUTORS_MAX as u64 * u64::from(requests_max) * 8,
        }
    }

    fn total(&self) -> u64 {
        self.tables + self.records + self.blocks + self.held
    }
}

impl Ring for CudaRing {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        self.lanes.lock().get_mut(lane as usize)?.take()
    }

    fn bulk_staging(&self) -> Option<Arc<dyn BulkStaging>> {
        self.core.bulk.clone().map(|chunks| chunks as Arc<dyn BulkStaging>)
    }

    fn activate(&self, deadline: Duration) -> Result<(), Error> {
        self.core.move_to(Wanted::Run, deadline, "ring.activate")
    }

    fn deactivate(&self, deadline: Duration) -> Result<(), Error> {
        self.core.move_to(Wanted::Hold, deadline, "ring.deactivate")
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        self.core.terminate(deadline)
    }
}

impl Drop for CudaRing {
    fn drop(&mut self) {
        // A ring that does not end in time is left to its attendant, which owns what it works on.
        if self.terminate(DROP_DEADLINE).is_ok()
            && let Some(attendant) = self.attendant.take()
        {
            // A thread that panicked has said so on standard error; there is nothing left of it to end.
            drop(attendant.join());
        }
    }
}
