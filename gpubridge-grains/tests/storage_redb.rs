//! Opening files that are not as they should be, and closing with changes on their way.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use gpubridge_abstractions::{Error, ErrorKind};
use gpubridge_grains::storage::{GrainStorage, RedbStorage};
use gpubridge_grains::{GrainKey, wait};
use redb::{Database, MultimapTableDefinition, TableDefinition};

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("gpubridge.meta");

fn refused(path: &Path, kind: ErrorKind, says: &str) -> Error {
    let error = RedbStorage::open(path).expect_err("the file must be refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.operation(), "storage.open");
    assert!(error.message().contains(&path.display().to_string()), "no path in: {error}");
    assert!(error.message().contains(says), "`{says}` is not in: {error}");
    error
}

#[test]
fn a_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(folder.path(), ErrorKind::InvalidArgument, "is a folder; give the path of a file");
}

#[test]
fn a_missing_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(&folder.path().join("missing").join("grains.redb"), ErrorKind::Io, "does not exist; create it first");
}

#[test]
fn a_file_that_is_open_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let storage = RedbStorage::open(&path).expect("the file opens");
    refused(&path, ErrorKind::InvalidState, "is open already");
    drop(storage);
    RedbStorage::open(&path).expect("the file opens again");
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let contents = [b"x".to_vec(), b"name,amount\nanna,3\n".to_vec(), vec![0; 4096], b"text ".repeat(100_000)];
    for (number, contents) in contents.into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.csv"));
        fs::write(&path, &contents).expect("the file is written");
        refused(&path, ErrorKind::Corrupt, "is no redb file, or is damaged");
        assert_eq!(fs::read(&path).expect("the file is read"), contents, "file {number}");
    }
}

#[test]
fn a_redb_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for multimap in [false, true] {
        let path = folder.path().join(format!("other-{multimap}.redb"));
        let database = Database::create(&path).expect("the file is created");
        let transaction = database.begin_write().expect("a transaction");
        if multimap {
            transaction.open_multimap_table(MultimapTableDefinition::<u64, u64>::new("x")).expect("a table");
        } else {
            transaction.open_table(TableDefinition::<u64, u64>::new("x")).expect("a table");
        }
        transaction.commit().expect("the commit succeeds");
        drop(database);
        refused(&path, ErrorKind::Corrupt, "is a redb file of another program");
    }
}

#[test]
fn a_file_of_another_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    drop(RedbStorage::open(&path).expect("the file opens"));
    let database = Database::open(&path).expect("the file opens");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(META).expect("a table").insert("format", 2).expect("an insertion");
    transaction.commit().expect("the commit succeeds");
    drop(database);
    refused(&path, ErrorKind::Corrupt, "has format 2, this version reads format 1");
}

#[test]
fn an_empty_file_becomes_a_storage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    fs::write(&path, b"").expect("the file is written");
    let storage = RedbStorage::open(&path).expect("an empty file is a new one");
    wait(storage.write(&1.into(), b"x".to_vec(), None)).expect("the write succeeds");
}

#[test]
fn closing_commits_what_is_queued() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let storage = RedbStorage::open(&path).expect("the file opens");
    let keys: Vec<GrainKey> = (0..500).map(GrainKey::from).collect();
    for key in &keys {
        // The first poll queues the change; nobody waits for its answer.
        let _ = pin!(storage.write(key, b"queued".to_vec(), None)).poll(&mut Context::from_waker(Waker::noop()));
    }
    drop(storage);
    let storage = RedbStorage::open(&path).expect("the file opens again");
    for key in &keys {
        let stored = wait(storage.read(key)).expect("the read succeeds").expect("the change was queued");
        assert_eq!(stored.bytes, b"queued");
    }
}

/// A file with fifty records, and what they hold.
fn sound_file(path: &Path) -> Vec<(GrainKey, Vec<u8>)> {
    let storage = RedbStorage::open(path).expect("the file opens");
    (0..50u8)
        .map(|number| {
            let (key, bytes) = (GrainKey::from(u64::from(number)), vec![number; 200 + 20 * usize::from(number)]);
            wait(storage.write(&key, bytes.clone(), None)).expect("the write succeeds");
            (key, bytes)
        })
        .collect()
}

/// Flips one bit, loses one sector, or cuts the end off.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    const SECTOR_BYTES: usize = 512;
    match random.u8(..3) {
        0 => {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        }
        1 => {
            let at = random.usize(..bytes.len() / SECTOR_BYTES) * SECTOR_BYTES;
            bytes[at..at + SECTOR_BYTES].fill(0);
        }
        _ => bytes.truncate(random.usize(1..bytes.len())),
    }
}

#[test]
fn a_checked_opening_finds_any_damage() {
    const TRIALS: usize = 300;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let records = sound_file(&path);
    let sound = fs::read(&path).expect("the file is read");
    let mut random = fastrand::Rng::with_seed(42);
    let mut refusals = 0;
    for trial in 0..TRIALS {
        let mut bytes = sound.clone();
        damage(&mut bytes, &mut random);
        fs::write(&path, &bytes).expect("the file is written");
        match RedbStorage::open_checked(&path) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "trial {trial}: {error}");
                refusals += 1;
            }
            // The damage hit nothing that is in use.
            Ok(storage) => {
                for (key, bytes) in &records {
                    let stored = wait(storage.read(key)).expect("the record is sound").expect("there is one");
                    assert_eq!(&stored.bytes, bytes, "trial {trial}");
                }
            }
        }
    }
    assert!(refusals > TRIALS / 4, "only {refusals} of {TRIALS} damages hit the records: the test is too weak");
}
