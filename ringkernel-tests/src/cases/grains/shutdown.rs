//! The silo's end: everything is saved by the deadline, or listed and marked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::ErrorKind;
use gpubridge_grains::storage::{GrainStorage, MemoryStorage};
use gpubridge_grains::{GrainKey, wait};

use crate::rig::{
    Gate, Joined, OpenAtEnd, Rig, SOON, allocate, config, eventually, keep, kept, kind, narrow, silo_config, silo_on,
    stop,
};
use crate::storage::Watched;
use crate::twins::{COUNTER, GATED, counter, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("shutdown",
    Memory {
        all_grains_are_saved => "Silo::shutdown/saves-all",
        grains_not_saved_in_time_are_listed_and_marked => "Silo::shutdown/deadline",
        a_storage_that_fails_is_reported_with_its_reason => "ShutdownReport/reason",
        a_storage_that_does_not_note_what_is_lost_is_an_error => "ShutdownReport/not-noted",
        calls_are_refused_afterwards => "Silo::shutdown/refuses",
        an_activation_under_way_is_part_of_it => "Silo::shutdown/activation-under-way",
        an_upkeep_that_hangs_does_not_hold_it_up => "Silo::shutdown/hanging-upkeep",
        terminating_ends_what_is_queued => "ResidentMemory::terminate/answers-queued",
    }
    Twins {
        terminating_keeps_its_deadline => "ResidentMemory::terminate/deadline",
        a_kernel_that_does_not_end_is_reported_in_time => "Silo::shutdown/hanging-kernel",
    }
);

/// Goal: a shutdown saves every active grain. Method: 300 grains, a restart, each value compared.
pub fn all_grains_are_saved(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = silo_on(context.device(), Arc::clone(&storage), silo_config(config()));
    let handles: Vec<_> = (0..300_u32).map(|key| keep(&silo.grain(u64::from(key)).expect("good"), key)).collect();
    let report = wait(silo.shutdown(SOON));
    assert!(report.is_clean() && report.saved == 300, "{report:?}");
    let silo = silo_on(context.device(), storage, silo_config(config()));
    for (key, handle) in (0..300_u32).zip(handles) {
        assert_eq!(kept(&silo.grain(u64::from(key)).expect("good"), handle).expect("is restored"), key);
    }
    stop(silo);
}

/// Goal: a shutdown keeps its deadline when the storage hangs; the grains are listed, and marked for the next run. Method:
/// the storage's gate is closed; one grain was saved before, one never.
pub fn grains_not_saved_in_time_are_listed_and_marked(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let (saved, never) = (silo.grain("saved").expect("good"), silo.grain("never").expect("good"));
    let handles = [keep(&saved, 1), keep(&never, 2)];
    wait(saved.deactivate()).expect("is saved");
    saved.write(handles[0], &[3_u32], 0).wait().expect("is written");
    storage.writing.close();
    let report = wait(silo.shutdown(Duration::from_millis(50)));
    let mut keys: Vec<_> = report.unsaved.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    assert_eq!(keys, [GrainKey::from("never"), GrainKey::from("saved")]);
    assert!(!report.is_clean() && report.saved == 0 && report.error.is_none(), "{report:?}");
    let error = report.into_result().expect_err("it is not clean");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(keys.iter().all(|key| error.message().contains(&key.to_string())), "{error}");
    storage.writing.open();
    for key in ["saved", "never"] {
        let noted = wait(storage.read(&key.into())).expect("is read").is_some_and(|stored| stored.unsaved);
        assert!(noted, "{key} is not marked");
    }
    let silo = silo_on(context.device(), storage, silo_config(config()));
    for (key, handle) in ["saved", "never"].into_iter().zip(handles) {
        assert_eq!(kind(kept(&silo.grain(key).expect("good"), handle)), ErrorKind::ContentsLost, "{key}");
    }
    stop(silo);
}

/// Goal: the reason of each unsaved grain is told. Method: one write fails among five.
pub fn a_storage_that_fails_is_reported_with_its_reason(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    for key in 0..5_u32 {
        keep(&silo.grain(u64::from(key)).expect("good"), key);
    }
    storage.failing.store(1, Ordering::Relaxed);
    let report = wait(silo.shutdown(SOON));
    assert_eq!((report.saved, report.unsaved.len()), (4, 1));
    assert!(report.unsaved[0].1.contains("fails on purpose"), "{report:?}");
}

/// Goal: a shutdown that cannot note what is lost says so, and ends all the same. Method: there is no time to save
/// anything, and the storage's answer to the note never comes.
pub fn a_storage_that_does_not_note_what_is_lost_is_an_error(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    keep(&silo.grain("lost").expect("good"), 1);
    storage.failing.store(1, Ordering::Relaxed);
    storage.marked.close();
    let report = wait(silo.shutdown(Duration::ZERO));
    assert_eq!((report.saved, report.unsaved.len()), (0, 1), "{report:?}");
    assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::Timeout), "the note is missing");
}

/// Goal: a stopped silo takes no call and activates no grain, and says why. Method: a grain that was active, one that was
/// not, and a new key, through references kept.
pub fn calls_are_refused_afterwards(context: &Context) {
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), silo_config(config()));
    let (active, asleep) = (silo.grain("active").expect("good"), silo.grain("asleep").expect("good"));
    let clone = silo.clone();
    let handle = keep(&active, 1);
    stop(silo);
    let refused = kept(&active, handle).expect_err("the silo is stopped");
    assert_eq!(refused.kind(), ErrorKind::InvalidState);
    assert!(refused.message().contains("shutting down"), "{refused}");
    let never = clone.grain("new").expect("naming is not calling");
    for grain in [&asleep, &never] {
        assert_eq!(kind(wait(grain.allocate(4, Default::default()))), ErrorKind::InvalidState);
        assert_eq!(kind(grain.write(handle, &[1_u32], 0).wait()), ErrorKind::InvalidState);
    }
    assert_eq!(clone.active_grains(), 0);
}

