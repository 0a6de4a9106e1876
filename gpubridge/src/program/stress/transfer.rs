//! Large transfers of mixed sizes, each way, with the throughput.

use std::time::{Duration, Instant};

use bytemuck::cast_slice_mut;
use fastrand::Rng;
use gpubridge::kernels::id::ADD;
use gpubridge::{ElementType, Error, KernelSpec, Parameters};

use super::counted::Counted;
use super::counts::Kind;
use super::{Drive, Driven};

/// One of each in every cycle, in changing order: whole and odd, of less than a command and of thousands of pieces.
const SIZES_BYTES: [usize; 8] = [1, 257, 4 << 10, 4097, 64 << 10, 1 << 20, (1 << 20) + 3, 16 << 20];
const LARGEST_BYTES: usize = 16 << 20;
/// Grains that take turns.
const GRAINS: u64 = 4;

/// Bytes that went one way, and how long that took.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    bytes: u64,
    time: Duration,
}

impl Moved {
    fn add(&mut self, bytes: usize, since: Instant) {
        self.bytes += bytes as u64;
        self.time += since.elapsed();
    }

    fn megabytes_per_second(self) -> f64 {
        self.bytes as f64 / 1e6 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A transfer: the block is written as a whole, in part once more, doubled by a kernel, and read back.
struct Transfers {
    random: Rng,
    /// Words, so that kernels and models agree on what an element is.
    model: Vec<u32>,
    target: Vec<u32>,
    written: [Moved; SIZES_BYTES.len()],
    read: [Moved; SIZES_BYTES.len()],
}

/// Moves far more than 100 MB each way.
pub fn run(drive: &Drive<'_>) -> Result<Driven, Error> {
    let Drive { stage, monitor, seed } = drive;
    let words = LARGEST_BYTES / 4;
    let mut transfers = Transfers {
        random: Rng::with_seed(*seed),
        model: vec![0; words],
        target: vec![0; words],
        written: Default::default(),
        read: Default::default(),
    };
    let mut calls =
        (0..GRAINS).map(|key| Ok(Counted::new(stage.silo.grain(key)?))).collect::<Result<Vec<_>, Error>>()?;
    let mut order: Vec<usize> = (0..SIZES_BYTES.len()).collect();
    let mut done = 0;
    while monitor.begin() {
        let place = done % order.len();
        if place == 0 {
            transfers.random.shuffle(&mut order);
        }
        transfers.transfer(&mut calls[done % GRAINS as usize], order[place])?;
        done += 1;
        monitor.end();
    }
    let kernels = u64::from(calls.iter().any(|calls| calls.total()[Kind::Computes] > 0));
    let mut driven = Driven { calls, kernels, ..Driven::default() };
    transfers.report(&mut driven);
    Ok(driven)
}

impl Transfers {
    fn transfer(&mut self, calls: &mut Counted, size: usize) -> Result<(), Error> {
        let Self { random, model, target, written, read } = self;
        let size_bytes = SIZES_BYTES[size];
        let words = size_bytes / 4;
        let handle = calls.allocate(size_bytes as u64)?;
        {
            let model: &mut [u8] = &mut cast_slice_mut(model)[..size_bytes];
            random.fill(model);
            let since = Instant::now();
            calls.write(handle, 0, model)?;
            written[size].add(size_bytes, since);
            let first = random.usize(..size_bytes);
            let part = &mut model[first..][..random.usize(1..=size_bytes - first)];
            random.fill(part);
            let since = Instant::now();
            calls.write(handle, first, part)?;
            written[size].add(part.len(), since);
        }
        // The bytes behind the last whole word stay as they are.
        model[..words].iter_mut().for_each(|word| *word = word.wrapping_mul(2));
        let add = KernelSpec::new(ADD).of(ElementType::U32);
        calls.compute(add, Some(handle), Some(handle), Parameters::new().with_operand(handle.id))?;
        let target: &mut [u8] = &mut cast_slice_mut(target)[..size_bytes];
        target.fill(0);
        let since = Instant::now();
        calls.read(handle, 0, target)?;
        read[size].add(size_bytes, since);
        let model: &[u8] = &bytemuck::cast_slice(model)[..size_bytes];
        calls.seen.bytes(target, model, || format!("a transfer of {size_bytes} bytes"));
        calls.release(handle, true)
    }

    fn report(&self, driven: &mut Driven) {
        for (name, moved) in [("write", &self.written), ("read", &self.read)] {
            let mut all = Moved::default();
            for each in moved {
                all.bytes += each.bytes;
                all.time += each.time;
            }
            driven.figure_count(format!("{name}_bytes"), all.bytes);
            driven.figure(format!("{name}_megabytes_per_second"), all.megabytes_per_second());
            for (size_bytes, each) in SIZES_BYTES.into_iter().zip(moved) {
                let name = format!("{name}_megabytes_per_second_of_{size_bytes}_bytes");
                driven.figure(name, each.megabytes_per_second());
            }
        }
    }
}
