//! Round trips through the ring beside launch and synchronize, in one run and in turn; how many fit in flight; how many
//! lanes are worth it.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Command, DeviceSlot, Opcode, PAYLOAD_WORDS, Status};
use gpubridge_backend_cuda::CudaConfig;
use gpubridge_backend_cuda::probe::Launches;
use gpubridge_kernels::id::SUM;
use gpubridge_kernels::library;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::lane::{Rig, SpinningLane, compute, transfer};
use crate::{DEVICE, Done, tell};

const IN_FLIGHT: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Each with a thread for two of them, so that the host is not what saturates first.
const LANES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
const SUM_SLOT: u16 = 0;
const GRAIN: u32 = 1;
/// What counts as the best rate: this part of it.
const NEARLY: f64 = 0.95;
/// What is written before it is added up.
const ELEMENTS: usize = 1024;

/// Each figure for so many seconds, with up to so many lanes.
pub fn run(seconds: u64, lanes_max: u64) -> Done {
    let span = Duration::from_secs(seconds);
    // Before there is a ring, so that making the stream waits for none.
    let launches = Launches::new(DEVICE)?;
    let mut alone = histogram();
    let since = Instant::now();
    while since.elapsed() < span / 4 {
        let (took, done) = timed(|| launches.launch_and_wait(1));
        done?;
        note(&mut alone, took);
    }
    let rig = Rig::new(1, &[SUM.into()])?;
    let mut lane = rig.lane(0);
    let input = rig.bound(&mut lane, 0, GRAIN, 4 * ELEMENTS as u64)?;
    let mut pinned = CudaConfig::default();
    pinned.posts_commands = false;
    let pinned = Rig::with_config(1, library(), pinned, &[])?;
    let mut pinned_lane = pinned.lane(0);
    let mut correct = true;
    let [mut echo, mut pinned_echo, mut sum, mut launch, mut graph, mut posted, mut written] =
        std::array::from_fn(|_| histogram());
    let mut bytes = vec![0; 4 * ELEMENTS];
    let since = Instant::now();
    for round in 0_u64.. {
        if since.elapsed() >= span * 2 {
            break;
        }
        let payload = [round; PAYLOAD_WORDS];
        for (lane, times) in [(&mut lane, &mut echo), (&mut pinned_lane, &mut pinned_echo)] {
            let (took, answer) = timed(|| lane.call(&Command::new(Opcode::Echo, GRAIN, payload), &[], &mut []));
            correct &= answer.payload == payload;
            note(times, took);
        }
        // Small whole numbers: their sum is exact.
        let numbers = (round..).take(ELEMENTS).map(|number| (number % 4096) as f32);
        let expected = numbers.clone().sum::<f32>().to_bits();
        bytes.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(four, number)| *four = number.to_le_bytes());
        let write = transfer(Opcode::Write, GRAIN, input.slot, 0, bytes.len() as u32);
        let add_up = compute(SUM_SLOT, GRAIN, input.slot, DeviceSlot::NONE, 0, 0.0);
        let since = Instant::now();
        let mut write = lane.submit(&write, &bytes);
        note(&mut posted, since.elapsed());
        // Read by a kernel in the ring from where the device has it.
        let checksum = lane.call(&add_up, &[], &mut []);
        note(&mut written, since.elapsed());
        correct &= checksum.payload[0] == u64::from(expected);
        correct &= lane.wait(&mut write, &mut []).status == Status::Ok;
        let command = compute(SUM_SLOT, GRAIN, input.slot, DeviceSlot::NONE, 0, 0.0);
        let (took, answer) = timed(|| lane.call(&command, &[], &mut []));
        correct &= answer.payload[0] == u64::from(expected);
        note(&mut sum, took);
        let (took, done) = timed(|| launches.launch_and_wait(1));
        done?;
        note(&mut launch, took);
        let (took, done) = timed(|| launches.launch_graph_and_wait());
        done?;
        note(&mut graph, took);
    }
    for (name, times) in [
        ("ring: echo, commands posted to device memory if the probe says so", &echo),
        ("ring: echo, commands in page-locked memory", &pinned_echo),
        ("ring: write of 4 KiB, posted", &posted),
        ("ring: write of 4 KiB, complete: a kernel in the ring has answered its checksum", &written),
        ("ring: sum of 4 KiB", &sum),
        ("launch + synchronize, beside the ring", &launch),
        ("graph launch + synchronize, beside the ring", &graph),
        ("launch + synchronize, without a ring", &alone),
    ] {
        tell(&json!({"step": "latency", "name": name, "ns": quantiles(times), "rounds": times.len()}));
    }
    for (name, launch) in [
        ("launch + synchronize, beside the ring", &launch),
        ("graph launch + synchronize, beside the ring", &graph),
        ("launch + synchronize, without a ring", &alone),
    ] {
        for (of, ring) in [("echo", &echo), ("sum of 4 KiB", &sum)] {
            let ratio = launch.value_at_quantile(0.5) as f64 / ring.value_at_quantile(0.5) as f64;
            tell(&json!({"step": "latency", "name": format!("{name} / ring: {of}, p50"), "ratio": ratio}));
        }
    }
    for depth in IN_FLIGHT {
        let (rate, right) = pipelined(std::slice::from_mut(&mut lane), depth, span / 4);
        correct &= right;
        tell(&json!({"step": "latency", "name": "echo, in flight", "in_flight": depth, "per_second": rate}));
        let (mut launched, since) = (0, Instant::now());
        while since.elapsed() < span / 4 {
            launches.launch_and_wait(depth)?;
            launched += depth;
        }
        let rate = launched as f64 / since.elapsed().as_secs_f64();
        tell(&json!({"step": "latency", "name": "launch, in flight", "in_flight": depth, "per_second": rate}));
    }
    drop((lane, input, rig, pinned_lane, pinned));
    let mut rates = Vec::new();
    for lanes in LANES.into_iter().filter(|&lanes| u64::from(lanes) <= lanes_max) {
        let rig = Rig::new(lanes, &[])?;
        let mut taken: Vec<_> = (0..lanes).map(|lane| rig.lane(lane)).collect();
        let rates_of_threads: Vec<_> = thread::scope(|scope| {
            let two = taken.chunks_mut(2).map(|two| scope.spawn(|| pipelined(two, 256, span / 4)));
            let threads: Vec<_> = two.collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread that submits ends")).collect()
        });
        let rate = rates_of_threads.iter().map(|(rate, _)| rate).sum::<f64>();
        correct &= rates_of_threads.iter().all(|(_, right)| *right);
        tell(&json!({
            "step": "latency", "name": "echo, 256 in flight per lane", "lanes": lanes, "threads": lanes.div_ceil(2),
            "per_second": rate,
        }));
        rates.push((lanes, rate));
    }
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let saturates = rates.iter().find(|(_, rate)| *rate >= best * NEARLY).map(|(lanes, _)| *lanes);
    tell(&json!({"step": "latency", "name": "lanes from which on the rate rises no more", "lanes": saturates}));
    Ok(correct)
}

