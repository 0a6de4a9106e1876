//! Activate, save, deactivate: a grain's session and its record.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gpubridge_abstractions::{
    AllocationId, DeviceIndex, Error, ErrorKind, GpuMemoryHandle, InitializeMessage, ReadMessage, ShutdownMessage,
    StagedRange, WriteMessage,
};
use gpubridge_runtime::{RestoredAllocation, SessionId};
use tokio::sync::MutexGuard;

use super::{Entry, Shared, State, UncleanPolicy};
use crate::storage::{GrainSnapshot, SavedAllocation, Stored};

/// How long a deactivation waits for an operation in pieces to give up its turn.
const SEAL_DEADLINE: Duration = Duration::from_secs(30);

impl Shared {
    /// The session of an active grain; activates it if it is not. Racing calls find one activation.
    pub(crate) async fn activate(&self, entry: &Entry) -> Result<SessionId, Error> {
        let mut state = entry.state.lock().await;
        if let Some(session) = entry.session().filter(|session| self.memory.is_open(*session)) {
            return Ok(session);
        }
        if self.stopping.load(Ordering::Acquire) {
            let why = format!("the silo is shutting down: grain `{}` is not activated any more", entry.key);
            return Err(Error::new(ErrorKind::InvalidState, "silo.activate", why));
        }
        let stored = if self.storage.may_contain(&entry.key) { self.storage.read(&entry.key).await? } else { None };
        let session = self.memory.session(entry.key.stable_hash());
        let mut message = InitializeMessage::new(self.memory.envelope());
        message.max_pool_size_bytes = self.config.grain_quota_bytes;
        self.memory.initialize(session, &message)?;
        *state = State::default();
        if let Some(stored) = stored
            && let Err(error) = self.restore(entry, session, &mut state, stored).await
        {
            self.close(session)?;
            return Err(error);
        }
        entry.publish(Some(session));
        Ok(session)
    }

    async fn restore(&self, entry: &Entry, session: SessionId, state: &mut State, stored: Stored) -> Result<(), Error> {
        state.version = stored.version;
        *entry.stored.lock() = None;
        if stored.version.is_none() {
            return Ok(());
        }
        let snapshot = GrainSnapshot::decode(&stored.bytes)?;
        state.restored_up_to = snapshot.issued_up_to;
        let unclean = stored.unsaved || !snapshot.closed;
        let lost = unclean && self.config.unclean == UncleanPolicy::MarkLost;
        for saved in &snapshot.allocations {
            let id = AllocationId { slot: saved.slot, generation: saved.generation };
            let contents = saved.contents.as_ref().filter(|_| !lost);
            let restored = RestoredAllocation {
                id,
                size_bytes: saved.size_bytes,
                memory_type: saved.memory_type,
                allocated_at: saved.allocated_at,
                contents_lost: contents.is_none(),
            };
            self.memory.restore(session, &restored)?;
            if let Some(contents) = contents {
                let staged = StagedRange { offset_bytes: 0, size_bytes: saved.size_bytes };
                let message = WriteMessage::new(self.memory.envelope(), id, 0, staged);
                self.memory.write(session, &message, contents).await?;
            }
            if snapshot.store_slot == Some(saved.slot) {
                *entry.stored.lock() = Some(GpuMemoryHandle {
                    id,
                    size_bytes: saved.size_bytes,
                    memory_type: saved.memory_type,
                    device_index: DeviceIndex(saved.device_index),
                    allocated_at: saved.allocated_at,
                });
            }
        }
        // From here on the grain may hold state newer than its record.
        if !stored.unsaved { self.storage.mark_unsaved(std::slice::from_ref(&entry.key)).await } else { Ok(()) }
    }

