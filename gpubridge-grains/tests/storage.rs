//! One suite for every storage: what [`GrainStorage`] promises, checked through the trait alone.

mod storage_common;

use std::sync::{Arc, Barrier};

use gpubridge_abstractions::ErrorKind;
use gpubridge_grains::GrainKey;
use gpubridge_grains::storage::{GrainStorage, MAX_RECORD_BYTES, MemoryStorage, RedbStorage, Stored, VersionTag};
use storage_common::block_on;

/// Opens the storage, the second time with what the first one left. At most one is open at a time.
type Open<'a> = &'a dyn Fn() -> Arc<dyn GrainStorage>;

fn in_memory(test: fn(Open<'_>)) {
    let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
    test(&|| Arc::clone(&storage));
}

fn in_redb(test: fn(Open<'_>)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    test(&|| Arc::new(RedbStorage::open(folder.path().join("grains.redb")).expect("the file opens")));
}

macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::in_memory(super::$test); })*
        }
        mod redb {
            $(#[test] fn $test() { super::in_redb(super::$test); })*
        }
    };
}

suite!(
    a_new_storage_is_empty,
    records_survive_reopening,
    every_pair_of_version_and_expectation,
    tags_never_come_back,
    notes_stay_until_the_next_write_or_removal,
    noting_changes_neither_record_nor_version,
    keys_of_both_kinds_are_apart,
    no_key_is_ever_missed,
    one_of_several_writers_wins_each_round,
    a_counter_loses_no_increment,
    writers_of_different_keys_do_not_meet,
    epochs_increase_across_reopening,
    limits_are_told,
    errors_name_the_key_and_both_versions,
);

/// The record and its version, which must be there without a note.
fn record(storage: &dyn GrainStorage, key: &GrainKey) -> (Vec<u8>, VersionTag) {
    let stored = block_on(storage.read(key)).expect("the read succeeds").expect("there is a record");
    assert!(!stored.unsaved, "`{key}` is noted as unsaved");
    (stored.bytes, stored.version.expect("there is a record, not only a note"))
}

fn write(storage: &dyn GrainStorage, key: &GrainKey, bytes: &[u8], expected: Option<VersionTag>) -> VersionTag {
    block_on(storage.write(key, bytes.to_vec(), expected)).expect("the version is the expected one")
}

fn a_new_storage_is_empty(open: Open<'_>) {
    let storage = open();
    for key in [GrainKey::from(0), GrainKey::from("")] {
        assert_eq!(block_on(storage.read(&key)).expect("the read succeeds"), None);
        assert!(!storage.may_contain(&key));
        block_on(storage.remove(&key, None)).expect("nothing to remove is as asked");
        assert_eq!(block_on(storage.read(&key)).expect("the read succeeds"), None);
    }
    block_on(storage.mark_unsaved(&[])).expect("no key is a list too");
}

fn records_survive_reopening(open: Open<'_>) {
    let contents = [vec![], vec![0], (0..100_000u32).map(|number| number as u8).collect::<Vec<u8>>()];
    let keys: Vec<GrainKey> = (0..contents.len()).map(|number| format!("grain-{number}").into()).collect();
    let storage = open();
    let versions: Vec<VersionTag> =
        keys.iter().zip(&contents).map(|(key, bytes)| write(&*storage, key, bytes, None)).collect();
    drop(storage);
    let storage = open();
    for ((key, bytes), version) in keys.iter().zip(contents).zip(versions) {
        assert_eq!(record(&*storage, key), (bytes, version));
        assert!(storage.may_contain(key));
    }
}

fn every_pair_of_version_and_expectation(open: Open<'_>) {
    let storage = open();
    let storage = &*storage;
    let key = &GrainKey::from("account");
    let first = write(storage, key, b"first", None);
    let second = write(storage, key, b"second", Some(first));
    let later = VersionTag(second.0 + 1);
    for wrong in [None, Some(first), Some(later), Some(VersionTag(0)), Some(VersionTag(u64::MAX))] {
        let refused = [
            block_on(storage.write(key, b"wrong".to_vec(), wrong)).expect_err("another version").kind(),
            block_on(storage.remove(key, wrong)).expect_err("another version").kind(),
        ];
        assert_eq!(refused, [ErrorKind::Conflict; 2], "expected {wrong:?}");
        assert_eq!(record(storage, key), (b"second".to_vec(), second), "a conflict leaves the record alone");
    }
    block_on(storage.remove(key, Some(second))).expect("the version is the expected one");
    for gone in [Some(first), Some(second)] {
        let refused = [
            block_on(storage.write(key, b"wrong".to_vec(), gone)).expect_err("no record").kind(),
            block_on(storage.remove(key, gone)).expect_err("no record").kind(),
        ];
        assert_eq!(refused, [ErrorKind::Conflict; 2]);
        assert_eq!(block_on(storage.read(key)).expect("the read succeeds"), None);
        assert!(!storage.may_contain(key), "a refused write leaves no trace");
    }
    write(storage, key, b"again", None);
}

