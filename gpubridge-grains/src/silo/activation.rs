//! Activate, save, deactivate: a grain's session and its record.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use gpubridge_abstractions::{
    AllocationId, DeviceIndex, Error, ErrorKind, GpuMemoryHandle, InitializeMessage, ReadMessage, ShutdownMessage,
    StagedRange, WriteMessage,
};
use gpubridge_runtime::{RestoredAllocation, SessionId};

use super::{Entry, Shared, State, UncleanPolicy};
use crate::storage::{GrainSnapshot, SavedAllocation, Stored};

/// How long a deactivation waits for an operation in pieces to give up its turn.
const SEAL_DEADLINE: Duration = Duration::from_secs(30);

impl Shared {
    /// The session of an active grain; activates it if it is not. Racing calls find one activation.
    ///
    /// Dropping the future leaves the grain as it was.
    pub(crate) async fn activate(&self, entry: &Entry) -> Result<SessionId, Error> {
        let mut state = entry.state.lock().await;
        // A session that is taken over is published again by whoever has it, or below.
        let active = entry.session().filter(|session| self.memory.is_open(*session));
        if let Some(session) = active {
            return Ok(session);
        }
        if self.stopping.load(Ordering::Acquire) {
            let why = format!("the silo is shutting down: grain `{}` is not activated any more", entry.key);
            return Err(Error::new(ErrorKind::InvalidState, "silo.activate", why));
        }
        if let Some(session) = state.taken {
            self.go_on(entry, &mut state).await?;
            return Ok(session);
        }
        let stored = if self.storage.may_contain(&entry.key) { self.storage.read(&entry.key).await? } else { None };
        let opened = self.open_session(entry)?;
        *state = State::default();
        *entry.stored.lock() = None;
        if let Some(stored) = stored {
            self.restore(entry, opened.session, &mut state, stored).await?;
        }
        let session = opened.keep();
        entry.publish(Some(session));
        Ok(session)
    }

