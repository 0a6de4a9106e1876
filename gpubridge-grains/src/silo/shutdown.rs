//! The silo's graceful end, with a deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gpubridge_abstractions::Error;
use tokio::sync::oneshot;

use super::{Entry, Shared};
use crate::key::GrainKey;
use crate::wait::wait_until;

/// Grains that are saved at a time: a storage commits them together.
const AT_A_TIME: usize = 64;
/// How long the storage may take, past the deadline, to note which grains were not saved.
const NOTE_DEADLINE: Duration = Duration::from_secs(5);

/// How a shutdown went.
#[derive(Debug)]
#[must_use = "grains that were not saved are listed here"]
pub struct ShutdownReport {
    /// Grains that were deactivated, saved by policy.
    pub saved: usize,
    /// Grains that were not, with the reason: their contents are lost at the next activation.
    pub unsaved: Vec<(GrainKey, String)>,
    /// What went wrong with the ring's end or with noting the unsaved grains.
    pub error: Option<Error>,
}

impl ShutdownReport {
    /// Whether everything was saved and stopped.
    pub fn is_clean(&self) -> bool {
        self.unsaved.is_empty() && self.error.is_none()
    }
}

pub(super) async fn shutdown(shared: Arc<Shared>, deadline: Instant) -> ShutdownReport {
    let (answer, answered) = oneshot::channel();
    // On a thread of its own: it waits with a deadline, which needs a timer, and there may be no runtime.
    let work = Arc::clone(&shared);
    let work = move || {
        let report = run(&work, deadline);
        // Given up before the answer: whoever has it may open the storage again at once.
        drop(work);
        drop(answer.send(report));
    };
    match thread::Builder::new().name("gpubridge-shutdown".to_owned()).spawn(work) {
        Ok(_) => answered.await.unwrap_or_else(|_| unreachable!("the shutdown thread answers before it ends")),
        // Without a thread it blocks the caller, which is better than losing what is active.
        Err(_) => run(&shared, deadline),
    }
}

fn run(shared: &Shared, deadline: Instant) -> ShutdownReport {
    // Release: pairs with the Acquire load in `activate`.
    shared.stopping.store(true, Ordering::Release);
    let mut left = shared.active();
    let mut report = ShutdownReport { saved: 0, unsaved: Vec::new(), error: None };
    while !left.is_empty() {
        let chunk: Vec<Arc<Entry>> = left.drain(left.len().saturating_sub(AT_A_TIME)..).collect();
        deactivate_all(shared, &chunk, deadline, &mut report);
    }
    if !report.unsaved.is_empty() {
        let keys: Vec<GrainKey> = report.unsaved.iter().map(|(key, _)| key.clone()).collect();
        let noted = wait_until(shared.storage.mark_unsaved(&keys), Instant::now() + NOTE_DEADLINE);
        report.error = noted.and_then(Result::err);
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(shared.config.memory.lifecycle_deadline);
    if let Err(error) = shared.memory.terminate(left) {
        report.error = Some(error);
    }
    report
}

/// Deactivates these grains together; those that are not done by the deadline are listed.
fn deactivate_all(shared: &Shared, chunk: &[Arc<Entry>], deadline: Instant, report: &mut ShutdownReport) {
    let mut under_way: FuturesUnordered<_> =
        chunk.iter().enumerate().map(|(i, entry)| async move { (i, shared.deactivate(entry).await) }).collect();
    let mut done = vec![false; chunk.len()];
    while let Some(Some((i, deactivated))) = wait_until(under_way.next(), deadline) {
        done[i] = true;
        match deactivated {
            Ok(()) => report.saved += 1,
            Err(error) => report.unsaved.push((chunk[i].key.clone(), error.to_string())),
        }
    }
    let late = chunk.iter().zip(done).filter(|(_, done)| !done);
    report.unsaved.extend(late.map(|(entry, _)| (entry.key.clone(), "the deadline passed first".to_owned())));
}
