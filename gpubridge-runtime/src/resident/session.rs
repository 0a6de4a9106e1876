//! Sessions: what a lane knows of one grain. Everything here is plain data under the lane's guard.

use std::time::{Duration, Instant, SystemTime};

use gpubridge_abstractions::{AllocationId, DeviceSlot, MemoryType, ResidentMemoryTracker};

use smallvec::SmallVec;

use super::refusal::Refusal;
use crate::pool::BlockId;

/// Names a session. The epoch makes a name that outlived its session an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The lane that the session's commands go through.
    pub lane: u32,
    /// Its index there, which is also the grain's number on the ring.
    pub index: u32,
    /// Counts the sessions that had this index.
    pub epoch: u32,
}

/// One allocation of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) size_bytes: u64,
    pub(crate) memory_type: MemoryType,
    /// Whether what was in it before an unclean stop is gone.
    pub(crate) contents_lost: bool,
    pub(crate) device_slot: DeviceSlot,
    pub(crate) block: BlockId,
    pub(crate) allocated_at: SystemTime,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Live {
        generation: u64,
        allocation: Allocation,
    },
    /// Released, or kept free by a restore; the next free entry behind it.
    Free {
        next: u32,
    },
}

const NO_ENTRY: u32 = u32::MAX;

/// How many times an index may go to and fro between sessions that are drained and such that are not, until an answer that
/// nobody took in all that time is no longer known to be cancelled.
const CANCELLED_MAX: usize = 64;

/// A session's allocations by their slot.
#[derive(Debug)]
pub struct Allocations {
    // Sessions with one allocation are the rule, and theirs lies beside what every call looks at.
    entries: SmallVec<[Entry; 1]>,
    free: u32,
}

impl Allocations {
    const fn new() -> Self {
        Self { entries: SmallVec::new_const(), free: NO_ENTRY }
    }

    #[inline]
    pub(crate) fn find(&self, id: AllocationId) -> Option<&Allocation> {
        match self.entries.get(id.slot as usize) {
            Some(Entry::Live { generation, allocation }) if *generation == id.generation => Some(allocation),
            _ => None,
        }
    }

    pub(crate) fn find_mut(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        match self.entries.get_mut(id.slot as usize) {
            Some(Entry::Live { generation, allocation }) if *generation == id.generation => Some(allocation),
            _ => None,
        }
    }

    pub(crate) fn insert(&mut self, generation: u64, allocation: Allocation) -> AllocationId {
        let live = Entry::Live { generation, allocation };
        let slot = self.free;
        if slot == NO_ENTRY {
            self.entries.push(live);
            return AllocationId { slot: self.entries.len() as u32 - 1, generation };
        }
        if let Entry::Free { next } = std::mem::replace(&mut self.entries[slot as usize], live) {
            self.free = next;
        }
        AllocationId { slot, generation }
    }

    /// Puts an allocation back under the id that it had. The slot must not be live.
    pub(crate) fn restore(&mut self, id: AllocationId, allocation: Allocation) -> Result<(), Refusal> {
        let slot = id.slot as usize;
        while self.entries.len() <= slot {
            self.entries.push(Entry::Free { next: self.free });
            self.free = self.entries.len() as u32 - 1;
        }
        if matches!(self.entries[slot], Entry::Live { .. }) {
            return Err(Refusal::AlreadyRestored(id));
        }
        self.unlink(id.slot);
        self.entries[slot] = Entry::Live { generation: id.generation, allocation };
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        let allocation = *self.find(id)?;
        self.entries[id.slot as usize] = Entry::Free { next: self.free };
        self.free = id.slot;
        Some(allocation)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| match entry {
            Entry::Live { generation, allocation } => {
                Some((AllocationId { slot: slot as u32, generation: *generation }, allocation))
            }
            Entry::Free { .. } => None,
        })
    }

    /// Takes a free slot out of the list of free slots. Walks it: restoring is rare.
    fn unlink(&mut self, slot: u32) {
        let mut link = self.free;
        let mut before = NO_ENTRY;
        while link != NO_ENTRY {
            let Entry::Free { next } = self.entries[link as usize] else { return };
            if link == slot {
                match before {
                    NO_ENTRY => self.free = next,
                    _ => self.entries[before as usize] = Entry::Free { next },
                }
                return;
            }
            before = link;
            link = next;
        }
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The index is free.
    Vacant,
    /// Not initialized yet.
    Named,
    Open,
    /// Shutdown has begun: nothing more is taken but the shutdown's own commands.
    Closing,
}

/// One grain's session. What every call looks at comes first: with many grains it is not in the cache, and two lines side
/// by side come sooner than five.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Session {
    pub(crate) epoch: u32,
    pub(crate) phase: Phase,
    /// The operation in pieces that has the turn; 0 for none.
    pub(crate) turn: u64,
    pub(crate) allocations: Allocations,
    pub(crate) tracker: ResidentMemoryTracker,
    /// The pool's name for the session: never used twice.
    pub(crate) owner: u64,
    pub(crate) quota_bytes: u64,
    pub(crate) live_bytes: u64,
    /// When that turn is forfeit; `None` for never.
    pub(crate) turn_until: Option<Instant>,
    /// The first of the session's epochs: sealing it adds to them.
    first_epoch: u32,
    /// First and last epochs of the sessions of this index that were shut down without draining: what is pending of them
    /// is answered "cancelled", even when the index has gone to other sessions meanwhile. Oldest first.
    cancelled: SmallVec<[(u32, u32); 1]>,
}

