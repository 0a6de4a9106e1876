//! The saved form of one grain's resident memory.
//!
//! It knows nothing of rings, devices or storages: slots, sizes, and the bytes where they were saved. As bytes it is a
//! frame of 20 (magic `GBSN`, layout, length and CRC-32, numbers little-endian), then the fields in postcard's wire
//! format. The layout number grows with every change of the fields.

use std::collections::HashSet;
use std::time::SystemTime;

use gpubridge_abstractions::{Error, ErrorKind, MemoryType, Result};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 4] = *b"GBSN";
const LAYOUT: u32 = 1;
/// Magic, layout (u32), length of the body (u64), CRC-32 of those three and the body (u32).
const FRAME_BYTES: usize = 20;
const CRC_AT: usize = 16;

/// Everything that an activation needs to put a grain's memory back under the same handles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrainSnapshot {
    /// The epoch of the silo that saved it.
    pub epoch: u64,
    /// When it was saved.
    pub saved_at: SystemTime,
    /// The grain was deactivated with this snapshot. `false`: it went on, so an activation that finds this snapshot
    /// follows an unclean stop.
    pub closed: bool,
    /// The greatest generation that the silo had issued, to any grain. A handle that is not among `allocations`
    /// had been released if its generation is not above this; otherwise it is lost.
    pub issued_up_to: u64,
    /// The live allocations; no two share a slot.
    pub allocations: Vec<SavedAllocation>,
    /// The slot of the allocation that holds the whole-grain buffer, if one was stored.
    pub store_slot: Option<u32>,
}

/// One allocation of a [`GrainSnapshot`].
///
/// # Behavior
/// - **as-issued**: It says of the allocation what the handle said that was issued for it, after any number of restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAllocation {
    /// The slot of its id.
    pub slot: u32,
    /// The generation of its id.
    pub generation: u64,
    /// The size asked for, in bytes.
    pub size_bytes: u64,
    /// The kind of memory.
    #[serde(with = "memory_type")]
    pub memory_type: MemoryType,
    /// The index of the device that held it.
    pub device_index: u32,
    /// When it was allocated first.
    pub allocated_at: SystemTime,
    /// Its contents, `size_bytes` long. `None`: they were not saved, and the allocation comes back marked as lost.
    #[serde(with = "contents")]
    pub contents: Option<Vec<u8>>,
}