    /// Saves an active grain between two turns; it goes on afterwards. Does nothing for a grain that is not active.
    pub(crate) async fn save(&self, entry: &Entry) -> Result<(), Error> {
        let mut state = entry.state.lock().await;
        let Some(session) = entry.session() else { return Ok(()) };
        let sealed = self.seal(session).await?;
        let saved = self.write_record(entry, sealed, &mut state, true, false).await;
        entry.publish(Some(sealed));
        saved
    }

    /// Deactivates a grain: saves it by policy and gives its memory back. If it cannot be saved it stays active.
    pub(crate) async fn deactivate(&self, entry: &Entry) -> Result<(), Error> {
        let state = entry.state.lock().await;
        self.deactivate_locked(entry, state).await
    }

    pub(super) async fn deactivate_locked(&self, entry: &Entry, mut state: MutexGuard<'_, State>) -> Result<(), Error> {
        let Some(session) = entry.session() else { return Ok(()) };
        let sealed = self.seal(session).await?;
        if let Err(error) = self.write_record(entry, sealed, &mut state, self.config.save_on_deactivation, true).await {
            entry.publish(Some(sealed));
            return Err(error);
        }
        entry.publish(None);
        self.close(sealed)
    }

    /// Takes the session over once no operation in pieces has the turn.
    async fn seal(&self, session: SessionId) -> Result<SessionId, Error> {
        let until = Instant::now() + SEAL_DEADLINE;
        loop {
            match self.memory.seal(session) {
                Err(error) if error.kind() == ErrorKind::Full && Instant::now() < until => {
                    tokio::task::yield_now().await
                }
                sealed => return sealed,
            }
        }
    }

    async fn write_record(
        &self,
        entry: &Entry,
        session: SessionId,
        state: &mut State,
        with_contents: bool,
        closed: bool,
    ) -> Result<(), Error> {
        let allocations = self.memory.allocations(session)?;
        if allocations.is_empty() && state.version.is_none() {
            return Ok(());
        }
        if allocations.is_empty() && closed {
            self.storage.remove(&entry.key, state.version).await?;
            state.version = None;
            return Ok(());
        }
        let stored = *entry.stored.lock();
        let mut saved = Vec::with_capacity(allocations.len());
        for allocation in &allocations {
            let contents = match with_contents && !allocation.contents_lost {
                true => Some(self.contents(session, allocation).await?),
                false => None,
            };
            saved.push(SavedAllocation {
                slot: allocation.id.slot,
                generation: allocation.id.generation,
                size_bytes: allocation.size_bytes,
                memory_type: allocation.memory_type,
                device_index: self.memory.device_index().0,
                allocated_at: allocation.allocated_at,
                contents,
            });
        }
        let snapshot = GrainSnapshot {
            epoch: self.epoch,
            saved_at: SystemTime::now(),
            closed,
            issued_up_to: self.memory.issued_up_to(session),
            store_slot: stored.map(|handle| handle.id.slot),
            allocations: saved,
        };
        let version = self.storage.write(&entry.key, snapshot.encode()?, state.version).await?;
        state.version = Some(version);
        Ok(())
    }

    async fn contents(&self, session: SessionId, allocation: &RestoredAllocation) -> Result<Vec<u8>, Error> {
        let size_bytes = allocation.size_bytes;
        let mut contents = vec![0; size_bytes as usize];
        let staged = StagedRange { offset_bytes: 0, size_bytes };
        let message = ReadMessage::new(self.memory.envelope(), allocation.id, 0, staged);
        self.memory.read(session, &message, &mut contents).await?;
        Ok(contents)
    }

    fn close(&self, session: SessionId) -> Result<(), Error> {
        let message = ShutdownMessage::new(self.memory.envelope());
        self.memory.shutdown(session, &message, self.config.memory.lifecycle_deadline).map(drop)
    }

    /// Whether a handle that the session does not know was lost in an unclean stop, not released.
    pub(crate) async fn is_lost(&self, entry: &Entry, id: AllocationId) -> bool {
        let state = entry.state.lock().await;
        id.epoch() < self.epoch && id.generation > state.restored_up_to
    }
}
