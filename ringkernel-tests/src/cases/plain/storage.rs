//! What [`GrainStorage`] promises, checked through the trait alone on every storage of the grains crate.

use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread;

use gpubridge_abstractions::{Error, ErrorKind};
use gpubridge_grains::storage::{GrainStorage, MAX_RECORD_BYTES, MemoryStorage, RedbStorage, Stored, VersionTag};
use gpubridge_grains::{GrainKey, wait};

use crate::Case;
use crate::rig::{Joined, kind};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("storage":
    a_new_storage_is_empty => "GrainStorage::read/nothing",
    records_survive_reopening => "GrainStorage/durable",
    every_pair_of_version_and_expectation_in_writes => "GrainStorage::write/compares",
    every_pair_of_version_and_expectation_in_removals => "GrainStorage::remove/compares",
    tags_never_come_back => "VersionTag/never-again",
    notes_stay_until_the_next_write_or_removal => "GrainStorage::mark_unsaved/until-changed",
    noting_changes_neither_record_nor_version => "GrainStorage::mark_unsaved/record-stays",
    all_keys_are_noted_or_none => "GrainStorage::mark_unsaved/all-or-none",
    keys_of_both_kinds_are_apart => "GrainStorage/key-kinds",
    keys_beyond_the_limit_are_refused => "GrainStorage/key-limit",
    records_beyond_the_limit_are_refused => "GrainStorage::write/size-limit",
    no_key_is_ever_missed => "GrainStorage::may_contain/never-misses",
    one_of_several_writers_wins_each_round => "GrainStorage::write/one-winner",
    a_counter_loses_no_increment => "GrainStorage::write/one-winner",
    a_counter_in_memory_loses_none_of_many_increments => "GrainStorage::write/one-winner",
    writers_of_different_keys_do_not_meet => "GrainStorage/independent",
    epochs_increase_across_reopening => "GrainStorage::begin_epoch/increases",
    errors_name_the_key_and_both_versions => "GrainStorage::write/conflict-message",
    a_write_that_is_given_up_happens_wholly_or_not_at_all => "GrainStorage/given-up",
    no_runtime_is_needed => "GrainStorage/no-runtime",
);

/// Opens the storage, the second time with what the first one left. At most one is open at a time.
type Open<'a> = &'a dyn Fn() -> Arc<dyn GrainStorage>;

/// Says on which storage a check panicked.
struct Told(&'static str);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seen on the storage {}", self.0);
        }
    }
}

