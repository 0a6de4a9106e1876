//! The name of a grain within its kind.

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind, Result};

/// Tag bytes of the encoding. They are stored: a number is never given another meaning.
const TAG_INTEGER: u8 = 1;
const TAG_TEXT: u8 = 2;

/// Names one grain: by number or by text. Cheap to clone (a text is shared, not copied).
///
/// The two never meet: `GrainKey::from(7)` and `GrainKey::from("7")` are two grains, although both are displayed
/// as `7`; [`GrainKey::encode`] tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrainKey {
    /// A number.
    Integer(u64),
    /// A text; storages take at most [`GrainKey::MAX_TEXT_BYTES`].
    Text(Arc<str>),
}

impl GrainKey {
    /// The longest text a storage takes, in bytes of UTF-8.
    pub const MAX_TEXT_BYTES: usize = 1024;

    /// A 64-bit hash that is the same in every process, on every machine and in every version, so that it may be stored
    /// and may choose a lane.
    ///
    /// The text's bytes are taken as little-endian words of eight (the last one padded with zeros), an integer as one
    /// word. From a start value that holds the kind and the length, each word is mixed in by exclusive or, an odd
    /// multiplication and `h ^= h >> 32`; the end is the 64-bit finaliser of MurmurHash3. Each step is a bijection, so
    /// two integers never collide. It does not resist keys that are chosen to collide: those share a lane and
    /// cost [`GrainStorage::may_contain`](crate::storage::GrainStorage::may_contain) a false positive, no more.
    pub fn stable_hash(&self) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |hash: u64, word: u64| {
            let hash = (hash ^ word).wrapping_mul(FACTOR);
            hash ^ hash >> 32
        };
        let hash = match self {
            Self::Integer(number) => mix(u64::from(TAG_INTEGER), *number),
            Self::Text(text) => {
                let start = u64::from(TAG_TEXT) | (text.len() as u64) << 8;
                text.as_bytes().chunks(8).fold(start, |hash, chunk| {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    mix(hash, u64::from_le_bytes(word))
                })
            }
        };
        let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }

    /// Whether storages take the key.
    ///
    /// # Errors
    /// `InvalidArgument`, in the name of `operation`, if it is a text longer than [`GrainKey::MAX_TEXT_BYTES`].
    pub fn check(&self, operation: &'static str) -> Result<()> {
        match self {
            Self::Text(text) if text.len() > Self::MAX_TEXT_BYTES => {
                let message = format!(
                    "the grain key has {} bytes, the limit is {}; use a shorter key, such as a hash of this one",
                    text.len(),
                    Self::MAX_TEXT_BYTES
                );
                Err(Error::new(ErrorKind::InvalidArgument, operation, message))
            }
            _ => Ok(()),
        }
    }

    /// The key as bytes, for storages: a tag byte, then the number as eight big-endian bytes, or the text as UTF-8.
    ///
    /// Two keys have the same bytes only if they are equal, and byte order is the order of the keys.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, number);
        let rest = match self {
            Self::Integer(value) => {
                number = value.to_be_bytes();
                tag = TAG_INTEGER;
                &number[..]
            }
            Self::Text(text) => {
                tag = TAG_TEXT;
                text.as_bytes()
            }
        };
        let mut bytes = Vec::with_capacity(1 + rest.len());
        bytes.push(tag);
        bytes.extend_from_slice(rest);
        bytes
    }

    /// The key that [`GrainKey::encode`] turned into `bytes`; `None` if it made no such bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&TAG_INTEGER, number) => Some(Self::Integer(u64::from_be_bytes(number.try_into().ok()?))),
            (&TAG_TEXT, text) => Some(Self::Text(std::str::from_utf8(text).ok()?.into())),
            _ => None,
        }
    }
}

impl From<u64> for GrainKey {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for GrainKey {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for GrainKey {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for GrainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Hashes are stored. If this fails, the hash must be put back, not the figures.
        let cases: [(GrainKey, u64); 6] = [
            (0.into(), 0xd30c_4dd7_e422_1de7),
            (1.into(), 0x0000_0000_0000_0000),
            (u64::MAX.into(), 0xcbfe_8a3b_c9af_ee9d),
            ("".into(), 0x3abf_2a20_6506_83e7),
            ("account/42".into(), 0xa159_7a07_ce7f_fd22),
            ("Prüfstand".into(), 0xb42a_7970_ea7f_f8b0),
        ];
        for (key, hash) in cases {
            assert_eq!(key.stable_hash(), hash, "{key:?} has {:#018x}", key.stable_hash());
        }
    }

    #[test]
    fn hashes_spread_over_few_lanes() {
        const LANES: usize = 8;
        const KEYS: u64 = 80_000;
        let kinds: [fn(u64) -> GrainKey; 3] =
            [GrainKey::from, |number| (number << 40).into(), |number| format!("grain-{number}").into()];
        for kind in kinds {
            let mut low = [0u64; LANES];
            let mut high = [0u64; LANES];
            for hash in (0..KEYS).map(|number| kind(number).stable_hash()) {
                low[(hash % LANES as u64) as usize] += 1;
                high[(hash >> 61) as usize] += 1;
            }
            for count in low.into_iter().chain(high) {
                let even = KEYS / LANES as u64;
                assert!(count.abs_diff(even) < even / 20, "a lane has {count} of {KEYS} keys, even is {even}");
            }
        }
    }

    #[test]
    fn the_encoding_is_unambiguous_and_keeps_the_order() {
        let mut keys: Vec<GrainKey> = vec![
            "".into(),
            "7".into(),
            "\u{1}\0\0\0\0\0\0\u{7}".into(),
            "a".into(),
            "a\0".into(),
            String::from("ab").into(),
            0.into(),
            7.into(),
            256.into(),
            u64::MAX.into(),
        ];
        keys.sort();
        let encoded: Vec<Vec<u8>> = keys.iter().map(GrainKey::encode).collect();
        assert!(encoded.is_sorted_by(|left, right| left < right), "{encoded:?}");
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(GrainKey::decode(bytes).as_ref(), Some(key));
        }
        for foreign in [&[][..], &[0], &[3, b'a'], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 7], &[2, 0xff]] {
            assert_eq!(GrainKey::decode(foreign), None, "{foreign:?}");
        }
        assert_eq!(encoded[1], [1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(GrainKey::from("a").encode(), [2, b'a']);
    }

    #[test]
    fn a_key_that_storages_refuse_is_told_before() {
        let longest = "ü".repeat(GrainKey::MAX_TEXT_BYTES / 2);
        assert!(GrainKey::from(longest.as_str()).check("grain.activate").is_ok());
        let error = GrainKey::from(longest + "x").check("grain.activate").expect_err("one byte too long");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("1025 bytes, the limit is 1024"), "{error}");
    }

    #[test]
    fn keys_are_displayed_as_they_were_given() {
        assert_eq!(GrainKey::from(42).to_string(), "42");
        assert_eq!(GrainKey::from("account/42").to_string(), "account/42");
    }
}
