//! The worker threads: work that is declared beside the ring, and zeroing of large blocks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use gpubridge_abstractions::Completion;
use gpubridge_kernels::device::Task;
use gpubridge_kernels::ring::{Reply, Wake};

use crate::memory::Range;

/// Which command of which lane a task belongs to.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) lane: usize,
    pub(crate) grain: u32,
    pub(crate) reply: Reply,
}

type Work = (Origin, Box<Task<Range>>);

/// A ring thread's workers: one for kernels, and one for zeroing, which always ends and need not wait for a kernel that
/// may not. Each runs its tasks in the order they came; at most a ring's slots are under way.
#[derive(Debug)]
pub(crate) struct Worker {
    kernels: Sender<Work>,
    zeroing: Sender<Work>,
    results: Receiver<(Origin, Completion)>,
    outstanding: usize,
    threads: Vec<JoinHandle<()>>,
}

/// The tasks of one worker, and where their results go.
#[derive(Debug)]
pub(crate) struct Tasks {
    inbox: Receiver<Work>,
    outbox: Sender<(Origin, Completion)>,
}

impl Worker {
    /// Starts the threads of ring thread `index`, which is woken for every result.
    pub(crate) fn start(index: usize, ring_thread: &Arc<dyn Wake>) -> std::io::Result<Self> {
        let (mut worker, [kernels, zeroing]) = Self::without_threads();
        for (name, tasks) in [("work", kernels), ("zero", zeroing)] {
            let ring_thread = Arc::clone(ring_thread);
            let builder = thread::Builder::new().name(format!("gpubridge-{name}-{index}"));
            worker.threads.push(builder.spawn(move || tasks.work(&*ring_thread))?);
        }
        Ok(worker)
    }

    /// Without threads: whoever serves the ring does the tasks.
    pub(crate) fn without_threads() -> (Self, [Tasks; 2]) {
        let (outbox, results) = channel();
        let (kernels, kernel_inbox) = channel();
        let (zeroing, zeroing_inbox) = channel();
        let tasks = [kernel_inbox, zeroing_inbox].map(|inbox| Tasks { inbox, outbox: outbox.clone() });
        (Self { kernels, zeroing, results, outstanding: 0, threads: Vec::new() }, tasks)
    }

    /// Hands a task over.
    pub(crate) fn submit(&mut self, origin: Origin, task: Box<Task<Range>>) {
        self.outstanding += 1;
        let tasks = match &*task {
            Task::Kernel { .. } => &self.kernels,
            Task::Zero { .. } => &self.zeroing,
        };
        tasks.send((origin, task)).expect("the workers end after their ring thread");
    }

    /// A result, if there is one.
    #[inline]
    pub(crate) fn try_result(&mut self) -> Option<(Origin, Completion)> {
        if self.outstanding == 0 {
            return None;
        }
        let result = self.results.try_recv().ok()?;
        self.outstanding -= 1;
        Some(result)
    }

    /// Whether no task is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Ends the threads. No task is under way.
    pub(crate) fn end(self) {
        let Self { kernels, zeroing, threads, .. } = self;
        drop((kernels, zeroing));
        // A thread that panicked has said so on standard error; there is nothing left of it to end.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Tasks {
    /// Does all tasks that ever come, as a thread.
    fn work(self, ring_thread: &dyn Wake) {
        for work in self.inbox {
            if self.outbox.send(perform(work)).is_err() {
                return;
            }
            ring_thread.wake();
        }
    }

    /// Does the tasks that have come.
    pub(crate) fn do_waiting(&self) {
        for work in self.inbox.try_iter() {
            self.outbox.send(perform(work)).expect("the worker takes its results");
        }
    }
}

fn perform((origin, task): Work) -> (Origin, Completion) {
    let started = Instant::now();
    let mut completion = task.run();
    completion.device_time_ns = sampled_ns(started);
    // The task ends here: memory that it alone kept alive is not freed by the ring thread.
    (origin, completion)
}

/// The time since `started` as a completion carries it: at least 1, because 0 means that nobody looked.
pub(crate) fn sampled_ns(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX).max(1)
}
