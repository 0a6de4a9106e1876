//! Synthetic traces of allocations, to judge the pool by: five shapes of load, the same for the same seed.
//!
//! A hit rate says nothing without the footprint beside it (never giving memory back hits every time), so [`replay`]
//! reports through the pool's own counters, which have both.

use gpubridge_abstractions::{DeviceBuffer, Error, MemoryType};

use super::{BlockId, ChunkSource, Pool};

/// Allocations in a whole trace.
pub const ALLOCATIONS: usize = 200_000;
/// Most blocks that are live at once.
pub const MAX_LIVE: usize = 4096;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// How often [`Workload::PhaseShift`] doubles its sizes.
const DOUBLINGS: u64 = 8;
/// Owners that take turns in [`replay`].
const OWNERS: u64 = 64;
/// Operations by which completion lags behind submission in [`replay`].
const COMPLETION_LAG: u64 = 64;

/// A source of chunks that are addresses and no memory: the pool never touches what it hands out, so it can be judged
/// without a device.
#[derive(Debug)]
pub struct Addresses {
    next: u64,
}

impl Default for Addresses {
    /// From 4 GiB on.
    fn default() -> Self {
        Self { next: 1 << 32 }
    }
}

#[derive(Debug)]
struct AddressRange {
    address: u64,
    size_bytes: u64,
}

impl ChunkSource for Addresses {
    fn reserve(&mut self, size_bytes: u64) -> Result<Box<dyn DeviceBuffer>, Error> {
        let address = self.next;
        self.next += size_bytes.next_multiple_of(MIB);
        Ok(Box::new(AddressRange { address, size_bytes }))
    }
}

impl DeviceBuffer for AddressRange {
    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        MemoryType::Default
    }
}

/// The shape of the sizes of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Uniform from 1 B to 4 MiB.
    Uniform,
    /// Log-normal around 64 KiB: two thirds lie between 24 KiB and 178 KiB.
    LogNormal,
    /// Log-uniform from 256 B to 4 MiB: each doubling is as likely as any other.
    LogUniform,
    /// The state of actors: 55 % small multiples of 256 B, 30 % 4 KiB, 12 % 64–256 KiB, 3 % 1–64 MiB.
    ActorMix,
    /// Log-uniform over four doublings from a base of 1 KiB, which itself doubles eight times over the trace.
    PhaseShift,
}

impl Workload {
    /// All five.
    pub const ALL: [Workload; 5] = [Self::Uniform, Self::LogNormal, Self::LogUniform, Self::ActorMix, Self::PhaseShift];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::LogNormal => "log-normal",
            Self::LogUniform => "log-uniform",
            Self::ActorMix => "actor mix",
            Self::PhaseShift => "phase shift",
        }
    }
}

/// One step of a trace. Slots are below [`MAX_LIVE`], and used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Allocate this many bytes, into a slot that is free.
    Allocate {
        /// Where to keep the block.
        slot: usize,
        /// The size to ask for.
        size_bytes: u64,
    },
    /// Release the block in this slot.
    Release {
        /// Where the block is.
        slot: usize,
    },
}

/// An iterator over the steps of a trace: 52 % are allocations, and releases take the newest block (40 %), a random one
/// (50 %) or the oldest (10 %).
#[derive(Clone, Debug)]
pub struct Trace {
    workload: Workload,
    random: SplitMix,
    allocations: usize,
    made: usize,
    /// Slots in use, oldest first.
    live: Vec<usize>,
    free: Vec<usize>,
}

impl Trace {
    /// The trace of this shape and seed with `allocations` allocations; [`ALLOCATIONS`] for a whole one.
    pub fn new(workload: Workload, seed: u64, allocations: usize) -> Self {
        Self {
            workload,
            random: SplitMix::new(seed),
            allocations,
            made: 0,
            live: Vec::with_capacity(MAX_LIVE),
            free: (0..MAX_LIVE).rev().collect(),
        }
    }

