//! Allocate and release through the grain's public calls.

use std::time::Instant;

use gpubridge::grains::wait;
use gpubridge::{GpuMemoryHandle, MemoryType};

use super::Effort;
use super::kernel::{Actor, MIX, STATE_BYTES, check, parameters, silo};
use super::measure::{Latencies, Quantiles, Rounds};
use super::table::Table;

/// Calls between two clock readings, so that reading the clock is not most of what is measured.
const GROUP: usize = 32;

pub fn run(effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(21), effort.of(2_000));
    let silo = silo();
    let actors: Vec<Actor> = (0..100).map(|key| Actor::new(&silo, key)).collect();
    let owner = &actors[0];
    // Only grains of one lane exchange blocks; a lane's number is in the generations that it issues.
    let lanes = u64::from(silo.memory().config().ring.lanes);
    let lane = |actor: &Actor| actor.state.id.generation % lanes;
    let same_lane = |other: &&Actor| lane(other) == lane(owner);
    let other = actors[1..].iter().find(same_lane).expect("some grain shares the lane");
    for (name, owners) in [("same owner", [owner, owner]), ("alternating owners", [owner, other])] {
        let measured: Vec<[Quantiles; 3]> = (0..=rounds).map(|_| wait(round(owners, groups))).skip(1).collect();
        let [allocate, release, first_use] =
            std::array::from_fn(|i| Rounds(measured.iter().map(|round| round[i]).collect()).middle());
        let figure = |call: &str| format!("grain's {call}, {name}, {STATE_BYTES} B");
        table.judged(figure("allocate"), "≤ 100 ns p50", allocate.to_string(), allocate.p50 <= 100.0);
        table.judged(figure("release"), "≤ 50 ns p50", release.to_string(), release.p50 <= 50.0);
        table.beside(figure("allocate to first completed use"), first_use.to_string());
    }
    let metrics = silo.metrics();
    table.beside(
        "grains' allocations from bins, of all",
        format!("{} of {}", metrics.pool_hit_count, metrics.pool_hit_count + metrics.pool_miss_count),
    );
}

/// Allocate, release and first use, the owners taking turns with the same blocks.
async fn round(owners: [&Actor; 2], groups: usize) -> [Quantiles; 3] {
    let [mut allocate, mut release, mut first_use] = std::array::from_fn(|_| Latencies::new());
    let mut handles: Vec<GpuMemoryHandle> = Vec::with_capacity(GROUP);
    let per_call = |started: Instant| started.elapsed().as_nanos() as f64 / GROUP as f64;
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
