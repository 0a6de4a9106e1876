//! Beginnings and ends: activation, the first call to a new key with a storage open, termination.

use std::sync::Arc;
use std::time::Duration;

use gpubridge_grains::storage::RedbStorage;
use gpubridge_grains::{Silo, SiloConfig, wait};

use super::Effort;
use super::kernel::{MIX, call, check, parameters};
use super::line::{Draft, Table};
use super::pace::{Loops, SHARES};
use super::subject::{Actor, STATE_BYTES, Subject};
use crate::{GpuMemoryHandle, MemoryType};

const DEADLINE: Duration = Duration::from_secs(600);
/// The bars, in nanoseconds.
const BEGINS: f64 = 2_000.0;
const ENDS: f64 = 10e6;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    activation(subject, effort.of(20_000), table);
    with_storage(subject, effort.of(100_000), effort.of(10_000), effort.of(1_000), table);
    termination(subject, effort.of(50), table);
}

/// What an activation costs where everything is warm: the first call of a grain that the silo knows, answered by the
/// host alone.
fn activation(subject: &Subject, grains: usize, table: &mut Table) {
    let silo = subject.silo();
    (0..100).for_each(|key| drop(Actor::new(&silo, key)));
    let mut keys = 1_000..;
    let loops = Loops::once(grains, |mut pace| {
        let known: Vec<_> =
            keys.by_ref().take(grains).map(|key: u64| silo.grain(key).expect("the key is good")).collect();
        for grain in &known {
            pace.begin();
            let totals = wait(grain.totals());
            pace.end(1);
            totals.expect("it is active");
        }
        pace
    });
    table.add(
        Draft::latency("activation of a warm resident grain", &loops)
            .p50_at_most(BEGINS)
            .under(format!("first call of each of {grains} known grains in each loop, answered by the host")),
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
    let mut keys = others as u64..;
    let loops = Loops::once(new, |mut pace| {
        for key in keys.by_ref().take(new) {
            pace.begin();
            let grain = silo.grain(key).expect("the key is good");
            let state = wait(grain.allocate(STATE_BYTES, MemoryType::Default)).expect("there is memory");
            let posted = grain.compute(MIX, None, Some(state), parameters(0)).post().expect("it is submitted");
            pace.end(1);
            assert_eq!(check(0, posted.wait()), 1, "the first call of its grain");
        }
        pace
    });
    table.add(
        Draft::latency("first call to a new key, until its first compute is submitted", &loops)
            .p50_at_most(BEGINS)
            .under(format!("{new} new keys in each loop, {others} others in the storage")),
    );
    restored(&silo, &handles, stored, table);
    assert!(wait(silo.shutdown(DEADLINE)).is_clean());
}

/// The first call to a key with a record, under the handle that it had before.
fn restored(silo: &Silo, handles: &[GpuMemoryHandle], times: usize, table: &mut Table) {
    // A stride that meets each key once in all loops spreads the reads over the whole file.
    let stride = handles.len() / (times * (1 + SHARES.len()));
    let mut keys = handles.iter().enumerate().step_by(stride.max(1));
    let loops = Loops::once(times, |mut pace| {
        for (key, &state) in keys.by_ref().take(times) {
            pace.begin();
            let grain = silo.grain(key as u64).expect("the key is good");
            let posted = grain.compute(MIX, None, Some(state), parameters(0)).post().expect("it is submitted");
            let seen = check(0, posted.wait());
            pace.end(1);
            assert_eq!(seen, 2, "the state was restored");
        }
        pace
    });
    table.add(
        Draft::latency("first call to a key with a stored record, restored", &loops)
            .under(format!("{times} keys in each loop, each state checked")),
    );
}

fn termination(subject: &Subject, times: usize, table: &mut Table) {
    let loops = Loops::once(times, |mut pace| {
        for _ in pace.steps() {
            let silo = subject.silo();
            let actor = Actor::new(&silo, 1);
            check(0, call(&actor, 0).wait());
            wait(actor.grain.deactivate()).expect("it is deactivated");
            pace.begin();
            assert!(wait(silo.shutdown(DEADLINE)).is_clean());
            pace.end(1);
        }
        pace
    });
    table.add(
        Draft::latency("terminate, empty queue", &loops)
            .p99_at_most(ENDS)
            .under(format!("{times} silos in each loop, each with a grain that was active before")),
    );
}