/// Runs a check on each storage.
fn on_each(check: impl Fn(Open<'_>)) {
    {
        let _told = Told("in memory");
        let storage: Arc<dyn GrainStorage> = Arc::new(MemoryStorage::new());
        check(&|| Arc::clone(&storage));
    }
    let _told = Told("in a file");
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(&|| Arc::new(RedbStorage::open(folder.path().join("grains.redb")).expect("the file opens")));
}

/// The record and its version, which must be there without a note.
fn record(storage: &dyn GrainStorage, key: &GrainKey) -> (Vec<u8>, VersionTag) {
    let stored = wait(storage.read(key)).expect("the read succeeds").expect("there is a record");
    assert!(!stored.unsaved, "`{key}` is noted as unsaved");
    (stored.bytes, stored.version.expect("there is a record, not only a note"))
}

fn write(storage: &dyn GrainStorage, key: &GrainKey, bytes: &[u8], expected: Option<VersionTag>) -> VersionTag {
    wait(storage.write(key, bytes.to_vec(), expected)).expect("the version is the expected one")
}

/// Goal: what was never written is not there, and removing it changes nothing. Method: keys of both kinds.
pub fn a_new_storage_is_empty() {
    on_each(|open| {
        let storage = open();
        for key in [GrainKey::from(0), GrainKey::from("")] {
            assert_eq!(wait(storage.read(&key)).expect("the read succeeds"), None);
            assert!(!storage.may_contain(&key));
            wait(storage.remove(&key, None)).expect("nothing to remove is as asked");
            assert_eq!(wait(storage.read(&key)).expect("the read succeeds"), None);
        }
        wait(storage.mark_unsaved(&[])).expect("no key is a list too");
    });
}

/// Goal: what a write has answered is there when the storage is opened again. Method: records of three lengths.
pub fn records_survive_reopening() {
    on_each(|open| {
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
    });
}

/// Changes that are refused change nothing, and the one that is expected happens: `change` is tried on a record under
/// every wrong version, and under every one when the record is gone.
fn only_the_expected_version(
    storage: &dyn GrainStorage,
    change: impl Fn(&GrainKey, Option<VersionTag>) -> Result<(), Error>,
) {
    let key = &GrainKey::from("account");
    let first = write(storage, key, b"first", None);
    let second = write(storage, key, b"second", Some(first));
    let later = VersionTag(second.0 + 1);
    for wrong in [None, Some(first), Some(later), Some(VersionTag(0)), Some(VersionTag(u64::MAX))] {
        assert_eq!(kind(change(key, wrong)), ErrorKind::Conflict, "expected {wrong:?}");
        assert_eq!(record(storage, key), (b"second".to_vec(), second), "a conflict leaves the record alone");
    }
    change(key, Some(second)).expect("the version is the expected one");
    if let Some(Stored { version, .. }) = wait(storage.read(key)).expect("the read succeeds") {
        wait(storage.remove(key, version)).expect("the version is the expected one");
    }
    for gone in [Some(first), Some(second)] {
        assert_eq!(kind(change(key, gone)), ErrorKind::Conflict, "expected {gone:?}");
        assert_eq!(wait(storage.read(key)).expect("the read succeeds"), None);
        assert!(!storage.may_contain(key), "a refused change leaves no trace");
    }
    change(key, None).expect("there is no record");
}

/// Goal: a write happens under the version that is there, and under no other. Method: every wrong one for a record and
/// for none.
pub fn every_pair_of_version_and_expectation_in_writes() {
    on_each(|open| {
        let storage = open();
        only_the_expected_version(&*storage, |key, expected| {
            wait(storage.write(key, b"next".to_vec(), expected)).map(drop)
        });
        assert_eq!(record(&*storage, &"account".into()).0, b"next");
    });
}

/// Goal and method as above, for removals.
pub fn every_pair_of_version_and_expectation_in_removals() {
    on_each(|open| {
        let storage = open();
        only_the_expected_version(&*storage, |key, expected| wait(storage.remove(key, expected)));
        assert!(!storage.may_contain(&"account".into()));
    });
}

/// Goal: no version is given twice. Method: a record is written, replaced and removed, round after round.
pub fn tags_never_come_back() {
    on_each(|open| {
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
            wait(storage.remove(key, Some(last))).expect("the version is the expected one");
        }
    });
}

/// Goal: a note outlives everything but its grain's next change. Method: notes of four grains without a record, two of
/// which are changed.
pub fn notes_stay_until_the_next_write_or_removal() {
    on_each(|open| {
        let keys: Vec<GrainKey> = vec![1.into(), 2.into(), "three".into(), 4.into()];
        let note = Stored { bytes: Vec::new(), version: None, unsaved: true };
        wait(open().mark_unsaved(&[&keys[..], &keys[..2]].concat())).expect("keys may stand twice");
        wait(open().mark_unsaved(&keys[..1])).expect("a note may be repeated");
        let storage = open();
        for key in &keys {
            assert!(storage.may_contain(key));
            assert_eq!(wait(storage.read(key)).expect("the read succeeds").as_ref(), Some(&note));
            let wrong = wait(storage.write(key, Vec::new(), Some(VersionTag(1)))).expect_err("a note is no record");
            assert_eq!(wrong.kind(), ErrorKind::Conflict);
        }
        let version = write(&*storage, &keys[0], b"saved", None);
        wait(storage.remove(&keys[1], None)).expect("there is no record");
        wait(storage.mark_unsaved(&keys[..1])).expect("the note succeeds");
        wait(storage.remove(&keys[0], Some(version))).expect("the version is the expected one");
        drop(storage);
        let storage = open();
        for key in &keys[..2] {
            assert_eq!(wait(storage.read(key)).expect("the read succeeds"), None);
        }
        for key in &keys[2..] {
            assert_eq!(wait(storage.read(key)).expect("the read succeeds").as_ref(), Some(&note));
        }
    });
}

/// Goal: a note leaves the record as it is. Method: noted, reopened, read, refused, then written.
pub fn noting_changes_neither_record_nor_version() {
    on_each(|open| {
        let key = GrainKey::from("noted");
        let storage = open();
        let version = write(&*storage, &key, b"earlier", None);
        wait(storage.mark_unsaved(std::slice::from_ref(&key))).expect("the note succeeds");
        drop(storage);
        let storage = open();
        let stored = wait(storage.read(&key)).expect("the read succeeds");
        assert_eq!(stored, Some(Stored { bytes: b"earlier".to_vec(), version: Some(version), unsaved: true }));
        let wrong = wait(storage.write(&key, Vec::new(), None)).expect_err("there is a record");
        assert_eq!(wrong.kind(), ErrorKind::Conflict);
        assert!(wait(storage.read(&key)).expect("the read succeeds").is_some_and(|stored| stored.unsaved));
        let next = write(&*storage, &key, b"later", Some(version));
        assert_eq!(record(&*storage, &key), (b"later".to_vec(), next));
    });
}