    fn open_session(&self, entry: &Entry) -> Result<Opened<'_>, Error> {
        let opened = Opened { shared: self, session: self.memory.session(entry.key.stable_hash()) };
        let mut message = InitializeMessage::new(self.memory.envelope());
        message.max_pool_size_bytes = self.config.grain_quota_bytes;
        self.memory.initialize(opened.session, &message)?;
        Ok(opened)
    }

    async fn restore(&self, entry: &Entry, session: SessionId, state: &mut State, stored: Stored) -> Result<(), Error> {
        state.version = stored.version;
        if stored.version.is_none() {
            return Ok(());
        }
        let snapshot = GrainSnapshot::decode(&stored.bytes).map_err(|error| {
            let why =
                format!("grain `{}` is not activated, its record is left as it is: {}", entry.key, error.message());
            Error::new(error.kind(), "silo.activate", why).with_source(error)
        })?;
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
            self.memory.restore_async(session, &restored).await?;
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
    ///
    /// Dropping the future leaves the grain active; whether it was saved is unknown then.
    pub(crate) async fn save(&self, entry: &Entry) -> Result<(), Error> {
        let mut state = entry.state.lock().await;
        let Some(session) = self.take_over(entry, &mut state).await? else { return Ok(()) };
        let saved = self.write_record(entry, session, &mut state, true, false).await;
        let goes_on = self.go_on(entry, &mut state).await;
        saved.and(goes_on)
    }

    /// Deactivates a grain: saves it by policy and gives its memory back. If it cannot be saved it stays active, as it
    /// does when the future is dropped before it is saved.
    pub(crate) async fn deactivate(&self, entry: &Entry) -> Result<(), Error> {
        match self.retire(entry).await? {
            Some(session) => {
                // Closed all the same if this future is dropped meanwhile.
                let retired = Opened { shared: self, session };
                let message = ShutdownMessage::new(self.memory.envelope());
                let deadline = self.config.memory.lifecycle_deadline;
                let closed = self.memory.shutdown_async(session, &message, deadline).await;
                retired.keep();
                closed.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Saves a grain by policy and names it inactive. Returns its session, which is to be closed; `None` if the grain was
    /// not active.
    pub(super) async fn retire(&self, entry: &Entry) -> Result<Option<SessionId>, Error> {
        let mut state = entry.state.lock().await;
        let Some(session) = self.take_over(entry, &mut state).await? else { return Ok(None) };
        let saved = self.write_record(entry, session, &mut state, self.config.save_on_deactivation, true).await;
        if let Err(error) = saved {
            // If even going on fails, the grain's next call, save or deactivation tries it again.
            let _ = self.go_on(entry, &mut state).await;
            return Err(error);
        }
        state.taken = None;
        entry.publish(None);
        Ok(Some(session))
    }

    /// Takes an active grain's session over, between two turns. The calls of others find it refusing, and wait for the
    /// grain's state. `None` if the grain is not active.
    async fn take_over(&self, entry: &Entry, state: &mut State) -> Result<Option<SessionId>, Error> {
        if state.taken.is_none()
            && let Some(session) = entry.session()
        {
            state.taken = Some(self.memory.seal_in_turn(session, SEAL_DEADLINE).await?);
        }
        Ok(state.taken)
    }

    /// Publishes a session that was taken over: the grain goes on.
    async fn go_on(&self, entry: &Entry, state: &mut State) -> Result<(), Error> {
        if state.may_be_closed {
            self.storage.mark_unsaved(std::slice::from_ref(&entry.key)).await?;
            state.may_be_closed = false;
        }
        if let Some(session) = state.taken.take() {
            entry.publish(Some(session));
        }
        Ok(())
    }

    async fn write_record(
        &self,
        entry: &Entry,
        session: SessionId,
        state: &mut State,
        with_contents: bool,
        closed: bool,
    ) -> Result<(), Error> {
        if state.version_unknown {
            self.look_up_version(entry, state).await?;
        }
        let allocations = self.memory.allocations(session)?;
        if allocations.is_empty() && state.version.is_none() {
            return Ok(());
        }
        let bytes = match allocations.is_empty() && closed {
            true => None,
            false => Some(self.snapshot(entry, session, &allocations, with_contents, closed).await?),
        };
        // Until its answer is there, and after most errors, the change may or may not have happened.
        let may_have_been_closed = state.may_be_closed;
        state.may_be_closed |= closed;
        state.version_unknown = true;
        let changed = match bytes {
            Some(bytes) => self.storage.write(&entry.key, bytes, state.version).await.map(Some),
            None => self.storage.remove(&entry.key, state.version).await.map(|()| None),
        };
        match changed {
            Ok(version) => (state.version, state.version_unknown, state.may_be_closed) = (version, false, closed),
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InvalidArgument) {
                    (state.version_unknown, state.may_be_closed) = (false, may_have_been_closed);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Finds out what a change of the record came to whose answer was not seen. Only what this run has written is taken
    /// for it: another writer's record stays a conflict.
    async fn look_up_version(&self, entry: &Entry, state: &mut State) -> Result<(), Error> {
        let stored = self.storage.read(&entry.key).await?;
        let version = stored.as_ref().and_then(|stored| stored.version);
        let of_this_run = |stored: &Stored| GrainSnapshot::decode(&stored.bytes).is_ok_and(|s| s.epoch == self.epoch);
        if version.is_none() || stored.as_ref().is_some_and(of_this_run) {
            state.version = version;
        }
        state.version_unknown = false;
        Ok(())
    }

    /// The grain's state as a record's bytes.
    async fn snapshot(
        &self,
        entry: &Entry,
        session: SessionId,
        allocations: &[RestoredAllocation],
        with_contents: bool,
        closed: bool,
    ) -> Result<Vec<u8>, Error> {
        let mut saved = Vec::with_capacity(allocations.len());
        for allocation in allocations {
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
        let stored = *entry.stored.lock();
        let snapshot = GrainSnapshot {
            epoch: self.epoch,
            saved_at: SystemTime::now(),
            closed,
            issued_up_to: self.memory.issued_up_to(session),
            // A `clear` that was interrupted may have left the name of a buffer that is gone.
            store_slot: stored
                .filter(|handle| allocations.iter().any(|allocation| allocation.id == handle.id))
                .map(|handle| handle.id.slot),
            allocations: saved,
        };
        snapshot.encode()
    }

    async fn contents(&self, session: SessionId, allocation: &RestoredAllocation) -> Result<Vec<u8>, Error> {
        let size_bytes = allocation.size_bytes;
        let mut contents = vec![0; size_bytes as usize];
        let staged = StagedRange { offset_bytes: 0, size_bytes };
        let message = ReadMessage::new(self.memory.envelope(), allocation.id, 0, staged);
        self.memory.read(session, &message, &mut contents).await?;
        Ok(contents)
    }

    pub(super) fn close(&self, session: SessionId) -> Result<(), Error> {
        let message = ShutdownMessage::new(self.memory.envelope());
        self.memory.shutdown(session, &message, self.config.memory.lifecycle_deadline).map(drop)
    }

    /// Whether a handle that the session does not know is not known to have been released, and so may be lost: no record
    /// is as late as it is.
    pub(crate) async fn is_lost(&self, entry: &Entry, id: AllocationId) -> bool {
        let state = entry.state.lock().await;
        id.epoch() < self.epoch && id.generation > state.restored_up_to
    }
}

/// A session that is closed unless it is kept: what goes on with it may fail, or its future may be dropped.
struct Opened<'a> {
    shared: &'a Shared,
    session: SessionId,
}

impl Opened<'_> {
    fn keep(self) -> SessionId {
        let session = self.session;
        std::mem::forget(self);
        session
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // A session that cannot be closed keeps its memory; what went wrong before says more.
        let _ = self.shared.close(self.session);
    }
}
