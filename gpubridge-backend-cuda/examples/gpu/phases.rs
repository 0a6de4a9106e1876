//! Kernels that a grid runs phase by phase: what a graph saves against launches one by one, in the same run and in turn.

use std::array;
use std::time::Instant;

use gpubridge_abstractions::{DeviceSlot, Opcode, Status};
use gpubridge_backend_cuda::CudaConfig;
use gpubridge_kernels::id::{FILL, MEAN_VARIANCE, SUM, TOP_K};
use gpubridge_kernels::library;
use serde_json::json;

use crate::lane::{Rig, SpinningLane, compute, transfer};
use crate::{Done, tell};

const GRAIN: u32 = 3;
const INPUT: f32 = 3.0;
/// In slots 0 to 2, with the kernels that are launched of each: its phases, and what tells its executor.
const KERNELS: [(&str, u32); 3] = [("sum", 3), ("mean_variance", 4), ("top_k", 15)];
const FILL_SLOT: u16 = 3;
/// Of `top_k`.
const K: u32 = 16;
/// The slot of its output.
const FOUND: u32 = 9;
/// From how many phases on there is a graph: always, and never.
const GRAPHS: [u32; 2] = [2, u32::MAX];

/// So many rounds for each number of elements, of which the largest is at most `elements_max`.
pub fn run(rounds: u64, elements_max: u64) -> Done {
    let rig = |graph_phases_min| {
        let mut config = CudaConfig::default();
        config.graph_phases_min = graph_phases_min;
        Rig::with_config(1, library(), config, &[SUM.into(), MEAN_VARIANCE.into(), TOP_K.into(), FILL.into()])
    };
    let [with, without] = GRAPHS.map(rig);
    let rigs = [with?, without?];
    let mut lanes = array::from_fn::<_, 2, _>(|i| rigs[i].lane(0));
    let mut right = true;
    let [first, second] = array::from_fn(|i| rigs[i].bound(&mut lanes[i], FOUND, GRAIN, 8 * u64::from(K)));
    let outputs = [first?, second?];
    // The least that goes beside the ring, and what takes the device longer than all launches.
    let counts = [70_000_u32, 1 << 20, 1 << 26].into_iter().filter(|&count| u64::from(count) <= elements_max);
    for (index, count) in (0..).zip(counts) {
        let [first, second] = array::from_fn(|i| rigs[i].bound(&mut lanes[i], index, GRAIN, 4 * u64::from(count)));
        let inputs = [first?, second?];
        for (lane, input) in lanes.iter_mut().zip(&inputs) {
            let fill = compute(FILL_SLOT, GRAIN, DeviceSlot::NONE, input.slot, 0, INPUT);
            right &= lane.call(&fill, &[], &mut []).status == Status::Ok;
        }
        for (slot, (name, launches)) in (0..).zip(KERNELS) {
            // The sum; the mean, with its variance, none, in the upper half.
            let expected = match name {
                "sum" => ((f64::from(count) * f64::from(INPUT)) as f32).to_bits(),
                "mean_variance" => INPUT.to_bits(),
                _ => 0,
            };
            let mut times = [const { Vec::new() }; 2];
            for _ in 0..rounds {
                for (i, times) in times.iter_mut().enumerate() {
                    let (lane, input, output) = (&mut lanes[i], inputs[i].slot, outputs[i].slot);
                    let (output, k) = if name == "top_k" { (output, K) } else { (DeviceSlot::NONE, 0) };
                    let command = compute(slot, GRAIN, input, output, 0, f32::from_bits(k));
                    let since = Instant::now();
                    let answer = lane.call(&command, &[], &mut []);
                    times.push(since.elapsed().as_secs_f64() * 1e6);
                    right &= answer.status == Status::Ok && answer.payload[0] == u64::from(expected);
                }
            }
            if name == "top_k" {
                for (lane, output) in lanes.iter_mut().zip(&outputs) {
                    right &= found_first(lane, output.slot);
                }
            }
            let [graph, one_by_one] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            });
            tell(&json!({
                "step": "phases", "kernel": name, "elements": count, "launches": launches, "graph_microseconds_p50": graph,
                "one_by_one_microseconds_p50": one_by_one, "graph_per_one_by_one": graph / one_by_one,
                "graph_gigabytes_per_second_p50": f64::from(count) * 4.0 / graph / 1e3,
            }));
        }
    }
    Ok(right)
}

/// Whether the largest of equal elements are the first ones.
fn found_first(lane: &mut SpinningLane, output: DeviceSlot) -> bool {
    let mut found = [0; 8 * K as usize];
    let read = transfer(Opcode::Read, GRAIN, output, 0, found.len() as u32);
    let is_read = lane.call(&read, &[], &mut found).status == Status::Ok;
    let found = found.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    is_read && found.eq([INPUT.to_bits(); K as usize].into_iter().chain(0..K))
}
