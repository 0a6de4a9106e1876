//! The one thread that changes the file: it collects what is waiting, commits it at once, then answers everyone.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ::redb::{Database, ReadableTable, Table, WriteTransaction};
use gpubridge_abstractions::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};

use super::super::key_set::KeySet;
use super::super::{VersionTag, compare, next_epoch};
use super::damaged;
use super::record::{BODIES, HEADS, Head, META, META_EPOCH, META_VERSION, RecordInfo};
use crate::GrainKey;

/// Changes that may wait for the writer; further callers wait outside.
pub(super) const QUEUE_CHANGES: usize = 1024;
/// The most changes in one commit. Beyond some hundred the cost of a commit is that of its bytes.
const BATCH_CHANGES: usize = 512;
/// A commit takes no further change once it has this many bytes, so that a large record does not make small ones wait.
const BATCH_BYTES: usize = 16 << 20;
/// How long closing waits for the last commits. A medium that takes longer keeps the thread, not the caller.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// One change of the file.
pub(super) enum Change {
    /// Replaces a record. The checksum comes with it: the caller's thread has computed it, not the writer's.
    Write {
        key: GrainKey,
        bytes: Vec<u8>,
        crc: u32,
        expected: Option<VersionTag>,
    },
    Remove {
        key: GrainKey,
        expected: Option<VersionTag>,
    },
    MarkUnsaved {
        keys: Vec<GrainKey>,
    },
    BeginEpoch,
}

