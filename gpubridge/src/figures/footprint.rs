//! What an activated grain costs in memory, besides what it allocated.

use stats_alloc::INSTRUMENTED_SYSTEM;

use super::Effort;
use super::kernel::{call, check};
use super::line::{Draft, Table};
use super::machine::resident_bytes;
use super::subject::{Actor, STATE_BYTES, Subject};

/// The bar, in bytes.
const ONE_KIB: f64 = 1024.0;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let grains = effort.of(100_000);
    let silo = subject.silo();
    // What exists once, whatever the number of grains, is there before the count begins.
    let first = Actor::new(&silo, u64::MAX);
    check(0, call(&first, 0).wait());
    let (allocated, resident) = (allocated_bytes(), resident_bytes());
    let mut references = Vec::with_capacity(grains);
    references.extend((0..grains as u64).map(|key| Actor::new(&silo, key)));
    for actor in &references {
        check(0, call(actor, 0).wait());
    }
    // The references are the user's; the silo keeps the grains.
    drop(references);
    assert_eq!(silo.active_grains(), grains + 1);
    let besides = |before: u64, after: u64| (after as f64 - before as f64) / grains as f64 - STATE_BYTES as f64;
    let conditions =
        format!("{grains} activated grains, each with one allocation of {STATE_BYTES} B, which is not counted");
    let add = |table: &mut Table, figure, before: Option<u64>, after: Option<u64>, why_not| {
        table.add(match (before, after) {
            (Some(before), Some(after)) => {
                Draft::value(figure, besides(before, after), "B", 0).at_most(ONE_KIB).under(conditions.as_str())
            }
            _ => Draft::not_measured(figure, why_not),
        });
    };
    let uncounted = "this program does not count its allocations";
    add(table, "memory per grain, allocator", allocated, allocated_bytes(), uncounted);
    add(table, "memory per grain, resident", resident, resident_bytes(), "the system does not say");
}

/// Bytes that are allocated now, if the program counts them. What a reallocation adds or takes away is in both counts.
fn allocated_bytes() -> Option<u64> {
    let allocations = || INSTRUMENTED_SYSTEM.stats().allocations;
    let before = allocations();
    drop(std::hint::black_box(Box::new(before)));
    let stats = INSTRUMENTED_SYSTEM.stats();
    (stats.allocations > before).then(|| stats.bytes_allocated as u64 - stats.bytes_deallocated as u64)
}
