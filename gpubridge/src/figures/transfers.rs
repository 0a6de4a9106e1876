//! Writes and reads: posted and completed 4 KiB writes, and throughput of large ones.

use gpubridge_grains::{GrainRef, wait};

use super::Effort;
use super::line::{Draft, Table};
use super::measure::Quantiles;
use super::pace::{Loops, Pace};
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
    posted(&grain, target, effort.of(500_000), table);
    completed(&grain, target, effort.of(100_000), table);
    let one = Size { name: "1 MiB", size_bytes: 1 << 20, times: effort.of(50), rounds: Some(effort.of(5)) };
    let many = Size { name: "64 MiB", size_bytes: 64 << 20, times: (effort.of(100) / 10).max(1), rounds: None };
    [one, many].iter().for_each(|size| throughput(&grain, size, table));
}

/// Transfers of one size.
struct Size {
    name: &'static str,
    size_bytes: usize,
    times: usize,
    /// Of so many transfers each, in open loops, too; `None` for one round in a closed loop.
    rounds: Option<usize>,
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
    let mut numbers = 0..;
    let loops = Loops::once(writes, |mut pace| {
        for (_, number) in pace.steps().zip(&mut numbers) {
            fill(&mut data, number as u64);
            let offset = (number % BLOCKS * elements) as u64;
            pace.begin();
            let call = grain.write(target, &data, offset).post();
            pace.end(1);
            drop(call.expect("it is posted"));
        }
        pace
    });
    // Each was taken once, and the captured data is what arrived: the last write to each block, read back.
    let all: usize = numbers.start;
    let totals = wait(grain.totals()).expect("it is active").writes;
    assert_eq!((totals.count, totals.bytes), (all as u64, (all * BLOCK) as u64), "posted writes");
    let held: Vec<u64> = wait(grain.read(target, 0, elements * BLOCKS)).expect("it is read");
    for number in all.saturating_sub(BLOCKS)..all {
        fill(&mut data, number as u64);
        let first = number % BLOCKS * elements;
        assert_eq!(held[first..first + elements], data, "write {number}");
    }
    table.add(Draft::latency("4 KiB write posted", &loops).p50_at_most(500.0).under(format!(
        "enqueued, not completed: {writes} consecutive in each loop; mean {:.0} ns, waits for staging included",
        loops.peak_ns()
    )));
}

fn completed(grain: &GrainRef, target: GpuMemoryHandle, writes: usize, table: &mut Table) {
    let mut data: Vec<u64> = (0..BLOCK as u64 / 8).collect();
    let loops = Loops::once(writes, |mut pace| {
        for number in pace.steps() {
            fill(&mut data, number);
            pace.begin();
            let response = grain.write(target, &data, 0).wait().expect("it is written");
            pace.end(1);
            assert_eq!(response.bytes_written, BLOCK as u64);
        }
        pace
    });
    table.add(
        Draft::latency("4 KiB write, to its completion", &loops)
            .under(format!("{writes} writes in each loop, one at a time")),
    );
}

/// Writes of so many bytes, each read back.
fn there_and_back(grain: &GrainRef, target: GpuMemoryHandle, size_bytes: usize, [write, read]: [&mut Pace; 2]) {
    let mut data: Vec<u64> = (0..size_bytes as u64 / 8).collect();
    let mut held = vec![0_u64; data.len()];
    for number in write.steps() {
        fill(&mut data, number);
        write.begin();
        grain.write(target, &data, 0).wait().expect("it is written");
        write.end(1);
        read.begin();
        grain.read_into(target, 0, &mut held).wait().expect("it is read");
        read.end(1);
        assert!(held == data, "what was written is read");
    }
}

fn throughput(grain: &GrainRef, &Size { name, size_bytes, times, rounds }: &Size, table: &mut Table) {
    let target = wait(grain.allocate(size_bytes as u64, MemoryType::Default)).expect("there is memory");
    let all = |paces: [&mut Pace; 2]| there_and_back(grain, target, size_bytes, paces);
    let rate = |what: &str, Quantiles { p50, .. }| {
        Draft::value(format!("{name} {what}"), size_bytes as f64 / p50, "GB/s", 2).under(format!(
            "median of {times}, one at a time{}; every byte of what was read checked",
            rounds.map_or(String::new(), |rounds| format!(", and of {rounds} rounds"))
        ))
    };
    if let Some(rounds) = rounds {
        // One of both is paced; what the other takes is known from its own loops.
        let other = || Pace::closed(times);
        let writes = Loops::run(rounds, times, |mut pace| {
            all([&mut pace, &mut other()]);
            pace
        });
        let reads = Loops::run(rounds, times, |mut pace| {
            all([&mut other(), &mut pace]);
            pace
        });
        for (what, loops) in [("write", writes), ("read", reads)] {
            table.add(rate(what, loops.closed().middle()).open(&loops));
        }
    } else {
        let [mut write, mut read] = [Pace::closed(times), Pace::closed(times)];
        all([&mut write, &mut read]);
        let why = format!("a rate of so few as {times} transfers, which have no tail");
        for (what, pace) in [("write", write), ("read", read)] {
            table.add(rate(what, pace.quantiles()).no_open_loop(why.as_str()));
        }
    }
    wait(grain.release(target, true)).expect("it is released");
}
