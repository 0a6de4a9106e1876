//! Key texts as dense numbers.

use std::hash::{BuildHasher, BuildHasherDefault};

use rustc_hash::{FxHashMap, FxHasher};

/// No other key with the same hash.
const NONE: u32 = u32::MAX;

/// Gives each distinct text the next number, from 0. All texts lie in one allocation; memory grows
/// with the distinct texts only.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The latest key of each hash; earlier ones follow in `earlier_same_hash`.
    latest_by_hash: FxHashMap<u64, u32>,
    earlier_same_hash: Vec<u32>,
}

/// What [`Keys::intern`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Interned {
    /// The text was known.
    Known(u32),
    /// The text is new.
    New(u32),
    /// The text is new and there are as many keys as allowed.
    Full,
}

impl Keys {
    /// The number of `text`; a new one while there are fewer than `limit`.
    pub fn intern(&mut self, text: &[u8], limit: u32) -> Interned {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(text);
        self.intern_hashed(text, hash, limit)
    }

    fn intern_hashed(&mut self, text: &[u8], hash: u64, limit: u32) -> Interned {
        let latest = self.latest_by_hash.get(&hash).copied().unwrap_or(NONE);
        let mut candidate = latest;
        while candidate != NONE {
            if self.text(candidate) == text {
                return Interned::Known(candidate);
            }
            candidate = self.earlier_same_hash[candidate as usize];
        }
        let number = self.len();
        if number >= limit {
            return Interned::Full;
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.earlier_same_hash.push(latest);
        self.latest_by_hash.insert(hash, number);
        Interned::New(number)
    }

    /// The text with this number.
    pub fn text(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    /// How many distinct texts there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("never more keys than the limit, a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_get_dense_numbers_up_to_the_limit() {
        let mut keys = Keys::default();
        assert_eq!(keys.intern(b"a", 2), Interned::New(0));
        assert_eq!(keys.intern(b"", 2), Interned::New(1));
        assert_eq!(keys.intern(b"a", 2), Interned::Known(0));
        assert_eq!(keys.intern(b"", 2), Interned::Known(1));
        assert_eq!(keys.intern(b"c", 2), Interned::Full);
        assert_eq!((keys.len(), keys.text(0), keys.text(1)), (2, &b"a"[..], &b""[..]));
    }

    #[test]
    fn texts_with_the_same_hash_stay_apart() {
        let mut keys = Keys::default();
        for round in 0..2 {
            for number in 0..50_u32 {
                let found = keys.intern_hashed(format!("key {number}").as_bytes(), 7, 100);
                assert_eq!(found, if round == 0 { Interned::New(number) } else { Interned::Known(number) });
            }
        }
    }
}
