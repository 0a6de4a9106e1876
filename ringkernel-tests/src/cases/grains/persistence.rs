//! What outlives a deactivation, a restart and an unclean stop.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gpubridge_abstractions::{AllocationId, DeviceIndex, ErrorKind, GpuMemoryHandle};
use gpubridge_grains::storage::{GrainSnapshot, GrainStorage, MemoryStorage, RedbStorage};
use gpubridge_grains::{Silo, SiloConfig, UncleanPolicy, wait};

use crate::rig::{allocate, config, eventually, keep, kept, kind, pattern, silo, silo_config, silo_on, stop};
use crate::storage::Watched;
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!(
    "persistence",
    Memory {
        handles_and_contents_outlive_deactivations => "GrainRef/same-handles",
        handles_and_contents_outlive_a_restart => "Silo/restart",
        a_record_says_what_the_handles_said => "SavedAllocation/as-issued",
        released_handles_stay_refused_after_a_restart => "GrainRef::release/for-good",
        the_stored_buffer_outlives_a_restart => "GrainRef::store/restart",
        after_an_unclean_stop_contents_are_marked_lost => "UncleanPolicy::MarkLost/marked",
        by_policy_the_last_save_is_restored => "UncleanPolicy::RestoreLastSave/last-save",
        handles_issued_after_the_last_save_are_lost_and_name_nothing_else => "UncleanPolicy/later-handles",
        lost_contents_are_refused_until_written_as_a_whole => "UncleanPolicy::MarkLost/whole-write",
        without_saving_a_deactivation_marks_contents_lost => "SiloConfig/save-on-deactivation",
        an_interval_saves_what_is_active => "SiloConfig/save-interval",
        a_restored_grain_that_did_not_change_is_lost_only_if_unclean => "UncleanPolicy/active-is-unsaved",
        a_grain_without_allocations_leaves_no_record => "GrainRef::deactivate/no-record",
    }
);

fn restart(context: &Context, storage: &Arc<dyn GrainStorage>) -> Silo {
    silo_on(context.device(), Arc::clone(storage), silo_config(config()))
}

fn restoring(context: &Context, storage: &Arc<dyn GrainStorage>) -> Silo {
    let mut config: SiloConfig = silo_config(config());
    config.unclean = UncleanPolicy::RestoreLastSave;
    silo_on(context.device(), Arc::clone(storage), config)
}

/// Allocations of many sizes with holes between them, so that slots and generations differ.
fn furnish(grain: &gpubridge_grains::GrainRef) -> (Vec<GpuMemoryHandle>, Vec<GpuMemoryHandle>) {
    let all: Vec<_> = (1..=12_u64).map(|number| allocate(grain, number * 77)).collect();
    let (released, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|handle| handle.size_bytes % 3 == 0);
    for handle in &released {
        wait(grain.release(*handle, true)).expect("is answered");
    }
    for handle in &live {
        let bytes = pattern(handle.id.generation, handle.size_bytes as usize);
        grain.write(*handle, &bytes, 0).wait().expect("is written");
    }
    (live, released)
}

#[track_caller]
fn is_intact(grain: &gpubridge_grains::GrainRef, live: &[GpuMemoryHandle], released: &[GpuMemoryHandle]) {
    for handle in live {
        let bytes = wait(grain.read::<u8>(*handle, 0, handle.size_bytes as usize)).expect("is restored");
        assert!(bytes == pattern(handle.id.generation, bytes.len()), "{} has other contents", handle.id);
    }
    for handle in released {
        assert_eq!(kind(wait(grain.read::<u8>(*handle, 0, 1))), ErrorKind::NotFound);
    }
}

/// Goal: handles and contents are the same after any number of deactivations. Method: five, with a change between.
pub fn handles_and_contents_outlive_deactivations(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("kept").expect("the key is good");
    let (mut live, released) = furnish(&grain);
    for _ in 0..5 {
        wait(grain.deactivate()).expect("is saved");
        is_intact(&grain, &live, &released);
        let new = allocate(&grain, 50);
        grain.write(new, &pattern(new.id.generation, 50), 0).wait().expect("is written");
        live.push(new);
        assert_eq!(live.iter().map(|handle| handle.id).collect::<HashSet<_>>().len(), live.len());
    }
    stop(silo);
}

/// Goal: the same across restarts with a file (fault: handles stale after restore). Method: three silos on one file.
pub fn handles_and_contents_outlive_a_restart(context: &Context) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let open = || -> Arc<dyn GrainStorage> { Arc::new(RedbStorage::open(&path).expect("the file opens")) };
    let silo = restart(context, &open());
    let (live, released) = furnish(&silo.grain(7).expect("the key is good"));
    stop(silo);
    for _ in 0..2 {
        let silo = restart(context, &open());
        is_intact(&silo.grain(7).expect("the key is good"), &live, &released);
        stop(silo);
    }
}

