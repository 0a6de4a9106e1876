//! A silo that is killed: what was saved comes back by policy, what was not is refused as lost, and no handle ever names
//! another block.
//!
//! The child is this very program, asked for its one ignored test: it makes grains on the null device over a file, saves
//! some of them, goes on allocating, and says so on its standard output after each answer. The parent kills it in the
//! middle, opens a silo on the same file, and compares.

mod killed_child;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gpubridge_abstractions::{AllocationId, Backend, DeviceIndex, ErrorKind, GpuMemoryHandle, MemoryType, NullBackend};
use gpubridge_grains::storage::RedbStorage;
use gpubridge_grains::{GrainRef, Silo, SiloConfig, UncleanPolicy, wait};
use killed_child::{kill_after, say, start};

const FILE: &str = "GPUBRIDGE_TEST_SILO_FILE";
const GRAINS: u64 = 4;
const ROUNDS: u64 = 8;
const SIZE_BYTES: u64 = 256;

/// What the child answered: per grain its handles with their values, and how many there were at its last save.
#[derive(Default)]
struct Heard {
    made: BTreeMap<u64, Vec<(AllocationId, u64)>>,
    /// Handles that were live at the last answered save.
    saved: BTreeMap<u64, usize>,
    /// Saves that had begun; the last one may be on its way.
    begun: BTreeMap<u64, usize>,
    answers: usize,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        match kind {
            Some("made") => {
                let (key, slot, generation, value) = (number(), number() as u32, number(), number());
                self.made.entry(key).or_default().push((AllocationId { slot, generation }, value));
            }
            Some("saving") => {
                let (key, count) = (number(), number() as usize);
                self.begun.insert(key, count);
            }
            Some("saved") => {
                let (key, count) = (number(), number() as usize);
                self.saved.insert(key, count);
            }
            // Lines of the test harness.
            _ => return,
        }
        self.answers += 1;
    }
}

fn open(path: &Path, unclean: UncleanPolicy) -> Silo {
    let device = NullBackend::default().open(DeviceIndex(0)).expect("there is a null device");
    let storage = Arc::new(RedbStorage::open(path).expect("the file opens"));
    let mut config = SiloConfig::default();
    config.unclean = unclean;
    config.memory.ring.slots = 64;
    wait(Silo::start(device, storage, config)).expect("the silo starts")
}

fn handle(id: AllocationId) -> GpuMemoryHandle {
    GpuMemoryHandle {
        id,
        size_bytes: SIZE_BYTES,
        memory_type: MemoryType::Default,
        device_index: DeviceIndex(0),
        allocated_at: UNIX_EPOCH,
    }
}