/// Goal: keys that look alike have a record each. Method: numbers and texts with the same digits and bytes.
pub fn keys_of_both_kinds_are_apart() {
    on_each(|open| {
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
    });
}

/// Goal: `may_contain` never says no to what is there, and hardly yes to what is not. Method: eight threads write and
/// remove; asked at once, and after reopening.
pub fn no_key_is_ever_missed() {
    on_each(|open| {
        const KEYS: u64 = 3_000;
        let key = |number: u64| match number % 2 {
            0 => GrainKey::from(number),
            _ => GrainKey::from(format!("grain-{number}")),
        };
        let storage = open();
        thread::scope(|scope| {
            for thread in 0..8 {
                let storage = &*storage;
                scope.spawn(move || {
                    for number in (thread..KEYS).step_by(8) {
                        let version = write(storage, &key(number), b"x", None);
                        assert!(storage.may_contain(&key(number)), "grain {number} has just been written");
                        if number % 5 == 0 {
                            wait(storage.remove(&key(number), Some(version))).expect("the version is the expected one");
                        }
                    }
                });
            }
        });
        wait(storage.mark_unsaved(&[KEYS.into()])).expect("the note succeeds");
        drop(storage);
        let storage = open();
        assert!((0..KEYS).filter(|number| number % 5 != 0).all(|number| storage.may_contain(&key(number))));
        assert!(storage.may_contain(&KEYS.into()), "a note is found as well");
        let false_positives = (KEYS + 1..100_000).filter(|number| storage.may_contain(&key(*number))).count();
        assert_eq!(false_positives, 0, "one in 2^50 would be bad luck");
    });
}

