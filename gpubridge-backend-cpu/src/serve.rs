//! The loop of a ring thread: dequeue → dispatch → complete, for the lanes it serves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Command, Completion, Opcode, Status};
use gpubridge_kernels::device::{Control, Executor, KernelCopy, LaneChunks, Phase};
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostMemory, Reply};

use crate::memory::Chunk;
use crate::worker::{Origin, Worker, sampled_ns};

/// Commands read ahead of their execution, so that the cache misses of several slots overlap.
const BATCH: usize = 16;
/// Answers are kept back for no more work than this, by what kernels declare: about a microsecond.
const KEPT_BACK_ELEMENTS: u64 = 1024;
/// One command in this many has its device time taken: reading the clock costs as much as a small command.
const SAMPLE: u64 = 64;
/// Turns without work between two looks at the clock.
const SPINS_PER_LOOK: u32 = 64;
/// How long a ring thread without work keeps the core to itself before it offers it to others.
const SPIN_ALONE: Duration = Duration::from_micros(20);

/// A command that was read, and its answer.
#[derive(Debug)]
struct Arrival {
    command: Command,
    /// Gone when it is answered or handed on.
    reply: Option<Reply>,
    answer: Completion,
}

impl Arrival {
    fn none() -> Self {
        Self { command: Command::new(Opcode::Skip, 0, [0; 7]), reply: None, answer: Completion::of(Status::Ok) }
    }
}

/// One lane as its ring thread sees it.
#[derive(Debug)]
pub(crate) struct ServedLane {
    pub(crate) device: DeviceLane<Arc<HostMemory>>,
    pub(crate) completions: HostCompletions<Arc<HostMemory>>,
    pub(crate) executor: Executor<LaneChunks<Chunk>>,
    batch: Box<[Arrival; BATCH]>,
    // Grains whose work is beside the ring, with the commands that wait behind it.
    held: HashMap<u32, VecDeque<(Command, Reply)>>,
    // Grains whose work beside the ring is done.
    resumed: Vec<u32>,
    executed: u64,
    // Elements worked on since an answer was kept back.
    worked: u64,
}

impl ServedLane {
    pub(crate) fn new(
        device: DeviceLane<Arc<HostMemory>>,
        completions: HostCompletions<Arc<HostMemory>>,
        executor: Executor<LaneChunks<Chunk>>,
    ) -> Self {
        let batch = Box::new(std::array::from_fn(|_| Arrival::none()));
        Self { device, completions, executor, batch, held: HashMap::new(), resumed: Vec::new(), executed: 0, worked: 0 }
    }

    /// Executes the commands that have arrived, at most a batch. Returns whether there were any.
    #[inline]
    fn turn(&mut self, index: usize, kernels: &mut KernelCopy, worker: &mut Worker) -> bool {
        while let Some(grain) = self.resumed.pop() {
            self.resume(index, grain, kernels, worker);
        }
        if !self.device.has_news() {
            return false;
        }
        let mut count = 0;
        while count < BATCH {
            let arrival = &mut self.batch[count];
            arrival.reply = self.device.poll(&mut arrival.command);
            if arrival.reply.is_none() {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return false;
        }
        self.device.publish_consumed();
        kernels.refresh();
        for place in 0..count {
            let Self { batch, held, .. } = self;
            let Arrival { command, reply, .. } = &mut batch[place];
            // Almost always no grain is held.
            if !held.is_empty()
                && let Some(waiting) = held.get_mut(&command.grain)
            {
                waiting.extend(reply.take().map(|reply| (*command, reply)));
                continue;
            }
            self.run(index, place, kernels, worker);
        }
        self.answer(count);
        true
    }

    /// Answers the first `count` commands of the batch that are done.
    #[inline]
    fn answer(&mut self, count: usize) {
        self.worked = 0;
        answer(&self.device, &mut self.batch[..count]);
    }

    /// Executes the command at `place` of the batch, those before which are done. Its answer is kept back for those
    /// behind it, and theirs for it, as long as all are short.
    #[inline]
    fn run(&mut self, index: usize, place: usize, kernels: &KernelCopy, worker: &mut Worker) {
        let Self { device, executor, batch, worked, .. } = self;
        let (done, [Arrival { command, reply, answer: completion }, ..]) = batch.split_at_mut(place) else { return };
        let Some(staging) = reply.as_ref().map(|reply| device.staging(reply)) else { return };
        self.executed += 1;
        let started = self.executed.is_multiple_of(SAMPLE).then(Instant::now);
        let before_work = |elements: u64| {
            *worked = worked.saturating_add(elements);
            if *worked > KEPT_BACK_ELEMENTS {
                *worked = elements;
                answer(device, done);
            }
        };
        match executor.execute(command, kernels, staging, completion, before_work) {
            None => completion.device_time_ns = started.map_or(0, sampled_ns),
            Some(task) => {
                self.held.entry(command.grain).or_default();
                let Some(reply) = reply.take() else { return };
                worker.submit(Origin { lane: index, grain: command.grain, reply }, task);
            }
        }
    }

    /// Goes on with a grain whose work beside the ring is done.
    fn resume(&mut self, index: usize, grain: u32, kernels: &KernelCopy, worker: &mut Worker) {
        let mut waiting = self.held.remove(&grain).unwrap_or_default();
        while let Some((command, reply)) = waiting.pop_front() {
            // The batch is empty between two turns.
            self.batch[0] = Arrival { command, reply: Some(reply), ..Arrival::none() };
            self.run(index, 0, kernels, worker);
            self.answer(1);
            if let Some(held) = self.held.get_mut(&grain) {
                *held = waiting;
                return;
            }
        }
    }

    /// Answers everything that has not been started.
    fn cancel(&mut self) {
        let cancelled = Completion::of(Status::Cancelled);
        let held = self.held.drain().flat_map(|(_, waiting)| waiting);
        held.for_each(|(_, reply)| self.device.complete(reply, &cancelled));
        while let Some(reply) = self.device.poll(&mut self.batch[0].command) {
            self.device.complete(reply, &cancelled);
        }
        self.device.publish_consumed();
    }
}

/// Answers those that are done. One after the other with nothing between: the stores to their lines wait for the host's
/// copies of them, side by side as long as no others come between.
#[inline]
fn answer(device: &DeviceLane<Arc<HostMemory>>, done: &mut [Arrival]) {
    for arrival in done {
        if let Some(reply) = arrival.reply.take() {
            device.complete(reply, &arrival.answer);
        }
    }
}

/// A ring thread, or what its place is taken by: see `callers`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) lanes: Vec<ServedLane>,
    pub(crate) kernels: KernelCopy,
    pub(crate) worker: Worker,
    pub(crate) control: Arc<Control>,
    /// How long to spin without work before parking.
    pub(crate) spin: Duration,
}

