//! The soak: more than a million operations over many grains, with every answer checked, every counter equal to the count
//! kept outside, and memory flat.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{Computation, GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::id::{SCALE, SUM};
use gpubridge::kernels::library;
use gpubridge::{GpuMemoryHandle, MemoryType, Parameters, backends};

const GRAINS: usize = 64;
const ELEMENTS: usize = 96;
const ROUNDS: usize = 800;
const OPERATIONS_PER_ROUND: usize = 30_000;
const WARM_UP_ROUNDS: usize = 8;

/// What is kept outside to compare with.
#[derive(Default)]
struct Ledger {
    messages: u64,
    allocations: u64,
    computes: u64,
}

struct Actor {
    grain: GrainRef,
    block: GpuMemoryHandle,
    values: Vec<f32>,
}

fn start() -> Silo {
    let selection = backends(library()).select(Some("cpu"), None).expect("the CPU backend is built in");
    let device = selection.open().expect("the CPU opens");
    let mut config = SiloConfig::default();
    // A small ring: every page of its staging has been touched when the warm-up ends.
    config.memory.ring.slots = 256;
    config.memory.ring.staging_bytes = 512;
    wait(Silo::start(device, Arc::new(MemoryStorage::new()), config)).expect("the silo starts")
}

/// Gives the actor a new block, sometimes without giving the old one to the pool.
fn reallocate(actor: &mut Actor, random: &mut fastrand::Rng, ledger: &mut Ledger) {
    let freed = wait(actor.grain.release(actor.block, random.bool())).expect("the block is live").bytes_freed;
    assert_eq!(freed, ELEMENTS as u64 * 4);
    actor.block = wait(actor.grain.allocate(ELEMENTS as u64 * 4, MemoryType::Default)).expect("memory is there");
    actor.values = (0..ELEMENTS).map(|_| random.i32(-100..100) as f32).collect();
    actor.grain.write(actor.block, &actor.values, 0).wait().expect("the write is in bounds");
    // Release, allocate, write.
    ledger.messages += 3;
    ledger.allocations += 1;
}

fn round(silo: &Silo, actors: &mut [Actor], random: &mut fastrand::Rng, ledger: &mut Ledger) {
    let mut batch = silo.batch(NonZeroUsize::new(128).expect("not 0"));
    let mut sums = std::collections::VecDeque::new();
    for token in 0..OPERATIONS_PER_ROUND as u64 {
        let actor = &mut actors[random.usize(0..GRAINS)];
        if random.u32(0..200) == 0 {
            reallocate(actor, random, ledger);
        }
        let factor = if random.bool() { -1.0 } else { 1.0 };
        let scale = Parameters::new().with_f32(factor);
        let block = Some(actor.block);
        let scaled = actor.grain.compute(SCALE, block, block, scale).post().expect("the kernel scales in place");
        drop(scaled);
        actor.values.iter_mut().for_each(|value| *value *= factor);
        sums.push_back((token, actor.values.iter().sum::<f32>()));
        let sum = Computation {
            grain: &actor.grain,
            kernel: SUM.into(),
            input: block,
            output: None,
            parameters: Parameters::new(),
            token,
        };
        batch.submit([sum], |(token, response)| {
            assert_eq!(Some((token, response.expect("it ran").result.f32_at(0).expect("a sum"))), sums.pop_front());
        });
    }
    while let Some((token, response)) = batch.next() {
        assert_eq!(Some((token, response.expect("it ran").result.f32_at(0).expect("a sum"))), sums.pop_front());
    }
    ledger.messages += 2 * OPERATIONS_PER_ROUND as u64;
    ledger.computes += 2 * OPERATIONS_PER_ROUND as u64;
    for actor in actors {
        let read: Vec<f32> = wait(actor.grain.read(actor.block, 0, ELEMENTS)).expect("the block is live");
        assert_eq!(read, actor.values);
        ledger.messages += 1;
    }
}

/// Resident memory of this process, in pages; 0 where the system does not say.
fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Goal: nothing leaks and nothing is miscounted over millions of operations. Method: random work against a model, then
/// the metrics against the ledger and the process's memory against what it was after warming up.
#[test]
#[ignore = "long: run with `just soak`"]
fn soak_of_millions_of_operations_counts_exactly_and_keeps_memory_flat() {
    let silo = start();
    let mut random = fastrand::Rng::with_seed(42);
    let mut ledger = Ledger::default();
    let mut actors: Vec<Actor> = (0..GRAINS)
        .map(|key| {
            let grain = silo.grain(key as u64).expect("there is room");
            let block = wait(grain.allocate(ELEMENTS as u64 * 4, MemoryType::Default)).expect("memory is there");
            let values = vec![0.0; ELEMENTS];
            // Initialize, allocate.
            ledger.messages += 2;
            ledger.allocations += 1;
            Actor { grain, block, values }
        })
        .collect();
    let mut warm_pages = 0;
    for index in 0..ROUNDS {
        round(&silo, &mut actors, &mut random, &mut ledger);
        if index + 1 == WARM_UP_ROUNDS {
            warm_pages = resident_pages();
        }
    }
    let metrics = silo.metrics();
    assert_eq!(metrics.total_messages_processed, ledger.messages);
    assert_eq!(metrics.pending_message_count, 0);
    assert_eq!(metrics.pool_hit_count + metrics.pool_miss_count, ledger.allocations);
    assert_eq!(metrics.active_allocation_count, GRAINS as u64);
    assert_eq!(metrics.used_pool_size_bytes, (GRAINS * ELEMENTS * 4) as u64);
    assert!(ledger.computes > 1_000_000, "{} operations are not a soak", ledger.computes);
    let pages = resident_pages();
    assert!(pages <= warm_pages + warm_pages / 50 + 64, "memory grew from {warm_pages} to {pages} pages");
    assert!(wait(silo.shutdown(Duration::from_secs(30))).is_clean());
}
