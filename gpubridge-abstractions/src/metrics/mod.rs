//! Metrics: what a ring and its pool report, and what one grain did with them.

mod resident;
mod tracker;

pub use resident::ResidentMemoryMetrics;
pub use tracker::{
    AllocationTotals, ComputeTotals, ReleaseTotals, ResidentMemoryTotals, ResidentMemoryTracker, TimeSamples,
    TransferTotals,
};

/// `part / whole`, or 0 where there is no whole: a rate over nothing is no rate.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
