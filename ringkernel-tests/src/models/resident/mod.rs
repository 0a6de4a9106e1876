//! Resident memory against the model: sessions on two lanes, with calls in flight.

mod calls;
mod world;

use std::sync::Arc;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, MemoryType, RingConfig};
use gpubridge_runtime::ResidentMemoryConfig;
use proptest::prelude::*;

use super::contents::Kernel;
use super::{Checked, drawn};
use crate::rig::{MIB, Rig, config, pattern};
use calls::Flight;
use world::World;

/// Sessions that a sequence speaks of.
const SESSIONS: usize = 4;
/// Lanes that they are spread over.
const LANES: u32 = 2;
/// Slots of a lane: few, so that a sequence goes round several times.
const SLOTS: u32 = 8;
/// Calls of a lane whose answers wait to be taken; the rest of its slots is for the calls that are waited for.
const IN_FLIGHT: usize = 4;

/// One operation of a sequence on resident memory.
///
/// `session` counts from 0 to 3; the even ones share a lane, and so do the odd ones. `allocation` counts back from the
/// session's latest, which is 0. What a sequence names without there being any is passed over, so that any sequence can
/// be replayed. A call that is not waited for is posted; its answer is taken by a later [`Op::Take`], or at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the operation's message")]
pub enum Op {
    /// Initialize: under a new name if the session was closed.
    Open { session: usize, quota_bytes: Option<u64> },
    /// Allocate.
    Allocate { session: usize, size_bytes: u64, memory_type: MemoryType },
    /// Write bytes that `seed` tells.
    Write { session: usize, allocation: usize, offset_bytes: u64, size_bytes: usize, seed: u8, wait: bool },
    /// Read.
    Read { session: usize, allocation: usize, offset_bytes: u64, size_bytes: usize, wait: bool },
    /// Run a kernel in u32 over input, operand and output; it is given those it takes.
    Compute { session: usize, kernel: Kernel, buffers: [usize; 3], count: u32, value: u32, wait: bool },
    /// Release.
    Release { session: usize, allocation: usize, return_to_pool: bool },
    /// Write, read and release an allocation of `other` in the name of `session`.
    Trespass { session: usize, other: usize, allocation: usize },
    /// Take the answer to a call in flight, counted from the oldest.
    Take { call: usize },
    /// Compare the counts.
    Metrics { session: usize },
    /// Save everything, close the session, and restore under the same names in a new one.
    Reopen { session: usize },
    /// Shut the session down.
    Close { session: usize, drain: bool },
}

/// Runs `ops` on the first device of `backend` and on the model.
///
/// # Panics
/// When they differ: with the operation and what was seen.
#[track_caller]
pub fn replay(backend: &dyn Backend, ops: &[Op]) {
    let device = backend.open(DeviceIndex(0)).expect("the backend under test has a device 0");
    run(device, ops).unwrap_or_else(|seen| panic!("{seen}"));
}

/// Sequences of operations, with kernels if `computing`.
pub(super) fn sequences(computing: bool) -> impl Strategy<Value = Vec<Op>> {
    let session = || 0..SESSIONS;
    let allocation = || prop_oneof![3 => Just(0_usize), 2 => 0..8_usize];
    let quota = prop_oneof![6 => Just(None), 1 => (1..600_u64).prop_map(Some), 1 => (1..20_000_u64).prop_map(Some)];
    let write = (session(), allocation(), drawn::offset(), drawn::size(), any::<u8>(), any::<bool>());
    let read = (session(), allocation(), drawn::offset(), drawn::size(), any::<bool>());
    let buffers = [allocation(), allocation(), allocation()];
    let kernel =
        (session(), prop::sample::select(&Kernel::ALL[..]), buffers, drawn::count(), any::<u32>(), any::<bool>());
    let open = || (session(), quota.clone()).prop_map(|(session, quota_bytes)| Op::Open { session, quota_bytes });
    let op = prop_oneof![
        4 => open(),
        16 => (session(), drawn::allocation_size(), drawn::memory_type())
            .prop_map(|(session, size_bytes, memory_type)| Op::Allocate { session, size_bytes, memory_type }),
        16 => write.prop_map(|(session, allocation, offset_bytes, size_bytes, seed, wait)| {
            Op::Write { session, allocation, offset_bytes, size_bytes, seed, wait }
        }),
        12 => read.prop_map(|(session, allocation, offset_bytes, size_bytes, wait)| {
            Op::Read { session, allocation, offset_bytes, size_bytes, wait }
        }),
        16 => kernel.prop_map(|(session, kernel, buffers, count, value, wait)| {
            Op::Compute { session, kernel, buffers, count, value, wait }
        }),
        8 => (session(), allocation(), any::<bool>())
            .prop_map(|(session, allocation, return_to_pool)| Op::Release { session, allocation, return_to_pool }),
        2 => (session(), session(), allocation())
            .prop_map(|(session, other, allocation)| Op::Trespass { session, other, allocation }),
        8 => (0..8_usize).prop_map(|call| Op::Take { call }),
        1 => session().prop_map(|session| Op::Metrics { session }),
        1 => session().prop_map(|session| Op::Reopen { session }),
        1 => (session(), any::<bool>()).prop_map(|(session, drain)| Op::Close { session, drain }),
    ];
    // Most sessions open at once, others later or never.
    let opened = prop::collection::vec(open(), 0..8);
    (opened, prop::collection::vec(op, 1..200)).prop_map(move |(opened, ops)| {
        let allowed = |op: &Op| computing || !matches!(op, Op::Compute { .. });
        opened.into_iter().chain(ops).filter(allowed).collect()
    })
}

