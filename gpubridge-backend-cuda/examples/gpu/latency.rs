//! Round trips through the ring beside launch and synchronize, in one run and in turn; how many fit in flight; how many
//! lanes are worth it.

use std::collections::VecDeque;
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
const LANES: [u32; 4] = [1, 2, 4, 8];
const SUM_SLOT: u16 = 0;
const GRAIN: u32 = 1;

/// Each figure for so many seconds.
pub fn run(seconds: u64) -> Done {
    let span = Duration::from_secs(seconds);
    // Before there is a ring, so that making the stream waits for none.
    let launches = Launches::new(DEVICE)?;
    let mut alone = histogram();
    let since = Instant::now();
    while since.elapsed() < span / 4 {
        let (took, done) = timed(|| launches.launch_and_wait());
        done?;
        note(&mut alone, took);
    }
    let rig = Rig::new(1, &[SUM.into()])?;
    let mut lane = rig.lane(0);
    let input = rig.bound(&mut lane, 0, GRAIN, 16)?;
    let mut pinned = CudaConfig::default();
    pinned.posts_commands = false;
    let pinned = Rig::with_config(1, library(), pinned, &[])?;
    let mut pinned_lane = pinned.lane(0);
    let mut correct = true;
    let [mut echo, mut pinned_echo, mut sum, mut launch, mut written] = std::array::from_fn(|_| histogram());
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
        let numbers = [round as f32, 1.0, 2.0, 3.0].map(|number| number % 4096.0);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let (took, answer) = timed(|| lane.call(&transfer(Opcode::Write, GRAIN, input.slot, 0, 16), &bytes, &mut []));
        correct &= answer.status == Status::Ok;
        note(&mut written, took);
        let command = compute(SUM_SLOT, GRAIN, input.slot, DeviceSlot::NONE, 0, 0.0);
        let (took, answer) = timed(|| lane.call(&command, &[], &mut []));
        correct &= answer.payload[0] == u64::from(numbers.iter().sum::<f32>().to_bits());
        note(&mut sum, took);
        let (took, done) = timed(|| launches.launch_and_wait());
        done?;
        note(&mut launch, took);
    }
    for (name, times) in [
        ("ring: echo, commands posted to device memory if the probe says so", &echo),
        ("ring: echo, commands in page-locked memory", &pinned_echo),
        ("ring: write of 16 B, complete", &written),
        ("ring: sum of what was written before", &sum),
        ("launch + synchronize, beside the ring", &launch),
        ("launch + synchronize, without a ring", &alone),
    ] {
        tell(&json!({"step": "latency", "name": name, "ns": quantiles(times), "rounds": times.len()}));
    }
    for (name, launch) in [("beside the ring", &launch), ("without a ring", &alone)] {
        let ratio = launch.value_at_quantile(0.5) as f64 / sum.value_at_quantile(0.5) as f64;
        let name = format!("launch + synchronize, {name} / ring: sum, p50");
        tell(&json!({"step": "latency", "name": name, "ratio": ratio}));
    }
    for depth in IN_FLIGHT {
        let (rate, right) = pipelined(std::slice::from_mut(&mut lane), depth, span / 4);
        correct &= right;
        tell(&json!({"step": "latency", "name": "echo, in flight", "in_flight": depth, "per_second": rate}));
    }
    drop((lane, input, rig, pinned_lane, pinned));
    for lanes in LANES {
        let rig = Rig::new(lanes, &[])?;
        let mut taken: Vec<_> = (0..lanes).map(|lane| rig.lane(lane)).collect();
        let (rate, right) = pipelined(&mut taken, 256, span / 4);
        correct &= right;
        tell(&json!({"step": "latency", "name": "echo, 256 in flight per lane", "lanes": lanes, "per_second": rate}));
    }
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
