//! The silo against storages that fail, hang, or are slow, and against calls that are given up. On the null device.

use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use gpubridge_abstractions::{
    Backend, Device, DeviceIndex, Error, ErrorKind, GpuMemoryHandle, KernelId, MemoryType, NullBackend, Parameters,
    Result,
};
use gpubridge_grains::storage::{GrainStorage, MemoryStorage, Stored, VersionTag};
use gpubridge_grains::{Computation, GrainKey, GrainRef, Silo, SiloConfig, wait};

const LONG: Duration = Duration::from_secs(60);

/// What the storage does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The change happens, and its answer never comes.
    Hang,
    /// The change happens, and the answer is an error.
    FailAfter,
    /// Nothing happens but the error.
    FailBefore,
}

/// A memory storage with faults, which outlives its silos.
#[derive(Debug, Default)]
struct Faulty {
    memory: MemoryStorage,
    write: Mutex<Option<Fault>>,
    mark: Mutex<Option<Fault>>,
    gate: Gate,
    hangs: AtomicBool,
}

/// Holds reads back.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
    reached: AtomicBool,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().expect("no panic") = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().expect("no panic");
        self.reached.store(*closed, Ordering::SeqCst);
        drop(self.changed.wait_while(closed, |closed| *closed).expect("no panic"));
    }
}

impl Faulty {
    fn set_write(&self, fault: Option<Fault>) {
        *self.write.lock().expect("no panic") = fault;
    }

    fn set_mark(&self, fault: Option<Fault>) {
        *self.mark.lock().expect("no panic") = fault;
    }
}

async fn faulty<T>(fault: Option<Fault>, change: impl Future<Output = Result<T>>) -> Result<T> {
    let io = || Error::new(ErrorKind::Io, "storage", "the disk is gone");
    match fault {
        None => change.await,
        Some(Fault::FailBefore) => Err(io()),
        Some(Fault::FailAfter) => change.await.and(Err(io())),
        Some(Fault::Hang) => {
            change.await?;
            std::future::pending().await
        }
    }
}

#[async_trait]
impl GrainStorage for Faulty {
    async fn read(&self, key: &GrainKey) -> Result<Option<Stored>> {
        self.gate.pass();
        self.memory.read(key).await
    }

    async fn write(&self, key: &GrainKey, bytes: Vec<u8>, expected: Option<VersionTag>) -> Result<VersionTag> {
        let fault = *self.write.lock().expect("no panic");
        self.hangs.fetch_or(fault == Some(Fault::Hang), Ordering::SeqCst);
        faulty(fault, self.memory.write(key, bytes, expected)).await
    }

    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()> {
        let fault = *self.write.lock().expect("no panic");
        faulty(fault, self.memory.remove(key, expected)).await
    }

    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()> {
        let fault = *self.mark.lock().expect("no panic");
        faulty(fault, self.memory.mark_unsaved(keys)).await
    }

    fn may_contain(&self, key: &GrainKey) -> bool {
        self.memory.may_contain(key)
    }

    async fn begin_epoch(&self) -> Result<u64> {
        self.memory.begin_epoch().await
    }
}

fn device() -> Arc<dyn Device> {
    NullBackend::default().open(DeviceIndex(0)).expect("the null device opens")
}

fn silo_with(storage: &Arc<Faulty>, config: SiloConfig) -> Silo {
    wait(Silo::start(device(), Arc::clone(storage) as Arc<dyn GrainStorage>, config)).expect("it starts")
}

fn silo(storage: &Arc<Faulty>) -> Silo {
    silo_with(storage, SiloConfig::default())
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.expect_err("it is refused").kind()
}

/// A grain with eight bytes of `value`.
fn grain_with(silo: &Silo, value: u8) -> (GrainRef, GpuMemoryHandle) {
    let grain = silo.grain("grain").expect("the key is short");
    let block = wait(grain.allocate(8, MemoryType::Default)).expect("there is memory");
    grain.write(block, &[value; 8], 0).wait().expect("it is within");
    (grain, block)
}

fn value(grain: &GrainRef, block: GpuMemoryHandle) -> Result<Vec<u8>> {
    wait(grain.read::<u8>(block, 0, 8))
}

#[test]
fn a_save_or_deactivation_whose_future_is_dropped_takes_nothing_with_it() {
    for deactivate in [false, true] {
        let storage = Arc::new(Faulty::default());
        let first = silo(&storage);
        let (grain, block) = grain_with(&first, 1);
        storage.set_write(Some(Fault::Hang));
        match deactivate {
            false => assert!(poll_once(pin!(grain.save())).is_pending()),
            true => assert!(poll_once(pin!(grain.deactivate())).is_pending()),
        }
        storage.set_write(None);
        assert_eq!(value(&grain, block).expect("the grain goes on"), [1; 8]);
        assert_eq!(first.metrics().active_allocation_count, 1);
        grain.write(block, &[2_u8; 8], 0).wait().expect("the grain goes on");
        // The record was written, under a version that nobody was told: no conflict for all that.
        wait(grain.save()).expect("the version is looked up");
        wait(grain.deactivate()).expect("and known from then on");
        assert_eq!(value(&grain, block).expect("it comes back"), [2; 8]);
        assert!(wait(first.shutdown(LONG)).is_clean());
    }
}

