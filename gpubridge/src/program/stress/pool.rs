//! Allocations of realistic sizes with steady turnover, among many owners, each block marked as its owner's.

use bytemuck::cast_slice;
use fastrand::Rng;
use gpubridge::kernels::id::FILL;
use gpubridge::{ElementType, Error, GpuMemoryHandle, KernelSpec, Parameters};

use super::counted::Counted;
use super::counts::{Kind, Seen};
use super::{Drive, Driven};

/// Owners, among which blocks change hands.
const OWNERS: u32 = 16;
/// Blocks that are live once the turnover is steady.
const LIVE: usize = 2048;
const KIB: u64 = 1 << 10;
/// Four of five allocations.
const COMMON_SIZES_BYTES: [u64; 5] = [KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB];
const OTHER_SIZES_BYTES: [u64; 4] = [3 * KIB, 6 * KIB, 12 * KIB, 24 * KIB];
const LARGEST_BYTES: usize = 24 << 10;
/// Bits of a mark below the owner's number: enough for 128 Mi allocations of each.
const SERIAL_BITS: u32 = 27;

/// A live block: all its words are its mark.
#[derive(Clone, Copy, Debug)]
struct Marked {
    owner: u32,
    mark: u32,
    handle: GpuMemoryHandle,
}

struct Turnover {
    calls: Vec<Counted>,
    live: Vec<Marked>,
    random: Rng,
    serial: u32,
    words: Vec<u32>,
    expected: Vec<u32>,
    peak_live_bytes: u64,
    live_bytes: u64,
}

/// One operation is one allocation and, once the turnover is steady, one release.
pub fn run(drive: &Drive<'_>) -> Result<Driven, Error> {
    let Drive { stage, monitor, seed } = drive;
    let owner = |key: u32| Ok(Counted::new(stage.silo.grain(u64::from(key))?));
    let mut turnover = Turnover {
        calls: (0..OWNERS).map(owner).collect::<Result<_, Error>>()?,
        live: Vec::with_capacity(LIVE),
        random: Rng::with_seed(*seed),
        serial: 0,
        words: Vec::with_capacity(LARGEST_BYTES / 4),
        expected: Vec::with_capacity(LARGEST_BYTES / 4),
        peak_live_bytes: 0,
        live_bytes: 0,
    };
    while monitor.begin() {
        if turnover.live.len() == LIVE {
            turnover.release()?;
        }
        turnover.allocate()?;
        monitor.end();
    }
    turnover.verify_live()?;
    let Turnover { calls, peak_live_bytes, .. } = turnover;
    let kernels = u64::from(calls.iter().any(|calls| calls.total()[Kind::Computes] > 0));
    let hits: u64 = calls.iter().map(|calls| calls.total()[Kind::PoolHits]).sum();
    let allocations: u64 = calls.iter().map(|calls| calls.total()[Kind::Allocations]).sum();
    let mut driven = Driven { calls, kernels, ..Driven::default() };
    driven.figure("pool_hit_rate", hits as f64 / allocations.max(1) as f64);
    driven.figure_count("peak_live_bytes", peak_live_bytes);
    driven.figure_count("reserved_bytes", stage.silo.memory_info().reserved_bytes);
    Ok(driven)
}

impl Turnover {
    /// Allocates for a random owner, looks at what the block holds, and has it marked by a kernel.
    fn allocate(&mut self) -> Result<(), Error> {
        let owner = self.random.u32(..OWNERS);
        let sizes = if self.random.u8(..5) > 0 { &COMMON_SIZES_BYTES[..] } else { &OTHER_SIZES_BYTES };
        let size_bytes = sizes[self.random.usize(..sizes.len())];
        let calls = &mut self.calls[owner as usize];
        let handle = calls.allocate(size_bytes)?;
        read(calls, handle, &mut self.words)?;
        look(&mut calls.seen, &self.words, owner);
        // Never 0, which a mark of owner 0 would be.
        self.serial = self.serial % ((1 << SERIAL_BITS) - 1) + 1;
        let mark = owner << SERIAL_BITS | self.serial;
        let fill = KernelSpec::new(FILL).of(ElementType::U32);
        calls.compute(fill, None, Some(handle), Parameters::new().with_u32(mark))?;
        self.live.push(Marked { owner, mark, handle });
        self.live_bytes += size_bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
        Ok(())
    }

    /// Reads a random block, which must be marked throughout, and releases it: sometimes past the pool, sometimes twice.
    fn release(&mut self) -> Result<(), Error> {
        let marked = self.live.swap_remove(self.random.usize(..self.live.len()));
        self.verify(marked)?;
        let calls = &mut self.calls[marked.owner as usize];
        calls.release(marked.handle, self.random.u8(..8) > 0)?;
        self.live_bytes -= marked.handle.size_bytes;
        if self.random.u8(..64) == 0 { calls.release_again(marked.handle) } else { Ok(()) }
    }

    fn verify(&mut self, Marked { owner, mark, handle }: Marked) -> Result<(), Error> {
        let calls = &mut self.calls[owner as usize];
        read(calls, handle, &mut self.words)?;
        self.expected.clear();
        self.expected.resize(self.words.len(), mark);
        let what = || format!("owner {owner}'s block {} of {} bytes", handle.id, handle.size_bytes);
        calls.seen.bytes(cast_slice(&self.words), cast_slice(&self.expected), what);
        Ok(())
    }

    fn verify_live(&mut self) -> Result<(), Error> {
        (0..self.live.len()).try_for_each(|at| self.verify(self.live[at]))
    }
}

fn read(calls: &mut Counted, handle: GpuMemoryHandle, words: &mut Vec<u32>) -> Result<(), Error> {
    words.clear();
    words.resize((handle.size_bytes / 4) as usize, 0);
    calls.read(handle, 0, words)
}

/// A block that was just allocated is zero, or was the same owner's before.
fn look(seen: &mut Seen, words: &[u32], owner: u32) {
    let foreign = words.iter().find(|word| **word != 0 && **word >> SERIAL_BITS != owner);
    seen.answer(foreign.is_none(), || {
        let of = foreign.map_or(0, |word| word >> SERIAL_BITS);
        format!("a block given to owner {owner} held what was owner {of}'s")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_owner_left_is_seen() {
        let mut seen = Seen::default();
        look(&mut seen, &[0, 0, 3 << SERIAL_BITS | 17, 0], 3);
        assert_eq!((seen.answers, seen.wrong_answers), (1, 0));
        look(&mut seen, &[0, 0, 3 << SERIAL_BITS | 17, 0], 4);
        assert_eq!(seen.wrong_answers, 1);
        assert_eq!(seen.first_fault.as_deref(), Some("a block given to owner 4 held what was owner 3's"));
    }
}
