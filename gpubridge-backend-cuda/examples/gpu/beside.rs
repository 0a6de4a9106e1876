//! A kernel on the whole device beside the ring: how much of the memory's bandwidth it uses, while the ring is idle and while
//! another lane keeps it busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use gpubridge_abstractions::{Command, DeviceSlot, Opcode, PAYLOAD_WORDS, Status};
use gpubridge_kernels::id::{ADD, COPY, SCALE};
use serde_json::json;

use crate::lane::{Rig, compute};
use crate::{Done, tell};

const ROUNDS: usize = 20;
const GRAIN: u32 = 3;

pub fn run(megabytes: u64) -> Done {
    let rig = Rig::new(2, &[COPY.into(), SCALE.into(), ADD.into()])?;
    let (mut lane, mut other) = (rig.lane(0), rig.lane(1));
    let bytes = megabytes << 20;
    let input = rig.bound(&mut lane, 0, GRAIN, bytes)?;
    let output = rig.bound(&mut lane, 1, GRAIN, bytes)?;
    let stop = AtomicBool::new(false);
    let mut right = true;
    let mut measure = |load: &str| {
        for (slot, name) in [(0, "copy"), (1, "scale"), (2, "add")] {
            let mut command = compute(slot, GRAIN, input.slot, output.slot, 0, 1.0);
            let buffers_touched = if name == "add" { 3 } else { 2 };
            if name == "add" {
                let mut call = gpubridge_abstractions::Compute::from_payload(&command.payload);
                call.operand = input.slot;
                command.payload = call.to_payload();
            }
            let mut times: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    let since = Instant::now();
                    right &= lane.call(&command, &[], &mut []).status == Status::Ok;
                    since.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let gigabytes_per_second = bytes as f64 * f64::from(buffers_touched) / times[ROUNDS / 2] / 1e9;
            tell(&json!({
                "step": "beside", "kernel": name, "megabytes": megabytes, "ring": load,
                "gigabytes_per_second_p50": gigabytes_per_second, "microseconds_p50": times[ROUNDS / 2] * 1e6,
            }));
        }
    };
    measure("idle");
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
    let none = compute(0, GRAIN, DeviceSlot::NONE, output.slot, 0, 0.0);
    right &= lane.call(&none, &[], &mut []).status == Status::InvalidArgument;
    Ok(right)
}