    fn size_bytes(&mut self) -> u64 {
        let random = &mut self.random;
        match self.workload {
            Workload::Uniform => random.between(1, 4 * MIB),
            Workload::LogNormal => {
                // Box–Muller; the clamp keeps the far tail from deciding the peak.
                let normal = (-2.0 * (1.0 - random.unit()).ln()).sqrt() * (random.unit() * std::f64::consts::TAU).cos();
                ((64 * KIB) as f64 * normal.exp()).clamp(1.0, (16 * MIB) as f64) as u64
            }
            Workload::LogUniform => random.log_between(256, 4 * MIB),
            Workload::ActorMix => match random.between(1, 100) {
                1..=55 => random.between(1, 8) * 256,
                56..=85 => 4 * KIB,
                86..=97 => random.between(64 * KIB, 256 * KIB),
                _ => random.between(MIB, 64 * MIB),
            },
            Workload::PhaseShift => {
                let phase = self.made as u64 * (DOUBLINGS + 1) / self.allocations as u64;
                random.log_between(KIB << phase, (16 * KIB) << phase)
            }
        }
    }
}

impl Iterator for Trace {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.made == self.allocations {
            return None;
        }
        let allocate = self.random.between(1, 100) <= 52;
        if self.live.is_empty() || (allocate && self.live.len() < MAX_LIVE) {
            let size_bytes = self.size_bytes();
            self.made += 1;
            let slot = self.free.pop()?;
            self.live.push(slot);
            return Some(Step::Allocate { slot, size_bytes });
        }
        let newest = self.live.len() - 1;
        let at = match self.random.between(1, 100) {
            1..=40 => newest,
            41..=90 => self.random.between(0, newest as u64) as usize,
            _ => 0,
        };
        let slot = self.live.remove(at);
        self.free.push(slot);
        Some(Step::Release { slot })
    }
}

/// Runs a trace through `pool`, as 64 owners in turn whose commands complete 64 operations late, and leaves the last
/// blocks live. Read the outcome from the pool's counters.
///
/// # Errors
/// Those of [`Pool::allocate`].
///
/// # Panics
/// If the pool refuses to release a live block.
pub fn replay(trace: Trace, pool: &mut Pool) -> Result<(), Error> {
    let mut blocks = vec![(BlockId(0), 0); MAX_LIVE];
    for (sequence, step) in (0..).zip(trace) {
        match step {
            Step::Allocate { slot, size_bytes } => {
                let owner = sequence % OWNERS;
                let completed = sequence.saturating_sub(COMPLETION_LAG);
                blocks[slot] = (pool.allocate(size_bytes, owner, completed)?.block, owner);
            }
            Step::Release { slot } => {
                let (block, owner) = blocks[slot];
                pool.release(block, owner, sequence, true).expect("the block is live and its owner's");
            }
        }
    }
    Ok(())
}

/// A size of the documents' workload: 1, 2, 4, 8 or 16 KiB four times in five, else 3, 6, 12 or 24 KiB.
pub fn documents_size_bytes(random: &mut SplitMix) -> u64 {
    if random.between(1, 100) <= 80 { KIB << random.between(0, 4) } else { (3 * KIB) << random.between(0, 3) }
}

/// SplitMix64, a small random generator: traces must not change with the version of a library.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// From 0 up to, not including, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from `low` to `high`, both included; each as likely.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + ((u128::from(self.next()) * u128::from(high - low + 1)) >> 64) as u64
    }

    /// A number from `low` to `high`; each doubling as likely. `low` is at least 1.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = ((low as f64).ln(), (high as f64).ln());
        (low + self.unit() * (high - low)).exp() as u64
    }

    /// A rank below `ranks`, which is at least 1; rank r is drawn with a weight of (r + 1) to the power of −`exponent`.
    pub fn zipf(&mut self, ranks: u32, exponent: f64) -> u32 {
        let weight = |rank: u32| (1e9 / f64::from(rank + 1).powf(exponent)) as u64;
        let mut at = self.between(0, (0..ranks).map(weight).sum::<u64>() - 1);
        (0..ranks)
            .find(|rank| {
                let is_here = at < weight(*rank);
                at = at.saturating_sub(weight(*rank));
                is_here
            })
            .unwrap_or(0)
    }
}