impl Change {
    fn operation(&self) -> &'static str {
        match self {
            Self::Write { .. } => "storage.write",
            Self::Remove { .. } => "storage.remove",
            Self::MarkUnsaved { .. } => "storage.mark_unsaved",
            Self::BeginEpoch => "storage.begin_epoch",
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// A change and where its answer goes: the new version, the new epoch, or 0 for the others.
struct Request {
    change: Change,
    reply: oneshot::Sender<Result<u64>>,
}

/// The way to the writer's thread. Dropping it lets the thread finish what is queued, and waits for that.
pub(super) struct Writer {
    inbox: Option<mpsc::Sender<Request>>,
    /// Disconnected when the thread is done. The lock only makes it shareable.
    finished: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `last_version` and `last_epoch` are what the file says.
    pub fn start(
        database: Arc<Database>,
        path: Arc<Path>,
        keys: Arc<KeySet>,
        last_version: u64,
        last_epoch: u64,
    ) -> std::io::Result<Self> {
        let (inbox, requests) = mpsc::channel(QUEUE_CHANGES);
        let (at_end, finished) = channel::<()>();
        let committer = Committer { database, path, keys, last_version, last_epoch };
        let thread = std::thread::Builder::new().name("gpubridge-storage".to_owned()).spawn(move || {
            committer.run(requests);
            // Only now has the thread let go of the file.
            drop(at_end);
        })?;
        Ok(Self { inbox: Some(inbox), finished: Mutex::new(finished), thread: Some(thread) })
    }

    /// Queues the change, waiting for room, and then for its commit.
    pub async fn submit(&self, change: Change) -> Result<u64> {
        let operation = change.operation();
        let stopped = || {
            let message = "the writer has stopped, the outcome is unknown; open the storage again";
            Error::new(ErrorKind::Io, operation, message)
        };
        let (reply, answer) = oneshot::channel();
        let inbox = self.inbox.as_ref().ok_or_else(stopped)?;
        inbox.send(Request { change, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.inbox.take());
        let finished = self.finished.get_mut().unwrap_or_else(PoisonError::into_inner);
        if finished.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // A panic has already been reported where it happened, and to every caller that waited.
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct Committer {
    database: Arc<Database>,
    path: Arc<Path>,
    keys: Arc<KeySet>,
    last_version: u64,
    last_epoch: u64,
}

impl Committer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut size_bytes = first.change.size_bytes();
            let mut batch = vec![first];
            while batch.len() < BATCH_CHANGES && size_bytes < BATCH_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                size_bytes += next.change.size_bytes();
                batch.push(next);
            }
            self.commit_and_answer(batch);
        }
    }

    /// Nobody hears anything before the commit, refusals included: they were decided by changes of the same batch.
    fn commit_and_answer(&mut self, batch: Vec<Request>) {
        let (changes, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.change, request.reply)).unzip();
        match self.commit(&changes) {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // An error means that the caller has dropped its future.
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                for (reply, change) in replies.into_iter().zip(&changes) {
                    let message = format!(
                        "cannot commit to `{}`, the outcome is unknown ({error}); check the disk, then open the storage \
                         again and read",
                        self.path.display()
                    );
                    let _ = reply.send(Err(Error::new(ErrorKind::Io, change.operation(), message)));
                }
            }
        }
    }

    /// One durable transaction. The outer error is that of the file, the inner ones are refusals.
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<u64>>, ::redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // Without it, a start after a kill walks the whole file. It holds for the last commit only, so every
        // commit pays for it.
        transaction.set_quick_repair(true);
        let (answers, changed, gone) = {
            let mut round = Round::open(&transaction)?;
            let answers = changes.iter().map(|change| self.apply(&mut round, change)).collect::<Result<Vec<_>, _>>()?;
            (answers, round.changed, round.gone)
        };
        if !changed {
            transaction.abort()?;
            return Ok(answers);
        }
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_VERSION, self.last_version)?;
            meta.insert(META_EPOCH, self.last_epoch)?;
        }
        transaction.commit()?;
        // Appearing keys were entered before the commit, vanished ones leave after it: never a false negative.
        gone.into_iter().for_each(|hash| self.keys.remove(hash));
        Ok(answers)
    }

    fn apply(&mut self, round: &mut Round<'_>, change: &Change) -> Result<Result<u64>, ::redb::Error> {
        match change {
            Change::Write { key, bytes, crc, expected } => self.write(round, key, bytes, *crc, *expected),
            Change::Remove { key, expected } => self.remove(round, key, *expected),
            Change::MarkUnsaved { keys } => self.mark_unsaved(round, keys),
            Change::BeginEpoch => Ok(next_epoch(self.last_epoch).inspect(|epoch| {
                self.last_epoch = *epoch;
                round.changed = true;
            })),
        }
    }

    fn write(
        &mut self,
        round: &mut Round<'_>,
        key: &GrainKey,
        bytes: &[u8],
        crc: u32,
        expected: Option<VersionTag>,
    ) -> Result<Result<u64>, ::redb::Error> {
        let encoded = key.encode();
        let head = match self.find(round, "storage.write", key, &encoded, expected)? {
            Ok(head) => head,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if head.is_none() {
            self.keys.insert(key.stable_hash());
        }
        self.last_version += 1;
        let version = VersionTag(self.last_version);
        let record = Some(RecordInfo { version, size_bytes: bytes.len() as u64, crc });
        round.put_head(&encoded, Head { record, unsaved: false })?;
        round.bodies.insert(encoded.as_slice(), bytes)?;
        Ok(Ok(version.0))
    }

    fn remove(
        &mut self,
        round: &mut Round<'_>,
        key: &GrainKey,
        expected: Option<VersionTag>,
    ) -> Result<Result<u64>, ::redb::Error> {
        let encoded = key.encode();
        match self.find(round, "storage.remove", key, &encoded, expected)? {
            Ok(None) => {}
            Ok(Some(_)) => {
                round.heads.remove(encoded.as_slice())?;
                round.bodies.remove(encoded.as_slice())?;
                round.gone.push(key.stable_hash());
                round.changed = true;
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
        Ok(Ok(0))
    }

    fn mark_unsaved(&mut self, round: &mut Round<'_>, keys: &[GrainKey]) -> Result<Result<u64>, ::redb::Error> {
        let operation = "storage.mark_unsaved";
        let mut heads = Vec::with_capacity(keys.len());
        for key in keys {
            let encoded = key.encode();
            match round.head(&encoded)?.map_err(|what| damaged(operation, key, &self.path, &what)) {
                Ok(head) => heads.push((key, encoded, head)),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        for (key, encoded, head) in heads {
            match head {
                Some(Head { unsaved: true, .. }) => continue,
                // The key may stand twice in the list: only its first note is new.
                None if round.head(&encoded)?.is_ok_and(|head| head.is_some()) => continue,
                None => self.keys.insert(key.stable_hash()),
                Some(_) => {}
            }
            let record = head.and_then(|head| head.record);
            round.put_head(&encoded, Head { record, unsaved: true })?;
        }
        Ok(Ok(0))
    }

    /// The head of a grain whose version is the expected one.
    fn find(
        &self,
        round: &Round<'_>,
        operation: &'static str,
        key: &GrainKey,
        encoded: &[u8],
        expected: Option<VersionTag>,
    ) -> Result<Result<Option<Head>>, ::redb::Error> {
        let found = round.head(encoded)?.map_err(|what| damaged(operation, key, &self.path, &what));
        Ok(found.and_then(|head| {
            compare(operation, key, head.and_then(|head| head.version()), expected)?;
            Ok(head)
        }))
    }
}

/// The open tables of one transaction, and what it has changed so far.
struct Round<'a> {
    heads: Table<'a, &'static [u8], &'static [u8]>,
    bodies: Table<'a, &'static [u8], &'static [u8]>,
    changed: bool,
    gone: Vec<u64>,
}

impl<'a> Round<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, ::redb::Error> {
        let heads = transaction.open_table(HEADS)?;
        let bodies = transaction.open_table(BODIES)?;
        Ok(Self { heads, bodies, changed: false, gone: Vec::new() })
    }

    /// The inner error says what is wrong with the head.
    fn head(&self, encoded: &[u8]) -> Result<Result<Option<Head>, String>, ::redb::Error> {
        let found = self.heads.get(encoded)?;
        Ok(found.map(|bytes| Head::decode(encoded, bytes.value())).transpose())
    }

    fn put_head(&mut self, encoded: &[u8], head: Head) -> Result<(), ::redb::Error> {
        self.heads.insert(encoded, head.encode(encoded).as_slice())?;
        self.changed = true;
        Ok(())
    }
}