/// Runs a sequence on the device and on the model.
pub(super) fn run(device: Arc<dyn Device>, ops: &[Op]) -> Checked {
    let ring = RingConfig { lanes: LANES, slots: SLOTS, staging_bytes: 256, allocations: 4096 };
    let rig = Rig::new(device, ResidentMemoryConfig { ring, memory_budget_bytes: 256 * MIB, ..config() });
    // Calls in flight keep their data until they are taken.
    let sources: Vec<Vec<u8>> = ops.iter().map(source).collect();
    let mut targets: Vec<Vec<u8>> = ops.iter().map(target).collect();
    let mut world = World::new(&rig);
    for (at, ((op, source), target)) in ops.iter().zip(&sources).zip(&mut targets).enumerate() {
        world.apply(at, op, source, target).map_err(|seen| format!("operation {at}, {op:?}: {seen}"))?;
    }
    let read = world.finish().map_err(|seen| format!("at the end: {seen}"))?;
    for (at, contents) in read {
        contents.agrees(&targets[at]).map_err(|seen| format!("operation {at}, {:?}: {seen}", ops[at]))?;
    }
    Ok(())
}

fn source(op: &Op) -> Vec<u8> {
    match op {
        Op::Write { size_bytes, seed, .. } => pattern((*seed).into(), *size_bytes),
        _ => Vec::new(),
    }
}

fn target(op: &Op) -> Vec<u8> {
    match op {
        // Filled, so that a read that copies nothing shows.
        Op::Read { size_bytes, .. } => vec![0xee; *size_bytes],
        _ => Vec::new(),
    }
}

impl<'a> World<'a> {
    fn apply(&mut self, at: usize, op: &Op, source: &'a [u8], target: &'a mut [u8]) -> Checked {
        match *op {
            Op::Open { session, quota_bytes } => self.open(session % SESSIONS, quota_bytes),
            Op::Allocate { session, size_bytes, memory_type } => {
                self.allocate(session % SESSIONS, size_bytes, memory_type)
            }
            Op::Write { session, allocation, offset_bytes, wait, .. } => {
                let session = session % SESSIONS;
                let Some(index) = self.places[session].find(allocation) else { return Ok(()) };
                self.make_room(session)?;
                if wait {
                    self.write_now(session, index, offset_bytes, source)
                } else {
                    self.write_later(at, session, index, offset_bytes, source)
                }
            }
            Op::Read { session, allocation, offset_bytes, wait, .. } => {
                let session = session % SESSIONS;
                let Some(index) = self.places[session].find(allocation) else { return Ok(()) };
                self.make_room(session)?;
                if wait {
                    self.read_now(session, index, offset_bytes, target.len()).map(drop)
                } else {
                    self.read_later(at, session, index, offset_bytes, target)
                }
            }
            Op::Compute { session, kernel, buffers, count, value, wait } => {
                let session = session % SESSIONS;
                self.make_room(session)?;
                self.compute(at, (session, kernel, buffers), (count, value), wait)
            }
            Op::Release { session, allocation, return_to_pool } => {
                self.release(session % SESSIONS, allocation, return_to_pool)
            }
            Op::Trespass { session, other, allocation } => {
                self.trespass(session % SESSIONS, other % SESSIONS, allocation)
            }
            Op::Take { call } if !self.flying.is_empty() => self.take(call % self.flying.len()),
            Op::Take { .. } => Ok(()),
            Op::Metrics { session } => self.metrics(session % SESSIONS),
            Op::Reopen { session } => self.reopen(session % SESSIONS),
            Op::Close { session, drain } => self.close(session % SESSIONS, drain),
        }
    }

    /// Takes answers that nobody took, so that the lane has slots for a call that is waited for.
    fn make_room(&mut self, session: usize) -> Checked {
        let lane = session % LANES as usize;
        let of_lane = |flight: &Flight<'_>| flight.session % LANES as usize == lane;
        while self.flying.iter().filter(|flight| of_lane(flight)).count() >= IN_FLIGHT {
            let oldest = self.flying.iter().position(of_lane).unwrap_or_default();
            self.take(oldest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gpubridge_abstractions::MemoryType::*;
    use gpubridge_abstractions::NullBackend;

    use super::Op::*;
    use super::*;

    /// Sequences that failed once.
    #[test]
    fn every_cancelled_session_of_a_place_stays_cancelled() {
        let [open, close, drain] = [
            Open { session: 2, quota_bytes: None },
            Close { session: 2, drain: false },
            Close { session: 2, drain: true },
        ];
        let allocate = Allocate { session: 2, size_bytes: 3, memory_type: Default };
        let write = Write { session: 2, allocation: 0, offset_bytes: 0, size_bytes: 0, seed: 0, wait: false };
        let cancelled = [open.clone(), allocate.clone(), write.clone(), close.clone()];
        let drained = [open, allocate, write, drain];
        for between in [vec![], drained.to_vec()] {
            replay(&NullBackend::default(), &[&cancelled[..], &between, &cancelled, &drained].concat());
        }
    }
}
