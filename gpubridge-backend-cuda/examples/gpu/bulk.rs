//! Large transfers beside what bounds them: the copy engine by itself and the host's own copy, in the same rounds and in turn.

use std::time::Instant;

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, Backend, InitializeMessage, ReadMessage, StagedRange, WriteMessage,
};
use gpubridge_backend_cuda::probe::Copies;
use gpubridge_backend_cuda::{CudaBackend, CudaConfig};
use gpubridge_kernels::library;
use gpubridge_runtime::{ResidentMemory, ResidentMemoryConfig, SessionId};
use serde_json::json;

use crate::{DEVICE, Done, tell};

const ROUNDS: usize = 11;
const MIB: u64 = 1 << 20;
/// Sizes of a chunk that are tried, in MiB: the first that reaches the bound is the one to have.
const CHUNKS_MIB: [u32; 5] = [1, 2, 4, 8, 16];

/// Ways, in the order in which a round takes them.
const WAYS: [&str; 6] =
    ["engine, to device", "engine, to host", "memcpy", "write, in place", "write, slice", "read, slice"];

pub fn run(megabytes: u64) -> Done {
    let size = usize::try_from(megabytes.max(16) * MIB)?;
    let copies = Copies::new(DEVICE, size as u64)?;
    let mut right = true;
    for chunk_mib in CHUNKS_MIB {
        right &= with_chunks_of(chunk_mib, size, &copies)?;
    }
    Ok(right)
}

struct Subject {
    memory: ResidentMemory,
    session: SessionId,
    id: AllocationId,
}

impl Subject {
    fn new(chunk_mib: u32, size: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let mut cuda = CudaConfig::default();
        cuda.bulk_chunk_bytes = chunk_mib << 20;
        let device = CudaBackend::new(library()).with_config(cuda).open(DEVICE)?;
        let config = ResidentMemoryConfig { memory_budget_bytes: 2 * size as u64, ..ResidentMemoryConfig::default() };
        let memory = ResidentMemory::open(device, config)?;
        let session = memory.session(0);
        memory.initialize(session, &InitializeMessage::new(memory.envelope()))?;
        let id = memory.allocate(session, &AllocateMessage::new(memory.envelope(), size as u64))?.handle.id;
        Ok(Self { memory, session, id })
    }

    fn write(&self, data: &[u8]) -> Done {
        let message = WriteMessage::new(self.memory.envelope(), self.id, 0, whole(data.len()));
        self.memory.write(self.session, &message, data).wait()?;
        Ok(true)
    }

    fn read(&self, bytes: &mut [u8]) -> Done {
        let message = ReadMessage::new(self.memory.envelope(), self.id, 0, whole(bytes.len()));
        self.memory.read(self.session, &message, bytes).wait()?;
        Ok(true)
    }

    /// Writes chunks as they are, but for a number in each, two in flight.
    fn write_in_place(&self, size: usize, chunk_bytes: usize, round: u64) -> Done {
        let mut before = None;
        for (number, offset) in (round << 32..).zip((0..size).step_by(chunk_bytes)) {
            let staged = whole(chunk_bytes.min(size - offset));
            let mut chunk = self.memory.chunk().ok_or("no chunk is free")?;
            chunk.fill(|bytes| bytes[..8].copy_from_slice(&number.to_le_bytes()));
            let message = WriteMessage::new(self.memory.envelope(), self.id, offset as u64, staged);
            let call = self.memory.write_chunk(self.session, &message, chunk).post()?;
            if let Some(before) = before.replace(call) {
                before.wait()?;
            }
        }
        before.map_or(Ok(()), |last| last.wait().map(drop))?;
        Ok(true)
    }
}

fn whole(size_bytes: usize) -> StagedRange {
    StagedRange { offset_bytes: 0, size_bytes: size_bytes as u64 }
}

/// All ways with chunks of this size, a round after the other; whether every byte that was read is one that was written.
fn with_chunks_of(chunk_mib: u32, size: usize, copies: &Copies) -> Done {
    let subject = Subject::new(chunk_mib, size)?;
    let chunk_bytes = (chunk_mib << 20) as usize;
    let (mut data, mut copied, mut read) = (vec![0_u8; size], vec![1_u8; size], vec![2_u8; size]);
    let mut times = WAYS.map(|_| Vec::with_capacity(ROUNDS));
    let mut right = true;
    for round in 0..ROUNDS as u64 {
        data.iter_mut().step_by(4096).zip(round..).for_each(|(byte, value)| *byte = value as u8);
        let mut ways: [&mut dyn FnMut() -> Done; WAYS.len()] = [
            &mut || Ok(copies.to_device().map(|()| true)?),
            &mut || Ok(copies.to_host().map(|()| true)?),
            &mut || {
                copied.copy_from_slice(std::hint::black_box(&data));
                Ok(true)
            },
            &mut || subject.write_in_place(size, chunk_bytes, round),
            &mut || subject.write(&data),
            &mut || subject.read(&mut read),
        ];
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let since = Instant::now();
            right &= way()?;
            times.push(since.elapsed().as_secs_f64());
        }
        right &= read == data && copied == data;
        // What was written in place lies under what was written last: once more, looked at.
        right &= subject.write_in_place(size, chunk_bytes, round)? && subject.read(&mut read)?;
        let numbers =
            read.chunks(chunk_bytes).filter_map(|chunk| chunk.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
        right &= numbers.zip(round << 32..).all(|(seen, number)| seen == number);
    }
    let rate = |way: usize, round: usize| size as f64 / times[way][round] / 1e9;
    for (way, name) in WAYS.into_iter().enumerate() {
        let middle = median((0..ROUNDS).map(|round| rate(way, round)));
        tell(&json!({"step": "bulk", "chunk_mib": chunk_mib, "way": name, "gigabytes_per_second_p50": middle}));
    }
    // Against what bounded it in the same round.
    let bounds: [(usize, &[usize]); 3] = [(3, &[0]), (4, &[0, 2]), (5, &[1, 2])];
    for (way, by) in bounds {
        let bound = |round| by.iter().map(|by| rate(*by, round)).fold(f64::INFINITY, f64::min);
        let ratio = median((0..ROUNDS).map(|round| rate(way, round) / bound(round)));
        let name = format!("{} / {}", WAYS[way], by.iter().map(|by| WAYS[*by]).collect::<Vec<_>>().join(" or "));
        tell(&json!({"step": "bulk", "chunk_mib": chunk_mib, "name": name, "ratio_p50": ratio, "at_least": 0.9}));
    }
    Ok(right)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
