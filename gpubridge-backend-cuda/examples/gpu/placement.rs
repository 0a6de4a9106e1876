//! From how much work on a kernel is better off beside the ring: calls of rising sizes, up to the limit in the ring, beyond it beside.

use std::time::Instant;

use gpubridge_abstractions::{DeviceSlot, Status};
use gpubridge_kernels::id::{FILL, SCALE, SUM};
use serde_json::json;

use crate::lane::{Rig, compute};
use crate::{Done, tell};

const GRAIN: u32 = 4;
const INPUT: f32 = 3.0;
/// Element operations up to which the library's kernels run in the ring.
const IN_RING_UP_TO: u32 = 1 << 16;
const COUNTS: [u32; 9] =
    [1 << 8, 1 << 10, 1 << 12, 1 << 14, IN_RING_UP_TO, IN_RING_UP_TO + 1, 1 << 17, 1 << 18, 1 << 20];
const KERNELS: [&str; 2] = ["scale", "sum"];
const FILL_SLOT: u16 = 2;

pub fn run(rounds: u64) -> Done {
    let rig = Rig::new(1, &[SCALE.into(), SUM.into(), FILL.into()])?;
    let mut lane = rig.lane(0);
    let bytes = 4 * u64::from(COUNTS[COUNTS.len() - 1]);
    let (input, output) = (rig.bound(&mut lane, 0, GRAIN, bytes)?, rig.bound(&mut lane, 1, GRAIN, bytes)?);
    let fill = compute(FILL_SLOT, GRAIN, DeviceSlot::NONE, input.slot, 0, INPUT);
    let mut right = lane.call(&fill, &[], &mut []).status == Status::Ok;
    for (slot, kernel) in (0..).zip(KERNELS) {
        for count in COUNTS {
            // Every element is the same: the sum of what was scaled is exact.
            let (to, expected) = if kernel == "sum" {
                (DeviceSlot::NONE, u64::from(((f64::from(count) * f64::from(INPUT)) as f32).to_bits()))
            } else {
                (output.slot, 0)
            };
            let mut times: Vec<f64> = Vec::new();
            for _ in 0..rounds {
                let since = Instant::now();
                let answer = lane.call(&compute(slot, GRAIN, input.slot, to, count, 2.0), &[], &mut []);
                times.push(since.elapsed().as_secs_f64() * 1e6);
                right &= answer.status == Status::Ok && answer.payload[0] == expected;
            }
            if kernel == "scale" {
                let sum = lane.call(&compute(1, GRAIN, output.slot, DeviceSlot::NONE, count, 0.0), &[], &mut []);
                let expected = (f64::from(count) * f64::from(2.0 * INPUT)) as f32;
                right &= sum.payload[0] == u64::from(expected.to_bits());
            }
            times.sort_by(f64::total_cmp);
            tell(&json!({
                "step": "placement", "kernel": kernel, "elements": count, "in_ring": count <= IN_RING_UP_TO,
                "microseconds_p50": times[times.len() / 2],
            }));
        }
    }
    Ok(right)
}