/// An operation's claim to the turn of its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Names the operation; never 0.
    pub(crate) id: u64,
    /// Whether it has the turn since an earlier piece.
    pub(crate) held: bool,
    pub(crate) started: Instant,
    pub(crate) deadline: Duration,
}

impl Turn {
    /// When the turn is forfeit: with the deadline of its call.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.started.checked_add(self.deadline)
    }
}

impl Session {
    /// Whether this operation may go on. A turn whose call is past its deadline is forfeit: a call that nobody polls any
    /// more holds nobody up for longer.
    #[inline(never)]
    pub(crate) fn claim(&mut self, turn: Turn) -> Result<(), Refusal> {
        if self.turn == turn.id {
            Ok(())
        } else if turn.held {
            Err(Refusal::Timeout)
        } else if self.turn_is_free() {
            Ok(())
        } else {
            Err(Refusal::Busy)
        }
    }

    /// Whether no operation in pieces has the turn, or has it past its deadline.
    pub(crate) fn turn_is_free(&mut self) -> bool {
        if self.turn != 0 && self.turn_until.is_some_and(|until| Instant::now() >= until) {
            self.turn = 0;
        }
        self.turn == 0
    }

    /// Answers what is pending with "cancelled".
    pub(crate) fn cancel(&mut self) {
        let Self { first_epoch, epoch, cancelled, .. } = self;
        match cancelled.last_mut() {
            // It follows on the session before, or is shut down again.
            Some((first, last)) if first_epoch.wrapping_sub(*first) <= last.wrapping_sub(*first).wrapping_add(1) => {
                *last = *epoch;
            }
            _ => {
                if cancelled.len() == CANCELLED_MAX {
                    cancelled.remove(0);
                }
                cancelled.push((*first_epoch, *epoch));
            }
        }
    }
}

/// All sessions of a lane.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: Vec<Session>,
    vacant: Vec<u32>,
    owners: u64,
}

impl Sessions {
    /// Names a session: its index and epoch.
    pub(crate) fn name(&mut self) -> (u32, u32) {
        self.owners += 1;
        let index = self.vacant.pop().unwrap_or(self.sessions.len() as u32);
        let before = self.sessions.get_mut(index as usize);
        let (epoch, cancelled) = before.map_or((0, SmallVec::new()), |session| {
            (session.epoch.wrapping_add(1), std::mem::take(&mut session.cancelled))
        });
        let session = Session {
            epoch,
            first_epoch: epoch,
            phase: Phase::Named,
            cancelled,
            owner: self.owners,
            quota_bytes: 0,
            live_bytes: 0,
            allocations: Allocations::new(),
            turn: 0,
            turn_until: None,
            tracker: ResidentMemoryTracker::start(),
        };
        match self.sessions.get_mut(index as usize) {
            Some(vacant) => *vacant = session,
            None => self.sessions.push(session),
        }
        (index, epoch)
    }

    /// Opens a session that was named.
    pub(crate) fn open(&mut self, id: SessionId, quota_bytes: u64) -> Result<(), Refusal> {
        let session = self.find_any(id).ok_or(Refusal::NoSession)?;
        match session.phase {
            Phase::Named => {
                session.phase = Phase::Open;
                session.quota_bytes = quota_bytes;
                Ok(())
            }
            Phase::Open => Err(Refusal::AlreadyOpen),
            Phase::Closing | Phase::Vacant => Err(Refusal::NoSession),
        }
    }

    /// The session, if it takes requests.
    #[inline]
    pub(crate) fn find(&mut self, id: SessionId) -> Result<&mut Session, Refusal> {
        match self.sessions.get_mut(id.index as usize) {
            Some(session) if session.epoch == id.epoch && session.phase == Phase::Open => Ok(session),
            _ => Err(Refusal::NoSession),
        }
    }

    /// Gives an open session the next epoch, so that only the caller knows its name.
    pub(crate) fn seal(&mut self, id: SessionId) -> Result<SessionId, Refusal> {
        let session = self.find(id)?;
        if !session.turn_is_free() {
            return Err(Refusal::Busy);
        }
        session.epoch = session.epoch.wrapping_add(1);
        Ok(SessionId { epoch: session.epoch, ..id })
    }

    /// Whether the session of this name was shut down without draining.
    pub(crate) fn is_cancelled(&self, id: SessionId) -> bool {
        let within = |(first, last): &(u32, u32)| id.epoch.wrapping_sub(*first) <= last.wrapping_sub(*first);
        self.sessions.get(id.index as usize).is_some_and(|session| session.cancelled.iter().any(within))
    }

    /// The session, whatever phase it is in.
    pub(crate) fn find_any(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id.index as usize).filter(|s| s.epoch == id.epoch && s.phase != Phase::Vacant)
    }

    /// The session that has this owner number, under whatever name.
    pub(crate) fn owned(&mut self, id: SessionId, owner: u64) -> Option<&mut Session> {
        self.sessions.get_mut(id.index as usize).filter(|s| s.owner == owner && s.phase != Phase::Vacant)
    }

    /// Frees the session's index.
    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.find_any(id) {
            session.phase = Phase::Vacant;
            self.vacant.push(id.index);
        }
    }
}