/// Goal: a record keeps all that handles say, also of what was restored (fault: the time of the restore). Method: saved
/// by the silo that allocated, and by a later one.
pub fn a_record_says_what_the_handles_said(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let mut silo = restart(context, &storage);
    let (live, released) = furnish(&silo.grain("record").expect("good"));
    for _ in 0..2 {
        stop(silo);
        let stored = wait(storage.read(&"record".into())).expect("is read").expect("is there");
        let snapshot = GrainSnapshot::decode(&stored.bytes).expect("is sound");
        let saved = snapshot.allocations.iter().map(|saved| GpuMemoryHandle {
            id: AllocationId { slot: saved.slot, generation: saved.generation },
            size_bytes: saved.size_bytes,
            memory_type: saved.memory_type,
            device_index: DeviceIndex(saved.device_index),
            allocated_at: saved.allocated_at,
        });
        assert_eq!(saved.collect::<Vec<_>>(), live);
        silo = restart(context, &storage);
        is_intact(&silo.grain("record").expect("good"), &live, &released);
    }
    stop(silo);
}

/// Goal: a released handle never names a later block, across restarts. Method: its slot is used again in a later silo.
pub fn released_handles_stay_refused_after_a_restart(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let grain = silo.grain("slots").expect("the key is good");
    let (first, second) = (keep(&grain, 1), keep(&grain, 2));
    wait(grain.release(first, true)).expect("is answered");
    stop(silo);
    let silo = restart(context, &storage);
    let grain = silo.grain("slots").expect("the key is good");
    let third = keep(&grain, 3);
    assert_eq!(third.id.slot, first.id.slot, "the slot is used again");
    assert_eq!(kind(kept(&grain, first)), ErrorKind::NotFound);
    assert_eq!((kept(&grain, second).expect("is restored"), kept(&grain, third).expect("is new")), (2, 3));
    stop(silo);
}

/// Goal: load finds what store kept, after a restart too, and clear takes it away for good. Method: three silos.
pub fn the_stored_buffer_outlives_a_restart(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    wait(silo.grain("buffer").expect("good").store(&[1.5_f64, -2.5])).expect("is stored");
    stop(silo);
    let silo = restart(context, &storage);
    let grain = silo.grain("buffer").expect("good");
    assert_eq!(wait(grain.load::<f64>()).expect("is loaded"), Some(vec![1.5, -2.5]));
    wait(grain.store(&[7.0_f64])).expect("is stored");
    stop(silo);
    let silo = restart(context, &storage);
    let grain = silo.grain("buffer").expect("good");
    assert_eq!(wait(grain.load::<f64>()).expect("is loaded"), Some(vec![7.0]));
    wait(grain.clear()).expect("is cleared");
    stop(silo);
    let silo = restart(context, &storage);
    assert_eq!(wait(silo.grain("buffer").expect("good").load::<f64>()).expect("there is none"), None);
    stop(silo);
}

/// Goal: contents that an unclean stop took are marked, never zeros or an older state (fault: contents silently lost).
/// Method: saved, changed, dropped without a shutdown; the default policy.
pub fn after_an_unclean_stop_contents_are_marked_lost(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let grain = silo.grain("lost").expect("good");
    let handle = keep(&grain, 1);
    wait(grain.save()).expect("is saved");
    grain.write(handle, &[2_u32], 0).wait().expect("is written");
    drop((grain, silo));
    let silo = restart(context, &storage);
    let grain = silo.grain("lost").expect("good");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost);
    assert_eq!(silo.metrics().active_allocation_count, 1, "its memory is there, zeroed");
    stop(silo);
}

/// Goal: RestoreLastSave brings the last save back, and says nothing of what came later. Method: as above.
pub fn by_policy_the_last_save_is_restored(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let grain = silo.grain("saved").expect("good");
    let handle = keep(&grain, 1);
    wait(grain.save()).expect("is saved");
    grain.write(handle, &[2_u32], 0).wait().expect("is written");
    let later = keep(&grain, 3);
    drop((grain, silo));
    let silo = restoring(context, &storage);
    let grain = silo.grain("saved").expect("good");
    assert_eq!(kept(&grain, handle).expect("is restored"), 1);
    assert_eq!(kind(kept(&grain, later)), ErrorKind::ContentsLost);
    stop(silo);
}

