//! The silo over a storage that fails, before a change or after it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, GpuMemoryHandle};
use gpubridge_grains::storage::GrainStorage;
use gpubridge_grains::{GrainKey, GrainRef, Silo, wait};

use crate::rig::{SOON, allocate, config, eventually, keep, kept, kind, silo_config, silo_on, stop};
use crate::storage::Watched;
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!(
    "outages",
    Memory {
        a_change_that_failed_can_be_repeated => "GrainRef::save/repeatable",
        another_writers_record_is_a_conflict => "GrainRef::save/conflict",
        a_grain_that_goes_on_is_never_taken_for_saved => "GrainRef::deactivate/never-stale",
        a_grain_that_cannot_be_noted_does_not_go_on => "GrainRef::deactivate/not-noted",
        an_activation_that_fails_leaves_nothing_behind => "GrainRef/failed-activation",
        a_note_whose_answer_is_lost_is_heeded => "GrainCall/given-up-activation",
        a_damaged_record_keeps_its_grain_inactive_and_is_kept => "Silo/damaged-record",
        dropping_a_silo_does_not_wait_for_its_storage => "Silo/drop",
    }
);

const KEY: &str = "grain";

fn silo_over(context: &Context, storage: &Arc<Watched>) -> Silo {
    silo_on(context.device(), Arc::clone(storage) as _, silo_config(config()))
}

/// A silo whose grain keeps a 1.
fn started(context: &Context, storage: &Arc<Watched>) -> (Silo, GrainRef, GpuMemoryHandle) {
    let silo = silo_over(context, storage);
    let grain = silo.grain(KEY).expect("the key is good");
    let handle = keep(&grain, 1);
    (silo, grain, handle)
}

/// Goal: a save, a write or a removal of a record that answered with an error can be tried again, whether it took effect
/// or not. Method: each fails before and after the fact, again and again.
pub fn a_change_that_failed_can_be_repeated(context: &Context) {
    let storage = Watched::new();
    for failures in [&storage.failing, &storage.failing_after] {
        let (silo, grain, handle) = started(context, &storage);
        for value in 2..5_u32 {
            failures.store(1, Ordering::Relaxed);
            assert_eq!(kind(wait(grain.save())), ErrorKind::Io);
            grain.write(handle, &[value], 0).wait().expect("the grain goes on");
            wait(grain.save()).expect("the storage works again");
            let stored = wait(storage.read(&KEY.into())).expect("is read").expect("is saved");
            assert!(stored.version.is_some());
        }
        wait(grain.release(handle, true)).expect("is answered");
        failures.store(1, Ordering::Relaxed);
        assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io, "the record is not removed, or not known to be");
        wait(grain.deactivate()).expect("the storage works again");
        assert_eq!(kind(kept(&grain, handle)), ErrorKind::NotFound);
        stop(silo);
        let left = wait(storage.read(&KEY.into())).expect("is read");
        assert!(left.is_none_or(|left| left.version.is_none()), "the record is still there");
    }
}

/// Goal: what another writer put into a grain's place is not replaced. Method: a save fails, so that the version is not
/// known; then a stranger's record is there.
pub fn another_writers_record_is_a_conflict(context: &Context) {
    let storage = Watched::new();
    let (silo, grain, _) = started(context, &storage);
    storage.failing.store(1, Ordering::Relaxed);
    assert_eq!(kind(wait(grain.save())), ErrorKind::Io);
    wait(storage.write(&KEY.into(), b"someone else's".to_vec(), None)).expect("there is none");
    assert_eq!(kind(wait(grain.save())), ErrorKind::Conflict);
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Conflict);
    let stored = wait(storage.read(&KEY.into())).expect("is read").expect("it is there");
    assert_eq!((&stored.bytes[..], stored.unsaved), (&b"someone else's"[..], false));
    let report = wait(silo.shutdown(SOON));
    assert_eq!((report.saved, report.unsaved.len()), (0, 1), "{report:?}");
}

/// Goal: a grain that goes on after a deactivation that failed is not restored from its record. Method: the record is
/// written, the answer is an error; then a change, and an unclean stop.
pub fn a_grain_that_goes_on_is_never_taken_for_saved(context: &Context) {
    let storage = Watched::new();
    let (silo, grain, handle) = started(context, &storage);
    storage.failing_after.store(1, Ordering::Relaxed);
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io);
    grain.write(handle, &[2_u32], 0).wait().expect("the grain goes on");
    drop((grain, silo));
    let silo = silo_over(context, &storage);
    let grain = silo.grain(KEY).expect("the key is good");
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "an old state passes for the last one");
    stop(silo);
}