#[test]
fn a_grain_that_goes_on_after_a_failed_deactivation_is_never_taken_for_saved() {
    for fault in [Fault::FailAfter, Fault::Hang] {
        let storage = Arc::new(Faulty::default());
        let first = silo(&storage);
        let (grain, block) = grain_with(&first, 1);
        storage.set_write(Some(fault));
        match fault {
            Fault::Hang => assert!(poll_once(pin!(grain.deactivate())).is_pending()),
            _ => assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io),
        }
        storage.set_write(None);
        grain.write(block, &[2_u8; 8], 0).wait().expect("the grain goes on");
        // An unclean stop. The record says that the grain was deactivated with ones.
        drop((grain, first));
        let second = silo(&storage);
        let grain = second.grain("grain").expect("the key is short");
        assert_eq!(kind(value(&grain, block)), ErrorKind::ContentsLost);
    }
}

#[test]
fn a_grain_that_cannot_be_noted_does_not_go_on_and_loses_nothing() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let (grain, block) = grain_with(&first, 1);
    storage.set_write(Some(Fault::FailAfter));
    storage.set_mark(Some(Fault::FailBefore));
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io);
    // A change that is answered now would be lost in silence by an unclean stop.
    assert_eq!(kind(grain.write(block, &[2_u8; 8], 0).wait()), ErrorKind::Io);
    storage.set_mark(None);
    storage.set_write(None);
    grain.write(block, &[3_u8; 8], 0).wait().expect("it is noted");
    assert_eq!(value(&grain, block).expect("it is the same session"), [3; 8]);
    assert!(wait(first.shutdown(LONG)).is_clean());
}

#[test]
fn a_save_that_failed_before_or_after_the_fact_can_be_repeated() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let storage = Arc::new(Faulty::default());
        let first = silo(&storage);
        let (grain, block) = grain_with(&first, 1);
        for value in 2..5_u8 {
            storage.set_write(Some(fault));
            assert_eq!(kind(wait(grain.save())), ErrorKind::Io);
            storage.set_write(None);
            grain.write(block, &[value; 8], 0).wait().expect("the grain goes on");
            wait(grain.save()).expect("the storage works again");
        }
        wait(grain.release(block, true)).expect("it is active");
        storage.set_write(Some(fault));
        assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Io);
        storage.set_write(None);
        wait(grain.deactivate()).expect("the storage works again");
        assert_eq!(kind(value(&grain, block)), ErrorKind::NotFound);
        assert!(wait(first.shutdown(LONG)).is_clean());
    }
}

#[test]
fn another_writer_s_record_is_a_conflict_even_when_the_version_is_unknown() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let (grain, _) = grain_with(&first, 1);
    storage.set_write(Some(Fault::FailBefore));
    assert_eq!(kind(wait(grain.save())), ErrorKind::Io);
    storage.set_write(None);
    let key = GrainKey::from("grain");
    wait(storage.memory.write(&key, b"someone else's".to_vec(), None)).expect("there is none");
    assert_eq!(kind(wait(grain.save())), ErrorKind::Conflict);
    assert_eq!(kind(wait(grain.deactivate())), ErrorKind::Conflict);
    let stored = wait(storage.memory.read(&key)).expect("it reads").expect("it is there");
    assert_eq!((&stored.bytes[..], stored.unsaved), (&b"someone else's"[..], false));
    let report = wait(first.shutdown(LONG));
    assert_eq!((report.saved, report.unsaved.len()), (0, 1));
}

#[test]
fn an_activation_that_fails_or_is_dropped_leaves_no_memory_behind() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let (grain, block) = grain_with(&first, 1);
    wait(grain.deactivate()).expect("it is saved");
    for fault in [Fault::FailBefore, Fault::Hang] {
        storage.set_mark(Some(fault));
        match fault {
            Fault::Hang => assert!(poll_once(pin!(grain.read::<u8>(block, 0, 8))).is_pending()),
            _ => assert_eq!(kind(value(&grain, block)), ErrorKind::Io),
        }
        assert_eq!((first.active_grains(), first.metrics().active_allocation_count), (0, 0), "{fault:?}");
    }
    storage.set_mark(None);
    // The note that hung was made: the contents are those of the last save, and marked by policy.
    assert_eq!(kind(value(&grain, block)), ErrorKind::ContentsLost);
}

