//! What a run counts for itself, and what it saw: the metrics are compared with the one, the other must be without fault.

use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sessions opened: by a grain's first call, and by its first after a deactivation.
    Activations,
    /// Sessions closed.
    Deactivations,
    /// Allocations asked for.
    Allocations,
    /// Their bytes.
    AllocatedBytes,
    /// Those that were answered as pool hits.
    PoolHits,
    /// Writes asked for.
    Writes,
    /// Their bytes.
    WrittenBytes,
    /// Reads asked for.
    Reads,
    /// Their bytes.
    ReadBytes,
    /// Computations asked for.
    Computes,
    /// Computations that found their kernel compiled. Only trackers count them one by one: an answer that is given up
    /// tells nobody.
    CacheHits,
    /// Releases of live allocations.
    Releases,
    /// Their bytes.
    ReleasedBytes,
    /// Those whose block was to go back to the pool.
    Returned,
    /// Releases of what was released before.
    StaleReleases,
    /// Allocations that a deactivation saved, each by one read.
    Saved,
    /// Allocations that an activation brought back, each by one write.
    Restored,
    /// Their bytes.
    RestoredBytes,
    /// Those that an idle block served, as the grain's tracker tells.
    RestoredHits,
    /// Requests for the metrics.
    MetricsRequests,
}

impl Kind {
    const COUNT: usize = Kind::MetricsRequests as usize + 1;

    /// The kinds that are requests: each is one message that the ring answers.
    const MESSAGES: [Kind; 11] = [
        Kind::Activations,
        Kind::Deactivations,
        Kind::Allocations,
        Kind::Writes,
        Kind::Reads,
        Kind::Computes,
        Kind::Releases,
        Kind::StaleReleases,
        Kind::Saved,
        Kind::Restored,
        Kind::MetricsRequests,
    ];
}

/// One number of each [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Kind::COUNT]);

impl Counts {
    /// Requests in all.
    pub fn messages(&self) -> u64 {
        Kind::MESSAGES.into_iter().map(|kind| self[kind]).sum()
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl Index<Kind> for Counts {
    type Output = u64;

    fn index(&self, kind: Kind) -> &u64 {
        &self.0[kind as usize]
    }
}

impl IndexMut<Kind> for Counts {
    fn index_mut(&mut self, kind: Kind) -> &mut u64 {
        &mut self.0[kind as usize]
    }
}

/// What was compared with a model kept outside, and what of it differed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes read back and compared.
    pub bytes: u64,
    /// Those that differed.
    pub wrong_bytes: u64,
    /// Answers of calls compared.
    pub answers: u64,
    /// Those that differed.
    pub wrong_answers: u64,
    /// What the first difference was.
    pub first_fault: Option<String>,
    /// Computations of a pipeline that were answered.
    pub pipelined: u64,
    /// The longest that any call took.
    pub longest: Duration,
}

impl Seen {
    /// Compares bytes; `what` names them.
    pub fn bytes(&mut self, found: &[u8], expected: &[u8], what: impl FnOnce() -> String) {
        self.bytes += expected.len() as u64;
        if found == expected {
            return;
        }
        let differs = |at: &usize| found.get(*at) != expected.get(*at);
        let length = found.len().max(expected.len());
        self.wrong_bytes += (0..length).filter(differs).count() as u64;
        if let Some(at) = (0..length).find(differs) {
            let byte = |bytes: &[u8]| bytes.get(at).map_or("nothing".to_owned(), |byte| format!("{byte:#04x}"));
            let (expected, found) = (byte(expected), byte(found));
            self.note(|| format!("{}: byte {at} is {found} and should be {expected}", what()));
        }
    }

    /// Takes an answer that is right or not; `what` says what is wrong about it.
    pub fn answer(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        self.answers += 1;
        if !is_right {
            self.wrong_answers += 1;
            self.note(what);
        }
    }

    /// A call that began at `since` is over.
    pub fn took(&mut self, since: Instant) {
        self.longest = self.longest.max(since.elapsed());
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: Seen) {
        self.bytes += other.bytes;
        self.wrong_bytes += other.wrong_bytes;
        self.answers += other.answers;
        self.wrong_answers += other.wrong_answers;
        self.first_fault = self.first_fault.take().or(other.first_fault);
        self.pipelined += other.pipelined;
        self.longest = self.longest.max(other.longest);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.first_fault.get_or_insert_with(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_differs_is_counted_and_the_first_one_named() {
        let mut seen = Seen::default();
        seen.bytes(&[1, 2, 3, 4], &[1, 2, 3, 4], || unreachable!());
        assert_eq!(seen, Seen { bytes: 4, ..Seen::default() });
        seen.bytes(&[1, 9, 9, 4], &[1, 2, 3, 4], || "block 7".to_owned());
        seen.bytes(&[1], &[1, 2], || "block 8".to_owned());
        assert_eq!((seen.bytes, seen.wrong_bytes), (10, 3));
        assert_eq!(seen.first_fault.as_deref(), Some("block 7: byte 1 is 0x09 and should be 0x02"));
    }

    #[test]
    fn messages_are_the_requests_and_not_their_bytes() {
        let mut counts = Counts::default();
        for kind in Kind::MESSAGES {
            counts[kind] += 1;
        }
        for kind in [Kind::AllocatedBytes, Kind::PoolHits, Kind::WrittenBytes, Kind::ReadBytes, Kind::Returned] {
            counts[kind] += 1000;
        }
        assert_eq!(counts.messages(), 11);
    }
}
