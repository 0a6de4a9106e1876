//! What only a medium that misbehaves, or a look behind the trait, can show.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use ::redb::StorageBackend;
use ::redb::backends::InMemoryBackend;

use super::record::RecordInfo;
use super::*;
use crate::storage::MAX_EPOCH;

/// What the medium does when it is asked to sync.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sync {
    Works,
    Waits,
    Fails,
}

/// A medium in memory whose syncs can be held up, or fail.
#[derive(Debug)]
struct Medium {
    sync: Mutex<Sync>,
    changed: Condvar,
    waiting: Mutex<bool>,
    syncs: Mutex<usize>,
}

impl Medium {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sync: Mutex::new(Sync::Works),
            changed: Condvar::new(),
            waiting: Mutex::new(false),
            syncs: Mutex::new(0),
        })
    }

    fn storage(self: &Arc<Self>) -> RedbStorage {
        let backend = Backend { bytes: InMemoryBackend::new(), medium: Arc::clone(self) };
        let database = Builder::new().create_with_backend(backend).expect("the medium works");
        let storage = RedbStorage::start(database, Path::new("medium")).expect("the medium works");
        // Makes the file large once: a file that grows syncs in the middle of a transaction, and the tests below
        // mean the syncs of the commit.
        let room = finish(storage.write(&u64::MAX.into(), vec![0; 4 << 20], None)).expect("the medium works");
        finish(storage.remove(&u64::MAX.into(), Some(room))).expect("the medium works");
        storage
    }

    fn set(&self, sync: Sync) {
        *self.sync.lock().expect("no panic") = sync;
        self.changed.notify_all();
    }

    /// Until the commit of `first` has come to its sync.
    fn until_it_waits_for(&self, first: &mut Answer<'_>) {
        while !*self.waiting.lock().expect("no panic") {
            assert!(poll(first).is_none(), "the answer came without a sync");
            std::thread::yield_now();
        }
    }

    fn syncs(&self) -> usize {
        *self.syncs.lock().expect("no panic")
    }
}