#[test]
fn a_damaged_record_keeps_its_grain_inactive_and_is_kept() {
    let storage = Arc::new(Faulty::default());
    let key = GrainKey::from("grain");
    wait(storage.memory.write(&key, b"GBSN but no more".to_vec(), None)).expect("there is none");
    let first = silo(&storage);
    let grain = first.grain("grain").expect("the key is short");
    let error = wait(grain.allocate(8, MemoryType::Default)).expect_err("the record is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("grain `grain` is not activated"), "{error}");
    assert_eq!(first.active_grains(), 0);
    assert!(wait(first.shutdown(LONG)).is_clean());
    let stored = wait(storage.memory.read(&key)).expect("it reads").expect("it is there");
    assert_eq!((&stored.bytes[..], stored.unsaved), (&b"GBSN but no more"[..], false));
}

#[test]
fn a_shutdown_sees_the_activation_that_began_before_it() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let (grain, block) = grain_with(&first, 1);
    wait(grain.deactivate()).expect("it is saved");
    storage.gate.set(true);
    let report = thread::scope(|scope| {
        let late = scope.spawn(|| value(&grain, block));
        while !storage.gate.reached.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let shutdown = scope.spawn(|| wait(first.clone().shutdown(LONG)));
        // Calls to other grains are refused from the moment on at which the shutdown has begun.
        let other = first.grain(7).expect("any number is a key");
        while wait(other.totals()).is_ok() {
            wait(other.deactivate()).expect("there is nothing to save");
        }
        storage.gate.set(false);
        // It may have had its turn before the shutdown took the grain over.
        if let Ok(bytes) = late.join().expect("no panic") {
            assert_eq!(bytes, [1; 8]);
        }
        shutdown.join().expect("no panic")
    });
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(first.active_grains(), 0);
    let second = silo(&storage);
    let grain = second.grain("grain").expect("the key is short");
    assert_eq!(value(&grain, block).expect("it was saved"), [1; 8]);
}

#[test]
fn a_shutdown_that_cannot_note_what_is_lost_says_so() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let _grain = grain_with(&first, 1);
    storage.set_write(Some(Fault::FailBefore));
    storage.set_mark(Some(Fault::Hang));
    let report = wait(first.shutdown(Duration::ZERO));
    assert_eq!(report.unsaved.len(), 1);
    assert_eq!(report.error.expect("the note is missing").kind(), ErrorKind::Timeout);
}

#[test]
fn dropping_a_silo_does_not_wait_for_an_upkeep_that_waits() {
    let storage = Arc::new(Faulty::default());
    let tick = Duration::from_millis(1);
    let mut config = SiloConfig::default();
    config.save_interval = Some(tick);
    let first = silo_with(&storage, config);
    let _grain = grain_with(&first, 1);
    storage.set_write(Some(Fault::Hang));
    while !storage.hangs.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // What it waits for might need this very thread.
    drop(first);
}

#[test]
fn clearing_an_inactive_grain_clears_what_its_activation_brings_back() {
    let storage = Arc::new(Faulty::default());
    let first = silo(&storage);
    let grain = first.grain(1).expect("any number is a key");
    wait(grain.store(&[1_u16, 2, 3])).expect("there is memory");
    wait(grain.deactivate()).expect("it is saved");
    assert_eq!(wait(grain.load::<u16>()).expect("it comes back"), Some(vec![1, 2, 3]));
    let error = wait(grain.load::<u32>()).expect_err("six bytes are no whole number of words");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    wait(grain.deactivate()).expect("it is saved");
    wait(grain.clear()).expect("it is activated for it");
    assert_eq!(wait(grain.load::<u16>()).expect("there is nothing"), None);
    wait(grain.deactivate()).expect("there is nothing to save");
    assert!(!storage.may_contain(&GrainKey::from(1)));
}

#[test]
fn odd_requests_are_refused() {
    let storage = Arc::new(Faulty::default());
    let (first, second) = (silo(&storage), silo(&Arc::new(Faulty::default())));
    let (grain, block) = grain_with(&first, 1);
    assert_eq!(kind(wait(grain.read::<u64>(block, u64::MAX, 1))), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.read::<u8>(block, 0, usize::MAX))), ErrorKind::InvalidArgument);
    let forged = GpuMemoryHandle { size_bytes: u64::MAX, ..block };
    assert_eq!(kind(wait(grain.read::<u64>(forged, 0, usize::MAX / 8))), ErrorKind::OutOfMemory);
    assert_eq!(wait(grain.read::<()>(block, 3, 2)).expect("nothing is read"), [(), ()]);
    assert_eq!(kind(wait(grain.allocate(u64::MAX, MemoryType::Default))), ErrorKind::OutOfMemory);
    // A misaligned view of bytes is read as any other.
    grain.write(block, &[1_u8, 2, 3, 4, 5, 6, 7, 8], 0).wait().expect("it is within");
    assert_eq!(wait(grain.read::<u16>(block, 1, 2)).expect("it is within"), [0x0403, 0x0605]);
    // Two silos name their sessions alike.
    let compute = Computation {
        grain: &grain,
        kernel: KernelId(1).into(),
        input: Some(block),
        output: None,
        parameters: Parameters::new(),
        token: 7,
    };
    for (silo, expected) in [(&second, ErrorKind::InvalidArgument), (&first, ErrorKind::NotFound)] {
        let mut batch = silo.batch(NonZeroUsize::MIN);
        let mut answers = Vec::new();
        batch.submit([compute, compute], |answered| answers.push(answered));
        answers.extend(std::iter::from_fn(|| batch.next()));
        let [(7, one), (7, other)] = <[_; 2]>::try_from(answers).expect("each is answered once") else {
            panic!("the token comes back");
        };
        assert_eq!([kind(one), kind(other)], [expected; 2]);
    }
}