impl Server {
    /// Serves until the ring is terminated.
    pub(crate) fn run(mut self) {
        let mut phase = Phase::Inactive;
        loop {
            let wanted = self.control.wanted();
            if wanted != phase {
                if !self.finish_started(wanted) {
                    continue;
                }
                phase = wanted;
                if phase == Phase::Terminated {
                    return self.end();
                }
                self.control.reached(phase);
            }
            match phase {
                Phase::Active => {
                    self.serve_until_idle();
                    self.wait_for_work();
                }
                Phase::Inactive | Phase::Terminated => self.control.wait_while(phase),
            }
        }
    }

    fn serve_until_idle(&mut self) {
        while self.turn() {
            if self.control.wanted() != Phase::Active {
                return;
            }
        }
    }

    /// Does what has arrived. Returns whether there was anything.
    #[inline]
    pub(crate) fn turn(&mut self) -> bool {
        let mut any = false;
        while let Some((origin, completion)) = self.worker.try_result() {
            self.finish(origin, &completion);
            any = true;
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            any |= lane.turn(index, &mut self.kernels, &mut self.worker);
        }
        any
    }

    fn finish(&mut self, origin: Origin, completion: &Completion) {
        let lane = &mut self.lanes[origin.lane];
        lane.device.complete(origin.reply, completion);
        lane.resumed.push(origin.grain);
    }

    /// Waits for the work that was started beside the ring; starts no more. Returns false when another phase is wanted
    /// before that work has ended.
    pub(crate) fn finish_started(&mut self, wanted: Phase) -> bool {
        loop {
            if wanted == Phase::Terminated {
                // Whatever does not end holds nobody else up.
                self.lanes.iter_mut().for_each(ServedLane::cancel);
            }
            while let Some((origin, completion)) = self.worker.try_result() {
                self.finish(origin, &completion);
            }
            if self.worker.is_idle() {
                return true;
            }
            if self.control.wanted() != wanted {
                return false;
            }
            // A result and a change of phase leave a token behind, so that neither is slept through.
            thread::park();
        }
    }

    /// The end of the ring, after everything was answered.
    pub(crate) fn end(mut self) {
        // Submissions have been refused for a while: this is for the ones that were under way then.
        self.lanes.iter_mut().for_each(ServedLane::cancel);
        self.lanes.iter().for_each(|lane| lane.completions.device_ended());
        self.worker.end();
        self.control.reached(Phase::Terminated);
    }

    /// Spins, then parks, until there is work or another phase is wanted.
    fn wait_for_work(&mut self) {
        let idle_since = Instant::now();
        loop {
            for _ in 0..SPINS_PER_LOOK {
                if self.turn() || self.control.wanted() != Phase::Active {
                    return;
                }
                std::hint::spin_loop();
            }
            let idle = idle_since.elapsed();
            if idle >= self.spin {
                break;
            }
            if idle >= SPIN_ALONE {
                thread::yield_now();
            }
        }
        self.lanes.iter().for_each(|lane| lane.device.announce_sleep());
        // Looking once more after the announcement is what keeps a wake-up from being lost. A result of the worker and
        // a change of phase leave a token behind, so parking returns at once.
        if !self.turn() && self.control.wanted() == Phase::Active {
            thread::park();
        }
        self.lanes.iter().for_each(|lane| lane.device.retract_sleep());
    }
}
