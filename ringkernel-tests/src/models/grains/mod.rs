//! Grains against the model: a silo with a storage, restarted now and then, with calls in flight.

mod world;

use std::sync::Arc;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, MemoryType, RingConfig};
use gpubridge_grains::storage::{GrainStorage, MemoryStorage};
use gpubridge_grains::{GrainRef, Silo, wait};
use gpubridge_runtime::ResidentMemoryConfig;
use proptest::prelude::*;

use super::contents::Kernel;
use super::{Checked, drawn, same};
use crate::rig::{MIB, SOON, config, pattern, silo_config, silo_on};
use world::{Model, World};

/// Grains that a sequence speaks of.
const GRAINS: usize = 4;

/// One operation of a sequence on grains.
///
/// `grain` counts from 0 to 3. `allocation` counts back from the grain's latest, which is 0. What a sequence names
/// without there being any is passed over, so that any sequence can be replayed. A call that is not waited for is
/// posted; its answer is taken by a later [`GrainOp::Take`], or before the silo ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the parameters of the grain's method")]
pub enum GrainOp {
    /// Allocate.
    Allocate { grain: usize, size_bytes: u64, memory_type: MemoryType },
    /// Write bytes that `seed` tells.
    Write { grain: usize, allocation: usize, offset_bytes: u64, size_bytes: usize, seed: u8, wait: bool },
    /// Read.
    Read { grain: usize, allocation: usize, offset_bytes: u64, size_bytes: usize, wait: bool },
    /// Run a kernel in u32 over input, operand and output; it is given those it takes.
    Compute { grain: usize, kernel: Kernel, buffers: [usize; 3], count: u32, value: u32, wait: bool },
    /// Release.
    Release { grain: usize, allocation: usize, return_to_pool: bool },
    /// Write, read and release an allocation of `other` through `grain`.
    Trespass { grain: usize, other: usize, allocation: usize },
    /// Store the whole-grain buffer, bytes that `seed` tells.
    Store { grain: usize, size_bytes: usize, seed: u8 },
    /// Load the whole-grain buffer.
    Load { grain: usize },
    /// Release everything.
    Clear { grain: usize },
    /// Save.
    Save { grain: usize },
    /// Deactivate; the next call activates the grain again.
    Deactivate { grain: usize },
    /// Shut the silo down and start another on the same storage.
    Restart,
    /// Take the answer to a call in flight, counted from the oldest.
    Take { call: usize },
    /// Compare the counts.
    Metrics { grain: usize },
}

/// Runs `ops` on the first device of `backend`, opened anew for each silo, and on the model.
///
/// # Panics
/// When they differ: with the operation and what was seen.
#[track_caller]
pub fn replay_grains(backend: &dyn Backend, ops: &[GrainOp]) {
    let open = || backend.open(DeviceIndex(0)).expect("the backend under test has a device 0");
    run(&open, ops).unwrap_or_else(|seen| panic!("{seen}"));
}

