//! The worker thread: work that is declared beside the ring.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use gpubridge_abstractions::Completion;
use gpubridge_kernels::ring::{Reply, Wake};

use crate::executor::Task;

/// Which command of which lane a task belongs to.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) lane: usize,
    pub(crate) grain: u32,
    pub(crate) reply: Reply,
}

/// A ring thread's worker. Tasks run in the order they came; at most a ring's slots are under way.
#[derive(Debug)]
pub(crate) struct Worker {
    tasks: Sender<(Origin, Task)>,
    results: Receiver<(Origin, Completion)>,
    outstanding: usize,
}

impl Worker {
    /// Starts the thread; `ring_thread` is woken for every result. The thread ends when the worker is dropped.
    pub(crate) fn start(name: String, ring_thread: Arc<dyn Wake>) -> std::io::Result<Self> {
        let (tasks, inbox) = channel::<(Origin, Task)>();
        let (outbox, results) = channel();
        thread::Builder::new().name(name).spawn(move || {
            for (origin, task) in inbox {
                let started = Instant::now();
                let mut completion = task.run();
                completion.device_time_ns = sampled_ns(started);
                // Memory that the task alone kept alive is freed here, not by the ring thread.
                drop(task);
                if outbox.send((origin, completion)).is_err() {
                    return;
                }
                ring_thread.wake();
            }
        })?;
        Ok(Self { tasks, results, outstanding: 0 })
    }

    /// Hands a task over.
    pub(crate) fn submit(&mut self, origin: Origin, task: Task) {
        self.outstanding += 1;
        self.tasks.send((origin, task)).expect("the worker ends after its ring thread");
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

    /// The next result, waited for; `None` when no task is under way.
    pub(crate) fn wait_result(&mut self) -> Option<(Origin, Completion)> {
        if self.outstanding == 0 {
            return None;
        }
        self.outstanding -= 1;
        Some(self.results.recv().expect("the worker ends after its ring thread"))
    }
}

/// The time since `started` as a completion carries it: at least 1, because 0 means that nobody looked.
pub(crate) fn sampled_ns(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX).max(1)
}
