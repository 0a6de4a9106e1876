//! The pool's hit rate on the five traces, always beside its footprint.

use gpubridge_runtime::pool::PoolStats;
use gpubridge_runtime::pool::trace::{self, Trace, Workload};

use super::Effort;
use super::line::{Draft, Table};
use super::pool::{AMPLE, pool};
use super::subject::Subject;
use crate::Error;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
/// Budgets in percent of the peak of live bytes.
const BUDGETS: std::ops::RangeInclusive<u32> = 105..=150;
const BUDGET_STEP: usize = 5;
/// The bars: percent served without the driver, and footprint.
const HITS: f64 = 99.0;
const FOOTPRINT: f64 = 1.5;

/// What the whole trace comes to within a budget; the error when it does not fit.
fn replay(workload: Workload, seed: u64, effort: Effort, budget_bytes: u64) -> Result<PoolStats, Error> {
    let mut pool = pool(budget_bytes);
    trace::replay(Trace::new(workload, seed, effort.of(trace::ALLOCATIONS)), &mut pool)?;
    Ok(pool.stats())
}

pub fn run(_: &Subject, effort: Effort, table: &mut Table) {
    for workload in Workload::ALL {
        let (mut least_hits, mut most_footprint, mut least_bins) = (100.0_f64, 0.0_f64, 100.0_f64);
        for seed in SEEDS {
            let stats = replay(workload, seed, effort, AMPLE).expect("it fits");
            least_hits = least_hits.min(stats.driver_free_rate() * 100.0);
            least_bins = least_bins.min(stats.bin_hit_rate() * 100.0);
            most_footprint = most_footprint.max(stats.footprint());
        }
        table.add(
            Draft::value(format!("hit rate without the driver, {}", workload.name()), least_hits, "%", 3)
                .judged(
                    format!("≥ {HITS} % at ≤ {FOOTPRINT} × peak live"),
                    least_hits >= HITS && most_footprint <= FOOTPRINT,
                )
                .under(format!(
                    "at {most_footprint:.2} × peak live; bins alone {least_bins:.1} %; {} allocations, worst of 5 seeds",
                    effort.of(trace::ALLOCATIONS)
                )),
        );
    }
}

/// The same where the budget is what limits the pool: what more memory buys.
pub fn budgets(_: &Subject, effort: Effort, table: &mut Table) {
    for workload in Workload::ALL {
        let peak = replay(workload, 1, effort, AMPLE).expect("it fits").peak_live_bytes as f64;
        let budgets = BUDGETS.step_by(BUDGET_STEP).map(|percent| f64::from(percent) / 100.0);
        let within = |budget: f64| replay(workload, 1, effort, (peak * budget) as u64).ok();
        let points: Vec<_> = budgets.filter_map(|budget| Some((budget, within(budget)?))).collect();
        let figure = format!("least budget that a trace fits into, {}", workload.name());
        table.add(match points.first() {
            None => Draft::not_measured(figure, format!("{} % of peak live were not enough", BUDGETS.end())),
            Some((least, stats)) => Draft::value(figure, *least, "× peak live", 2).at_most(FOOTPRINT).under(format!(
                "in steps of {BUDGET_STEP} %; there {:.3} % are served without the driver; seed 1",
                stats.driver_free_rate() * 100.0
            )),
        });
        for (_, stats) in points {
            table.charts.hit_rate(workload.name(), stats.footprint(), stats.driver_free_rate() * 100.0);
        }
    }
}