/// Sequences of operations, with kernels if `computing`.
pub(super) fn sequences(computing: bool) -> impl Strategy<Value = Vec<GrainOp>> {
    let grain = || 0..GRAINS;
    let allocation = || prop_oneof![3 => Just(0_usize), 2 => 0..8_usize];
    let write = (grain(), allocation(), drawn::offset(), drawn::size(), any::<u8>(), any::<bool>());
    let read = (grain(), allocation(), drawn::offset(), drawn::size(), any::<bool>());
    let buffers = [allocation(), allocation(), allocation()];
    let kernel =
        (grain(), prop::sample::select(&Kernel::ALL[..]), buffers, drawn::count(), any::<u32>(), any::<bool>());
    let op = prop_oneof![
        8 => (grain(), drawn::allocation_size(), drawn::memory_type())
            .prop_map(|(grain, size_bytes, memory_type)| GrainOp::Allocate { grain, size_bytes, memory_type }),
        8 => write.prop_map(|(grain, allocation, offset_bytes, size_bytes, seed, wait)| {
            GrainOp::Write { grain, allocation, offset_bytes, size_bytes, seed, wait }
        }),
        6 => read.prop_map(|(grain, allocation, offset_bytes, size_bytes, wait)| {
            GrainOp::Read { grain, allocation, offset_bytes, size_bytes, wait }
        }),
        8 => kernel.prop_map(|(grain, kernel, buffers, count, value, wait)| {
            GrainOp::Compute { grain, kernel, buffers, count, value, wait }
        }),
        3 => (grain(), allocation(), any::<bool>())
            .prop_map(|(grain, allocation, return_to_pool)| GrainOp::Release { grain, allocation, return_to_pool }),
        1 => (grain(), grain(), allocation())
            .prop_map(|(grain, other, allocation)| GrainOp::Trespass { grain, other, allocation }),
        2 => (grain(), drawn::size(), any::<u8>())
            .prop_map(|(grain, size_bytes, seed)| GrainOp::Store { grain, size_bytes, seed }),
        2 => grain().prop_map(|grain| GrainOp::Load { grain }),
        1 => grain().prop_map(|grain| GrainOp::Clear { grain }),
        1 => grain().prop_map(|grain| GrainOp::Save { grain }),
        3 => grain().prop_map(|grain| GrainOp::Deactivate { grain }),
        1 => Just(GrainOp::Restart),
        3 => (0..8_usize).prop_map(|call| GrainOp::Take { call }),
        1 => grain().prop_map(|grain| GrainOp::Metrics { grain }),
    ];
    prop::collection::vec(op, 1..150).prop_map(move |mut ops| {
        ops.retain(|op| computing || !matches!(op, GrainOp::Compute { .. }));
        ops
    })
}

fn start(device: Arc<dyn Device>, storage: &Arc<dyn GrainStorage>) -> Silo {
    let ring = RingConfig { lanes: 2, slots: 8, staging_bytes: 256, allocations: 4096 };
    let memory = ResidentMemoryConfig { ring, memory_budget_bytes: 256 * MIB, ..config() };
    silo_on(device, Arc::clone(storage), silo_config(memory))
}

/// Runs a sequence on silos, one after the other, and on the model.
pub(super) fn run(open: &dyn Fn() -> Arc<dyn Device>, ops: &[GrainOp]) -> Checked {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    // Calls in flight keep their data until they are taken.
    let sources: Vec<Vec<u8>> = ops.iter().map(source).collect();
    let mut targets: Vec<Vec<u8>> = ops.iter().map(target).collect();
    let mut model = Model::new(GRAINS);
    let mut first = 0;
    for silo_ops in ops.split_inclusive(|op| *op == GrainOp::Restart) {
        let range = first..first + silo_ops.len();
        first = range.end;
        let silo = start(open(), &storage);
        let grains: Vec<GrainRef> = (0..GRAINS as u64).map(|key| silo.grain(key).expect("the key is good")).collect();
        let mut world = World::new(&silo, &grains, &mut model);
        for (at, target) in range.zip(&mut targets[first - silo_ops.len()..]) {
            let done = world.apply(at, &ops[at], &sources[at], target);
            done.map_err(|seen| format!("operation {at}, {:?}: {seen}", ops[at]))?;
        }
        let at_its_end = |seen| format!("at the end of the silo, before operation {first}: {seen}");
        let read = world.finish(first == ops.len()).map_err(at_its_end)?;
        for (at, contents) in read {
            contents.agrees(&targets[at]).map_err(|seen| format!("operation {at}, {:?}: {seen}", ops[at]))?;
        }
        let report = wait(silo.shutdown(SOON));
        same("a clean shutdown", report.is_clean(), true).map_err(|seen| format!("{seen}: {report:?}"))?;
        same("grains saved", report.saved, model.deactivate_all()).map_err(at_its_end)?;
    }
    Ok(())
}

fn source(op: &GrainOp) -> Vec<u8> {
    match op {
        GrainOp::Write { size_bytes, seed, .. } | GrainOp::Store { size_bytes, seed, .. } => {
            pattern((*seed).into(), *size_bytes)
        }
        _ => Vec::new(),
    }
}

fn target(op: &GrainOp) -> Vec<u8> {
    match op {
        // Filled, so that a read that copies nothing shows.
        GrainOp::Read { size_bytes, .. } => vec![0xee; *size_bytes],
        _ => Vec::new(),
    }
}