/// Goal: a shutdown does not pass over a grain whose activation is under way. Method: the activation stands at the
/// storage's gate when the shutdown begins; afterwards nothing is marked lost, for nothing was.
pub fn an_activation_under_way_is_part_of_it(context: &Context) {
    let storage = Watched::new();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, silo_config(config()));
    let grain = silo.grain("slow").expect("good");
    let handle = keep(&grain, 4);
    wait(grain.deactivate()).expect("is saved");
    storage.reading.close();
    thread::scope(|scope| {
        let _open = OpenAtEnd(&storage.reading);
        let call = scope.spawn(|| kept(&grain, handle));
        storage.reading.wait_arrived(1);
        let probe = silo.clone();
        let shutdown = scope.spawn(|| wait(silo.shutdown(SOON)));
        let other = probe.grain("other").expect("good");
        eventually("the shutdown begins", || {
            // A call while the silo runs activates the grain; it takes no memory.
            wait(other.totals()).is_err()
        });
        storage.reading.open();
        let report = shutdown.joined();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(probe.active_grains(), 0);
        match call.joined() {
            Ok(value) => assert_eq!(value, 4),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::InvalidState | ErrorKind::Cancelled), "{error}"),
        }
    });
    let silo = silo_on(context.device(), storage, silo_config(config()));
    assert_eq!(kept(&silo.grain("slow").expect("good"), handle).expect("nothing was lost"), 4);
    stop(silo);
}

/// Goal: a storage that hangs under the upkeep does not hold the shutdown up. Method: an idle grain's save hangs in the
/// upkeep's thread; the shutdown returns at its deadline.
pub fn an_upkeep_that_hangs_does_not_hold_it_up(context: &Context) {
    let storage = Watched::new();
    let mut config = silo_config(config());
    config.idle_after = Some(Duration::from_millis(2));
    config.memory.lifecycle_deadline = Duration::from_millis(100);
    storage.writing.close();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, config);
    thread::scope(|scope| {
        let _open = OpenAtEnd(&storage.writing);
        let grain = silo.grain("idle").expect("good");
        // On a thread of its own: the upkeep may come before the write, which then waits for the save.
        scope.spawn(move || {
            let handle = allocate(&grain, 4);
            drop(grain.write(handle, &[1_u32], 0).wait());
        });
        storage.writing.wait_arrived(1);
        let report = wait(silo.shutdown(Duration::from_millis(50)));
        assert_eq!(report.unsaved.len(), 1, "{report:?}");
    });
}

/// Goal: terminating answers what is queued (fault: terminate times out). Method: posts without end from one thread while
/// the ring is terminated: each call is answered, done or cancelled or refused.
pub fn terminating_ends_what_is_queued(context: &Context) {
    for _ in 0..20 {
        let rig = Rig::new(context.device(), narrow(8));
        let session = rig.session(0);
        let id = rig.allocate(session, 200);
        thread::scope(|scope| {
            let poster = scope.spawn(|| {
                loop {
                    match rig.try_write(session, id, 0, &[1; 200]) {
                        Ok(_) => {}
                        Err(error) => break error.kind(),
                    }
                }
            });
            rig.memory.terminate(SOON).expect("it ends");
            let how = poster.joined();
            assert!(matches!(how, ErrorKind::InvalidState | ErrorKind::Cancelled), "{how:?}");
        });
        rig.memory.terminate(SOON).expect("twice is once");
        assert_eq!(kind(rig.try_write(session, id, 0, &[1; 200])), ErrorKind::InvalidState);
    }
}

/// Goal: terminating behind a kernel that does not end keeps its deadline, and what waits is told when it has ended.
/// Method: a gate.
pub fn terminating_keeps_its_deadline(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let queued = rig.compute(session, COUNTER, Some(id)).post().expect("is submitted");
    assert_eq!(kind(rig.memory.terminate(Duration::from_millis(20))), ErrorKind::Timeout);
    gate.open();
    rig.memory.terminate(SOON).expect("it ends now");
    assert!(waiting.wait().expect("it was finished").success);
    match queued.or_error().wait() {
        Ok(response) => assert_eq!(response.result.u32_at(0), Some(1)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
    }
}

/// Goal: a grain whose kernel does not end does not hold the shutdown beyond its deadlines. Method: a gate that opens
/// only afterwards; the other grain is saved.
pub fn a_kernel_that_does_not_end_is_reported_in_time(context: &Context) {
    let gate = Gate::closed();
    let mut config = silo_config(config());
    config.memory.lifecycle_deadline = Duration::from_millis(50);
    let silo = silo_on(context.device_with(&[gated(&gate)]), Arc::new(MemoryStorage::new()), config);
    let _open = OpenAtEnd(&gate);
    let (stuck, fine) = (silo.grain("stuck").expect("good"), silo.grain("fine").expect("good"));
    keep(&stuck, 1);
    keep(&fine, 2);
    let call = stuck.compute(GATED, None, None, Default::default()).post().expect("is submitted");
    gate.wait_arrived(1);
    let report = wait(silo.shutdown(Duration::from_millis(100)));
    assert_eq!(report.saved, 1, "{report:?}");
    assert_eq!(report.unsaved.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [GrainKey::from("stuck")]);
    assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::Timeout), "the ring has not ended");
    gate.open();
    drop(call);
}
