//! The pool under five shapes of load: the driver is hardly ever asked, at a bounded footprint.

mod support;

use gpubridge_runtime::pool::trace::{self, Trace, Workload};
use gpubridge_runtime::pool::{Pool, PoolConfig};
use support::FakeDriver;

#[test]
fn five_workloads_stay_off_the_driver_within_one_and_a_half_times_the_peak() {
    println!(
        "{:<12} {:>4} {:>12} {:>8} {:>10} {:>10}",
        "workload", "seed", "driver-free", "bins", "footprint", "chunks"
    );
    for workload in Workload::ALL {
        for seed in 1..=5 {
            let config = PoolConfig { budget_bytes: 256 << 30, ..PoolConfig::default() };
            let mut pool = Pool::new(config, Box::new(FakeDriver::default()));
            trace::replay(Trace::new(workload, seed, trace::ALLOCATIONS), &mut pool).expect("the budget is ample");
            let stats = pool.stats();
            println!(
                "{:<12} {seed:>4} {:>11.4}% {:>7.2}% {:>10.3} {:>10}",
                workload.name(),
                stats.driver_free_rate() * 100.0,
                stats.bin_hit_rate() * 100.0,
                stats.footprint(),
                stats.driver_reserves,
            );
            assert!(stats.driver_free_rate() >= 0.99, "{workload:?}, seed {seed}: {stats:?}");
            assert!(stats.footprint() <= 1.5, "{workload:?}, seed {seed}: {stats:?}");
        }
    }
}
