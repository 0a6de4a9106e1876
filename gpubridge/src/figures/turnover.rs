//! The documents' workload for the pool's hit rate, through the grain's public calls.
//!
//! As the original wrote it, it releases three in ten of what it allocates, so that no pool can hit more often than that.
//! At steady turnover each operation releases one block and allocates another.

use gpubridge_grains::{GrainRef, wait};
use gpubridge_runtime::pool::trace::{SplitMix, documents_size_bytes};

use super::Effort;
use super::line::{Draft, Table};
use super::subject::Subject;
use crate::{GpuMemoryHandle, MemoryType};

const OPERATIONS: usize = 10_000;
const SEED: u64 = 42;
/// Blocks that are live at steady turnover.
const LIVE: usize = 256;

/// A grain that counts for itself what its allocations came to.
struct Tally {
    grain: GrainRef,
    hits: u64,
    live_bytes: u64,
    peak_live_bytes: u64,
}

impl Tally {
    fn new(grain: GrainRef) -> Self {
        Self { grain, hits: 0, live_bytes: 0, peak_live_bytes: 0 }
    }

    fn allocate(&mut self, size_bytes: u64) -> GpuMemoryHandle {
        let response = wait(self.grain.allocate_reporting(size_bytes, MemoryType::Default)).expect("there is memory");
        self.hits += u64::from(response.is_pool_hit);
        self.live_bytes += size_bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
        response.handle
    }

    fn release(&mut self, handle: GpuMemoryHandle) {
        self.live_bytes -= wait(self.grain.release(handle, true)).expect("it is released").bytes_freed;
    }

    /// The hit rate of `allocations` as a line, and the footprint, which the silo counts.
    fn draft(&self, figure: &str, allocations: usize) -> (Draft, String) {
        let rate = 100.0 * self.hits as f64 / allocations as f64;
        let reserved = self.grain.memory_info().reserved_bytes;
        let footprint = reserved as f64 / self.peak_live_bytes as f64;
        let conditions = format!(
            "at {footprint:.2} × peak live ({:.1} MiB); {OPERATIONS} operations, seed {SEED}; sizes 1, 2, 4, 8, 16 KiB \
             80 %, 3, 6, 12, 24 KiB 20 %",
            self.peak_live_bytes as f64 / f64::from(1 << 20)
        );
        (Draft::value(figure, rate, "%", 2), conditions)
    }
}

pub fn run(subject: &Subject, _: Effort, table: &mut Table) {
    steady(subject, table);
    original(subject, table);
}

fn steady(subject: &Subject, table: &mut Table) {
    let silo = subject.silo();
    let mut random = SplitMix::new(SEED);
    let mut tally = Tally::new(silo.grain(1).expect("the key is good"));
    let mut live: Vec<_> = (0..LIVE).map(|_| tally.allocate(documents_size_bytes(&mut random))).collect();
    // What fills the memory first is no turnover.
    let first_hits = std::mem::take(&mut tally.hits);
    for _ in 0..OPERATIONS {
        let at = random.between(0, LIVE as u64 - 1) as usize;
        tally.release(live[at]);
        live[at] = tally.allocate(documents_size_bytes(&mut random));
    }
    assert_eq!(silo.metrics().pool_hit_count, first_hits + tally.hits, "hits that the metrics know of");
    let (draft, conditions) =
        tally.draft("hit rate of released blocks, the documents' sizes at steady turnover", OPERATIONS);
    table.add(
        draft
            .at_least(90.0)
            .under(format!("{LIVE} live, each operation releases one and allocates another; {conditions}")),
    );
}

fn original(subject: &Subject, table: &mut Table) {
    let silo = subject.silo();
    let mut random = SplitMix::new(SEED);
    let mut tally = Tally::new(silo.grain(1).expect("the key is good"));
    let mut released = 0;
    for _ in 0..OPERATIONS {
        let handle = tally.allocate(documents_size_bytes(&mut random));
        if random.between(1, 10) <= 3 {
            tally.release(handle);
            released += 1;
        }
    }
    assert_eq!(silo.metrics().pool_hit_count, tally.hits, "hits that the metrics know of");
    let (draft, conditions) = tally.draft("hit rate of released blocks, the original's pattern", OPERATIONS);
    let most = 100.0 * f64::from(released) / OPERATIONS as f64;
    table.add(
        draft.under(format!("{released} of its allocations are released, so {most:.1} % is the most; {conditions}")),
    );
}
