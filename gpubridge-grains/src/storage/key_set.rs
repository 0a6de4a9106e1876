//! The set of 64-bit key hashes that makes a new key known as new without a look at the medium.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

/// Spreads the readers' lock words over cache lines; also bounds how much a growing set moves at once.
const SHARDS: usize = 64;

/// Takes the hash as it is: stable hashes are well mixed already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only 64-bit hashes are kept")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
#[repr(align(64))]
struct Shard {
    hashes: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// How many further keys share a hash of `hashes`: without it, removing one of them would hide the others.
    /// Empty but for one pair of keys in billions.
    shared: HashMap<u64, u32>,
}

/// A multiset of hashes; nine bytes a key, times the slack of a hash table.
///
/// One writer calls `insert` when a key appears and `remove` when it is gone; any number of threads read.
pub(super) struct KeySet {
    shards: [RwLock<Shard>; SHARDS],
}

impl KeySet {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }

    /// Never allocates; waits for the writer's single insertion at the most.
    pub(super) fn contains(&self, hash: u64) -> bool {
        // A panic between two statements below leaves at worst one key too many, which is allowed.
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner).hashes.contains(&hash)
    }

    pub(super) fn insert(&self, hash: u64) {
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        if !shard.hashes.insert(hash) {
            *shard.shared.entry(hash).or_insert(0) += 1;
        }
    }

    pub(super) fn remove(&self, hash: u64) {
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        match shard.shared.get_mut(&hash) {
            None => {
                shard.hashes.remove(&hash);
            }
            Some(1) => {
                shard.shared.remove(&hash);
            }
            Some(further) => *further -= 1,
        }
    }

    /// The middle bits choose the shard: the table inside uses the lowest and the highest ones.
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_one_of_several_keys_with_one_hash_does_not_hide_the_others() {
        let set = KeySet::new();
        for _ in 0..3 {
            set.insert(7);
        }
        set.insert(8);
        for left in [2, 1] {
            set.remove(7);
            assert!(set.contains(7), "{left} keys are left");
        }
        set.remove(7);
        assert!(!set.contains(7));
        assert!(set.contains(8));
    }

    #[test]
    fn all_shards_hold_what_was_inserted() {
        let set = KeySet::new();
        let hashes: Vec<u64> = (0..100_000u64).map(|number| crate::GrainKey::from(number).stable_hash()).collect();
        hashes.iter().for_each(|hash| set.insert(*hash));
        assert!(hashes.iter().all(|hash| set.contains(*hash)));
        assert!((200_000..300_000u64).all(|number| !set.contains(crate::GrainKey::from(number).stable_hash())));
        assert!(set.shards.iter().all(|shard| !shard.read().expect("no panic").hashes.is_empty()));
    }
}