/// Goal: of writers that expect the same version one wins. Method: four start together, round after round.
pub fn one_of_several_writers_wins_each_round() {
    on_each(|open| {
        const WRITERS: u8 = 4;
        const ROUNDS: usize = 50;
        let storage = open();
        let key = &GrainKey::from("contended");
        let mut expected = None;
        for round in 0..ROUNDS {
            let start = Barrier::new(usize::from(WRITERS));
            let results: Vec<_> = thread::scope(|scope| {
                let writers: Vec<_> = (0..WRITERS)
                    .map(|writer| {
                        let (storage, start) = (&*storage, &start);
                        scope.spawn(move || {
                            start.wait();
                            wait(storage.write(key, vec![writer; 64], expected))
                        })
                    })
                    .collect();
                writers.into_iter().map(|writer| writer.joined()).collect()
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
    });
}

/// Goal: reading, adding and writing under the version loses nothing. Method: four threads count together.
pub fn a_counter_loses_no_increment() {
    on_each(|open| {
        count_together(&*open(), 40);
    });
}

/// Goal and method as above, in memory, which is so fast that few increments would hardly meet.
pub fn a_counter_in_memory_loses_none_of_many_increments() {
    count_together(&MemoryStorage::new(), 20_000);
}

fn count_together(storage: &dyn GrainStorage, increments: u64) {
    const WRITERS: u64 = 4;
    let key = &GrainKey::from("counter");
    let first = write(storage, key, &0u64.to_le_bytes(), None);
    let start = Barrier::new(WRITERS as usize);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                start.wait();
                let mut done = 0;
                while done < increments {
                    let (bytes, version) = record(storage, key);
                    let count = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                    match wait(storage.write(key, (count + 1).to_le_bytes().to_vec(), Some(version))) {
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

/// Goal: writers of different grains never conflict. Method: eight at once, fifty writes each.
pub fn writers_of_different_keys_do_not_meet() {
    on_each(|open| {
        let storage = open();
        thread::scope(|scope| {
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
    });
}

/// Goal: no epoch comes back. Method: three in each of four openings.
pub fn epochs_increase_across_reopening() {
    on_each(|open| {
        let mut last = 0;
        for _ in 0..4 {
            let storage = open();
            for _ in 0..3 {
                let epoch = wait(storage.begin_epoch()).expect("there are many epochs");
                assert!(epoch > last, "{epoch} after {last}");
                last = epoch;
            }
        }
        assert_eq!(last, 12, "epochs are few: none is skipped");
    });
}

fn longest_text() -> String {
    "x".repeat(GrainKey::MAX_TEXT_BYTES)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("a limit is passed");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.message().contains("the limit is"), "{error}");
}

/// Goal: a key that is too long is told in every call. Method: one byte too long, and as long as may be.
pub fn keys_beyond_the_limit_are_refused() {
    on_each(|open| {
        let storage = open();
        let long = GrainKey::from(longest_text() + "x");
        refused(wait(storage.read(&long)));
        refused(wait(storage.write(&long, Vec::new(), None)));
        refused(wait(storage.remove(&long, None)));
        refused(wait(storage.mark_unsaved(std::slice::from_ref(&long))));
        assert!(!storage.may_contain(&long));
        let longest = GrainKey::from(longest_text());
        write(&*storage, &longest, b"fits", None);
        assert_eq!(record(&*storage, &longest).0, b"fits");
    });
}

/// Goal: one key that is refused keeps all others from being noted. Method: the last of three is too long.
pub fn all_keys_are_noted_or_none() {
    on_each(|open| {
        let storage = open();
        let version = write(&*storage, &1.into(), b"x", None);
        refused(wait(storage.mark_unsaved(&[1.into(), 2.into(), (longest_text() + "x").into()])));
        assert_eq!(record(&*storage, &1.into()), (b"x".to_vec(), version));
        assert_eq!(wait(storage.read(&2.into())).expect("the read succeeds"), None);
    });
}

/// Goal: a record that is too large is told. Method: one byte.
pub fn records_beyond_the_limit_are_refused() {
    on_each(|open| {
        let storage = open();
        refused(wait(storage.write(&1.into(), vec![0; MAX_RECORD_BYTES + 1], None)));
        assert_eq!(wait(storage.read(&1.into())).expect("the read succeeds"), None);
    });
}

/// Goal: a conflict says what is there and what was expected. Method: the whole text.
pub fn errors_name_the_key_and_both_versions() {
    on_each(|open| {
        let storage = open();
        let version = write(&*storage, &"account/42".into(), b"x", None);
        let error = wait(storage.write(&"account/42".into(), Vec::new(), Some(VersionTag(77)))).expect_err("not 77");
        assert_eq!(
            error.to_string(),
            format!(
                "storage.write: grain `account/42` has version {version}, expected version 77; read it again, then decide"
            )
        );
        let error = wait(storage.remove(&"account/42".into(), None)).expect_err("there is a record");
        assert_eq!(
            error.to_string(),
            format!(
                "storage.remove: grain `account/42` has version {version}, expected no record; read it again, then decide"
            )
        );
    });
}

/// Goal: a write whose future is dropped leaves the record before or its own, whole, and the storage goes on. Method:
/// long records, dropped unpolled or after one poll, then read, and written again under the version that is there.
pub fn a_write_that_is_given_up_happens_wholly_or_not_at_all() {
    on_each(|open| {
        let storage = open();
        let key = &GrainKey::from("patient");
        let mut version = write(&*storage, key, &[0; 100_000], None);
        let mut last = 0;
        for round in 1..40_u8 {
            let given_up = storage.write(key, vec![round; 100_000], Some(version));
            if round % 4 != 0 {
                let _ = pin!(given_up).poll(&mut Context::from_waker(Waker::noop()));
            }
            let (bytes, found) = record(&*storage, key);
            let value = bytes[0];
            assert!(value == last || (value == round && round % 4 != 0), "round {round} left {value} after {last}");
            assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == value), "round {round} is torn");
            assert_eq!(found == version, value == last, "round {round}: {found} after {version}");
            // It may still be on its way: then this write waits behind it, and one of the two is in conflict.
            match wait(storage.write(key, vec![100 + round; 100_000], Some(found))) {
                Ok(written) => (version, last) = (written, 100 + round),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    let (bytes, written) = record(&*storage, key);
                    assert_eq!(bytes, vec![round; 100_000]);
                    (version, last) = (written, round);
                }
            }
        }
    });
}

/// Goal: any executor can poll the futures. Method: one that only parks this thread, on which whatever needs a runtime
/// panics.
pub fn no_runtime_is_needed() {
    on_each(|open| {
        assert!(tokio::runtime::Handle::try_current().is_err(), "this thread has a runtime");
        let storage = open();
        let epoch = wait(storage.begin_epoch()).expect("there are many epochs");
        let version = write(&*storage, &epoch.into(), b"x", None);
        assert_eq!(record(&*storage, &epoch.into()), (b"x".to_vec(), version));
        wait(storage.mark_unsaved(&[epoch.into()])).expect("the note succeeds");
        wait(storage.remove(&epoch.into(), Some(version))).expect("the version is the expected one");
        assert_eq!(wait(storage.read(&epoch.into())).expect("the read succeeds"), None);
    });
}
