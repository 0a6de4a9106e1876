//! The memory under test and the model of it; what the host answers.

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, ErrorKind, GetMetricsMessage, InitializeMessage, MemoryType, ReleaseMessage,
    ShutdownMessage, ShutdownResponse,
};
use gpubridge_runtime::{RestoredAllocation, SessionId};

use super::super::contents::Contents;
use super::super::{Checked, Refusals, same};
use super::SESSIONS;
use super::calls::Flight;
use crate::rig::{Rig, SOON};

/// What the model knows of an allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    pub id: AllocationId,
    size_bytes: u64,
    memory_type: MemoryType,
    /// `None` once it is released.
    pub contents: Option<Contents>,
}

/// What the model knows of a session.
#[derive(Debug)]
pub(super) struct Place {
    pub id: SessionId,
    pub is_open: bool,
    was_closed: bool,
    quota_bytes: u64,
    /// Whether it gave memory back: what it is given next may be that.
    has_released: bool,
    /// All it ever had, under earlier names too.
    pub allocations: Vec<Allocation>,
    pub counts: Counts,
}

/// What a session's totals must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    allocations: Count,
    pub writes: Count,
    pub reads: Count,
    pub computes: u64,
    releases: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    calls: u64,
    bytes: u64,
}

impl Count {
    pub fn add(&mut self, bytes: u64) {
        (self.calls, self.bytes) = (self.calls + 1, self.bytes + bytes);
    }
}

impl Place {
    fn live(&self) -> impl Iterator<Item = (&Allocation, &Contents)> {
        self.allocations.iter().filter_map(|allocation| Some((allocation, allocation.contents.as_ref()?)))
    }

    /// The indices of its live allocations.
    fn live_indices(&self) -> Vec<usize> {
        let indices = 0..self.allocations.len();
        indices.filter(|index| self.allocations[*index].contents.is_some()).collect()
    }

    /// Goes on as a new session.
    fn rename(&mut self, id: SessionId) {
        (self.id, self.was_closed, self.has_released, self.counts) = (id, false, false, Counts::default());
    }

    fn live_bytes(&self) -> u64 {
        self.live().map(|(allocation, _)| allocation.size_bytes).sum()
    }

    /// The index of the allocation that is counted back from the latest.
    pub fn find(&self, back: usize) -> Option<usize> {
        let len = self.allocations.len();
        (len > 0).then(|| len - 1 - back % len)
    }
}

