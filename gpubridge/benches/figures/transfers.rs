//! Writes and reads: posted and completed 4 KiB writes, and throughput of large ones.

use std::time::Instant;

use gpubridge::grains::wait;
use gpubridge::{GpuMemoryHandle, MemoryType};

use super::Effort;
use super::kernel::{Actor, silo};
use super::measure::{Latencies, median};
use super::table::Table;

const BLOCK: usize = 4 << 10;
/// Blocks of the allocation that the posted writes go round.
const BLOCKS: usize = 64;

pub fn run(effort: Effort, table: &mut Table) {
    let silo = silo();
    let actor = Actor::new(&silo, 1);
    let target = wait(actor.grain.allocate((BLOCK * BLOCKS) as u64, MemoryType::Default)).expect("there is memory");
    posted(&actor, target, effort.of(1_000_000), table);
    completed(&actor, target, effort.of(100_000), table);
    for (name, size_bytes, times) in [("1 MiB", 1 << 20, effort.of(200)), ("64 MiB", 64 << 20, effort.of(100) / 10)] {
        throughput(&actor, name, size_bytes, times.max(2), table);
    }
}

/// What the write `number` writes: no two alike.
fn fill(data: &mut [u64], number: usize) {
    // The first and the last words: the rest stays, so that making data is not what is measured.
    let last = data.len() - 1;
    (data[0], data[last]) = (number as u64, !number as u64);
}

fn posted(actor: &Actor, target: GpuMemoryHandle, writes: usize, table: &mut Table) {
    let elements = BLOCK / 8;
    let mut data: Vec<u64> = (0..elements as u64).collect();
    let mut latencies = Latencies::new();
    let all = Instant::now();
    for number in 0..writes {
        fill(&mut data, number);
        let offset = (number % BLOCKS * elements) as u64;
        let started = Instant::now();
        let call = actor.grain.write(target, &data, offset).post();
        latencies.since(started);
        drop(call.expect("it is posted"));
    }
    let each = all.elapsed().as_nanos() as f64 / writes as f64;
    // Each was taken once, and the captured data is what arrived: the last write to each block, read back.
    let totals = wait(actor.grain.totals()).expect("it is active").writes;
    assert_eq!((totals.count, totals.bytes), (writes as u64, (writes * BLOCK) as u64), "posted writes");
    let held: Vec<u64> = wait(actor.grain.read(target, 0, elements * BLOCKS)).expect("it is read");
    for number in writes.saturating_sub(BLOCKS)..writes {
        fill(&mut data, number);
        let first = number % BLOCKS * elements;
        assert_eq!(held[first..first + elements], data, "write {number}");
    }
    let quantiles = latencies.quantiles();
    table.judged(
        format!("4 KiB write posted, {writes} consecutive"),
        "≤ 500 ns p50",
        format!("{quantiles}; mean {each:.0} ns, waits for staging included"),
        quantiles.p50 <= 500.0,
    );
}

fn completed(actor: &Actor, target: GpuMemoryHandle, writes: usize, table: &mut Table) {
    let mut data: Vec<u64> = (0..BLOCK as u64 / 8).collect();
    let mut latencies = Latencies::new();
    for number in 0..writes {
        fill(&mut data, number);
        let started = Instant::now();
        let response = actor.grain.write(target, &data, 0).wait().expect("it is written");
        latencies.since(started);
        assert_eq!(response.bytes_written, BLOCK as u64);
    }
    table.beside("4 KiB write, to its completion", latencies.quantiles().to_string());
}

fn throughput(actor: &Actor, name: &str, size_bytes: usize, times: usize, table: &mut Table) {
    let target = wait(actor.grain.allocate(size_bytes as u64, MemoryType::Default)).expect("there is memory");
    let mut data: Vec<u64> = (0..size_bytes as u64 / 8).collect();
    let mut held = vec![0_u64; data.len()];
    let gb_per_s = |started: Instant| size_bytes as f64 / started.elapsed().as_nanos() as f64;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for number in 0..times {
        fill(&mut data, number);
        let started = Instant::now();
        actor.grain.write(target, &data, 0).wait().expect("it is written");
        writes.push(gb_per_s(started));
        let started = Instant::now();
        actor.grain.read_into(target, 0, &mut held).wait().expect("it is read");
        reads.push(gb_per_s(started));
        assert!(held == data, "what was written is read");
    }
    let of = |all: Vec<f64>| median(all);
    table.beside(format!("{name} transfer"), format!("write {:.2} GB/s, read {:.2} GB/s", of(writes), of(reads)));
    wait(actor.grain.release(target, true)).expect("it is released");
}
