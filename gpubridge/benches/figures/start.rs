//! Beginnings and ends: activation, the first call to a new key with a storage open, termination.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge::grains::storage::{MemoryStorage, RedbStorage};
use gpubridge::grains::{Silo, SiloConfig, wait};
use gpubridge::{GpuMemoryHandle, MemoryType};

use super::Effort;
use super::kernel::{Actor, MIX, STATE_BYTES, check, parameters, silo, silo_over};
use super::measure::Latencies;
use super::table::Table;

const DEADLINE: Duration = Duration::from_secs(600);

pub fn run(effort: Effort, table: &mut Table) {
    activation(effort.of(20_000), table);
    with_storage(effort.of(100_000), effort.of(20_000), effort.of(2_000), table);
    termination(effort.of(50), table);
}

/// What an activation costs where everything is warm: the first call of a grain that the silo knows, answered by the
/// host alone.
fn activation(grains: usize, table: &mut Table) {
    let silo = silo();
    (0..100).for_each(|key| drop(Actor::new(&silo, key)));
    let known: Vec<_> = (0..grains as u64).map(|key| silo.grain(1_000 + key).expect("the key is good")).collect();
    let mut latencies = Latencies::new();
    for grain in &known {
        let started = Instant::now();
        let totals = wait(grain.totals());
        latencies.since(started);
        totals.expect("it is active");
    }
    let quantiles = latencies.quantiles();
    table.judged("activation of a warm resident grain", "≤ 2 µs p50", quantiles.to_string(), quantiles.p50 <= 2_000.0);
}

fn with_storage(others: usize, new: usize, stored: usize, table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let storage = RedbStorage::open(folder.path().join("grains")).expect("the storage opens");
        silo_over(Arc::new(storage), SiloConfig::default())
    };
    let silo = open();
    // One call each, so that a state that is not restored shows.
    let store = |key| {
        let actor = Actor::new(&silo, key);
        assert_eq!(check(key, actor.grain.compute(MIX, None, Some(actor.state), parameters(key)).wait()), 1);
        actor.state
    };
    let handles: Vec<GpuMemoryHandle> = (0..others as u64).map(store).collect();
    let saved = wait(silo.shutdown(DEADLINE));
    assert!(saved.is_clean() && saved.saved == others, "{:?}", saved.error);

    let silo = open();
    check(0, call(&Actor::new(&silo, u64::MAX)).wait());
    let mut latencies = Latencies::new();
    for key in others..others + new {
        let started = Instant::now();
        let grain = silo.grain(key as u64).expect("the key is good");
        let state = wait(grain.allocate(STATE_BYTES, MemoryType::Default)).expect("there is memory");
        let posted = grain.compute(MIX, None, Some(state), parameters(0)).post().expect("it is submitted");
        latencies.since(started);
        assert_eq!(check(0, posted.wait()), 1, "the first call of its grain");
    }
    let quantiles = latencies.quantiles();
    table.judged(
        format!("first call to a new key until its first compute is submitted, {others} other keys in storage"),
        "≤ 2 µs p50",
        quantiles.to_string(),
        quantiles.p50 <= 2_000.0,
    );
    restored(&silo, &handles, stored, table);
    assert!(wait(silo.shutdown(DEADLINE)).is_clean());
}

fn call(actor: &Actor) -> gpubridge::grains::GrainCall<'_, gpubridge::runtime::Compute> {
    actor.grain.compute(MIX, None, Some(actor.state), parameters(0))
}

/// The first call to a key with a record, under the handle that it had before.
fn restored(silo: &Silo, handles: &[GpuMemoryHandle], times: usize, table: &mut Table) {
    let mut latencies = Latencies::new();
    // A stride that meets each key once spreads the reads over the whole file.
    let stride = (handles.len() / times).max(1);
    for (key, &state) in handles.iter().enumerate().step_by(stride) {
        let started = Instant::now();
        let grain = silo.grain(key as u64).expect("the key is good");
        let posted = grain.compute(MIX, None, Some(state), parameters(0)).post().expect("it is submitted");
        latencies.since(started);
        assert_eq!(check(0, posted.wait()), 2, "the state was restored");
    }
    table.beside("first call to a key with a stored record, restored", latencies.quantiles().to_string());
}

fn termination(times: usize, table: &mut Table) {
    let mut latencies = Latencies::new();
    for _ in 0..times {
        let silo = silo_over(Arc::new(MemoryStorage::new()), SiloConfig::default());
        let actor = Actor::new(&silo, 1);
        check(0, call(&actor).wait());
        wait(actor.grain.deactivate()).expect("it is deactivated");
        let started = Instant::now();
        assert!(wait(silo.shutdown(DEADLINE)).is_clean());
        latencies.since(started);
    }
    let quantiles = latencies.quantiles();
    table.judged("terminate, empty queue", "≤ 10 ms", quantiles.to_string(), quantiles.p99 <= 1e7);
}
