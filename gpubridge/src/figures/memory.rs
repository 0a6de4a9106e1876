//! Allocate and release through the grain's public calls.

use std::time::Instant;

use gpubridge_grains::wait;

use super::Effort;
use super::kernel::{MIX, check, parameters};
use super::line::{Draft, Table};
use super::measure::{GROUP, Latencies, Quantiles, Rounds, per_call};
use super::subject::{Actor, STATE_BYTES, Subject};
use crate::{GpuMemoryHandle, MemoryType};

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(21), effort.of(2_000));
    let silo = subject.silo();
    let actors: Vec<Actor> = (0..100).map(|key| Actor::new(&silo, key)).collect();
    let owner = &actors[0];
    // Only grains of one lane exchange blocks; a lane's number is in the generations that it issues.
    let lanes = u64::from(silo.memory().config().ring.lanes);
    let lane = |actor: &Actor| actor.state.id.generation % lanes;
    let same_lane = |other: &&Actor| lane(other) == lane(owner);
    let other = actors[1..].iter().find(same_lane).expect("some grain shares the lane");
    let conditions = format!("{STATE_BYTES} B; {rounds} rounds of {groups} groups, medians");
    let grouped = format!("{conditions}; {GROUP} calls between two clock readings, quantiles of the groups");
    for (name, owners) in [("same owner", [owner, owner]), ("alternating owners", [owner, other])] {
        let measured: Vec<[Quantiles; 3]> = (0..=rounds).map(|_| wait(round(owners, groups))).skip(1).collect();
        let [allocate, release, first_use] =
            std::array::from_fn(|i| Rounds(measured.iter().map(|round| round[i]).collect()).middle());
        let latency = |call: &str, quantiles| Draft::latency(format!("grain's {call}, {name}"), quantiles);
        table.add(latency("allocate", allocate).p50_at_most(100.0).under(grouped.as_str()));
        table.add(latency("release", release).p50_at_most(50.0).under(grouped.as_str()));
        table.add(latency("allocate to first completed use", first_use).under(conditions.as_str()));
    }
    let metrics = silo.metrics();
    let all = metrics.pool_hit_count + metrics.pool_miss_count;
    table.add(
        Draft::value("grains' allocations from bins", 100.0 * metrics.pool_hit_rate, "%", 3)
            .under(format!("{} of {all}, all of the above", metrics.pool_hit_count)),
    );
}

/// The first allocation of a silo: no block and no chunk is there, so the driver is asked through the grain's own call.
pub fn misses(subject: &Subject, effort: Effort, table: &mut Table) {
    let times = effort.of(200);
    let mut latencies = Latencies::new();
    for _ in 0..times {
        let silo = subject.silo();
        let grain = silo.grain(1).expect("the key is good");
        wait(grain.totals()).expect("it is active");
        let before = grain.memory_info().reserved_bytes;
        let started = Instant::now();
        let response = wait(grain.allocate_reporting(STATE_BYTES, MemoryType::Default));
        latencies.since(started);
        assert!(!response.expect("there is memory").is_pool_hit, "the first allocation is no hit");
        assert!(grain.memory_info().reserved_bytes > before, "the driver was asked");
    }
    table.add(Draft::latency("grain's allocate, pool miss", latencies.quantiles()).under(format!(
        "{STATE_BYTES} B, the first allocation of each of {times} silos: the driver was asked each time"
    )));
}

/// Allocate, release and first use, the owners taking turns with the same blocks.
async fn round(owners: [&Actor; 2], groups: usize) -> [Quantiles; 3] {
    let [mut allocate, mut release, mut first_use] = std::array::from_fn(|_| Latencies::new());
    let mut handles: Vec<GpuMemoryHandle> = Vec::with_capacity(GROUP);
    for at in 0..groups {
        let Actor { grain, .. } = owners[at % 2];
        let started = Instant::now();
        for _ in 0..GROUP {
            handles.push(grain.allocate(STATE_BYTES, MemoryType::Default).await.expect("there is memory"));
        }
        allocate.record(per_call(started));
        // The group's commands are executed, so that each group finds the lane as a caller at rest does.
        let last = *handles.last().expect("a group is not empty");
        check(1, grain.compute(MIX, None, Some(last), parameters(1)).await);
        let started = Instant::now();
        for handle in handles.drain(..) {
            let response = grain.release(handle, true).await.expect("it is released");
            assert_eq!(response.bytes_freed, STATE_BYTES);
        }
        release.record(per_call(started));

        let started = Instant::now();
        let handle = grain.allocate(STATE_BYTES, MemoryType::Default).await.expect("there is memory");
        check(2, grain.compute(MIX, None, Some(handle), parameters(2)).await);
        first_use.since(started);
        grain.release(handle, true).await.expect("it is released");
    }
    [allocate, release, first_use].map(|latencies| latencies.quantiles())
}
