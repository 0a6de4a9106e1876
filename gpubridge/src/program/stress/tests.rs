//! The accounts can fail, and do when a count or a byte is falsified; a run that is stopped accounts for what it did.

use gpubridge::kernels::id::SUM;
use gpubridge::{KernelSpec, Parameters};

use super::super::actors;
use super::super::place::Place;
use super::account::settle;
use super::counts::Kind;
use super::*;

fn selection() -> Selection {
    engine::select(&Place::default()).expect("there is a backend")
}

/// A grain that did a little of everything, on a silo of its own. One kernel was compiled.
fn worked(stage: &Stage) -> Vec<Counted> {
    let mut calls = Counted::new(stage.silo.grain("g").expect("a good key"));
    let work = |calls: &mut Counted| {
        let [first, second] = [calls.allocate(100)?, calls.allocate(400)?];
        calls.write(first, 0, &[1_u32, 2, 3])?;
        for _ in 0..3 {
            let sum = calls.compute(KernelSpec::new(SUM), Some(second), None, Parameters::new())?;
            assert_eq!(sum.f32_at(0), Some(0.0));
        }
        calls.release(second, true)?;
        calls.release_again(second)?;
        calls.deactivate()?;
        let mut words = [0_u32; 3];
        calls.read(first, 0, &mut words)?;
        assert_eq!(words, [1, 2, 3], "what was saved has come back");
        Ok::<(), gpubridge::Error>(())
    };
    work(&mut calls).expect("every call is good");
    vec![calls]
}

fn faults(checks: &[Check]) -> Vec<String> {
    checks.iter().filter(|check| !check.holds).map(Check::to_string).collect()
}

#[test]
fn accounts_of_honest_counts_hold() {
    let stage = Stage::open(&selection()).unwrap();
    let mut calls = worked(&stage);
    let (checks, _) = settle(&stage, &mut calls, 1, Seen::default()).unwrap();
    assert_eq!(faults(&checks), [] as [&str; 0]);
    assert!(checks.len() > 40, "{} checks", checks.len());
    // The system's clock may be set meanwhile; how much is allocated is compared under other names.
    let elsewhere = ["start_time_unix_seconds", "uptime_seconds", "total_allocated_bytes"];
    for Metric { name, .. } in actors::metrics(&stage.silo.metrics()) {
        let has_check = checks.iter().any(|check| check.name == name);
        assert!(has_check != elsewhere.contains(&&*name), "{name}");
    }
}

/// Every kind that is counted outside, and the checks that must notice when it is one too high.
const NOTICED: [(Kind, &str); 19] = [
    (Kind::Activations, "total_messages_processed"),
    (Kind::Deactivations, "total_messages_processed"),
    (Kind::Allocations, "pool_miss_count"),
    (Kind::AllocatedBytes, "tracker allocated bytes"),
    (Kind::PoolHits, "tracker pool hits"),
    (Kind::Writes, "tracker writes"),
    (Kind::WrittenBytes, "tracker written bytes"),
    (Kind::Reads, "tracker reads"),
    (Kind::ReadBytes, "tracker read bytes"),
    (Kind::Computes, "kernel_cache_hit_count"),
    (Kind::Releases, "tracker releases"),
    (Kind::ReleasedBytes, "tracker released bytes"),
    (Kind::Returned, "tracker blocks returned to the pool"),
    (Kind::StaleReleases, "messages in the answer itself"),
    (Kind::Saved, "total_messages_processed"),
    (Kind::Restored, "pool_miss_count"),
    (Kind::RestoredHits, "pool_hit_count"),
    (Kind::MetricsRequests, "total_messages_processed"),
    (Kind::RestoredBytes, "grain g: tracker written bytes"),
];

#[test]
fn each_count_that_is_falsified_is_named_with_what_was_expected_and_found() {
    for (kind, name) in NOTICED {
        let stage = Stage::open(&selection()).unwrap();
        let mut calls = worked(&stage);
        calls[0].falsify(kind);
        let (checks, _) = settle(&stage, &mut calls, 1, Seen::default()).unwrap();
        let named = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}"));
        let (MetricValue::Count(expected), MetricValue::Count(found)) = (&named.expected, &named.found) else {
            panic!("{named} is a count")
        };
        assert_eq!((named.holds, *expected), (false, found + 1), "{kind:?}: {named}");
    }
}

#[test]
fn kernels_that_are_falsified_are_named() {
    let stage = Stage::open(&selection()).unwrap();
    let mut calls = worked(&stage);
    let (checks, _) = settle(&stage, &mut calls, 2, Seen::default()).unwrap();
    let faults = faults(&checks).join("; ");
    for name in ["kernel_cache_size", "kernel_cache_hit_count", "kernel_cache_miss_count", "tracker kernel cache hits"]
    {
        assert!(faults.contains(&format!("{name}: expected ")), "{name} is missing in {faults}");
    }
}

