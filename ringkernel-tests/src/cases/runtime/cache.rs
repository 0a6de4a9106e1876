//! The kernel cache: counted exactly, never caching a failure, and right when it evicts what is in flight.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use gpubridge_abstractions::{ErrorKind, KernelSpec};
use gpubridge_kernels::id::{FILL, MIN_MAX, SUM};
use gpubridge_runtime::pool::trace::SplitMix;
use gpubridge_runtime::{Call, Compute};

use crate::rig::{Gate, Joined, OpenAtEnd, Rig, config, kind, narrow, with_cache};
use crate::twins::{FICKLE, GATED, NAMED, fickle, gated, named};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("cache",
    Compute {
        its_size_is_what_it_holds_not_what_it_was_asked => "ResidentMemory::metrics/cache-size",
    }
    Twins {
        popular_kernels_stay_when_there_are_more_than_slots => "ResidentMemory::compute/popular-stay",
        a_kernel_used_since_the_last_eviction_stays => "ResidentMemory::compute/recently-used",
        everything_hits_when_all_fit => "ResidentMemory::compute/cache-hit",
        a_kernel_is_compiled_once_however_many_ask => "ResidentMemory::compute/compiled-once",
        a_failure_is_not_cached_and_keeps_its_text => "ResidentMemory::compute/failure-not-cached",
        evicted_kernels_in_flight_still_run => "ResidentMemory::compute/evicted-in-flight",
        too_many_evicted_kernels_at_work_are_a_typed_error => "ResidentMemory::compute/evicted-bound",
        threads_that_evict_each_others_kernels_get_their_own => "ResidentMemory::compute/own-kernel",
    }
);

fn hits_and_misses(rig: &Rig) -> (u64, u64) {
    let session = rig.session(0);
    let message = gpubridge_abstractions::GetMetricsMessage::new(rig.memory.envelope());
    let response = rig.memory.get_metrics(session, &message).expect("is answered");
    (response.kernel_cache_hit_count, response.kernel_cache_miss_count)
}

fn number(which: u32) -> KernelSpec {
    NAMED.with_constants([which, which.wrapping_mul(0x9e37_79b9)])
}

#[track_caller]
fn answers(call: Call<'_, Compute>, which: u32) {
    let response = call.wait().expect("is answered");
    assert!(response.success, "{response:?}");
    let said = (response.result.u32_at(0), response.result.u32_at(4));
    assert_eq!(said, (Some(which), Some(which.wrapping_mul(0x9e37_79b9))), "another kernel answered");
}

/// Goal: the cache's size is the kernels it holds (fault: hits + misses). Method: three kernels, ten calls each.
pub fn its_size_is_what_it_holds_not_what_it_was_asked(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    for _ in 0..10 {
        rig.run(session, FILL.into(), Some(id));
        for kernel in [SUM, MIN_MAX] {
            let message = gpubridge_abstractions::ComputeMessage::new(rig.memory.envelope(), kernel, Some(id), None);
            assert!(rig.memory.compute(session, &message).wait().expect("is answered").success);
        }
    }
    let metrics = rig.memory.metrics();
    assert_eq!(metrics.kernel_cache_size, 3);
    assert_eq!(hits_and_misses(&rig), (27, 3));
    assert!((metrics.kernel_cache_hit_rate - 0.9).abs() < 1e-12);
}

/// Goal: at least 95 % hits with more kernels than slots under Zipf popularity, counted exactly. Method: 130 kernels,
/// 100 slots, 10,000 calls from seed 42; each answer names its kernel; compilations are counted outside.
pub fn popular_kernels_stay_when_there_are_more_than_slots(context: &Context) {
    let compilations = Arc::default();
    let rig = Rig::new(context.device_with(&[named(&compilations)]), config());
    let session = rig.session(0);
    let mut random = SplitMix::new(42);
    for _ in 0..10_000 {
        let which = random.zipf(130, 1.2);
        answers(rig.compute(session, number(which), None), which);
    }
    let (hits, misses) = hits_and_misses(&rig);
    assert_eq!((hits + misses, misses), (10_000, u64::from(compilations.load(Ordering::Relaxed))));
    assert!(hits >= 9_500, "{hits} of 10000");
    assert_eq!(rig.memory.metrics().kernel_cache_size, 100);
}

/// Goal: what was used since the last eviction is not the next to go. Method: three slots; a fourth kernel evicts the first;
/// the second is used again, so a fifth evicts the third. In many rounds.
pub fn a_kernel_used_since_the_last_eviction_stays(context: &Context) {
    for round in 0..20 {
        let compilations = Arc::default();
        let rig = Rig::new(context.device_with(&[named(&compilations)]), with_cache(config(), 3));
        let session = rig.session(round);
        let calls = [(0, false), (1, false), (2, false), (3, false), (1, true), (4, false), (1, true), (2, false)];
        for (which, hits) in calls {
            assert_eq!(rig.run(session, number(which), None).is_cache_hit, hits, "kernel {which}");
        }
    }
}

