//! The silo: one activation, however many call; nothing lost or doubled by a deactivation; limits.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, Parameters};
use gpubridge_grains::storage::MemoryStorage;
use gpubridge_grains::{Computation, wait};

use crate::rig::{
    Joined, KIB, allocate, config, eventually, keep, kept, kind, narrow, silo, silo_config, silo_on, stop,
};
use crate::storage::Watched;
use crate::twins::{COUNTER, counter};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("silo",
    Memory {
        racing_calls_find_one_activation => "Silo/one-activation",
        a_call_during_a_save_waits_and_is_answered => "GrainRef::save/between-turns",
        idle_grains_are_deactivated_and_come_back => "SiloConfig/idle-after",
        a_grain_in_use_is_not_idle => "SiloConfig/in-use",
        a_grain_that_cannot_be_saved_stays_active => "GrainRef::deactivate/stays-active",
        the_number_of_grains_is_bounded => "Silo::grain/bounded",
        keys_that_storages_refuse_are_refused_at_once => "Silo::grain/key",
        a_save_that_is_given_up_loses_nothing => "GrainRef::save/given-up",
        a_save_that_is_given_up_after_its_write_can_be_repeated => "GrainRef::save/repeatable",
        a_deactivation_that_is_given_up_loses_nothing => "GrainRef::deactivate/never-stale",
        an_activation_that_is_given_up_leaves_nothing_behind => "GrainCall/given-up-activation",
        clear_releases_everything_and_forgets_the_stored_buffer => "GrainRef::clear/everything",
        store_and_load_one_buffer => "GrainRef::store/replaces",
    }
    Twins {
        deactivation_amid_calls_loses_and_doubles_nothing => "GrainRef/turns",
        batches_follow_their_grain_through_deactivations => "GrainBatch/deactivations",
    }
);

/// Goal: many threads that call a new key find one activation (one session, one read of the storage). Method: sixteen
/// start together on a grain that has a record; what they cost is counted exactly.
pub fn racing_calls_find_one_activation(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    for round in 0..20_u64 {
        let grain = silo.grain(round).expect("the key is good");
        let handle = keep(&grain, 42);
        wait(grain.deactivate()).expect("is saved");
        let reads = storage.reads.load(Ordering::Relaxed);
        let messages = silo.metrics().total_messages_processed;
        let start = Barrier::new(16);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let grain = silo.grain(round).expect("the key is good");
                    start.wait();
                    assert_eq!(kept(&grain, handle).expect("is read"), 42);
                });
            }
        });
        assert_eq!(storage.reads.load(Ordering::Relaxed) - reads, 1, "the storage was read more than once");
        assert_eq!(silo.active_grains(), 1);
        // Initialize, the write that restores, sixteen reads.
        assert_eq!(silo.metrics().total_messages_processed - messages, 18);
        wait(grain.deactivate()).expect("is saved");
    }
    stop(silo);
}

/// Goal: deactivations in the middle of calls lose none and double none. Method: four threads and two tasks count with a
/// kernel while another thread deactivates the grain again and again: every number is answered exactly once.
pub fn deactivation_amid_calls_loses_and_doubles_nothing(context: &Context) {
    const EACH: usize = 300;
    let silo = silo_on(context.device_with(&[counter()]), Arc::new(MemoryStorage::new()), silo_config(narrow(16)));
    let grain = silo.grain("counted").expect("the key is good");
    let handle = allocate(&grain, 4);
    let count = || grain.compute(COUNTER, None, Some(handle), Parameters::new());
    let answered = |response: gpubridge_abstractions::ComputeResponse| response.result.u32_at(0).expect("a number");
    let mut sums: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                scope.spawn(move || {
                    let one = |_| match thread {
                        0..4 => count().wait().expect("is answered"),
                        4 => wait(count()).expect("is answered"),
                        _ => count().post().expect("is submitted").wait().expect("is answered"),
                    };
                    (0..EACH).map(one).map(answered).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut deactivations = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            wait(grain.deactivate()).expect("is saved");
            deactivations += 1;
        }
        assert!(deactivations > 3, "{deactivations} deactivations");
        threads.into_iter().flat_map(|thread| thread.joined()).collect()
    });
    sums.sort_unstable();
    assert_eq!(sums, (1..=6 * EACH as u32).collect::<Vec<_>>());
    stop(silo);
}

