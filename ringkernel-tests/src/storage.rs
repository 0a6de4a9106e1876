//! A storage double: in memory, counted, with gates where calls can be held up, and failures on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use gpubridge_abstractions::{Error, ErrorKind, Result};
use gpubridge_grains::GrainKey;
use gpubridge_grains::storage::{GrainStorage, MemoryStorage, Stored, VersionTag};

use crate::rig::Gate;

/// Keeps records in memory; gates hold calls up, and so many changes fail as the counters say.
#[derive(Debug)]
pub struct Watched {
    inner: MemoryStorage,
    pub reading: Arc<Gate>,
    pub writing: Arc<Gate>,
    /// Holds up the answer to a change of a record that has taken effect.
    pub written: Arc<Gate>,
    /// Holds up notes, which an activation that restores takes last.
    pub marking: Arc<Gate>,
    /// Holds up the answer to a note that has been taken.
    pub marked: Arc<Gate>,
    pub reads: AtomicUsize,
    pub writes: AtomicUsize,
    /// So many changes of records fail before one succeeds.
    pub failing: AtomicUsize,
    /// So many changes of records take effect and answer with an error.
    pub failing_after: AtomicUsize,
    /// So many notes fail before one succeeds.
    pub failing_marks: AtomicUsize,
}

/// Takes one from a counter of failures, and fails if there was one.
fn fail(failures: &AtomicUsize, operation: &'static str) -> Result<()> {
    let fails = |left: usize| left.checked_sub(1);
    match failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails) {
        Ok(_) => Err(Error::new(ErrorKind::Io, operation, "this change fails on purpose")),
        Err(_) => Ok(()),
    }
}

impl Watched {
    /// With all gates open.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStorage::new(),
            reading: Gate::opened(),
            writing: Gate::opened(),
            written: Gate::opened(),
            marking: Gate::opened(),
            marked: Gate::opened(),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            failing: AtomicUsize::new(0),
            failing_after: AtomicUsize::new(0),
            failing_marks: AtomicUsize::new(0),
        })
    }

    /// Changes a record, unless it is to fail or to wait.
    async fn change<T>(&self, operation: &'static str, change: impl Future<Output = Result<T>>) -> Result<T> {
        self.writing.passed().await;
        fail(&self.failing, operation)?;
        let changed = change.await?;
        fail(&self.failing_after, operation)?;
        self.written.passed().await;
        Ok(changed)
    }
}

#[async_trait]
impl GrainStorage for Watched {
    async fn read(&self, key: &GrainKey) -> Result<Option<Stored>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.reading.passed().await;
        self.inner.read(key).await
    }

    async fn write(&self, key: &GrainKey, bytes: Vec<u8>, expected: Option<VersionTag>) -> Result<VersionTag> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.change("storage.write", self.inner.write(key, bytes, expected)).await
    }

    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()> {
        self.change("storage.remove", self.inner.remove(key, expected)).await
    }

    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()> {
        self.marking.passed().await;
        fail(&self.failing_marks, "storage.mark_unsaved")?;
        self.inner.mark_unsaved(keys).await?;
        self.marked.passed().await;
        Ok(())
    }

    fn may_contain(&self, key: &GrainKey) -> bool {
        self.inner.may_contain(key)
    }

    async fn begin_epoch(&self) -> Result<u64> {
        self.inner.begin_epoch().await
    }
}