/// Goal: a grain whose record may say that nothing came after it changes nothing until the storage knows better. Method:
/// the deactivation fails after the fact, then two notes; a write is refused, and once notes succeed nothing was lost.
pub fn a_grain_that_cannot_be_noted_does_not_go_on(context: &Context) {
    let storage = Watched::new();
    let (silo, grain, handle) = started(context, &storage);
    storage.failing_after.store(1, Ordering::Relaxed);
    storage.failing_marks.store(2, Ordering::Relaxed);
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io);
    assert_eq!(kind(grain.write(handle, &[2_u32], 0).wait()), ErrorKind::Io, "an unclean stop would lose it unnoticed");
    assert_eq!(kept(&grain, handle).expect("it is noted now"), 1);
    grain.write(handle, &[3_u32], 0).wait().expect("the grain goes on");
    assert_eq!(kept(&grain, handle).expect("it is the same session"), 3);
    stop(silo);
}

/// Goal: a grain that cannot be activated says why, and holds nothing. Method: the note at the end of its activation
/// fails, three times; then its contents are those that were saved.
pub fn an_activation_that_fails_leaves_nothing_behind(context: &Context) {
    let storage = Watched::new();
    let (silo, grain, handle) = started(context, &storage);
    wait(grain.deactivate()).expect("is saved");
    storage.failing_marks.store(3, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(kind(kept(&grain, handle)), ErrorKind::Io);
        assert_eq!((silo.active_grains(), silo.metrics().active_allocation_count), (0, 0));
    }
    assert_eq!(kept(&grain, handle).expect("is restored"), 1);
    stop(silo);
}

/// Goal: an activation that is given up after its note counts as an unclean stop, and holds nothing. Method: polled until
/// the note is taken, and dropped where the storage's answer to it is awaited.
pub fn a_note_whose_answer_is_lost_is_heeded(context: &Context) {
    let storage = Watched::new();
    let (silo, grain, handle) = started(context, &storage);
    wait(grain.deactivate()).expect("is saved");
    storage.marked.close();
    {
        let mut target = [0_u32];
        let mut call = pin!(grain.read_into(handle, 0, &mut target));
        eventually("the note is taken", || {
            assert!(call.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
            wait(storage.read(&KEY.into())).expect("is read").is_some_and(|stored| stored.unsaved)
        });
    }
    storage.marked.open();
    assert_eq!((silo.active_grains(), silo.metrics().active_allocation_count), (0, 0));
    assert_eq!(kind(kept(&grain, handle)), ErrorKind::ContentsLost, "it may have been changed");
    stop(silo);
}

/// Goal: a record that cannot be read keeps its grain from going on without it, and is kept for whoever can read it.
/// Method: bytes that are no record.
pub fn a_damaged_record_keeps_its_grain_inactive_and_is_kept(context: &Context) {
    const DAMAGED: &[u8] = b"GBSN but no more";
    let storage = Watched::new();
    let key = GrainKey::from(KEY);
    wait(storage.write(&key, DAMAGED.to_vec(), None)).expect("there is none");
    let silo = silo_over(context, &storage);
    let grain = silo.grain(KEY).expect("the key is good");
    let error = wait(grain.allocate(8, Default::default())).expect_err("the record is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("grain `grain` is not activated"), "{error}");
    assert_eq!((silo.active_grains(), silo.metrics().active_allocation_count), (0, 0));
    stop(silo);
    let stored = wait(storage.read(&key)).expect("is read").expect("it is there");
    assert_eq!((&stored.bytes[..], stored.unsaved), (DAMAGED, false));
}

/// Goal: dropping a silo waits for no storage: what that waits for might need this very thread. Method: the upkeep's save
/// stands behind a write whose answer does not come.
pub fn dropping_a_silo_does_not_wait_for_its_storage(context: &Context) {
    let storage = Watched::new();
    let mut config = silo_config(config());
    config.save_interval = Some(Duration::from_millis(1));
    storage.written.close();
    let silo = silo_on(context.device(), Arc::clone(&storage) as _, config);
    let grain = silo.grain(KEY).expect("the key is good");
    allocate(&grain, 8);
    storage.written.wait_arrived(1);
    drop((grain, silo));
    // For the upkeep's thread, which goes on waiting.
    storage.written.open();
}
