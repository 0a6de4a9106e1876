//! Many grains at once: several threads, each with grains of its own and all with one grain in common.

use std::thread;

use gpubridge::Error;

use super::counted::Counted;
use super::driver::{self, Driver};
use super::stage::Monitor;
use super::{Drive, Driven};

/// Threads, on however few cores.
const THREADS: u64 = 4;
/// Grains of each thread, beside the one in common.
const GRAINS_PER_THREAD: u64 = 8;
/// In the long run one operation in so many deactivates its grain.
const DEACTIVATE_ONE_IN: u32 = 500;
const LONG_THREADS: u64 = 2;
const LONG_GRAINS_PER_THREAD: u64 = 32;

/// Ten grains and more, called from several threads at once.
pub fn run(drive: &Drive<'_>) -> Result<Driven, Error> {
    load(drive, THREADS, GRAINS_PER_THREAD, 0)
}

/// A million operations and more of all kinds, over grains that are deactivated and come back.
pub fn run_long(drive: &Drive<'_>) -> Result<Driven, Error> {
    load(drive, LONG_THREADS, LONG_GRAINS_PER_THREAD, DEACTIVATE_ONE_IN)
}

fn load(drive: &Drive<'_>, threads: u64, grains: u64, deactivate_one_in: u32) -> Result<Driven, Error> {
    let Drive { stage, monitor, seed } = drive;
    let silo = &stage.silo;
    let mut common = Counted::new(silo.grain("common")?);
    let kernels = driver::compile(&mut common)?;
    let mut drivers = Vec::new();
    for thread in 0..threads {
        let own = (0..grains).map(|grain| Ok(Counted::new(silo.grain(thread * grains + grain)?)));
        let mut of_thread = own.collect::<Result<Vec<_>, Error>>()?;
        if deactivate_one_in == 0 {
            // A grain that others deactivate meanwhile has no model of its own.
            of_thread.push(common.beside());
        }
        drivers.push(Driver::new(silo, of_thread, seed.wrapping_add(thread), deactivate_one_in)?);
    }
    run_all(&mut drivers, monitor)?;
    let mut driven = Driven { calls: vec![common], kernels, ..Driven::default() };
    for driver in drivers {
        let (calls, seen) = driver.finish();
        driven.calls.extend(calls);
        driven.seen.merge(seen);
    }
    driven.figure_count("threads", threads);
    driven.figure_count("grains", threads * grains + 1);
    Ok(driven)
}

/// Runs them, each on a thread; the first failure ends all.
fn run_all(drivers: &mut [Driver], monitor: &Monitor) -> Result<(), Error> {
    thread::scope(|scope| {
        let threads: Vec<_> = drivers.iter_mut().map(|driver| scope.spawn(move || driver.run(monitor))).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        outcomes.into_iter().try_for_each(|outcome| match outcome {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