impl GrainSnapshot {
    /// The snapshot as bytes, for [`GrainStorage::write`](super::GrainStorage::write).
    ///
    /// # Errors
    /// `InvalidArgument` if the fields contradict each other, or a time lies before 1970.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidArgument, "snapshot.encode", what);
        self.check().map_err(invalid)?;
        let contents_bytes: usize =
            self.allocations.iter().map(|saved| saved.contents.as_ref().map_or(0, Vec::len)).sum();
        // The other fields of an allocation take about 40 bytes; a wrong guess costs a copy, nothing else.
        let mut bytes = Vec::with_capacity(FRAME_BYTES + 64 + 48 * self.allocations.len() + contents_bytes);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&LAYOUT.to_le_bytes());
        bytes.resize(FRAME_BYTES, 0);
        let mut bytes = postcard::to_extend(self, bytes)
            .map_err(|error| invalid(format!("a field cannot be saved ({error})")).with_source(error))?;
        let body_bytes = (bytes.len() - FRAME_BYTES) as u64;
        bytes[8..CRC_AT].copy_from_slice(&body_bytes.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[CRC_AT..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// The snapshot that [`GrainSnapshot::encode`] turned into `bytes`.
    ///
    /// # Errors
    /// `Corrupt` if they are damaged, incomplete, no snapshot, or of a layout that this version does not read.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |what: &str| {
            let message = format!("the snapshot cannot be used: {what}; restore it from elsewhere");
            Error::new(ErrorKind::Corrupt, "snapshot.decode", message)
        };
        let (frame, body) =
            bytes.split_first_chunk::<FRAME_BYTES>().ok_or_else(|| corrupt("it is shorter than its frame"))?;
        if frame[..4] != MAGIC {
            return Err(corrupt("it does not begin with the magic bytes"));
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| frame[at + index]));
        if word(4) != LAYOUT {
            return Err(corrupt(&format!("it has layout {}, this version reads layout {LAYOUT}", word(4))));
        }
        let body_bytes = u64::from(word(12)) << 32 | u64::from(word(8));
        if body.len() as u64 != body_bytes {
            return Err(corrupt(&format!("its body has {} bytes instead of {body_bytes}", body.len())));
        }
        if checksum(bytes) != word(CRC_AT) {
            return Err(corrupt("its checksum does not match"));
        }
        let (snapshot, rest): (Self, _) = postcard::take_from_bytes(body)
            .map_err(|error| corrupt(&format!("a field cannot be read ({error})")).with_source(error))?;
        if !rest.is_empty() {
            return Err(corrupt(&format!("{} bytes follow its last field", rest.len())));
        }
        snapshot.check().map_err(|what| corrupt(&what))?;
        Ok(snapshot)
    }

    /// What every snapshot keeps to, going out and coming in.
    fn check(&self) -> Result<(), String> {
        let mut slots = HashSet::with_capacity(self.allocations.len());
        for saved in &self.allocations {
            let slot = saved.slot;
            if !slots.insert(slot) {
                return Err(format!("two allocations have slot {slot}"));
            }
            if saved.generation > self.issued_up_to {
                return Err(format!(
                    "slot {slot} has generation {:#x}, but none above {:#x} was issued",
                    saved.generation, self.issued_up_to
                ));
            }
            let length = saved.contents.as_ref().map(|contents| contents.len() as u64);
            if length.is_some_and(|length| length != saved.size_bytes) {
                return Err(format!(
                    "slot {slot} has {} bytes, but {} bytes of contents",
                    saved.size_bytes,
                    length.unwrap_or_default()
                ));
            }
        }
        match self.store_slot {
            Some(slot) if !slots.contains(&slot) => Err(format!("the stored buffer's slot {slot} is not allocated")),
            _ => Ok(()),
        }
    }
}

/// Of everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..CRC_AT]);
    crc.update(&bytes[FRAME_BYTES..]);
    crc.finalize()
}

/// A memory type is saved as its number.
mod memory_type {
    use gpubridge_abstractions::MemoryType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(memory_type: &MemoryType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*memory_type as u8)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemoryType, D::Error> {
        let number = u8::deserialize(deserializer)?;
        MemoryType::from_number(number).ok_or_else(|| D::Error::custom(format!("memory type {number} is unknown")))
    }
}

