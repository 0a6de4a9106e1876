//! A kernel on the whole device beside the ring: how much of the memory's bandwidth it uses, while the ring is idle and while
//! another lane keeps it busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use gpubridge_abstractions::{Command, Compute, DeviceSlot, Opcode, PAYLOAD_WORDS, Status};
use gpubridge_kernels::id::{ADD, COPY, FILL, SCALE};
use serde_json::json;

use crate::lane::{Rig, SpinningLane, compute, transfer};
use crate::{Done, tell};

const ROUNDS: usize = 20;
const GRAIN: u32 = 3;

/// What the inputs hold, and what each kernel makes of them.
const INPUT: f32 = 3.0;
const OPERAND: f32 = 4.0;
const FACTOR: f32 = 2.0;
const KERNELS: [(u16, &str, f32, f64); 3] =
    [(0, "copy", INPUT, 2.0), (1, "scale", FACTOR * INPUT, 2.0), (2, "add", INPUT + OPERAND, 3.0)];
const FILL_SLOT: u16 = 3;
/// Bytes that are read of the result after each round, at another place each time.
const READ_BYTES: u32 = 4096;

pub fn run(megabytes: u64) -> Done {
    let rig = Rig::new(2, &[COPY.into(), SCALE.into(), ADD.into(), FILL.into()])?;
    let (mut lane, mut other) = (rig.lane(0), rig.lane(1));
    let bytes = megabytes << 20;
    let [input, operand, output] = [0, 1, 2].map(|index| rig.bound(&mut lane, index, GRAIN, bytes));
    let (input, operand, output) = (input?, operand?, output?);
    let mut right = true;
    let mut fill = |lane: &mut SpinningLane, buffer: DeviceSlot, value: f32| {
        let command = compute(FILL_SLOT, GRAIN, DeviceSlot::NONE, buffer, 0, value);
        right &= lane.call(&command, &[], &mut []).status == Status::Ok;
    };
    fill(&mut lane, input.slot, INPUT);
    fill(&mut lane, operand.slot, OPERAND);
    let mut random = fastrand::Rng::with_seed(1);
    let mut measure = |load: &str| {
        for (slot, name, expected, buffers_touched) in KERNELS {
            let mut command = compute(slot, GRAIN, input.slot, output.slot, 0, FACTOR);
            if name == "add" {
                let call = Compute { operand: operand.slot, ..Compute::from_payload(&command.payload) };
                command.payload = call.to_payload();
            }
            let mut times: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    let since = Instant::now();
                    right &= lane.call(&command, &[], &mut []).status == Status::Ok;
                    let took = since.elapsed().as_secs_f64();
                    let offset = random.u64(0..(bytes - u64::from(READ_BYTES)) / 4) * 4;
                    let read = transfer(Opcode::Read, GRAIN, output.slot, offset, READ_BYTES);
                    let mut got = [0; READ_BYTES as usize];
                    right &= lane.call(&read, &[], &mut got).status == Status::Ok;
                    right &= got.as_chunks().0.iter().all(|value| f32::from_le_bytes(*value) == expected);
                    took
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let gigabytes_per_second = bytes as f64 * buffers_touched / times[ROUNDS / 2] / 1e9;
            tell(&json!({
                "step": "beside", "kernel": name, "megabytes": megabytes, "ring": load,
                "gigabytes_per_second_p50": gigabytes_per_second, "microseconds_p50": times[ROUNDS / 2] * 1e6,
            }));
        }
    };
    measure("idle");
    let stop = AtomicBool::new(false);
    let echoes = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut echoes = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let commands = [0; 64].map(|_: u8| Command::new(Opcode::Echo, echoes as u32, [echoes; PAYLOAD_WORDS]));
                let mut tickets: Vec<_> = commands.iter().map(|command| other.submit(command, &[])).collect();
                for ticket in &mut tickets {
                    other.wait(ticket, &mut []);
                }
                echoes += 64;
            }
            echoes
        });
        measure("saturated");
        stop.store(true, Ordering::Relaxed);
        busy.join().expect("the other lane's thread ends")
    });
    tell(&json!({"step": "beside", "echoes_meanwhile": echoes}));
    Ok(right)
}