#[test]
fn an_allocation_that_is_not_known_outside_is_named() {
    let stage = Stage::open(&selection()).unwrap();
    let mut calls = worked(&stage);
    // Behind the back of the counts.
    let leaked = calls[0].grain.allocate(5000, gpubridge::MemoryType::Default);
    gpubridge::grains::wait(leaked).unwrap();
    let (checks, _) = settle(&stage, &mut calls, 1, Seen::default()).unwrap();
    let faults = faults(&checks);
    for fault in ["active_allocation_count: expected 0, found 1", "used_pool_size_bytes: expected 0, found 5000"] {
        assert!(faults.iter().any(|each| each == fault), "{fault} is missing in {faults:?}");
    }
}

#[test]
fn what_does_not_hold_ends_the_program_with_1_and_is_named() {
    let stop = |begun| begun == 3;
    let mut outcome = RUNS[0].execute(&selection(), 10, 1, &stop);
    assert_eq!(conclude(std::slice::from_ref(&outcome)).unwrap_err().exit_code(), 130);
    outcome.checks.push(Check::count("active_allocation_count", 3, 4));
    let error = conclude(&[outcome]).unwrap_err();
    assert_eq!(error.exit_code(), 1, "it outweighs the interrupt");
    assert_eq!(error.to_string(), "pool: active_allocation_count: expected 3, found 4");
}

#[test]
fn a_run_that_is_stopped_accounts_for_what_it_did() {
    for run in &RUNS {
        // Threads may have begun the operation before it is stopped: at most one each.
        let stop_at = 6;
        let outcome = run.execute(&selection(), 1_000_000, 7, &|begun| begun >= stop_at);
        assert_eq!(outcome.faults().collect::<Vec<_>>(), [] as [&str; 0], "{}", run.name);
        assert!(outcome.is_interrupted() && !outcome.checks.is_empty());
        assert!((stop_at..stop_at + 4).contains(&outcome.done), "{} did {}", run.name, outcome.done);
    }
}

#[test]
fn a_run_that_is_stopped_at_once_accounts_for_nothing() {
    for run in &RUNS {
        let outcome = run.execute(&selection(), 1_000_000, 7, &|_| true);
        assert_eq!((outcome.done, outcome.faults().count()), (0, 0), "{}: {:?}", run.name, outcome.checks);
    }
}

#[test]
fn the_pools_run_looks_at_every_block_and_compares_every_byte() {
    // Some blocks are compared before their release, the others at the end.
    const ALLOCATIONS: u64 = 2_200;
    let Outcome { checks, seen, .. } = RUNS[0].execute(&selection(), ALLOCATIONS, 3, &|_| false);
    let allocated = checks.iter().find(|check| check.name == "tracker allocated bytes").expect("it is counted");
    assert_eq!(MetricValue::Count(seen.bytes), allocated.found);
    // Of each: its allocation, the look at it, two reads, its release. A few are released twice.
    assert!((5 * ALLOCATIONS..5 * ALLOCATIONS + ALLOCATIONS / 8).contains(&seen.answers), "{} answers", seen.answers);
}

#[test]
fn a_run_whose_memory_grows_with_each_operation_does_not_hold() {
    fn drive(drive: &Drive<'_>) -> Result<Driven, gpubridge::Error> {
        let mut calls = Counted::new(drive.stage.silo.grain("g")?);
        while drive.monitor.begin() {
            calls.allocate(1 << 20)?;
            drive.monitor.end();
        }
        Ok(Driven { calls: vec![calls], ..Driven::default() })
    }
    static GROWING: Run =
        Run { name: "growing", summary: "", unit: "allocations", operations: 64, settles_after: 0, drive };
    let outcome = GROWING.execute(&selection(), 64, 0, &|_| false);
    let reserved = outcome.faults().find(|fault| fault.starts_with("reserved bytes of the pool, last quarter: "));
    // 16 MiB in the first quarter, a sixteenth of them, and 4 MiB.
    assert_eq!(
        reserved.expect("it is named").split(", found").next(),
        Some("reserved bytes of the pool, last quarter: expected at most 22020096")
    );
}

#[test]
fn a_call_that_fails_is_what_the_run_came_to() {
    fn drive(drive: &Drive<'_>) -> Result<Driven, gpubridge::Error> {
        let mut calls = Counted::new(drive.stage.silo.grain("g")?);
        calls.allocate(u64::MAX)?;
        Ok(Driven::default())
    }
    static FAILING: Run = Run { name: "failing", summary: "", unit: "calls", operations: 1, settles_after: 0, drive };
    let outcome = FAILING.execute(&selection(), 1, 0, &|_| false);
    assert!(!outcome.is_interrupted());
    let error = conclude(&[outcome]).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().starts_with("failing: "), "{error}");
}
