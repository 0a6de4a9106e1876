//! A storage double: in memory, counted, with gates where calls can be held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use gpubridge_abstractions::{Error, ErrorKind, Result};
use gpubridge_grains::GrainKey;
use gpubridge_grains::storage::{GrainStorage, MemoryStorage, Stored, VersionTag};

use crate::rig::Gate;

/// Keeps records in memory; gates hold calls up, and `failing` makes writes fail.
#[derive(Debug)]
pub struct Watched {
    inner: MemoryStorage,
    pub reading: Arc<Gate>,
    pub writing: Arc<Gate>,
    /// Holds up the answer to a write that has taken effect.
    pub written: Arc<Gate>,
    /// Holds up notes, which an activation that restores takes last.
    pub marking: Arc<Gate>,
    pub reads: AtomicUsize,
    pub writes: AtomicUsize,
    /// So many writes fail before one succeeds.
    pub failing: AtomicUsize,
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
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            failing: AtomicUsize::new(0),
        })
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
        self.writing.passed().await;
        let fails = |left: usize| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(Error::new(ErrorKind::Io, "storage.write", "this write fails on purpose"));
        }
        let version = self.inner.write(key, bytes, expected).await;
        self.written.passed().await;
        version
    }

    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()> {
        self.inner.remove(key, expected).await
    }

    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()> {
        self.marking.passed().await;
        self.inner.mark_unsaved(keys).await
    }

    fn may_contain(&self, key: &GrainKey) -> bool {
        self.inner.may_contain(key)
    }

    async fn begin_epoch(&self) -> Result<u64> {
        self.inner.begin_epoch().await
    }
}
