//! Identifiers: small `Copy` newtypes, so that one kind of number is never taken for another.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The index of a device within its backend, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub u32);

impl fmt::Display for DeviceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stable id of a kernel. Ids below [`KernelId::FIRST_USER`] belong to the kernel library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelId(pub u32);

impl KernelId {
    /// The first id that is free for users' own kernels.
    pub const FIRST_USER: KernelId = KernelId(1024);
}

impl fmt::Display for KernelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names an allocation for as long as its owner lives: through deactivation, reactivation and restart.
///
/// `slot` is an index into the owner's own table. `generation` is unique within a storage for ever (its upper bits are
/// the epoch of the run that issued it), so an id that was released or lost never names another block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId {
    /// Index into the owner's table.
    pub slot: u32,
    /// Unique number of the allocation; see [`AllocationId::epoch`].
    pub generation: u64,
}

impl AllocationId {
    /// Bits of the generation that count allocations within one epoch.
    pub const COUNTER_BITS: u32 = 40;

    /// The epoch in which the id was issued.
    pub fn epoch(self) -> u64 {
        self.generation >> Self::COUNTER_BITS
    }
}

impl fmt::Display for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.slot, self.generation)
    }
}

/// A unique 128-bit request id: the upper half is drawn at random once per process, the lower half counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

impl RequestId {
    /// A new id. Never blocks or allocates; each thread takes its numbers in blocks, so no line is shared per call.
    pub fn next() -> Self {
        const BLOCK: u64 = 1 << 20;
        static BLOCKS: AtomicU64 = AtomicU64::new(0);
        static PROCESS: OnceLock<u64> = OnceLock::new();
        thread_local! {
            // (upper half, next number, end of the block)
            static NEXT: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
        }
        NEXT.with(|next| {
            let (mut process, mut number, mut end) = next.get();
            if number == end {
                // The standard library's hasher keys are its only source of randomness.
                process = *PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
                // Relaxed: only uniqueness matters, nothing is published with the block.
                number = BLOCKS.fetch_add(1, Ordering::Relaxed) * BLOCK;
                end = number + BLOCK;
            }
            next.set((process, number + 1, end));
            Self(u128::from(process) << 64 | u128::from(number))
        })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn request_ids_are_unique_across_threads() {
        let ids: Vec<RequestId> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..10_000).map(|_| RequestId::next()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn the_epoch_is_the_upper_part_of_the_generation() {
        let id = AllocationId { slot: 3, generation: 7 << AllocationId::COUNTER_BITS | 9 };
        assert_eq!(id.epoch(), 7);
    }
}
