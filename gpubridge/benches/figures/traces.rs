//! The pool's hit rate on the five traces, always beside its footprint.

use gpubridge::runtime::pool::trace::{self, Trace, Workload};

use super::Effort;
use super::pool;
use super::table::Table;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

pub fn run(effort: Effort, table: &mut Table) {
    for workload in Workload::ALL {
        let (mut least_hits, mut most_footprint, mut least_bins) = (1.0_f64, 0.0_f64, 1.0_f64);
        for seed in SEEDS {
            let mut pool = pool::pool();
            trace::replay(Trace::new(workload, seed, effort.of(trace::ALLOCATIONS)), &mut pool).expect("it fits");
            let stats = pool.stats();
            least_hits = least_hits.min(stats.driver_free_rate());
            least_bins = least_bins.min(stats.bin_hit_rate());
            most_footprint = most_footprint.max(stats.footprint());
        }
        table.judged(
            format!("hit rate without the driver, {}, worst of 5 seeds", workload.name()),
            "≥ 99 % at ≤ 1.5 × peak live",
            format!("{:.3} % at {most_footprint:.2} × (bins alone {:.1} %)", least_hits * 100.0, least_bins * 100.0),
            least_hits >= 0.99 && most_footprint <= 1.5,
        );
    }
}
