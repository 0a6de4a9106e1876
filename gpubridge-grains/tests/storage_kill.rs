//! A process that is killed loses nothing that was answered.
//!
//! The child is this very program, asked for its one ignored test: it writes as fast as it can, and says so on its
//! standard output after each answer. The parent kills it in the middle, opens the file, and compares.

mod killed_child;

use std::collections::HashMap;
use std::path::Path;

use gpubridge_grains::storage::{GrainStorage, RedbStorage, VersionTag};
use gpubridge_grains::{GrainKey, wait};
use killed_child::{kill_after, say, start};

const FILE: &str = "GPUBRIDGE_TEST_STORAGE_FILE";
const ROUNDS: usize = 12;
const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u64 = 5;
/// The longest record spans many pages, so that a torn one could show.
const LONGEST_RECORD_BYTES: usize = 40_000;

/// The record of `key` that was written as the `sequence`th: its numbers, then bytes that follow from them.
fn contents(key: u64, sequence: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(key << 32 | sequence);
    let length = random.usize(..LONGEST_RECORD_BYTES);
    let mut bytes = [key.to_le_bytes(), sequence.to_le_bytes()].concat();
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
    bytes
}

/// The sequence number of a record, which must be whole.
fn sequence(key: u64, bytes: &[u8]) -> u64 {
    let sequence = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
    assert!(bytes == contents(key, sequence), "the record {sequence} of grain {key} is torn");
    sequence
}

/// What a child has said: the epoch it took, and per key the last sequence and version that were answered.
#[derive(Default)]
struct Heard {
    epoch: u64,
    answered: HashMap<u64, (u64, VersionTag)>,
    answers: usize,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        match kind {
            Some("epoch") => self.epoch = number(),
            Some("answered") => {
                self.answered.insert(number(), (number(), VersionTag(number())));
                self.answers += 1;
            }
            // Lines of the test harness.
            _ => {}
        }
    }
}

/// What a child said until it was killed, after so many answers.
fn heard_of_child(answers: usize, path: &Path) -> Heard {
    let mut heard = Heard::default();
    kill_after(answers, start(FILE, path), |line| {
        heard.line(line);
        heard.answers
    });
    heard
}

#[test]
#[ignore = "the child process of the next test; without its parent it has nothing to do"]
fn child() {
    let Some(path) = std::env::var_os(FILE) else {
        println!("skipped: only the next test can start this one");
        return;
    };
    let storage = RedbStorage::open(path).expect("the file opens");
    say(&format!("epoch {}", wait(storage.begin_epoch()).expect("there are many epochs")));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let storage = &storage;
            scope.spawn(move || {
                for key in (0..).map(|round| writer * KEYS_PER_WRITER + round % KEYS_PER_WRITER) {
                    let stored = wait(storage.read(&key.into())).expect("the read succeeds");
                    let next = stored.as_ref().map_or(0, |stored| sequence(key, &stored.bytes) + 1);
                    let expected = stored.and_then(|stored| stored.version);
                    let version = wait(storage.write(&key.into(), contents(key, next), expected))
                        .expect("no other writer has this key");
                    say(&format!("answered {key} {next} {version}"));
                }
            });
        }
    });
}

/// Every key holds the last answered record or the one that was on its way.
fn compare(storage: &RedbStorage, before: &HashMap<u64, u64>, heard: &Heard) -> HashMap<u64, u64> {
    (0..WRITERS * KEYS_PER_WRITER)
        .filter_map(|key| {
            let answered = heard.answered.get(&key);
            let least = answered.map(|(sequence, _)| *sequence).or(before.get(&key).copied());
            let Some(stored) = wait(storage.read(&key.into())).expect("the record is sound") else {
                assert_eq!(least, None, "grain {key} is gone");
                return None;
            };
            assert!(storage.may_contain(&GrainKey::from(key)), "grain {key} is missed");
            let found = sequence(key, &stored.bytes);
            let most = least.map_or(0, |least| least + 1);
            assert!(least.is_none_or(|least| least <= found), "grain {key} fell back from {least:?} to {found}");
            assert!(found <= most, "grain {key} has {found}, {least:?} was answered");
            if let Some((sequence, version)) = answered {
                let on_its_way = found > *sequence;
                assert!(stored.version.is_some_and(|stored| (stored > *version) == on_its_way && stored >= *version));
            }
            Some((key, found))
        })
        .collect()
}

#[test]
fn a_kill_loses_no_answered_write_and_tears_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let mut random = fastrand::Rng::with_seed(42);
    let mut last_epoch = 0;
    let mut known = HashMap::new();
    for round in 0..ROUNDS {
        let heard = heard_of_child(random.usize(1..80), &path);
        let storage = RedbStorage::open(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        known = compare(&storage, &known, &heard);
        let epoch = wait(storage.begin_epoch()).expect("there are many epochs");
        assert!(last_epoch < heard.epoch && heard.epoch < epoch, "{last_epoch}, {}, {epoch}", heard.epoch);
        last_epoch = epoch;
    }
    assert_eq!(known.len() as u64, WRITERS * KEYS_PER_WRITER, "every grain was written in {ROUNDS} rounds");
}
