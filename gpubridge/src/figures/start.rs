//! Beginnings and ends: activation, the first call to a new key with a storage open, termination.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_grains::storage::RedbStorage;
use gpubridge_grains::{Silo, SiloConfig, wait};

use super::Effort;
use super::kernel::{MIX, call, check, parameters};
use super::line::{Draft, Table};
use super::measure::Latencies;
use super::subject::{Actor, STATE_BYTES, Subject};
use crate::{GpuMemoryHandle, MemoryType};

const DEADLINE: Duration = Duration::from_secs(600);
/// The bars, in nanoseconds.
const BEGINS: f64 = 2_000.0;
const ENDS: f64 = 10e6;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    activation(subject, effort.of(20_000), table);
    with_storage(subject, effort.of(100_000), effort.of(20_000), effort.of(2_000), table);
    termination(subject, effort.of(50), table);
}

/// What an activation costs where everything is warm: the first call of a grain that the silo knows, answered by the
/// host alone.
fn activation(subject: &Subject, grains: usize, table: &mut Table) {
    let silo = subject.silo();
    (0..100).for_each(|key| drop(Actor::new(&silo, key)));
    let known: Vec<_> = (0..grains as u64).map(|key| silo.grain(1_000 + key).expect("the key is good")).collect();
    let mut latencies = Latencies::new();
    for grain in &known {
        let started = Instant::now();
        let totals = wait(grain.totals());
        latencies.since(started);
        totals.expect("it is active");
    }
    table.add(
        Draft::latency("activation of a warm resident grain", latencies.quantiles())
            .p50_at_most(BEGINS)
            .under(format!("first call of each of {grains} known grains, answered by the host")),
    );
}

fn with_storage(subject: &Subject, others: usize, new: usize, stored: usize, table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let storage = RedbStorage::open(folder.path().join("grains")).expect("the storage opens");
        subject.silo_over(Arc::new(storage), SiloConfig::default())
    };
    let silo = open();
    // One call each, so that a state that is not restored shows.
    let store = |key| {
        let actor = Actor::new(&silo, key);
        assert_eq!(check(key, call(&actor, key).wait()), 1);
        actor.state
    };
    let handles: Vec<GpuMemoryHandle> = (0..others as u64).map(store).collect();
    let saved = wait(silo.shutdown(DEADLINE));
    assert!(saved.is_clean() && saved.saved == others, "{:?}", saved.error);

    let silo = open();
    check(0, call(&Actor::new(&silo, u64::MAX), 0).wait());
    let mut latencies = Latencies::new();
    for key in others..others + new {
        let started = Instant::now();
        let grain = silo.grain(key as u64).expect("the key is good");
        let state = wait(grain.allocate(STATE_BYTES, MemoryType::Default)).expect("there is memory");
        let posted = grain.compute(MIX, None, Some(state), parameters(0)).post().expect("it is submitted");
        latencies.since(started);
        assert_eq!(check(0, posted.wait()), 1, "the first call of its grain");
    }
    table.add(
        Draft::latency("first call to a new key, until its first compute is submitted", latencies.quantiles())
            .p50_at_most(BEGINS)
            .under(format!("{new} new keys, {others} others in the storage")),
    );
    restored(&silo, &handles, stored, table);
    assert!(wait(silo.shutdown(DEADLINE)).is_clean());
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
    table.add(
        Draft::latency("first call to a key with a stored record, restored", latencies.quantiles())
            .under(format!("{} keys, each state checked", latencies.len())),
    );
}

fn termination(subject: &Subject, times: usize, table: &mut Table) {
    let mut latencies = Latencies::new();
    for _ in 0..times {
        let silo = subject.silo();
        let actor = Actor::new(&silo, 1);
        check(0, call(&actor, 0).wait());
        wait(actor.grain.deactivate()).expect("it is deactivated");
        let started = Instant::now();
        assert!(wait(silo.shutdown(DEADLINE)).is_clean());
        latencies.since(started);
    }
    table.add(
        Draft::latency("terminate, empty queue", latencies.quantiles())
            .p99_at_most(ENDS)
            .under(format!("{times} silos, each with a grain that was active before")),
    );
}