/// Goal: a batch's computations follow their grain through deactivations. Method: as above, pipelined.
pub fn batches_follow_their_grain_through_deactivations(context: &Context) {
    const COUNT: u32 = 2000;
    let silo = silo_on(context.device_with(&[counter()]), Arc::new(MemoryStorage::new()), silo_config(narrow(32)));
    let grain = silo.grain("batched").expect("the key is good");
    let handle = allocate(&grain, 4);
    let sums = thread::scope(|scope| {
        let batching = scope.spawn(|| {
            let mut batch = silo.batch(8.try_into().expect("not 0"));
            let mut answers = Vec::new();
            let computations = (0..u64::from(COUNT)).map(|token| Computation {
                grain: &grain,
                kernel: COUNTER,
                input: None,
                output: Some(handle),
                parameters: Parameters::new(),
                token,
            });
            batch.submit(computations, |answered| answers.push(answered));
            answers.extend(std::iter::from_fn(|| batch.next()));
            answers
        });
        while !batching.is_finished() {
            wait(grain.deactivate()).expect("is saved");
        }
        batching.joined()
    });
    assert_eq!(sums.len(), COUNT as usize);
    for (token, (answered, response)) in (0..).zip(sums) {
        let response = response.expect("is answered");
        assert_eq!((answered, response.result.u32_at(0)), (token, Some(token as u32 + 1)));
    }
    stop(silo);
}

/// Goal: saving takes a grain over between two turns; calls meanwhile wait. Method: a save stands at the storage's gate, a
/// read comes, the gate opens.
pub fn a_call_during_a_save_waits_and_is_answered(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let grain = silo.grain("saved").expect("the key is good");
    let handle = keep(&grain, 7);
    storage.writing.close();
    thread::scope(|scope| {
        let save = scope.spawn(|| wait(grain.save()));
        storage.writing.wait_arrived(1);
        let read = scope.spawn(|| kept(&grain, handle));
        storage.writing.open();
        save.joined().expect("is saved");
        assert_eq!(read.joined().expect("is read"), 7);
    });
    stop(silo);
}

/// Goal: idle grains give their memory back and come again under the same handles. Method: a tiny idle time; polled until
/// none is active.
pub fn idle_grains_are_deactivated_and_come_back(context: &Context) {
    let mut config = silo_config(config());
    config.idle_after = Some(Duration::from_millis(4));
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), config);
    let grains: Vec<_> = (0..20_u64).map(|key| silo.grain(key).expect("the key is good")).collect();
    let handles: Vec<_> = (0..).zip(&grains).map(|(value, grain)| keep(grain, value)).collect();
    // A grain is named inactive a moment before its memory is given back.
    eventually("all grains are idle", || silo.active_grains() == 0 && silo.metrics().active_allocation_count == 0);
    for (value, (grain, handle)) in (0..).zip(grains.iter().zip(handles)) {
        assert_eq!(kept(grain, handle).expect("is read"), value);
    }
    stop(silo);
}

/// Goal: a grain that is called is not idle for long enough to matter: no call is refused. Method: calls without pause
/// under the tiniest idle time, their values compared.
pub fn a_grain_in_use_is_not_idle(context: &Context) {
    let mut config = silo_config(config());
    config.idle_after = Some(Duration::from_millis(1));
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), config);
    let grain = silo.grain("busy").expect("the key is good");
    let handle = keep(&grain, 0);
    for value in 1..2000 {
        grain.write(handle, &[value], 0).wait().expect("is written");
        assert_eq!(kept(&grain, handle).expect("is read"), value);
    }
    stop(silo);
}

/// Goal: a grain that cannot be saved is not dropped. Method: the storage fails once; the grain goes on, and the next
/// deactivation saves it.
pub fn a_grain_that_cannot_be_saved_stays_active(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let grain = silo.grain("stubborn").expect("the key is good");
    let handle = keep(&grain, 5);
    storage.failing.store(2, Ordering::Relaxed);
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io);
    assert_eq!(silo.active_grains(), 1);
    assert_eq!(kind(wait(grain.save())), ErrorKind::Io);
    assert_eq!(kept(&grain, handle).expect("it goes on"), 5);
    wait(grain.deactivate()).expect("is saved now");
    assert_eq!(kept(&grain, handle).expect("it comes back"), 5);
    stop(silo);
}

/// Goal: a silo knows so many grains and no more. Method: one beyond is refused; those known are found.
pub fn the_number_of_grains_is_bounded(context: &Context) {
    let mut config = silo_config(config());
    config.max_grains = 3;
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), config);
    for key in 0..3_u64 {
        silo.grain(key).expect("there is room");
    }
    assert_eq!(kind(silo.grain(3)), ErrorKind::Full);
    silo.grain(2).expect("it is known");
    stop(silo);
}

/// Goal: a key that cannot be stored is refused before anything is done. Method: one byte too long.
pub fn keys_that_storages_refuse_are_refused_at_once(context: &Context) {
    let silo = silo(context);
    assert_eq!(kind(silo.grain("x".repeat(1025))), ErrorKind::InvalidArgument);
    stop(silo);
}

/// Polls a future once and drops it where it waits.
fn give_up<F: Future>(future: F) {
    let mut future = std::pin::pin!(future);
    let polled = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "the storage's gate is closed");
}

