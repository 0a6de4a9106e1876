//! Allocate and release through the grain's public calls.

use gpubridge_grains::wait;

use super::Effort;
use super::kernel::{MIX, check, parameters};
use super::line::{Draft, Table};
use super::measure::GROUP;
use super::pace::{Loops, Pace};
use super::subject::{Actor, STATE_BYTES, Subject};
use crate::{GpuMemoryHandle, MemoryType};

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(11), effort.of(1_000));
    let silo = subject.silo();
    let actors: Vec<Actor> = (0..100).map(|key| Actor::new(&silo, key)).collect();
    let owner = &actors[0];
    // Only grains of one lane exchange blocks; a lane's number is in the generations that it issues.
    let lanes = u64::from(silo.memory().config().ring.lanes);
    let lane = |actor: &Actor| actor.state.id.generation % lanes;
    let same_lane = |other: &&Actor| lane(other) == lane(owner);
    let other = actors[1..].iter().find(same_lane).expect("some grain shares the lane");
    let conditions = format!("{STATE_BYTES} B; {rounds} rounds of {groups}");
    let grouped = format!(
        "{conditions} groups, medians; {GROUP} calls between two clock readings, which would be much of one, quantiles of \
         the groups' means"
    );
    for (name, owners) in [("same owner", [owner, owner]), ("alternating owners", [owner, other])] {
        // One of both is paced; what the other takes is known from its own loops.
        let other = || Pace::closed(groups);
        let allocate = Loops::run(rounds, groups, |mut pace| {
            wait(in_and_out(owners, [&mut pace, &mut other()]));
            pace
        });
        let release = Loops::run(rounds, groups, |mut pace| {
            wait(in_and_out(owners, [&mut other(), &mut pace]));
            pace
        });
        let latency = |call: &str, loops: &Loops| Draft::latency(format!("grain's {call}, {name}"), loops);
        table.add(latency("allocate", &allocate).p50_at_most(100.0).under(grouped.as_str()));
        table.add(latency("release", &release).p50_at_most(50.0).under(grouped.as_str()));
        let first_use = Loops::run(rounds, groups, |pace| wait(first_use(owners, pace)));
        table.add(latency("allocate to first completed use", &first_use).under(format!("{conditions} calls, medians")));
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
    let loops = Loops::once(times, |mut pace| {
        for _ in pace.steps() {
            let silo = subject.silo();
            let grain = silo.grain(1).expect("the key is good");
            wait(grain.totals()).expect("it is active");
            let before = grain.memory_info().reserved_bytes;
            pace.begin();
            let response = wait(grain.allocate_reporting(STATE_BYTES, MemoryType::Default));
            pace.end(1);
            assert!(!response.expect("there is memory").is_pool_hit, "the first allocation is no hit");
            assert!(grain.memory_info().reserved_bytes > before, "the driver was asked");
        }
        pace
    });
    table.add(Draft::latency("grain's allocate, pool miss", &loops).under(format!(
        "{STATE_BYTES} B, the first allocation of each of {times} silos in each loop: the driver was asked each time"
    )));
}

/// Groups of blocks that are allocated and released, the owners taking turns with the same blocks.
async fn in_and_out(owners: [&Actor; 2], [allocate, release]: [&mut Pace; 2]) {
    let mut handles: Vec<GpuMemoryHandle> = Vec::with_capacity(GROUP);
    for (_, Actor { grain, .. }) in allocate.steps().zip(owners.into_iter().cycle()) {
        allocate.begin();
        for _ in 0..GROUP {
            handles.push(grain.allocate(STATE_BYTES, MemoryType::Default).await.expect("there is memory"));
        }
        allocate.end(GROUP);
        // The group's commands are executed, so that each group finds the lane as a caller at rest does.
        let last = *handles.last().expect("a group is not empty");
        check(1, grain.compute(MIX, None, Some(last), parameters(1)).await);
        release.begin();
        for handle in handles.drain(..) {
            let response = grain.release(handle, true).await.expect("it is released");
            assert_eq!(response.bytes_freed, STATE_BYTES);
        }
        release.end(GROUP);
    }
}

/// An allocation and the first use of what it gave, the owners taking turns with the same block.
async fn first_use(owners: [&Actor; 2], mut pace: Pace) -> Pace {
    for (_, Actor { grain, .. }) in pace.steps().zip(owners.into_iter().cycle()) {
        pace.begin();
        let handle = grain.allocate(STATE_BYTES, MemoryType::Default).await.expect("there is memory");
        check(2, grain.compute(MIX, None, Some(handle), parameters(2)).await);
        pace.end(1);
        grain.release(handle, true).await.expect("it is released");
    }
    pace
}