fn tags_never_come_back(open: Open<'_>) {
    let key = &GrainKey::from(1);
    let mut last = VersionTag(0);
    for round in 0..6 {
        // The first record of a round meets a storage from which the tag's record is gone.
        let storage = open();
        for expected in [None, Some(())] {
            let version = write(&*storage, key, b"x", expected.map(|()| last));
            assert!(version > last, "round {round}: {version} after {last}");
            last = version;
        }
        block_on(storage.remove(key, Some(last))).expect("the version is the expected one");
    }
}

fn notes_stay_until_the_next_write_or_removal(open: Open<'_>) {
    let keys: Vec<GrainKey> = vec![1.into(), 2.into(), "three".into(), 4.into()];
    let note = Stored { bytes: Vec::new(), version: None, unsaved: true };
    block_on(open().mark_unsaved(&[&keys[..], &keys[..2]].concat())).expect("keys may stand twice");
    block_on(open().mark_unsaved(&keys[..1])).expect("a note may be repeated");
    let storage = open();
    for key in &keys {
        assert!(storage.may_contain(key));
        assert_eq!(block_on(storage.read(key)).expect("the read succeeds").as_ref(), Some(&note));
        let wrong = block_on(storage.write(key, Vec::new(), Some(VersionTag(1)))).expect_err("a note is no record");
        assert_eq!(wrong.kind(), ErrorKind::Conflict);
    }
    let version = write(&*storage, &keys[0], b"saved", None);
    block_on(storage.remove(&keys[1], None)).expect("there is no record");
    block_on(storage.mark_unsaved(&keys[..1])).expect("the note succeeds");
    block_on(storage.remove(&keys[0], Some(version))).expect("the version is the expected one");
    drop(storage);
    let storage = open();
    for key in &keys[..2] {
        assert_eq!(block_on(storage.read(key)).expect("the read succeeds"), None);
    }
    for key in &keys[2..] {
        assert_eq!(block_on(storage.read(key)).expect("the read succeeds").as_ref(), Some(&note));
    }
}

fn noting_changes_neither_record_nor_version(open: Open<'_>) {
    let key = GrainKey::from("noted");
    let storage = open();
    let version = write(&*storage, &key, b"earlier", None);
    block_on(storage.mark_unsaved(std::slice::from_ref(&key))).expect("the note succeeds");
    drop(storage);
    let storage = open();
    let stored = block_on(storage.read(&key)).expect("the read succeeds");
    assert_eq!(stored, Some(Stored { bytes: b"earlier".to_vec(), version: Some(version), unsaved: true }));
    let wrong = block_on(storage.write(&key, Vec::new(), None)).expect_err("there is a record");
    assert_eq!(wrong.kind(), ErrorKind::Conflict);
    assert!(block_on(storage.read(&key)).expect("the read succeeds").is_some_and(|stored| stored.unsaved));
    let next = write(&*storage, &key, b"later", Some(version));
    assert_eq!(record(&*storage, &key), (b"later".to_vec(), next));
}

fn keys_of_both_kinds_are_apart(open: Open<'_>) {
    let keys: Vec<GrainKey> =
        vec![7.into(), "7".into(), "\u{1}\0\0\0\0\0\0\0\u{7}".into(), "".into(), "7\0".into(), 0x37.into()];
    let storage = open();
    for (number, key) in keys.iter().enumerate() {
        write(&*storage, key, &[number as u8], None);
    }
    drop(storage);
    let storage = open();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(record(&*storage, key).0, [number as u8], "{key:?}");
    }
}

fn no_key_is_ever_missed(open: Open<'_>) {
    const KEYS: u64 = 3_000;
    let key = |number: u64| match number % 2 {
        0 => GrainKey::from(number),
        _ => GrainKey::from(format!("grain-{number}")),
    };
    let storage = open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let storage = &*storage;
            scope.spawn(move || {
                for number in (thread..KEYS).step_by(8) {
                    let version = write(storage, &key(number), b"x", None);
                    assert!(storage.may_contain(&key(number)), "grain {number} has just been written");
                    if number % 5 == 0 {
                        block_on(storage.remove(&key(number), Some(version))).expect("the version is the expected one");
                    }
                }
            });
        }
    });
    block_on(storage.mark_unsaved(&[KEYS.into()])).expect("the note succeeds");
    drop(storage);
    let storage = open();
    assert!((0..KEYS).filter(|number| number % 5 != 0).all(|number| storage.may_contain(&key(number))));
    assert!(storage.may_contain(&KEYS.into()), "a note is found as well");
    let false_positives = (KEYS + 1..100_000).filter(|number| storage.may_contain(&key(*number))).count();
    assert_eq!(false_positives, 0, "one in 2^50 would be bad luck");
}

