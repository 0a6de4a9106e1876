//! The ring: one thread that owns dequeue → dispatch → complete for all lanes.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Command, Completion, Error, ErrorKind, Lane, Opcode, Ring, RingConfig, Status};
use gpubridge_kernels::device::{Executor, KernelCopy, KernelTable, Task};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostLane, HostMemory, Reply, Wake};

use crate::memory::Heap;

/// How long dropping a ring waits for a kernel that is at work.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Inactive,
    Active,
    Terminated,
}

/// What wakes the ring's thread.
#[derive(Debug)]
enum Event {
    Doorbell,
    /// It is to come into this phase, and to say so when it has, or which other it was sent into before.
    Want(Phase, Sender<Phase>),
    /// The kernel of this lane that is at work beside the ring is done.
    Done(usize, Completion),
}

#[derive(Debug)]
struct Doorbell(SyncSender<Event>);

impl Wake for Doorbell {
    fn wake(&self) {
        // Where there is no room, there is something that wakes the thread.
        let _ = self.0.try_send(Event::Doorbell);
    }
}

type Halves = Arc<[HostCompletions<Arc<HostMemory>>]>;

#[derive(Debug)]
pub(crate) struct CustomRing {
    config: RingConfig,
    not_taken: Mutex<Vec<Option<Lane>>>,
    completions: Halves,
    events: SyncSender<Event>,
}

impl CustomRing {
    pub(crate) fn launch(config: RingConfig, heap: &Heap, kernels: &Arc<KernelTable>) -> Result<Self, Error> {
        let refuse = |kind, why: String| Error::new(kind, "custom.launch", why);
        let layout = LaneLayout::new(config.slots, config.staging_bytes);
        let (needed, available) = (layout.words() as u64 * 8 * u64::from(config.lanes), heap.available_bytes());
        if needed > available {
            let why = format!("the lanes need {needed} bytes and {available} are available: ask for fewer or smaller");
            return Err(refuse(ErrorKind::OutOfMemory, why));
        }
        // Bounded, because then a doorbell neither blocks nor allocates.
        let (events, inbox) = sync_channel(RingConfig::LANES_MAX as usize);
        let (mut served, mut completions, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..config.lanes {
            let memory = Arc::new(HostMemory::new(layout));
            let host = HostLane::new(Arc::clone(&memory), layout, Some(Arc::new(Doorbell(events.clone()))));
            let executor = Executor::new(heap.clone(), config.allocations);
            let device = DeviceLane::new(memory, layout);
            served.push(ServedLane { device, executor, at_work: None, waiting: VecDeque::new(), held: HashSet::new() });
            completions.push(host.completions());
            let of_lane = Arc::new(host.completions());
            lanes.push(Some(Lane { completions: of_lane, submitter: Box::new(host.into_submitter()) }));
        }
        let ring = Self { config, not_taken: Mutex::new(lanes), completions: completions.into(), events };
        let (completions, events) = (Arc::clone(&ring.completions), ring.events.clone());
        let kernels = KernelCopy::new(Arc::clone(kernels));
        let server = Server { lanes: served, kernels, completions, events, phase: Phase::Inactive };
        // Whoever waits for the end is told, by a sender that is dropped, when all else of the thread is gone.
        let started = Builder::new().name("custom-ring".to_owned()).spawn(move || drop(server.run(&inbox)));
        started.map_err(|error| refuse(ErrorKind::Io, "no thread could be started".to_owned()).with_source(error))?;
        Ok(ring)
    }

    /// Has the thread come into `phase`, and waits until it has.
    fn move_to(&self, phase: Phase, deadline: Duration, operation: &'static str) -> Result<(), Error> {
        let (reached, follows) = channel();
        // Where nobody receives it, the thread has ended, and `reached` is dropped.
        let _ = self.events.send(Event::Want(phase, reached));
        let (kind, why) = match follows.recv_timeout(deadline) {
            Ok(came_into) if came_into == phase => return Ok(()),
            Err(RecvTimeoutError::Disconnected) if phase == Phase::Terminated => return Ok(()),
            Ok(Phase::Terminated) | Err(RecvTimeoutError::Disconnected) => {
                (ErrorKind::InvalidState, "the ring is terminated: launch another".to_owned())
            }
            Ok(_) => (ErrorKind::InvalidState, "another call took this one back: call again if need be".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                (ErrorKind::Timeout, format!("a kernel is at work after {deadline:?}: wait longer, or restart"))
            }
        };
        Err(Error::new(kind, operation, why))
    }
}

impl Ring for CustomRing {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        self.not_taken.lock().expect("nobody panics while holding this lock").get_mut(lane as usize)?.take()
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

impl Drop for CustomRing {
    fn drop(&mut self) {
        // A thread that does not end in time is left to itself: it owns what it works on.
        let _ = self.terminate(DROP_DEADLINE);
    }
}

/// A lane as the ring's thread sees it.
struct ServedLane {
    device: DeviceLane<Arc<HostMemory>>,
    executor: Executor<Heap>,
    /// Where the answer to the one command belongs that is at work beside the ring.
    at_work: Option<Reply>,
    /// Commands that were read but could not start, in order, and the grains whose commands may not start now.
    waiting: VecDeque<(Command, Reply)>,
    held: HashSet<u32>,
}

/// The ring's thread.
struct Server {
    lanes: Vec<ServedLane>,
    kernels: KernelCopy,
    completions: Halves,
    events: SyncSender<Event>,
    phase: Phase,
}

impl Server {
    /// Serves until the ring is terminated. Returns whom to tell that it has ended.
    fn run(mut self, inbox: &Receiver<Event>) -> Vec<Sender<Phase>> {
        let mut followers = Vec::new();
        loop {
            let has_worked = self.phase != Phase::Inactive && self.serve();
            let is_there = self.phase == Phase::Active || (self.is_at_rest() && !has_worked);
            if is_there && self.phase == Phase::Terminated {
                self.completions.iter().for_each(HostCompletions::device_ended);
                return followers;
            }
            if is_there {
                // Whoever has not waited so long is not told.
                followers.drain(..).for_each(|follower: Sender<Phase>| _ = follower.send(self.phase));
            }
            match if has_worked { inbox.try_recv().ok() } else { self.sleep(inbox) } {
                None | Some(Event::Doorbell) => {}
                Some(Event::Done(lane, completion)) => {
                    let ServedLane { device, at_work, .. } = &mut self.lanes[lane];
                    device.complete(at_work.take().expect("what is done was at work"), &completion);
                }
                Some(Event::Want(phase, _)) if self.phase == Phase::Terminated && phase != self.phase => {}
                Some(Event::Want(phase, follower)) => {
                    if phase != self.phase {
                        followers.drain(..).for_each(|overtaken| _ = overtaken.send(phase));
                    }
                    self.phase = phase;
                    followers.push(follower);
                }
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.lanes.iter().all(|lane| lane.at_work.is_none())
    }

    /// Waits for an event, unless commands have arrived meanwhile.
    fn sleep(&self, inbox: &Receiver<Event>) -> Option<Event> {
        self.lanes.iter().for_each(|lane| lane.device.announce_sleep());
        // Looking once more after the announcement is what keeps a doorbell from being missed.
        let has_news = self.phase != Phase::Inactive && self.lanes.iter().any(|lane| lane.device.has_news());
        let event = if has_news { inbox.try_recv().ok() } else { inbox.recv().ok() };
        self.lanes.iter().for_each(|lane| lane.device.retract_sleep());
        event
    }

    /// Starts what waits, if it may, and one new command of each lane. Returns whether there was a new one.
    fn serve(&mut self) -> bool {
        let mut any = false;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].at_work.is_none() || self.phase == Phase::Terminated {
                self.lanes[lane].held.clear();
                for (command, reply) in std::mem::take(&mut self.lanes[lane].waiting) {
                    self.start(lane, command, reply);
                }
            }
            let mut command = Command::new(Opcode::Skip, 0, [0; 7]);
            let device = &mut self.lanes[lane].device;
            let Some(reply) = device.poll(&mut command) else { continue };
            // The host may write to the slot again; the command is a copy, and the staging area its own until it is answered.
            device.publish_consumed();
            self.start(lane, command, reply);
            any = true;
        }
        any
    }

