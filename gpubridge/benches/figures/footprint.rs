//! What an activated grain costs in memory, besides what it allocated.

use super::kernel::{Actor, MIX, STATE_BYTES, check, parameters, silo};
use super::machine::resident_bytes;
use super::table::Table;
use super::{ALLOCATOR, Effort};

pub fn run(effort: Effort, table: &mut Table) {
    let grains = effort.of(100_000);
    let silo = silo();
    // What exists once, whatever the number of grains, is there before the count begins.
    let first = Actor::new(&silo, u64::MAX);
    check(0, first.grain.compute(MIX, None, Some(first.state), parameters(0)).wait());
    let (allocated, resident) = (allocated_bytes(), resident_bytes());
    let mut references = Vec::with_capacity(grains);
    references.extend((0..grains as u64).map(|key| Actor::new(&silo, key)));
    for Actor { grain, state } in &references {
        check(0, grain.compute(MIX, None, Some(*state), parameters(0)).wait());
    }
    // The references are the user's; the silo keeps the grains.
    drop(references);
    let besides = |before: u64, after: u64| (after as f64 - before as f64) / grains as f64 - STATE_BYTES as f64;
    let heap = besides(allocated, allocated_bytes());
    let name = |what: &str| format!("{grains} activated grains with {STATE_BYTES} B each: {what} per grain besides");
    assert_eq!(silo.active_grains(), grains + 1);
    table.judged(name("allocator bytes"), "≤ 1 KiB", format!("{heap:.0} B"), heap <= 1024.0);
    match (resident, resident_bytes()) {
        (Some(before), Some(after)) => {
            let rss = besides(before, after);
            table.judged(name("RSS"), "≤ 1 KiB", format!("{rss:.0} B"), rss <= 1024.0);
        }
        _ => table.beside(name("RSS"), "the system does not say"),
    }
}

/// Bytes that are allocated now. What a reallocation adds or takes away is in both counts already.
fn allocated_bytes() -> u64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as u64 - stats.bytes_deallocated as u64
}