fn one_of_several_writers_wins_each_round(open: Open<'_>) {
    const WRITERS: u8 = 4;
    const ROUNDS: usize = 50;
    let storage = open();
    let key = &GrainKey::from("contended");
    let mut expected = None;
    for round in 0..ROUNDS {
        let start = Barrier::new(usize::from(WRITERS));
        let results: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (storage, start) = (&*storage, &start);
                    scope.spawn(move || {
                        start.wait();
                        block_on(storage.write(key, vec![writer; 64], expected))
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
        });
        let winners: Vec<usize> = (0..results.len()).filter(|writer| results[*writer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        for result in &results {
            assert!(result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Conflict), "{results:?}");
        }
        let (bytes, version) = record(&*storage, key);
        assert_eq!(bytes, vec![winners[0] as u8; 64], "round {round}");
        assert_eq!(results[winners[0]].as_ref().ok(), Some(&version));
        expected = Some(version);
    }
}

fn a_counter_loses_no_increment(open: Open<'_>) {
    count_together(&*open(), 40);
}

#[test]
fn a_counter_in_memory_loses_none_of_many_increments() {
    // Memory is so fast that few increments would hardly meet.
    count_together(&MemoryStorage::new(), 20_000);
}

fn count_together(storage: &dyn GrainStorage, increments: u64) {
    const WRITERS: u64 = 4;
    let key = &GrainKey::from("counter");
    let first = write(storage, key, &0u64.to_le_bytes(), None);
    let start = Barrier::new(WRITERS as usize);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                start.wait();
                let mut done = 0;
                while done < increments {
                    let (bytes, version) = record(storage, key);
                    let count = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                    match block_on(storage.write(key, (count + 1).to_le_bytes().to_vec(), Some(version))) {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    let (bytes, last) = record(storage, key);
    assert_eq!(bytes, (WRITERS * increments).to_le_bytes());
    assert_eq!(last.0, first.0 + WRITERS * increments, "each increment took one version");
}

fn writers_of_different_keys_do_not_meet(open: Open<'_>) {
    let storage = open();
    std::thread::scope(|scope| {
        for writer in 0..8u64 {
            let storage = &*storage;
            scope.spawn(move || {
                let key = GrainKey::from(writer);
                let last = (0..50u64).fold(None, |expected, round| {
                    Some(write(storage, &key, &[writer.to_le_bytes(), round.to_le_bytes()].concat(), expected))
                });
                let bytes = [writer.to_le_bytes(), 49u64.to_le_bytes()].concat();
                assert_eq!(record(storage, &key), (bytes, last.expect("fifty writes")));
            });
        }
    });
}

fn epochs_increase_across_reopening(open: Open<'_>) {
    let mut last = 0;
    for _ in 0..4 {
        let storage = open();
        for _ in 0..3 {
            let epoch = block_on(storage.begin_epoch()).expect("there are many epochs");
            assert!(epoch > last, "{epoch} after {last}");
            last = epoch;
        }
    }
    assert_eq!(last, 12, "epochs are few: none is skipped");
}

fn limits_are_told(open: Open<'_>) {
    let storage = open();
    let long = GrainKey::from("x".repeat(GrainKey::MAX_TEXT_BYTES + 1));
    let errors = [
        block_on(storage.read(&long)).expect_err("the key is too long"),
        block_on(storage.write(&long, Vec::new(), None)).expect_err("the key is too long"),
        block_on(storage.remove(&long, None)).expect_err("the key is too long"),
        block_on(storage.mark_unsaved(&[1.into(), long.clone()])).expect_err("the key is too long"),
        block_on(storage.write(&1.into(), vec![0; MAX_RECORD_BYTES + 1], None)).expect_err("the record is too large"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains("the limit is"), "{error}");
    }
    assert!(!storage.may_contain(&long));
    assert_eq!(block_on(storage.read(&1.into())).expect("the read succeeds"), None, "all keys are noted or none");
    let longest = GrainKey::from("x".repeat(GrainKey::MAX_TEXT_BYTES));
    write(&*storage, &longest, b"fits", None);
    assert_eq!(record(&*storage, &longest).0, b"fits");
}

fn errors_name_the_key_and_both_versions(open: Open<'_>) {
    let storage = open();
    let version = write(&*storage, &"account/42".into(), b"x", None);
    let error = block_on(storage.write(&"account/42".into(), Vec::new(), Some(VersionTag(77)))).expect_err("not 77");
    assert_eq!(
        error.to_string(),
        format!(
            "storage.write: grain `account/42` has version {version}, expected version 77; read it again, then decide"
        )
    );
    let error = block_on(storage.remove(&"account/42".into(), None)).expect_err("there is a record");
    assert_eq!(
        error.to_string(),
        format!(
            "storage.remove: grain `account/42` has version {version}, expected no record; read it again, then decide"
        )
    );
}
