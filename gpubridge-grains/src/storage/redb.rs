//! Storage in one file on a local disk, with the embedded database redb.

mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError};
use async_trait::async_trait;
use gpubridge_abstractions::{Error, ErrorKind, Result};

use self::record::{BODIES, FORMAT, HEADS, Head, META, META_EPOCH, META_FORMAT, META_VERSION};
use self::writer::{Change, Writer};
use super::key_set::KeySet;
use super::{GrainStorage, Stored, VersionTag, check_size};
use crate::GrainKey;

/// Memory for pages of the file, in bytes. The system's page cache holds the rest.
const CACHE_BYTES: usize = 64 << 20;

/// Keeps records in one file.
///
/// A change is on the disk (`fsync`) when its call returns. Changes that come together share a commit, so many at once
/// cost little more than one. After a kill or a crash the file opens as quickly as after a close, with every change
/// that was answered: nothing is repaired, only the keys are loaded.
///
/// Reads happen on the calling thread. Each key costs some ten to twenty bytes of memory.
/// Dropping the storage commits what is queued and closes the file; it blocks for that, half a minute at the most.
pub struct RedbStorage {
    // Dropped first: the thread lets go of the file before the file is closed.
    writer: Writer,
    database: Arc<Database>,
    keys: Arc<KeySet>,
    path: Arc<Path>,
}

impl RedbStorage {
    /// Opens the file at `path`, or creates it; its folder must exist. Blocks for some milliseconds, and for the time
    /// it takes to load all keys.
    ///
    /// A file that was closed, or whose process was killed, is trusted: damage that the disk or another program did to it
    /// may be noticed late, by a panic of the database. [`RedbStorage::open_checked`] trusts nothing.
    ///
    /// # Errors
    /// - `InvalidArgument`: the path is a folder.
    /// - `InvalidState`: the file is open already, here or in another process.
    /// - `Corrupt`: the file is damaged, is none of this storage, or has a format of another version. None of
    ///   its tables is changed.
    /// - `Io`: the system refused it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref(), false)
    }

    /// As [`RedbStorage::open`], but reads the whole file first and compares its checksums: for a file that comes from
    /// a backup or a disk in doubt. Takes as long as reading it does.
    ///
    /// # Errors
    /// Those of [`RedbStorage::open`]; any damage is `Corrupt`.
    pub fn open_checked(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref(), true)
    }

    fn open_file(path: &Path, check: bool) -> Result<Self> {
        if path.is_dir() {
            let message = format!("`{}` is a folder; give the path of a file in it", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, "storage.open", message));
        }
        let is_new = !path.exists();
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            .create(path)
            .map_err(|error| open_error(path, error))?;
        let storage = Self::start(database, path)?;
        if is_new {
            sync_folder(path).map_err(|error| file_error("storage.open", path, error))?;
        }
        Ok(storage)
    }

    fn start(database: Database, path: &Path) -> Result<Self> {
        if has_no_table(&database).map_err(|error| file_error("storage.open", path, error))? {
            create_tables(&database).map_err(|error| file_error("storage.open", path, error))?;
        }
        let transaction = database.begin_read().map_err(|error| file_error("storage.open", path, error))?;
        let (last_version, last_epoch) = load_counters(&transaction, path)?;
        let keys = Arc::new(load_keys(&transaction, path)?);
        drop(transaction);
        let database = Arc::new(database);
        let path: Arc<Path> = path.into();
        let writer =
            Writer::start(Arc::clone(&database), Arc::clone(&path), Arc::clone(&keys), last_version, last_epoch)
                .map_err(|error| file_error("storage.open", &path, error))?;
        Ok(Self { writer, database, keys, path })
    }

    fn find(&self, encoded: &[u8]) -> Result<Result<Option<Stored>, String>, ::redb::Error> {
        let transaction = self.database.begin_read()?;
        let found = transaction.open_table(HEADS)?.get(encoded)?;
        let head = match found.map(|bytes| Head::decode(encoded, bytes.value())) {
            Some(Ok(head)) => head,
            Some(Err(what)) => return Ok(Err(what)),
            None => return Ok(Ok(None)),
        };
        let Some(record) = head.record else {
            return Ok(Ok(Some(Stored { bytes: Vec::new(), version: None, unsaved: head.unsaved })));
        };
        let body = transaction.open_table(BODIES)?.get(encoded)?;
        let body = body.as_ref().map(|body| body.value());
        Ok(record.check(body).map(|()| {
            let bytes = body.unwrap_or_default().to_vec();
            Some(Stored { bytes, version: Some(record.version), unsaved: head.unsaved })
        }))
    }
}

#[async_trait]
impl GrainStorage for RedbStorage {
    async fn read(&self, key: &GrainKey) -> Result<Option<Stored>> {
        key.check("storage.read")?;
        self.find(&key.encode())
            .map_err(|error| file_error("storage.read", &self.path, error))?
            .map_err(|what| damaged("storage.read", key, &self.path, &what))
    }