/// Goal: a handle issued after the last save is refused as lost and never names another block. Method: under both
/// policies, in a saved and in an unsaved grain, before and after the slot is taken by a new allocation; released ones,
/// too, in a saved grain and in one that left no record.
pub fn handles_issued_after_the_last_save_are_lost_and_name_nothing_else(context: &Context) {
    for open in [restart, restoring] {
        let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
        let silo = open(context, &storage);
        let (saved, never) = (silo.grain("saved").expect("good"), silo.grain("never").expect("good"));
        keep(&saved, 1);
        wait(saved.save()).expect("is saved");
        let lost = [(keep(&saved, 2), "saved"), (keep(&never, 3), "never")];
        let empty = silo.grain("empty").expect("good");
        let released = [(&saved, keep(&saved, 4)), (&empty, keep(&empty, 5))].map(|(grain, handle)| {
            wait(grain.release(handle, true)).expect("is answered");
            (handle, grain.key().clone())
        });
        wait(empty.deactivate()).expect("there is nothing to save");
        drop((saved, never, empty, silo));
        let silo = open(context, &storage);
        for (handle, key) in released {
            let error = kept(&silo.grain(key).expect("good"), handle).expect_err("it was released");
            assert!(error.kind() == ErrorKind::ContentsLost && error.message().contains("unless it had been released"));
        }
        for (handle, key) in lost {
            let grain = silo.grain(key).expect("good");
            assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "{key}");
            let new: Vec<AllocationId> = (0..4).map(|value| keep(&grain, 100 + value).id).collect();
            assert!(new.iter().any(|id| id.slot == handle.id.slot), "the slot is taken");
            assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "{key}");
            assert_eq!(kind(grain.write(handle, &[9_u32], 0).wait()), ErrorKind::ContentsLost, "{key}");
            assert_eq!(wait(grain.release(handle, true)).expect("is answered").bytes_freed, 0);
        }
        stop(silo);
    }
}

/// Goal: a marked allocation is usable again once it is written as a whole, not before. Method: a write of a part, a
/// read, a write of all.
pub fn lost_contents_are_refused_until_written_as_a_whole(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let grain = silo.grain("marked").expect("good");
    let handle = allocate(&grain, 16);
    grain.write(handle, &[1_u32; 4], 0).wait().expect("is written");
    wait(grain.save()).expect("is saved");
    drop((grain, silo));
    let silo = restart(context, &storage);
    let grain = silo.grain("marked").expect("good");
    grain.write(handle, &[2_u32; 3], 0).wait().expect("is written");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "the rest is still lost");
    // The mark outlives a save and a clean restart.
    stop(silo);
    let silo = restart(context, &storage);
    let grain = silo.grain("marked").expect("good");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost);
    grain.write(handle, &[3_u32; 4], 0).wait().expect("is written");
    assert_eq!(kept(&grain, handle).expect("is whole again"), 3);
    stop(silo);
}

/// Goal: by policy a deactivation saves no contents; handles come back marked. Method: save_on_deactivation = false.
pub fn without_saving_a_deactivation_marks_contents_lost(context: &Context) {
    let mut config = silo_config(config());
    config.save_on_deactivation = false;
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), config);
    let grain = silo.grain("volatile").expect("good");
    let handle = allocate(&grain, 4);
    grain.write(handle, &[1_u32], 0).wait().expect("is written");
    wait(grain.deactivate()).expect("is closed");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost);
    grain.write(handle, &[2_u32], 0).wait().expect("is written");
    assert_eq!(kept(&grain, handle).expect("is whole again"), 2);
    stop(silo);
}

/// Goal: active grains are saved at an interval. Method: a tiny one; polled until the storage has it, then an unclean stop.
pub fn an_interval_saves_what_is_active(context: &Context) {
    let storage = Watched::new();
    let mut config = silo_config(config());
    config.save_interval = Some(Duration::from_millis(4));
    config.unclean = UncleanPolicy::RestoreLastSave;
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, config);
    let grain = silo.grain("regular").expect("good");
    let handle = keep(&grain, 11);
    let before = storage.writes.load(Ordering::Relaxed);
    eventually("two saves", || storage.writes.load(Ordering::Relaxed) >= before + 2);
    assert_eq!(silo.active_grains(), 1, "it goes on");
    drop((grain, silo));
    let storage: Arc<dyn GrainStorage> = storage;
    let silo = restoring(context, &storage);
    assert_eq!(kept(&silo.grain("regular").expect("good"), handle).expect("is restored"), 11);
    stop(silo);
}

/// Goal: a record that was read again is not lost by a clean stop, and is by an unclean one. Method: restored, read, then
/// stopped each way.
pub fn a_restored_grain_that_did_not_change_is_lost_only_if_unclean(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let handle = keep(&silo.grain("read").expect("good"), 1);
    stop(silo);
    let silo = restart(context, &storage);
    assert_eq!(kept(&silo.grain("read").expect("good"), handle).expect("is restored"), 1);
    stop(silo);
    let silo = restart(context, &storage);
    assert_eq!(kept(&silo.grain("read").expect("good"), handle).expect("is restored"), 1);
    drop(silo);
    let silo = restart(context, &storage);
    assert_eq!(kind(kept(&silo.grain("read").expect("good"), handle)), ErrorKind::ContentsLost);
    stop(silo);
}

/// Goal: what holds nothing costs nothing. Method: everything is released before the deactivation.
pub fn a_grain_without_allocations_leaves_no_record(context: &Context) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    let silo = restart(context, &storage);
    let grain = silo.grain("empty").expect("good");
    let handle = keep(&grain, 1);
    wait(grain.deactivate()).expect("is saved");
    assert!(storage.may_contain(&"empty".into()));
    wait(grain.release(handle, true)).expect("is answered");
    wait(grain.deactivate()).expect("is saved");
    assert!(wait(storage.read(&"empty".into())).expect("is read").is_none());
    stop(silo);
}
