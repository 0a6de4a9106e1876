//! How a grain lies in the file.
//!
//! A head per grain, and the record's bytes in a table of their own: comparing versions, noting a grain as unsaved and
//! loading all keys at the start touch heads only, however large the records are.
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | magic `GR` |
//! | 2 | layout, 1 |
//! | 3 | flags: 1 = there is a record, 2 = noted as unsaved |
//! | 4..8 | CRC-32 of the record's bytes |
//! | 8..16 | version of the record, 0 without one |
//! | 16..24 | length of the record in bytes |
//! | 24..28 | CRC-32 of the encoded key and bytes 0..24 |
//!
//! Numbers are little-endian.

use ::redb::TableDefinition;

use super::super::VersionTag;

/// The file's format and the storage's counters, by name.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("gpubridge.meta");
/// Encoded key to [`Head`].
pub(super) const HEADS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("gpubridge.heads");
/// Encoded key to the record's bytes.
pub(super) const BODIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("gpubridge.bodies");

/// Names in [`META`].
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_VERSION: &str = "last_version";
pub(super) const META_EPOCH: &str = "last_epoch";

/// The format of the file as a whole: which tables there are and what they mean.
pub(super) const FORMAT: u64 = 1;

const MAGIC: [u8; 2] = *b"GR";
const LAYOUT: u8 = 1;
const HEAD_BYTES: usize = 28;
const FLAG_RECORD: u8 = 1;
const FLAG_UNSAVED: u8 = 2;

/// What is known of one grain without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub record: Option<RecordInfo>,
    pub unsaved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordInfo {
    pub version: VersionTag,
    pub size_bytes: u64,
    pub crc: u32,
}

impl Head {
    pub fn version(&self) -> Option<VersionTag> {
        self.record.map(|record| record.version)
    }

    pub fn encode(&self, key: &[u8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = LAYOUT;
        bytes[3] = if self.unsaved { FLAG_UNSAVED } else { 0 };
        if let Some(record) = &self.record {
            bytes[3] |= FLAG_RECORD;
            bytes[4..8].copy_from_slice(&record.crc.to_le_bytes());
            bytes[8..16].copy_from_slice(&record.version.0.to_le_bytes());
            bytes[16..24].copy_from_slice(&record.size_bytes.to_le_bytes());
        }
        let crc = head_crc(key, &bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The head in `bytes`, or what is wrong with them.
    pub fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, String> {
        let bytes: &[u8; HEAD_BYTES] =
            bytes.try_into().map_err(|_| format!("its head has {} bytes instead of {HEAD_BYTES}", bytes.len()))?;
        if bytes[..2] != MAGIC {
            return Err("its head does not begin with the magic bytes".to_owned());
        }
        if bytes[2] != LAYOUT {
            return Err(format!("its head has layout {}, this version reads layout {LAYOUT}", bytes[2]));
        }
        if u32_at(bytes, 24) != head_crc(key, &bytes[..24]) {
            return Err("the checksum of its head does not match".to_owned());
        }
        let record = (bytes[3] & FLAG_RECORD != 0).then(|| RecordInfo {
            version: VersionTag(u64_at(bytes, 8)),
            size_bytes: u64_at(bytes, 16),
            crc: u32_at(bytes, 4),
        });
        Ok(Self { record, unsaved: bytes[3] & FLAG_UNSAVED != 0 })
    }
}

impl RecordInfo {
    /// Whether `body` is what was written, or what is wrong with it.
    pub fn check(&self, body: Option<&[u8]>) -> Result<(), String> {
        let body = body.ok_or("its bytes are missing")?;
        if body.len() as u64 != self.size_bytes {
            return Err(format!("it has {} bytes instead of {}", body.len(), self.size_bytes));
        }
        if crc32fast::hash(body) != self.crc {
            return Err("the checksum of its bytes does not match".to_owned());
        }
        Ok(())
    }
}

fn head_crc(key: &[u8], fields: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(fields);
    crc.finalize()
}

fn u32_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn u64_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"\x02grain";

    fn heads() -> [Head; 4] {
        let record = Some(RecordInfo { version: VersionTag(1 << 40 | 5), size_bytes: 1 << 20, crc: 0xdead_beef });
        [(None, false), (None, true), (record, false), (record, true)].map(|(record, unsaved)| Head { record, unsaved })
    }

    #[test]
    fn heads_survive_the_round_trip() {
        for head in heads() {
            assert_eq!(Head::decode(KEY, &head.encode(KEY)), Ok(head));
        }
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        for head in heads() {
            let bytes = head.encode(KEY);
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut damaged = bytes;
                damaged[at] ^= 1 << bit;
                assert!(Head::decode(KEY, &damaged).is_err(), "byte {at}, bit {bit} of {head:?}");
            }
            assert!(Head::decode(b"\x02other", &bytes).is_err(), "a head of another key");
            assert!(Head::decode(KEY, &bytes[..27]).is_err());
        }
    }

    #[test]
    fn a_body_is_checked_against_its_head() {
        let info = RecordInfo { version: VersionTag(1), size_bytes: 4, crc: crc32fast::hash(b"good") };
        assert_eq!(info.check(Some(b"good")), Ok(()));
        for body in [None, Some(&b"goo"[..]), Some(b"goods"), Some(b"food")] {
            assert!(info.check(body).is_err(), "{body:?}");
        }
    }
}