/// Goal: giving a save up (a timeout around it) leaves the grain as it was. Method: dropped at the storage's gate before
/// the write; what was written since the last save is still there.
pub fn a_save_that_is_given_up_loses_nothing(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let grain = silo.grain("patient").expect("the key is good");
    let handle = keep(&grain, 1);
    wait(grain.save()).expect("is saved");
    grain.write(handle, &[2_u32], 0).wait().expect("is written");
    let later = keep(&grain, 3);
    storage.writing.close();
    give_up(grain.save());
    storage.writing.open();
    assert_eq!(kept(&grain, handle).expect("the grain is as it was"), 2);
    assert_eq!(kept(&grain, later).expect("the grain is as it was"), 3);
    assert_eq!(silo.metrics().active_allocation_count, 2, "a session was left behind");
    stop(silo);
}

/// Goal: as above, when the write has taken effect and its answer is lost. Method: a save and a deactivation, dropped
/// behind the write; the next save finds the version that is there.
pub fn a_save_that_is_given_up_after_its_write_can_be_repeated(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    for key in ["saved", "deactivated"] {
        let grain = silo.grain(key).expect("the key is good");
        let handle = keep(&grain, 1);
        storage.written.close();
        match key {
            "saved" => give_up(grain.save()),
            _ => give_up(grain.deactivate()),
        }
        storage.written.open();
        assert_eq!(kept(&grain, handle).expect("the grain goes on"), 1);
        assert_eq!(silo.metrics().active_allocation_count, 1, "a session was left behind");
        grain.write(handle, &[2_u32], 0).wait().expect("is written");
        wait(grain.save()).expect("the version is known again");
        wait(grain.deactivate()).expect("is saved");
        assert_eq!(kept(&grain, handle).expect("it comes back"), 2);
        wait(grain.clear()).expect("is cleared");
    }
    stop(silo);
}

/// Goal: as above for a deactivation, whose record says that nothing came after it. Method: dropped behind the write; the
/// grain goes on; then the process "dies", and the next silo knows that the record is not the last state.
pub fn a_deactivation_that_is_given_up_loses_nothing(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let grain = silo.grain("patient").expect("the key is good");
    let handle = keep(&grain, 1);
    storage.written.close();
    give_up(grain.deactivate());
    storage.written.open();
    grain.write(handle, &[2_u32], 0).wait().expect("is written");
    assert_eq!(kept(&grain, handle).expect("the grain goes on"), 2);
    drop((grain, silo));
    let silo = silo_on(context.device(), storage, silo_config(config()));
    let grain = silo.grain("patient").expect("the key is good");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "an old state passes for the last one");
    stop(silo);
}

/// Goal: calls that give up while their grain is activated leave no session and no memory behind. Method: many reads
/// dropped at the storage's gates, before anything is restored and after; then the grain is used: its memory is there
/// once.
pub fn an_activation_that_is_given_up_leaves_nothing_behind(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(narrow(8)));
    let grain = silo.grain("hasty").expect("the key is good");
    let handle = allocate(&grain, 16 * KIB);
    grain.write(handle, &[9_u8; 16 << 10], 0).wait().expect("is written");
    wait(grain.deactivate()).expect("is saved");
    for gate in [&storage.reading, &storage.marking] {
        gate.close();
        for _ in 0..20 {
            give_up(grain.read_into(handle, 0, &mut [0_u8]));
        }
        gate.open();
    }
    assert_eq!(wait(grain.read::<u8>(handle, 0, 16 << 10)).expect("is read"), [9; 16 << 10]);
    let metrics = silo.metrics();
    assert_eq!((metrics.active_allocation_count, metrics.used_pool_size_bytes), (1, 16 * KIB));
    stop(silo);
}

/// Goal: clear leaves nothing, whether the grain is active or not. Method: allocations and a stored buffer; cleared while
/// active and, again filled, after a deactivation.
pub fn clear_releases_everything_and_forgets_the_stored_buffer(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("cleared").expect("the key is good");
    for active in [true, false] {
        let handles: Vec<_> = (0..5).map(|value| keep(&grain, value)).collect();
        wait(grain.store(&[1_u32, 2, 3])).expect("is stored");
        if !active {
            wait(grain.deactivate()).expect("is saved");
        }
        wait(grain.clear()).expect("is cleared");
        assert_eq!(silo.metrics().active_allocation_count, 0);
        assert_eq!(wait(grain.load::<u32>()).expect("there is none"), None, "active: {active}");
        for handle in handles {
            assert_eq!(kind(kept(&grain, handle)), ErrorKind::NotFound);
        }
    }
    stop(silo);
}

/// Goal: one whole-grain buffer, replaced as a whole. Method: store, load, store a longer one; the first is released.
pub fn store_and_load_one_buffer(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("stored").expect("the key is good");
    assert_eq!(wait(grain.load::<u64>()).expect("there is none"), None);
    for length in [3_u64, 100, 1] {
        let data: Vec<u64> = (0..length).map(|x| x << 40).collect();
        wait(grain.store(&data)).expect("is stored");
        assert_eq!(wait(grain.load::<u64>()).expect("is loaded"), Some(data));
        assert_eq!(silo.metrics().active_allocation_count, 1);
    }
    stop(silo);
}
