//! The silo's graceful end, with a deadline.

use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gpubridge_abstractions::{Error, ErrorKind};
use tokio::sync::oneshot;

use super::maintenance::Maintenance;
use super::{Entry, Shared};
use crate::key::GrainKey;
use gpubridge_runtime::wait_until;

/// Grains that are saved at a time: a storage commits them together.
const AT_A_TIME: usize = 64;
/// How long the storage may take, past the deadline, to note which grains were not saved.
const NOTE_DEADLINE: Duration = Duration::from_secs(5);

/// How a shutdown went.
///
/// # Behavior
/// - **reason**: Each grain that was not saved is listed with its own reason, and the others are counted.
/// - **not-noted**: A storage that does not note which grains were not saved is an error: their next activation may take
///   an earlier state for the last.
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

    /// The number of grains that were saved.
    ///
    /// # Errors
    /// What went wrong with the ring's end or with noting the unsaved grains, or else `Timeout`; it names the grains that
    /// were not saved.
    pub fn into_result(self) -> Result<usize, Error> {
        if self.is_clean() {
            return Ok(self.saved);
        }
        let unsaved: Vec<_> = self.unsaved.iter().map(|(key, why)| format!("`{key}` ({why})")).collect();
        let unsaved = if unsaved.is_empty() { String::new() } else { format!("; not saved: {}", unsaved.join(", ")) };
        Err(match self.error {
            Some(error) => Error::new(error.kind(), "silo.shutdown", format!("{}{unsaved}", error.message())),
            None => Error::new(ErrorKind::Timeout, "silo.shutdown", format!("{} were saved{unsaved}", self.saved)),
        })
    }
}

/// A `main` that ends with a report lists what was not saved on standard error, and fails then.
impl Termination for ShutdownReport {
    fn report(self) -> ExitCode {
        match self.into_result() {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

pub(super) async fn shutdown(shared: Arc<Shared>, maintenance: Arc<Maintenance>, deadline: Instant) -> ShutdownReport {
    let (answer, answered) = oneshot::channel();
    // On a thread of its own: it waits with a deadline, which needs a timer, and there may be no runtime.
    let (silo, upkeep) = (Arc::clone(&shared), Arc::clone(&maintenance));
    let work = move || {
        let report = run(&silo, &upkeep, deadline);
        // Let go before the answer: whoever has it may open the storage again.
        drop((silo, upkeep));
        drop(answer.send(report));
    };
    match thread::Builder::new().name("gpubridge-shutdown".to_owned()).spawn(work) {
        Ok(_) => answered.await.unwrap_or_else(|_| unreachable!("the shutdown thread answers before it ends")),
        // Without a thread it blocks the caller, which is better than losing what is active.
        Err(_) => run(&shared, &maintenance, deadline),
    }
}

fn run(shared: &Shared, maintenance: &Maintenance, deadline: Instant) -> ShutdownReport {
    // Release: pairs with the Acquire load in `activate`.
    shared.stopping.store(true, Ordering::Release);
    let mut left = shared.active_or_about_to_be();
    let mut report = ShutdownReport { saved: 0, unsaved: Vec::new(), error: None };
    while !left.is_empty() {
        let chunk: Vec<Arc<Entry>> = left.drain(left.len().saturating_sub(AT_A_TIME)..).collect();
        deactivate_all(shared, &chunk, deadline, &mut report);
    }
    if !report.unsaved.is_empty() {
        let keys: Vec<GrainKey> = report.unsaved.iter().map(|(key, _)| key.clone()).collect();
        let noted = wait_until(shared.storage.mark_unsaved(&keys), Instant::now() + NOTE_DEADLINE);
        report.error = noted.unwrap_or_else(|| Err(not_noted())).err();
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(shared.config.memory.lifecycle_deadline);
    if let Err(error) = shared.memory.terminate(left) {
        report.error = Some(error);
    }
    maintenance.end(deadline.max(Instant::now() + shared.config.memory.lifecycle_deadline));
    report
}

fn not_noted() -> Error {
    let why = format!(
        "the storage did not note within {NOTE_DEADLINE:?} which grains were not saved: their next activation may take \
         an earlier state for the last"
    );
    Error::new(ErrorKind::Timeout, "silo.shutdown", why)
}

impl Shared {
    /// The grains that are active or may become so: `stopping` is set, so an activation that comes later is refused.
    fn active_or_about_to_be(&self) -> Vec<Arc<Entry>> {
        // Whoever cannot be locked is being activated, saved or deactivated. Whoever can be is not, and an activation
        // that locks it afterwards sees `stopping`.
        let may_be = |entry: &Entry| entry.session().is_some() || entry.state.try_lock().is_err();
        self.directory.iter().filter(|entry| may_be(entry)).map(|entry| Arc::clone(&entry)).collect()
    }
}

/// Deactivates these grains together; those that are not done by the deadline are listed.
fn deactivate_all(shared: &Shared, chunk: &[Arc<Entry>], deadline: Instant, report: &mut ShutdownReport) {
    let mut under_way: FuturesUnordered<_> =
        chunk.iter().enumerate().map(|(i, entry)| async move { (i, shared.retire(entry).await) }).collect();
    let mut done = vec![false; chunk.len()];
    while let Some(Some((i, retired))) = wait_until(under_way.next(), deadline) {
        done[i] = true;
        match retired {
            Ok(None) => {}
            Ok(Some(session)) => {
                report.saved += 1;
                // It is saved; what still runs in its name ends with the ring, which says so if it does not.
                let _ = shared.close(session);
            }
            Err(error) => report.unsaved.push((chunk[i].key.clone(), error.to_string())),
        }
    }
    let late = chunk.iter().zip(done).filter(|(_, done)| !done);
    report.unsaved.extend(late.map(|(entry, _)| (entry.key.clone(), "the deadline passed first".to_owned())));
}