    async fn write(&self, key: &GrainKey, bytes: Vec<u8>, expected: Option<VersionTag>) -> Result<VersionTag> {
        key.check("storage.write")?;
        check_size("storage.write", key, bytes.len())?;
        let crc = crc32fast::hash(&bytes);
        self.writer.submit(Change::Write { key: key.clone(), bytes, crc, expected }).await.map(VersionTag)
    }

    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()> {
        key.check("storage.remove")?;
        self.writer.submit(Change::Remove { key: key.clone(), expected }).await.map(drop)
    }

    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()> {
        keys.iter().try_for_each(|key| key.check("storage.mark_unsaved"))?;
        self.writer.submit(Change::MarkUnsaved { keys: keys.to_vec() }).await.map(drop)
    }

    fn may_contain(&self, key: &GrainKey) -> bool {
        self.keys.contains(key.stable_hash())
    }

    async fn begin_epoch(&self) -> Result<u64> {
        self.writer.submit(Change::BeginEpoch).await
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStorage").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether the file is new, or was created by an opening that went no further.
fn has_no_table(database: &Database) -> Result<bool, ::redb::Error> {
    let transaction = database.begin_read()?;
    Ok(transaction.list_tables()?.next().is_none() && transaction.list_multimap_tables()?.next().is_none())
}

fn create_tables(database: &Database) -> Result<(), ::redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    transaction.open_table(HEADS)?;
    transaction.open_table(BODIES)?;
    Ok(transaction.commit()?)
}

/// Checks that the file is one of ours, and returns its last version and its last epoch.
fn load_counters(transaction: &ReadTransaction, path: &Path) -> Result<(u64, u64)> {
    let foreign = |what: &str| {
        let message = format!(
            "`{}` {what}; give another path, or use the version that wrote it (its tables were not changed)",
            path.display()
        );
        Error::new(ErrorKind::Corrupt, "storage.open", message)
    };
    let meta = transaction
        .open_table(META)
        .map_err(|error| foreign("is a redb file of another program").with_source(error))?;
    let number = |name: &str| {
        let found = meta.get(name).map_err(|error| file_error("storage.open", path, error))?;
        Ok::<_, Error>(found.map_or(0, |number| number.value()))
    };
    match number(META_FORMAT)? {
        FORMAT => Ok((number(META_VERSION)?, number(META_EPOCH)?)),
        other => Err(foreign(&format!("has format {other}, this version reads format {FORMAT}"))),
    }
}

fn load_keys(transaction: &ReadTransaction, path: &Path) -> Result<KeySet> {
    let load = || -> Result<Option<KeySet>, ::redb::Error> {
        let keys = KeySet::new();
        for entry in transaction.open_table(HEADS)?.iter()? {
            let Some(key) = GrainKey::decode(entry?.0.value()) else { return Ok(None) };
            keys.insert(key.stable_hash());
        }
        Ok(Some(keys))
    };
    load().map_err(|error| file_error("storage.open", path, error))?.ok_or_else(|| {
        let message = format!("`{}` has a key that is none; restore the file from a backup", path.display());
        Error::new(ErrorKind::Corrupt, "storage.open", message)
    })
}

/// A new file is durable only when its folder's entry is. Elsewhere than on Unix folders cannot be synced.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn open_error(path: &Path, error: DatabaseError) -> Error {
    let shown = path.display();
    let (kind, message) = match &error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => (
            ErrorKind::InvalidState,
            format!("`{shown}` is open already, here or in another process; close it there, or give another path"),
        ),
        DatabaseError::Storage(StorageError::Io(cause)) if cause.kind() == std::io::ErrorKind::NotFound => {
            (ErrorKind::Io, format!("the folder of `{shown}` does not exist; create it first"))
        }
        DatabaseError::Storage(StorageError::Io(what))
            if matches!(what.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            (ErrorKind::Corrupt, not_redb(path, what))
        }
        DatabaseError::Storage(StorageError::Corrupted(what)) => (ErrorKind::Corrupt, not_redb(path, what)),
        DatabaseError::UpgradeRequired(version) => (
            ErrorKind::Corrupt,
            format!("`{shown}` has the file format {version} of an older redb; convert it with that version"),
        ),
        other => (ErrorKind::Io, format!("cannot open `{shown}` ({other}); check its permissions and the disk")),
    };
    Error::new(kind, "storage.open", message).with_source(error)
}

fn not_redb(path: &Path, what: &dyn fmt::Display) -> String {
    format!(
        "`{}` is no redb file, or is damaged ({what}); give another path, or restore it from a backup",
        path.display()
    )
}

/// An error of the file as such.
fn file_error(operation: &'static str, path: &Path, error: impl Into<::redb::Error>) -> Error {
    let error = error.into();
    let (kind, advice) = match &error {
        ::redb::Error::Corrupted(_) => (ErrorKind::Corrupt, "restore the file from a backup"),
        _ => (ErrorKind::Io, "check the disk, then open the storage again"),
    };
    let message = format!("`{}` failed ({error}); {advice}", path.display());
    Error::new(kind, operation, message).with_source(error)
}

/// An error of one record.
fn damaged(operation: &'static str, key: &GrainKey, path: &Path, what: &str) -> Error {
    let message = format!(
        "the record of grain `{key}` in `{}` cannot be used: {what}; restore the file from a backup",
        path.display()
    );
    Error::new(ErrorKind::Corrupt, operation, message)
}