/// Allocates and fills with a value.
fn make(grain: &GrainRef, value: u64) -> AllocationId {
    let handle = wait(grain.allocate(SIZE_BYTES, MemoryType::Default)).expect("there is room");
    grain.write(handle, &[value; SIZE_BYTES as usize / 8], 0).wait().expect("is written");
    handle.id
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
#[ignore = "the child process of the other tests; without its parent it has nothing to do"]
fn child() {
    let Some(path) = std::env::var_os(FILE) else {
        println!("skipped: only another test can start this one");
        return;
    };
    let silo = open(Path::new(&path), UncleanPolicy::RestoreLastSave);
    let grains: Vec<_> = (0..GRAINS).map(|key| silo.grain(key).expect("the key is good")).collect();
    let mut counts = [0; GRAINS as usize];
    for step in 0_u64.. {
        let key = step % GRAINS;
        let grain = &grains[key as usize];
        let value = silo.epoch() << 32 | step;
        let id = make(grain, value);
        counts[key as usize] += 1;
        say(&format!("made {key} {} {} {value}", id.slot, id.generation));
        // The last grain is never saved; the others at their own pace.
        if key < GRAINS - 1 && (step / GRAINS).is_multiple_of(key + 2) {
            say(&format!("saving {key} {}", counts[key as usize]));
            wait(grain.save()).expect("is saved");
            say(&format!("saved {key} {}", counts[key as usize]));
        }
    }
}

fn read(grain: &GrainRef, id: AllocationId) -> Result<u64, ErrorKind> {
    match wait(grain.read::<u64>(handle(id), 0, SIZE_BYTES as usize / 8)) {
        Ok(values) => {
            assert!(values.iter().all(|value| *value == values[0]), "{id} holds a mixture");
            Ok(values[0])
        }
        Err(error) => Err(error.kind()),
    }
}

/// What became of one grain's handles: those of the last save by policy, all later ones lost.
fn compare(grain: &GrainRef, key: u64, heard: &Heard, unclean: UncleanPolicy) {
    let made = heard.made.get(&key).map_or(&[][..], Vec::as_slice);
    let saved = heard.saved.get(&key).copied().unwrap_or(0);
    // A save that was on its way when the child was killed took effect or not.
    let at_most = heard.begun.get(&key).copied().unwrap_or(0).max(saved);
    let found = made.iter().map(|(id, _)| read(grain, *id)).collect::<Vec<_>>();
    let restored = match unclean {
        UncleanPolicy::RestoreLastSave => found.iter().take_while(|found| found.is_ok()).count(),
        // All are marked: which of them the record knows shows when they are written.
        UncleanPolicy::MarkLost => {
            let write = |id| grain.write(handle(id), &[7_u64; SIZE_BYTES as usize / 8], 0).wait();
            made.iter().take_while(|(id, _)| write(*id).is_ok()).count()
        }
    };
    assert!(saved <= restored && restored <= at_most, "grain {key}: {restored} restored, {saved} to {at_most} saved");
    for (index, ((id, value), found)) in made.iter().zip(found).enumerate() {
        let expected = match unclean {
            UncleanPolicy::RestoreLastSave if index < restored => Ok(*value),
            _ => Err(ErrorKind::ContentsLost),
        };
        assert_eq!(found, expected, "grain {key}, handle {index} of {}: {id}", made.len());
    }
    name_nothing_else(grain, &made[restored..]);
}

/// Lost handles stay lost when their slots are taken by new allocations, and reach none of them.
fn name_nothing_else(grain: &GrainRef, lost: &[(AllocationId, u64)]) {
    let new: Vec<_> = (0..lost.len() as u64 + 2).map(|value| (make(grain, !value), !value)).collect();
    let slots: HashSet<u32> = new.iter().map(|(id, _)| id.slot).collect();
    assert!(lost.iter().all(|(id, _)| slots.contains(&id.slot)), "the lost handles' slots are taken");
    for (id, _) in lost {
        assert_eq!(read(grain, *id), Err(ErrorKind::ContentsLost), "{id} came back");
        let write = grain.write(handle(*id), &[0_u64; SIZE_BYTES as usize / 8], 0).wait();
        assert_eq!(write.expect_err("it is lost").kind(), ErrorKind::ContentsLost);
        assert_eq!(wait(grain.release(handle(*id), true)).expect("is answered").bytes_freed, 0);
    }
    for (id, value) in new {
        assert_eq!(read(grain, id), Ok(value), "a lost handle reached {id}");
    }
}

fn rounds(unclean: UncleanPolicy) {
    let mut random = fastrand::Rng::with_seed(42);
    let mut epochs = HashSet::new();
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("grains.redb");
        let heard = heard_of_child(random.usize(5..120), &path);
        let silo = open(&path, unclean);
        epochs.insert(silo.epoch());
        for key in 0..GRAINS {
            compare(&silo.grain(key).expect("the key is good"), key, &heard, unclean);
        }
        drop(silo);
        assert!(heard.made.values().flatten().all(|(id, _)| id.epoch() < 2), "round {round}: the child was the first");
    }
    assert_eq!(epochs, HashSet::from([2]), "each run takes an epoch of its own");
}

/// Goal: after `kill -9` the saved handles hold what was saved last. Method: eight kills at random moments.
#[test]
fn after_a_kill_the_last_save_is_restored() {
    rounds(UncleanPolicy::RestoreLastSave);
}

/// Goal: by the other policy all contents are marked lost, and the saved handles live on. Method: as above.
#[test]
fn after_a_kill_everything_is_marked_lost() {
    rounds(UncleanPolicy::MarkLost);
}

/// Goal: several kills in a row on one file. Method: each child goes on where the one before was killed; handles of every
/// earlier run that no save knew are refused.
#[test]
fn kills_in_a_row_bring_no_handle_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("grains.redb");
    let mut random = fastrand::Rng::with_seed(7);
    let mut all: BTreeMap<u64, Vec<(AllocationId, u64)>> = BTreeMap::new();
    for _ in 0..5 {
        let heard = heard_of_child(random.usize(5..60), &path);
        for (key, made) in heard.made {
            all.entry(key).or_default().extend(made);
        }
    }
    let ids: Vec<_> = all.values().flatten().map(|(id, _)| *id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a handle was issued twice");
    let silo = open(&path, UncleanPolicy::RestoreLastSave);
    for (key, made) in all {
        let grain = silo.grain(key).expect("the key is good");
        let mut restored = 0;
        for (id, value) in made {
            match read(&grain, id) {
                Ok(found) => {
                    assert_eq!(found, value, "grain {key}: {id} names another block");
                    restored += 1;
                }
                Err(kind) => assert!(matches!(kind, ErrorKind::ContentsLost | ErrorKind::NotFound), "{kind:?}"),
            }
        }
        assert_eq!(restored == 0, key == GRAINS - 1, "grain {key}: {restored} restored");
    }
}