/// The memory under test and the model of it.
pub(super) struct World<'a> {
    pub rig: &'a Rig,
    pub places: Vec<Place>,
    pub flying: Vec<Flight<'a>>,
    /// What posted reads must have brought, by operation.
    pub read: Vec<(usize, Contents)>,
    /// Blocks that the pools gave out.
    placed: u64,
    /// Requests that count as processed.
    pub processed: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(rig: &'a Rig) -> Self {
        let place = |hash: usize| Place {
            id: rig.memory.session(hash as u64),
            is_open: false,
            was_closed: false,
            quota_bytes: 0,
            has_released: false,
            allocations: Vec::new(),
            counts: Counts::default(),
        };
        let places = (0..SESSIONS).map(place).collect();
        Self { rig, places, flying: Vec::new(), read: Vec::new(), placed: 0, processed: 0 }
    }

    /// The refusals of a request to a session that is not open, or those that follow.
    pub(super) fn refusals(&self, session: usize, if_open: impl FnOnce(&Place) -> Refusals) -> Refusals {
        let place = &self.places[session];
        if place.is_open { if_open(place) } else { Refusals::none().with(ErrorKind::InvalidState, true) }
    }

    pub(super) fn open(&mut self, session: usize, quota_bytes: Option<u64>) -> Checked {
        let place = &mut self.places[session];
        if place.was_closed {
            place.rename(self.rig.memory.session(session as u64));
        }
        let mut message = InitializeMessage::new(self.rig.memory.envelope());
        message.max_pool_size_bytes = quota_bytes.unwrap_or(u64::MAX);
        let refusals = Refusals::none().with(ErrorKind::InvalidState, place.is_open);
        if refusals.check(self.rig.memory.initialize(place.id, &message))?.is_some() {
            (place.is_open, place.quota_bytes) = (true, quota_bytes.unwrap_or(u64::MAX));
            self.processed += 1;
        }
        Ok(())
    }

    pub(super) fn allocate(&mut self, session: usize, size_bytes: u64, memory_type: MemoryType) -> Checked {
        let supported = self.rig.memory.device().info().capabilities.supports_memory(memory_type);
        let refusals = self.refusals(session, |place| {
            Refusals::none()
                .with(ErrorKind::InvalidArgument, size_bytes == 0)
                .with(ErrorKind::Unsupported, !supported)
                .with(ErrorKind::OutOfMemory, place.live_bytes() + size_bytes > place.quota_bytes)
        });
        let message = AllocateMessage { memory_type, ..AllocateMessage::new(self.rig.memory.envelope(), size_bytes) };
        let answer = self.rig.memory.allocate(self.places[session].id, &message);
        let Some(response) = refusals.check(answer)? else { return Ok(()) };
        let handle = response.handle;
        same("size and type", (handle.size_bytes, handle.memory_type), (size_bytes, memory_type))?;
        let mut all = self.places.iter().flat_map(|place| &place.allocations);
        if all.any(|allocation| allocation.id == handle.id) {
            return Err(format!("{} was issued before", handle.id));
        }
        let place = &mut self.places[session];
        let own = place.has_released && response.is_pool_hit;
        let contents = if own { Contents::unknown(size_bytes) } else { Contents::zeroed(size_bytes) };
        place.allocations.push(Allocation { id: handle.id, size_bytes, memory_type, contents: Some(contents) });
        place.counts.allocations.add(size_bytes);
        (self.placed, self.processed) = (self.placed + 1, self.processed + 1);
        Ok(())
    }

    pub(super) fn release(&mut self, session: usize, allocation: usize, return_to_pool: bool) -> Checked {
        let Some(index) = self.places[session].find(allocation) else { return Ok(()) };
        let mut message = ReleaseMessage::new(self.rig.memory.envelope(), self.places[session].allocations[index].id);
        message.return_to_pool = return_to_pool;
        let refusals = self.refusals(session, |_| Refusals::none());
        let place = &mut self.places[session];
        let Some(response) = refusals.check(self.rig.memory.release(place.id, &message))? else { return Ok(()) };
        self.processed += 1;
        let released = place.allocations[index].contents.take().map(|_| place.allocations[index].size_bytes);
        let seen = (response.bytes_freed, response.returned_to_pool);
        same("freed and returned", seen, (released.unwrap_or(0), released.is_some() && return_to_pool))?;
        if let Some(size_bytes) = released {
            place.counts.releases.add(size_bytes);
            place.has_released = true;
        }
        Ok(())
    }

    pub(super) fn trespass(&mut self, session: usize, other: usize, allocation: usize) -> Checked {
        let Some(index) = self.places[other].find(allocation).filter(|_| session != other) else { return Ok(()) };
        let (stranger, id) = (self.places[session].id, self.places[other].allocations[index].id);
        let refusals = self.refusals(session, |_| Refusals::none().with(ErrorKind::NotFound, true));
        refusals.check(self.rig.try_write(stranger, id, 0, &[1]))?;
        refusals.check(self.rig.try_read(stranger, id, 0, 1))?;
        let refusals = self.refusals(session, |_| Refusals::none());
        let message = ReleaseMessage::new(self.rig.memory.envelope(), id);
        if let Some(response) = refusals.check(self.rig.memory.release(stranger, &message))? {
            self.processed += 1;
            same("freed of another's", response.bytes_freed, 0)?;
        }
        Ok(())
    }

    pub(super) fn metrics(&mut self, session: usize) -> Checked {
        let message = GetMetricsMessage::new(self.rig.memory.envelope());
        let refusals = self.refusals(session, |_| Refusals::none());
        let answer = self.rig.memory.get_metrics(self.places[session].id, &message);
        let Some(response) = refusals.check(answer)? else { return Ok(()) };
        self.processed += 1;
        let live = self.places.iter().map(|place| place.live().count() as u64).sum();
        same("live allocations", response.active_allocation_count, live)?;
        same("blocks placed", response.pool_hit_count + response.pool_miss_count, self.placed)?;
        if self.flying.is_empty() {
            same("messages processed", response.total_messages_processed, self.processed)?;
        }
        let live_bytes = self.places.iter().map(Place::live_bytes).sum();
        same("bytes in use", self.rig.memory.metrics().used_pool_size_bytes, live_bytes)?;
        let totals = self.rig.memory.totals(self.places[session].id).map_err(|error| error.to_string())?;
        let seen = Counts {
            allocations: Count { calls: totals.allocations.count, bytes: totals.allocations.bytes },
            writes: Count { calls: totals.writes.count, bytes: totals.writes.bytes },
            reads: Count { calls: totals.reads.count, bytes: totals.reads.bytes },
            computes: totals.computes.count,
            releases: Count { calls: totals.releases.count, bytes: totals.releases.bytes },
        };
        same("totals of the session", seen, self.places[session].counts)
    }

    pub(super) fn reopen(&mut self, session: usize) -> Checked {
        if !self.places[session].is_open {
            return Ok(());
        }
        let live: Vec<usize> = self.places[session].live_indices();
        let mut saved = Vec::new();
        for &index in &live {
            saved.push(self.read_whole(session, index)?);
        }
        let listed = self.rig.memory.allocations(self.places[session].id).map_err(|error| error.to_string())?;
        let place = &self.places[session];
        let mut model: Vec<_> = place.live().map(|(a, _)| (a.id, a.size_bytes, a.memory_type, false)).collect();
        model.sort_by_key(|(id, ..)| id.slot);
        let seen = listed.iter().map(|a| (a.id, a.size_bytes, a.memory_type, a.contents_lost)).collect::<Vec<_>>();
        same("allocations listed", seen, model)?;
        let (quota_bytes, kept) =
            (place.quota_bytes, live.iter().map(|index| place.allocations[*index].contents.clone()));
        let kept: Vec<_> = kept.collect();
        self.close(session, true)?;
        self.open(session, Some(quota_bytes))?;
        for restored in &listed {
            let restored = RestoredAllocation { contents_lost: true, ..*restored };
            let answer = self.rig.memory.restore(self.places[session].id, &restored);
            answer.map_err(|error| format!("{} is not restored: {error}", restored.id))?;
            self.placed += 1;
            self.places[session].counts.allocations.add(restored.size_bytes);
        }
        for ((index, kept), bytes) in live.into_iter().zip(kept).zip(&saved) {
            let id = self.places[session].allocations[index].id;
            let lost = Refusals::none().with(ErrorKind::ContentsLost, true);
            lost.check(self.rig.try_read(self.places[session].id, id, 0, 1))?;
            self.places[session].allocations[index].contents = kept;
            self.write_now(session, index, 0, bytes)?;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, session: usize, drain: bool) -> Checked {
        let mut message = ShutdownMessage::new(self.rig.memory.envelope());
        message.drain_pending_messages = drain;
        let refusals = self.refusals(session, |_| Refusals::none());
        let id = self.places[session].id;
        let Some(response) = refusals.check(self.rig.memory.shutdown(id, &message, SOON))? else { return Ok(()) };
        self.processed += 1;
        let flying = self.flying.iter_mut().filter(|flight| flight.id == id);
        let flown = flying.map(|flight| flight.cancelled |= !drain).count() as u64;
        let ShutdownResponse { messages_drained, messages_cancelled, .. } = response;
        let (counted, other) =
            if drain { (messages_drained, messages_cancelled) } else { (messages_cancelled, messages_drained) };
        if counted > flown || other > 0 {
            return Err(format!("{counted} of {flown} calls in flight were answered, and {other} the other way"));
        }
        let place = &mut self.places[session];
        (place.is_open, place.was_closed) = (false, true);
        place.allocations.iter_mut().for_each(|allocation| allocation.contents = None);
        Ok(())
    }

    /// Takes all answers, compares all contents and counts, and closes. Returns what posted reads must have brought.
    pub(super) fn finish(mut self) -> Checked<Vec<(usize, Contents)>> {
        while !self.flying.is_empty() {
            self.take(0)?;
        }
        for session in 0..SESSIONS {
            for index in self.places[session].live_indices() {
                self.read_whole(session, index)?;
            }
            self.metrics(session)?;
        }
        for session in 0..SESSIONS {
            self.close(session, true)?;
        }
        let metrics = self.rig.memory.metrics();
        let left = (metrics.active_allocation_count, metrics.used_pool_size_bytes, metrics.pending_message_count);
        same("left after every session was closed: allocations, bytes, calls", left, (0, 0, 0))?;
        Ok(self.read)
    }
}
