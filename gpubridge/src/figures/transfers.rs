//! Writes and reads: posted and completed 4 KiB writes, and throughput of large ones.

use std::time::Instant;

use gpubridge_grains::{GrainRef, wait};

use super::Effort;
use super::line::{Draft, Table};
use super::measure::{Latencies, median};
use super::subject::Subject;
use crate::{GpuMemoryHandle, MemoryType};

/// Bytes of the small write.
pub const BLOCK: usize = 4 << 10;
/// Blocks of the allocation that the posted writes go round.
const BLOCKS: usize = 64;

pub fn run(subject: &Subject, effort: Effort, table: &mut Table) {
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    let target = wait(grain.allocate((BLOCK * BLOCKS) as u64, MemoryType::Default)).expect("there is memory");
    posted(&grain, target, effort.of(1_000_000), table);
    completed(&grain, target, effort.of(100_000), table);
    for (name, size_bytes, times) in [("1 MiB", 1 << 20, effort.of(200)), ("64 MiB", 64 << 20, effort.of(100) / 10)] {
        throughput(&grain, name, size_bytes, times.max(1), table);
    }
}

/// What the write `number` writes: no two alike.
pub fn fill(data: &mut [u64], number: u64) {
    // The first and the last words: the rest stays, so that making data is not what is measured.
    let last = data.len() - 1;
    (data[0], data[last]) = (number, !number);
}

fn posted(grain: &GrainRef, target: GpuMemoryHandle, writes: usize, table: &mut Table) {
    let elements = BLOCK / 8;
    let mut data: Vec<u64> = (0..elements as u64).collect();
    let mut latencies = Latencies::new();
    let all = Instant::now();
    for number in 0..writes {
        fill(&mut data, number as u64);
        let offset = (number % BLOCKS * elements) as u64;
        let started = Instant::now();
        let call = grain.write(target, &data, offset).post();
        latencies.since(started);
        drop(call.expect("it is posted"));
    }
    let each = all.elapsed().as_nanos() as f64 / writes as f64;
    // Each was taken once, and the captured data is what arrived: the last write to each block, read back.
    let totals = wait(grain.totals()).expect("it is active").writes;
    assert_eq!((totals.count, totals.bytes), (writes as u64, (writes * BLOCK) as u64), "posted writes");
    let held: Vec<u64> = wait(grain.read(target, 0, elements * BLOCKS)).expect("it is read");
    for number in writes.saturating_sub(BLOCKS)..writes {
        fill(&mut data, number as u64);
        let first = number % BLOCKS * elements;
        assert_eq!(held[first..first + elements], data, "write {number}");
    }
    table.add(Draft::latency("4 KiB write posted", latencies.quantiles()).p50_at_most(500.0).under(format!(
        "enqueued, not completed: {writes} consecutive; mean {each:.0} ns, waits for staging included"
    )));
}

fn completed(grain: &GrainRef, target: GpuMemoryHandle, writes: usize, table: &mut Table) {
    let mut data: Vec<u64> = (0..BLOCK as u64 / 8).collect();
    let mut latencies = Latencies::new();
    for number in 0..writes {
        fill(&mut data, number as u64);
        let started = Instant::now();
        let response = grain.write(target, &data, 0).wait().expect("it is written");
        latencies.since(started);
        assert_eq!(response.bytes_written, BLOCK as u64);
    }
    table.add(
        Draft::latency("4 KiB write, to its completion", latencies.quantiles())
            .under(format!("closed loop, {writes} writes, one at a time")),
    );
}

fn throughput(grain: &GrainRef, name: &str, size_bytes: usize, times: usize, table: &mut Table) {
    let target = wait(grain.allocate(size_bytes as u64, MemoryType::Default)).expect("there is memory");
    let mut data: Vec<u64> = (0..size_bytes as u64 / 8).collect();
    let mut held = vec![0_u64; data.len()];
    let gb_per_s = |started: Instant| size_bytes as f64 / started.elapsed().as_nanos() as f64;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for number in 0..times {
        fill(&mut data, number as u64);
        let started = Instant::now();
        grain.write(target, &data, 0).wait().expect("it is written");
        writes.push(gb_per_s(started));
        let started = Instant::now();
        grain.read_into(target, 0, &mut held).wait().expect("it is read");
        reads.push(gb_per_s(started));
        assert!(held == data, "what was written is read");
    }
    let conditions = format!("median of {times}, one at a time, every byte of what was read checked");
    for (what, all) in [("write", writes), ("read", reads)] {
        table.add(Draft::value(format!("{name} {what}"), median(all), "GB/s", 2).under(conditions.as_str()));
    }
    wait(grain.release(target, true)).expect("it is released");
}