/// Echoes per second with `depth` of them in flight in each lane, one thread for all; whether every answer was right.
fn pipelined(lanes: &mut [SpinningLane], depth: usize, span: Duration) -> (f64, bool) {
    let mut flying: Vec<VecDeque<_>> = lanes.iter().map(|_| VecDeque::with_capacity(depth)).collect();
    let (mut done, mut right) = (0_u64, true);
    let since = Instant::now();
    while since.elapsed() < span {
        for (lane, flying) in lanes.iter_mut().zip(&mut flying) {
            while flying.len() < depth {
                let number = done + flying.len() as u64;
                // Many grains: those of one would run one after the other.
                let command = Command::new(Opcode::Echo, number as u32, [number; PAYLOAD_WORDS]);
                flying.push_back((number, lane.submit(&command, &[])));
            }
            for _ in 0..depth.div_ceil(2) {
                let Some((number, mut ticket)) = flying.pop_front() else { break };
                right &= lane.wait(&mut ticket, &mut []).payload == [number; PAYLOAD_WORDS];
                done += 1;
            }
        }
    }
    let rate = done as f64 / since.elapsed().as_secs_f64();
    for (lane, flying) in lanes.iter_mut().zip(flying) {
        for (_, mut ticket) in flying {
            lane.wait(&mut ticket, &mut []);
        }
    }
    (rate, right)
}

fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let since = Instant::now();
    let result = work();
    (since.elapsed(), result)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds can be had")
}

fn note(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(took.as_nanos() as u64);
}

fn quantiles(times: &Histogram<u64>) -> serde_json::Value {
    let at = |quantile| times.value_at_quantile(quantile);
    json!({"p50": at(0.5), "p99": at(0.99), "p99_9": at(0.999), "least": times.min()})
}