#[derive(Debug)]
struct Backend {
    bytes: InMemoryBackend,
    medium: Arc<Medium>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.bytes.set_len(length)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        *self.medium.syncs.lock().expect("no panic") += 1;
        let mut sync = self.medium.sync.lock().expect("no panic");
        while *sync == Sync::Waits {
            *self.medium.waiting.lock().expect("no panic") = true;
            sync = self.medium.changed.wait(sync).expect("no panic");
        }
        if *sync == Sync::Fails { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<VersionTag>> + Send + 'a>>;

/// Queues a write, as its first poll does.
fn start<'a>(storage: &'a RedbStorage, key: &'a GrainKey) -> Answer<'a> {
    let mut answer = storage.write(key, b"x".to_vec(), None);
    assert!(poll(&mut answer).is_none(), "nothing can have been committed");
    answer
}

fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn finish<T>(mut future: impl Future<Output = T> + Unpin) -> T {
    loop {
        if let Some(output) = poll(&mut future) {
            return output;
        }
        std::thread::yield_now();
    }
}

fn keys(count: u64) -> Vec<GrainKey> {
    (0..count).map(GrainKey::from).collect()
}

#[test]
fn nothing_is_answered_before_it_is_durable_and_what_waits_shares_a_commit() {
    let medium = Medium::new();
    let storage = medium.storage();
    let keys = keys(200);
    medium.set(Sync::Waits);
    let mut answers = vec![start(&storage, &keys[0])];
    medium.until_it_waits_for(&mut answers[0]);
    let syncs_before = medium.syncs();
    answers.extend(keys[1..].iter().map(|key| start(&storage, key)));
    assert!(answers.iter_mut().all(|answer| poll(answer).is_none()), "an answer came before its sync");
    medium.set(Sync::Works);
    let versions: Vec<u64> = answers.into_iter().map(|answer| finish(answer).expect("the medium works").0).collect();
    assert!(versions.is_sorted(), "changes are applied in the order in which they came");
    let syncs = medium.syncs() - syncs_before;
    assert!(syncs <= 8, "{syncs} syncs for two commits");
}

#[test]
fn a_failed_commit_is_told_to_everyone_in_it_and_after_it() {
    let medium = Medium::new();
    let storage = medium.storage();
    let keys = keys(20);
    finish(storage.write(&keys[0], b"before".to_vec(), None)).expect("the medium works");
    medium.set(Sync::Waits);
    let mut answers = vec![start(&storage, &keys[1])];
    medium.until_it_waits_for(&mut answers[0]);
    answers.extend(keys[2..].iter().map(|key| start(&storage, key)));
    // Even a refusal could rest on a change that was lost.
    answers.push(storage.write(&keys[1], Vec::new(), Some(VersionTag(99))));
    medium.set(Sync::Fails);
    for answer in answers {
        let error = finish(answer).expect_err("the medium failed");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("cannot commit to `medium`, the outcome is unknown"), "{error}");
    }
    medium.set(Sync::Works);
    let error = finish(storage.begin_epoch()).expect_err("a medium that failed once is not trusted again");
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn callers_beyond_the_queue_wait_outside() {
    const BEYOND: usize = 50;
    let medium = Medium::new();
    let storage = medium.storage();
    let keys = keys((1 + writer::QUEUE_CHANGES + BEYOND) as u64);
    medium.set(Sync::Waits);
    let mut first = start(&storage, &keys[0]);
    medium.until_it_waits_for(&mut first);
    let others: Vec<Answer<'_>> = keys[1..].iter().map(|key| start(&storage, key)).collect();
    // A future that is dropped while it waits outside was never queued; one that is in the queue happens.
    drop(others);
    medium.set(Sync::Works);
    finish(first).expect("the medium works");
    finish(storage.begin_epoch()).expect("it comes after all that was queued");
    let found = |key: &&GrainKey| finish(storage.read(key)).expect("the record is sound").is_some();
    assert_eq!(keys.iter().filter(found).count(), 1 + writer::QUEUE_CHANGES);
}

#[test]
fn a_refused_change_costs_no_commit() {
    let medium = Medium::new();
    let storage = medium.storage();
    let key = GrainKey::from(1);
    finish(storage.write(&key, Vec::new(), None)).expect("the medium works");
    finish(storage.mark_unsaved(std::slice::from_ref(&key))).expect("the medium works");
    let syncs = medium.syncs();
    finish(storage.write(&key, Vec::new(), None)).expect_err("there is a record");
    finish(storage.mark_unsaved(std::slice::from_ref(&key))).expect("the note is there already");
    finish(storage.remove(&2.into(), None)).expect("nothing to remove is as asked");
    assert_eq!(medium.syncs(), syncs);
}

/// Changes the tables behind the storage's back, with the storage closed.
fn behind_its_back(path: &Path, change: impl FnOnce(&::redb::WriteTransaction)) {
    let database = Database::open(path).expect("the file opens");
    let transaction = database.begin_write().expect("a transaction");
    change(&transaction);
    transaction.commit().expect("the commit succeeds");
}

#[test]
fn epochs_end_with_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    drop(RedbStorage::open(&path).expect("the file opens"));
    behind_its_back(&path, |transaction| {
        transaction.open_table(META).expect("a table").insert(META_EPOCH, MAX_EPOCH - 1).expect("an insertion");
    });
    let storage = RedbStorage::open(&path).expect("the file opens");
    assert_eq!(finish(storage.begin_epoch()).expect("one is left"), MAX_EPOCH);
    for _ in 0..2 {
        assert_eq!(finish(storage.begin_epoch()).expect_err("none is left").kind(), ErrorKind::OutOfMemory);
    }
}

#[test]
fn a_damaged_record_is_told_and_harms_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let keys = keys(6);
    let storage = RedbStorage::open(&path).expect("the file opens");
    for key in &keys {
        finish(storage.write(key, b"sound".to_vec(), None)).expect("the medium works");
    }
    drop(storage);
    let encoded: Vec<Vec<u8>> = keys.iter().map(GrainKey::encode).collect();
    behind_its_back(&path, |transaction| {
        let mut heads = transaction.open_table(HEADS).expect("a table");
        let mut bodies = transaction.open_table(BODIES).expect("a table");
        let mut newer = heads.get(&*encoded[0]).expect("a read").expect("a head").value().to_vec();
        newer[2] = 2;
        heads.insert(&*encoded[0], &*newer).expect("an insertion");
        let info = RecordInfo { version: VersionTag(9), size_bytes: 5, crc: crc32fast::hash(b"sound") };
        let foreign = Head { record: Some(info), unsaved: false }.encode(&encoded[0]);
        heads.insert(&*encoded[1], &foreign[..]).expect("an insertion");
        bodies.insert(&*encoded[2], &b"s0und"[..]).expect("an insertion");
        bodies.insert(&*encoded[3], &b"soun"[..]).expect("an insertion");
        bodies.remove(&*encoded[4]).expect("a removal");
    });
    let storage = RedbStorage::open(&path).expect("the file as such is sound");
    let reasons = ["layout 2", "checksum of its head", "checksum of its bytes", "4 bytes instead of 5", "missing"];
    for (key, reason) in keys.iter().zip(reasons) {
        let error = finish(storage.read(key)).expect_err(reason);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(reason), "`{reason}` is not in: {error}");
    }
    for key in &keys[..2] {
        // In one batch with a good change, or alone: the damaged record is refused, the good change happens.
        assert_eq!(finish(storage.write(key, Vec::new(), None)).expect_err("damaged").kind(), ErrorKind::Corrupt);
        let noted = finish(storage.mark_unsaved(&[100.into(), key.clone()]));
        assert_eq!(noted.expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(finish(storage.read(&100.into())).expect("the read succeeds"), None, "all are noted or none");
    }
    let sound = finish(storage.read(&keys[5])).expect("the record is sound").expect("there is one");
    finish(storage.write(&keys[5], b"next".to_vec(), sound.version)).expect("the medium works");
}

#[test]
fn a_file_whose_process_was_killed_needs_no_repair() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, image) = (folder.path().join("grains.redb"), folder.path().join("image.redb"));
    let storage = RedbStorage::open(&path).expect("the file opens");
    for changes in 0..4 {
        // What a kill leaves behind: the file as it is, never closed.
        std::fs::copy(&path, &image).expect("the file is copied");
        let repairs = Arc::new(Mutex::new(0));
        let count = Arc::clone(&repairs);
        let database = Builder::new()
            .set_repair_callback(move |_| *count.lock().expect("no panic") += 1)
            .open(&image)
            .expect("the image opens");
        assert_eq!(*repairs.lock().expect("no panic"), 0, "after {changes} changes");
        drop(database);
        match changes {
            0 => drop(finish(storage.write(&1.into(), b"x".to_vec(), None)).expect("the medium works")),
            1 => drop(finish(storage.begin_epoch()).expect("there are many epochs")),
            _ => finish(storage.mark_unsaved(&[changes.into()])).expect("the medium works"),
        }
    }
}