    fn start(&mut self, lane: usize, command: Command, reply: Reply) {
        let ServedLane { device, executor, at_work, waiting, held } = &mut self.lanes[lane];
        if self.phase == Phase::Terminated {
            return device.complete(reply, &Completion::of(Status::Cancelled));
        }
        if held.contains(&command.grain) {
            return waiting.push_back((command, reply));
        }
        self.kernels.refresh();
        let mut answer = Completion::of(Status::Ok);
        match executor.execute(&command, &self.kernels, device.staging(&reply), &mut answer, |_| {}) {
            None => device.complete(reply, &answer),
            // Zeroing always ends: the ring's thread may do it itself.
            Some(task) if matches!(*task, Task::Zero(_)) => device.complete(reply, &task.run()),
            Some(task) => {
                held.insert(command.grain);
                if at_work.is_some() {
                    return waiting.push_back((command, reply));
                }
                let events = self.events.clone();
                let run = move || {
                    let started = Instant::now();
                    let mut answer = task.run();
                    // 0 would mean that nobody looked at the clock.
                    answer.device_time_ns = u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX).max(1);
                    drop(task);
                    let _ = events.send(Event::Done(lane, answer));
                };
                match Builder::new().name("custom-beside".to_owned()).spawn(run) {
                    Ok(_) => *at_work = Some(reply),
                    Err(_) => device.complete(reply, &Completion::of(Status::Unsupported)),
                }
            }
        }
    }
}