/// Goal: with fewer kernels than slots each misses once. Method: 50 kernels, 100 slots.
pub fn everything_hits_when_all_fit(context: &Context) {
    let compilations = Arc::default();
    let rig = Rig::new(context.device_with(&[named(&compilations)]), config());
    let session = rig.session(0);
    for round in 0..20 {
        for which in 0..50 {
            let response = rig.run(session, number(which), None);
            assert_eq!(response.is_cache_hit, round > 0);
        }
    }
    assert_eq!(hits_and_misses(&rig), (950, 50));
    assert_eq!(compilations.load(Ordering::Relaxed), 50);
}

/// Goal: racing first calls compile once. Method: eight threads on two lanes start together.
pub fn a_kernel_is_compiled_once_however_many_ask(context: &Context) {
    let compilations: Arc<AtomicU32> = Arc::default();
    let rig = Rig::new(context.device_with(&[named(&compilations)]), config());
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (rig, start) = (&rig, &start);
            scope.spawn(move || {
                let session = rig.session(thread);
                for which in 0..20 {
                    start.wait();
                    answers(rig.compute(session, number(which), None), which);
                }
            });
        }
    });
    assert_eq!(compilations.load(Ordering::Relaxed), 20);
    let (hits, misses) = hits_and_misses(&rig);
    assert!(hits + misses == 160 && misses >= 20, "{hits} hits, {misses} misses");
}

/// Goal: a compile failure is reported with its text and tried again next time (fault: cached). Method: a kernel whose
/// compilation fails twice and works the third time.
pub fn a_failure_is_not_cached_and_keeps_its_text(context: &Context) {
    let tries = Arc::default();
    let rig = Rig::new(context.device_with(&[fickle(2, &tries)]), config());
    let session = rig.session(0);
    for attempt in 0..2 {
        let error = rig.compute(session, FICKLE, None).wait().expect_err("it does not compile");
        assert_eq!(error.kind(), ErrorKind::KernelBuild);
        assert!(error.message().contains(&format!("try {attempt} fails")), "{error}");
        assert_eq!(rig.memory.metrics().kernel_cache_size, 0);
    }
    assert_eq!(rig.run(session, FICKLE, None).result.u32_at(0), Some(7));
    assert!(rig.run(session, FICKLE, None).is_cache_hit);
    assert_eq!((tries.load(Ordering::Relaxed), hits_and_misses(&rig)), (3, (1, 1)));
}

/// Goal: what is in flight runs with the kernel it was submitted with, also when that is evicted. Method: one slot; calls
/// of twenty kernels queue up behind a kernel at a gate, each evicting the one before.
pub fn evicted_kernels_in_flight_still_run(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), named(&Arc::default())]), with_cache(config(), 1));
    let session = rig.session(0);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let calls: Vec<_> =
        (0..20).map(|which| rig.compute(session, number(which), None).post().expect("is submitted")).collect();
    assert_eq!(rig.memory.metrics().kernel_cache_size, 1);
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    (0..).zip(calls).for_each(|(which, call)| answers(call, which));
    assert_eq!(hits_and_misses(&rig), (0, 21));
}

/// Goal: kernels that cannot be replaced yet are bounded, and the bound is typed. Method: as above with more kernels than
/// the bound; when the gate is open it goes on.
pub fn too_many_evicted_kernels_at_work_are_a_typed_error(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), named(&Arc::default())]), with_cache(config(), 1));
    let session = rig.session(0);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let mut calls = Vec::new();
    let refused = (0..200).find_map(|which| match rig.compute(session, number(which), None).post() {
        Ok(call) => {
            calls.push(call);
            None
        }
        Err(error) => Some(error.kind()),
    });
    assert_eq!(refused, Some(ErrorKind::Full));
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    (0..).zip(calls).for_each(|(which, call)| answers(call, which));
    answers(rig.compute(session, number(500), None), 500);
}

/// Goal: lanes' copies of the cache are never out of date. Method: four threads on two lanes, three slots, twelve
/// kernels in random order, each answer named.
pub fn threads_that_evict_each_others_kernels_get_their_own(context: &Context) {
    let mut config = with_cache(narrow(16), 3);
    config.ring.lanes = 2;
    let rig = Rig::new(context.device_with(&[named(&Arc::default())]), config);
    let calls = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let rig = &rig;
                scope.spawn(move || {
                    let session = rig.session(thread);
                    let mut random = SplitMix::new(thread);
                    for _ in 0..400 {
                        let which = random.between(0, 11) as u32;
                        answers(rig.compute(session, number(which), None), which);
                    }
                    400
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.joined()).sum::<u64>()
    });
    let (hits, misses) = hits_and_misses(&rig);
    assert_eq!(hits + misses, calls);
    assert!(rig.memory.metrics().kernel_cache_size <= 3);
    let session = rig.session(0);
    let unknown = NAMED.of(gpubridge_abstractions::ElementType::I32);
    assert_eq!(kind(rig.compute(session, unknown, None).or_error().wait()), ErrorKind::Unsupported);
    let slots: HashSet<_> = (0..12).map(|which| rig.run(session, number(which), None).result.u32_at(0)).collect();
    assert_eq!(slots.len(), 12);
}
