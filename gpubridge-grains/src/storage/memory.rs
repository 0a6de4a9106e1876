//! Storage in the memory of the process: for tests, and for grains whose state may go with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use gpubridge_abstractions::Result;

use super::{GrainStorage, Stored, VersionTag, check_size, compare, next_epoch};
use crate::GrainKey;

/// Keeps records in memory. As durable as the value itself: a silo that is opened again on the same one finds
/// everything; with the process it is gone.
///
/// No call waits for anything but another call's map operation.
#[derive(Default)]
pub struct MemoryStorage {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    grains: HashMap<GrainKey, Entry>,
    last_version: u64,
    last_epoch: u64,
}

#[derive(Default)]
struct Entry {
    record: Option<(VersionTag, Arc<Vec<u8>>)>,
    unsaved: bool,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        // Every change is a single map operation, so a panic elsewhere leaves no half of one.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn peek(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn version(&self, key: &GrainKey) -> Option<VersionTag> {
        self.grains.get(key)?.record.as_ref().map(|(version, _)| *version)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("grains", &self.peek().grains.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl GrainStorage for MemoryStorage {
    async fn read(&self, key: &GrainKey) -> Result<Option<Stored>> {
        key.check("storage.read")?;
        let (record, unsaved) = match self.peek().grains.get(key) {
            Some(entry) => (entry.record.clone(), entry.unsaved),
            None => return Ok(None),
        };
        // The bytes are copied with the lock released: a large record holds nobody up.
        let (version, bytes) = record.map_or((None, Vec::new()), |(version, bytes)| (Some(version), bytes.to_vec()));
        Ok(Some(Stored { bytes, version, unsaved }))
    }

    async fn write(&self, key: &GrainKey, bytes: Vec<u8>, expected: Option<VersionTag>) -> Result<VersionTag> {
        key.check("storage.write")?;
        check_size("storage.write", key, bytes.len())?;
        let mut state = self.lock();
        compare("storage.write", key, state.version(key), expected)?;
        state.last_version += 1;
        let version = VersionTag(state.last_version);
        state.grains.insert(key.clone(), Entry { record: Some((version, Arc::new(bytes))), unsaved: false });
        Ok(version)
    }

    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()> {
        key.check("storage.remove")?;
        let mut state = self.lock();
        compare("storage.remove", key, state.version(key), expected)?;
        state.grains.remove(key);
        Ok(())
    }

    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()> {
        keys.iter().try_for_each(|key| key.check("storage.mark_unsaved"))?;
        let mut state = self.lock();
        for key in keys {
            state.grains.entry(key.clone()).or_default().unsaved = true;
        }
        Ok(())
    }

    fn may_contain(&self, key: &GrainKey) -> bool {
        self.peek().grains.contains_key(key)
    }

    async fn begin_epoch(&self) -> Result<u64> {
        let mut state = self.lock();
        state.last_epoch = next_epoch(state.last_epoch)?;
        Ok(state.last_epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use gpubridge_abstractions::ErrorKind;

    use super::*;
    use crate::storage::MAX_EPOCH;

    #[test]
    fn epochs_end_with_an_error() {
        let storage = MemoryStorage::new();
        storage.lock().last_epoch = MAX_EPOCH - 1;
        let begin = || match pin!(storage.begin_epoch()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(epoch) => epoch,
            Poll::Pending => unreachable!("memory never waits"),
        };
        assert_eq!(begin().expect("one is left"), MAX_EPOCH);
        for _ in 0..2 {
            assert_eq!(begin().expect_err("none is left").kind(), ErrorKind::OutOfMemory);
        }
    }
}
