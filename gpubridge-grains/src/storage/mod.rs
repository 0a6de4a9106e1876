//! Where the state of grains is kept between activations.
//!
//! A [`GrainStorage`] keeps one record of bytes per grain, each write compared against the record's version. What the
//! bytes of a resident grain mean is [`GrainSnapshot`]'s matter. Two storages come with the crate: [`RedbStorage`], one
//! file on a local disk, and [`MemoryStorage`], which forgets everything with the process.
//!
//! # What survives an unclean stop
//!
//! State is saved by policy, so a process that is killed takes what was not saved with it. Four things together make
//! that visible, and the last of them only costs a write where a write is due anyway:
//!
//! 1. **Epochs.** [`GrainStorage::begin_epoch`] numbers each run of a silo. A handle carries the epoch that issued it, so
//!    one from an earlier run that no record knows is refused, never read as another block. A grain that was never
//!    saved needs nothing in the storage to be recognised.
//! 2. **Closed.** A snapshot says whether the grain was deactivated with it ([`GrainSnapshot::closed`]) or went on.
//! 3. **Watermark.** A snapshot says up to which number handles had been issued
//!    ([`GrainSnapshot::issued_up_to`]): an unknown handle below it had been released, one above it counts as lost, and so
//!    does every one of a grain without a record.
//! 4. **Notes.** [`GrainStorage::mark_unsaved`] notes that grains hold state newer than their records; the next write or
//!    removal of a record takes the note away. It is called for a grain that is activated from a closed record
//!    before its first change is answered, and for all grains that a shutdown could not save in time.
//!
//! So a record that is neither noted nor open holds the grain's last state; any other is an earlier state, and the
//! activation that reads it knows.

mod key_set;
mod memory;
mod redb;
mod snapshot;

use std::fmt;

use async_trait::async_trait;
use gpubridge_abstractions::{AllocationId, Error, ErrorKind, Result};

pub use self::memory::MemoryStorage;
pub use self::redb::RedbStorage;
pub use self::snapshot::{GrainSnapshot, SavedAllocation};
use crate::GrainKey;

/// The largest record a storage takes, in bytes.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// The last epoch a storage gives out: as many as the upper bits of a generation can hold.
pub const MAX_EPOCH: u64 = u64::MAX >> AllocationId::COUNTER_BITS;

/// The version of a record.
///
/// # Behavior
/// - **never-again**: Each write gets a greater one than every write before it in the same storage, so a tag never comes
///   back, not even after the record was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionTag(pub u64);

impl fmt::Display for VersionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a storage knows of a grain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record; empty if there is none.
    pub bytes: Vec<u8>,
    /// The version to expect in the next write. `None`: there is no record, only a note.
    pub version: Option<VersionTag>,
    /// The grain was noted to hold state newer than this record, and has not been saved since.
    pub unsaved: bool,
}

/// Keeps the records of grains.
///
/// Waiting is bounded by the storage's medium alone; deadlines are the caller's. `Io` says that the medium failed: the
/// outcome of a change is unknown then.
///
/// # Behavior
/// - **durable**: What a call has answered is durable, in the sense of the storage, and seen by every later call.
/// - **independent**: Records are independent: no call changes two of them, except
///   [`mark_unsaved`](GrainStorage::mark_unsaved).
/// - **key-kinds**: Any two keys that differ have a record each, number or text.
/// - **key-limit**: A key that [`GrainKey::check`] refuses is `InvalidArgument` in every call.
/// - **given-up**: Dropping a future leaves the outcome of its call unknown: it happens wholly or not at all.
/// - **no-runtime**: The futures need no runtime: any executor can poll them.
#[async_trait]
pub trait GrainStorage: Send + Sync + fmt::Debug {
    /// The record of `key` and its note.
    ///
    /// # Behavior
    /// - **nothing**: `None` if there is neither.
    ///
    /// # Errors
    /// `Corrupt` if the record is damaged or of an unknown layout.
    async fn read(&self, key: &GrainKey) -> Result<Option<Stored>>;

    /// Replaces the record of `key`, takes the note away, and returns the new version.
    ///
    /// # Behavior
    /// - **compares**: It does so if the version is `expected` (`None`: if there is no record). `Conflict` if it is
    ///   another: nothing was changed.
    /// - **one-winner**: Of several that expect the same version one wins, and all others get `Conflict`.
    /// - **conflict-message**: A conflict names the key and both versions.
    /// - **size-limit**: `InvalidArgument` beyond [`MAX_RECORD_BYTES`].
    ///
    /// # Errors
    /// `Conflict`; `InvalidArgument`.
    async fn write(&self, key: &GrainKey, bytes: Vec<u8>, expected: Option<VersionTag>) -> Result<VersionTag>;

    /// Removes the record of `key`, and the note.
    ///
    /// # Behavior
    /// - **compares**: It does so if the version is `expected` (`None`: there must be no record). `Conflict` if it is
    ///   another: nothing was changed.
    ///
    /// # Errors
    /// `Conflict`.
    async fn remove(&self, key: &GrainKey, expected: Option<VersionTag>) -> Result<()>;

    /// Notes that these grains hold state newer than their records.
    ///
    /// # Behavior
    /// - **until-changed**: A note stays until the grain's next write or removal, record or not.
    /// - **record-stays**: Records and their versions stay as they are.
    /// - **all-or-none**: All keys are noted or none.
    async fn mark_unsaved(&self, keys: &[GrainKey]) -> Result<()>;

    /// Whether [`read`](GrainStorage::read) may find something for `key`. Never waits for the medium.
    ///
    /// # Behavior
    /// - **never-misses**: `false` is certain; `true` is not, but nearly always right.
    fn may_contain(&self, key: &GrainKey) -> bool;

    /// Takes the next epoch.
    ///
    /// # Behavior
    /// - **increases**: It is greater than every one before in the life of this storage, and at least 1.
    ///
    /// # Errors
    /// `OutOfMemory` when [`MAX_EPOCH`] has been given out: a new storage is needed.
    async fn begin_epoch(&self) -> Result<u64>;
}

/// The comparison that [`GrainStorage::write`] and [`GrainStorage::remove`] promise.
fn compare(
    operation: &'static str,
    key: &GrainKey,
    found: Option<VersionTag>,
    expected: Option<VersionTag>,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let describe = |tag: Option<VersionTag>| tag.map_or("no record".to_owned(), |tag| format!("version {tag}"));
    let message =
        format!("grain `{key}` has {}, expected {}; read it again, then decide", describe(found), describe(expected));
    Err(Error::new(ErrorKind::Conflict, operation, message))
}

/// Refuses records beyond [`MAX_RECORD_BYTES`].
fn check_size(operation: &'static str, key: &GrainKey, size_bytes: usize) -> Result<()> {
    if size_bytes <= MAX_RECORD_BYTES {
        return Ok(());
    }
    let message = format!(
        "the record of grain `{key}` has {size_bytes} bytes, the limit is {MAX_RECORD_BYTES}; spread the state over \
         several grains"
    );
    Err(Error::new(ErrorKind::InvalidArgument, operation, message))
}

/// The epoch after `last`.
fn next_epoch(last: u64) -> Result<u64> {
    if last < MAX_EPOCH {
        return Ok(last + 1);
    }
    let message = format!("all {MAX_EPOCH} epochs of this storage are used up; move the records to a new storage");
    Err(Error::new(ErrorKind::OutOfMemory, "storage.begin_epoch", message))
}