/// Contents are copied as a whole; a plain `Vec<u8>` would be visited byte by byte.
mod contents {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    struct Whole<'a>(&'a [u8]);

    impl Serialize for Whole<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    pub fn serialize<S: Serializer>(contents: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        contents.as_deref().map(Whole).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<&[u8]>::deserialize(deserializer)?.map(<[u8]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn allocation(slot: u32, contents: Option<Vec<u8>>) -> SavedAllocation {
        SavedAllocation {
            slot,
            generation: 3 << 40 | u64::from(slot),
            size_bytes: contents.as_ref().map_or(4096, |contents| contents.len() as u64),
            memory_type: MemoryType::ALL[slot as usize % MemoryType::ALL.len()],
            device_index: slot % 2,
            allocated_at: SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, slot),
            contents,
        }
    }

    fn snapshot() -> GrainSnapshot {
        GrainSnapshot {
            epoch: 4,
            saved_at: SystemTime::UNIX_EPOCH + Duration::new(1_790_000_100, 7),
            closed: true,
            issued_up_to: 4 << 40 | 9,
            allocations: vec![
                allocation(0, Some((0..=255).collect())),
                allocation(1, None),
                allocation(2, Some(Vec::new())),
                allocation(3, Some(vec![0xff; 300])),
                allocation(9, None),
            ],
            store_slot: Some(3),
        }
    }

    fn reason(bytes: &[u8]) -> String {
        let error = GrainSnapshot::decode(bytes).expect_err("the bytes are damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.to_string()
    }

    #[test]
    fn snapshots_survive_the_round_trip() {
        let empty = GrainSnapshot { allocations: Vec::new(), store_slot: None, closed: false, ..snapshot() };
        for snapshot in [snapshot(), empty] {
            let bytes = snapshot.encode().expect("the snapshot is sound");
            assert_eq!(GrainSnapshot::decode(&bytes).expect("the bytes are sound"), snapshot);
        }
    }

    #[test]
    fn the_layout_does_not_change_without_its_number() {
        let snapshot = GrainSnapshot { allocations: vec![allocation(3, Some(vec![1, 2]))], ..snapshot() };
        let bytes = snapshot.encode().expect("the snapshot is sound");
        assert_eq!(bytes[..8], *b"GBSN\x01\0\0\0");
        let (times, number) = ([228, 247, 196, 213, 6, 7], [128, 128, 128, 128]);
        let head = [&[4], &times[..], &[1, 137, 128], &number, &[1, 1]].concat();
        let saved = [&[3, 131], &number[..], &[96, 2, 3, 1, 128, 247, 196, 213, 6, 3, 1, 2, 1, 2]].concat();
        assert_eq!(bytes[FRAME_BYTES..], [&head[..], &saved, &[1, 3]].concat());
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let bytes = snapshot().encode().expect("the snapshot is sound");
        for at in 0..bytes.len() {
            for change in 1..=255 {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                reason(&damaged);
            }
        }
    }

    #[test]
    fn a_missing_or_further_byte_is_noticed() {
        let mut bytes = snapshot().encode().expect("the snapshot is sound");
        (0..bytes.len()).for_each(|length| drop(reason(&bytes[..length])));
        bytes.push(0);
        assert!(reason(&bytes).contains("instead of"));
    }

    /// Puts a valid checksum on a damaged snapshot, as a writer of another version would.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let body_bytes = (bytes.len() - FRAME_BYTES) as u64;
        bytes[8..CRC_AT].copy_from_slice(&body_bytes.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[CRC_AT..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_foreign_layout_is_refused_by_its_number() {
        let mut bytes = snapshot().encode().expect("the snapshot is sound");
        bytes[4] = 2;
        assert!(reason(&sealed(bytes)).contains("it has layout 2, this version reads layout 1"));
    }

    #[test]
    fn nonsense_under_a_valid_checksum_is_refused_and_never_panics() {
        let bytes = snapshot().encode().expect("the snapshot is sound");
        for at in FRAME_BYTES..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= change;
                // Some of these are sound snapshots with other contents: only a panic would be wrong.
                let _ = GrainSnapshot::decode(&sealed(other));
            }
            reason(&sealed(bytes[..at].to_vec()));
        }
        assert!(reason(&sealed([&bytes[..], &[0]].concat())).contains("1 bytes follow"));
    }

    #[test]
    fn contradictions_are_refused_on_the_way_out_and_in() {
        type Break = fn(&mut GrainSnapshot);
        let cases: [(Break, &str); 4] = [
            (|snapshot| snapshot.allocations[1].slot = 0, "two allocations have slot 0"),
            (|snapshot| snapshot.allocations[0].size_bytes = 255, "255 bytes, but 256 bytes of contents"),
            (|snapshot| snapshot.allocations[4].generation = 5 << 40, "but none above 0x40000000009 was issued"),
            (|snapshot| snapshot.store_slot = Some(8), "slot 8 is not allocated"),
        ];
        for (break_it, what) in cases {
            let mut broken = snapshot();
            break_it(&mut broken);
            let error = broken.encode().expect_err(what);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(what), "{error}");
            let frame = [&MAGIC[..], &LAYOUT.to_le_bytes(), &[0; 12]].concat();
            let bytes = sealed(postcard::to_extend(&broken, frame).expect("postcard knows no contradictions"));
            assert!(reason(&bytes).contains(what));
        }
    }

    #[test]
    fn a_time_before_1970_is_refused() {
        let early = GrainSnapshot { saved_at: SystemTime::UNIX_EPOCH - Duration::from_secs(1), ..snapshot() };
        assert_eq!(early.encode().expect_err("the time cannot be saved").kind(), ErrorKind::InvalidArgument);
    }
}
