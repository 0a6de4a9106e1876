//! One buffer, rewritten by the host, by the copy engine, by kernels in the ring and by kernels beside it, in a random order, and
//! read by the ring or by the copy engine; every read is compared with what the last writer wrote. A cache that nobody
//! invalidates shows here.

use std::sync::Arc;

use gpubridge_abstractions::{Chunk, Command, DeviceSlot, Opcode, PAYLOAD_WORDS, Status, Transfer};
use gpubridge_kernels::id::{FILL, SCALE};
use serde_json::json;

use crate::lane::{Rig, compute, transfer};
use crate::{Done, tell};

/// Elements: beyond what runs in the ring, so that a call on all of them runs beside it.
const ELEMENTS: u32 = 70_000;
/// What is read at a time.
const READ_BYTES: u32 = 4096;
const GRAIN: u32 = 9;
const FILL_SLOT: u16 = 0;
const SCALE_SLOT: u16 = 1;

pub fn run(rounds: u64) -> Done {
    let rig = Rig::new(1, &[FILL.into(), SCALE.into()])?;
    let mut lane = rig.lane(0);
    let buffer = rig.bound(&mut lane, 0, GRAIN, u64::from(ELEMENTS) * 4)?;
    let mut mirror = vec![0_f32; ELEMENTS as usize];
    let mut random = fastrand::Rng::with_seed(42);
    let mut bytes = vec![0; READ_BYTES as usize];
    let (mut wrong, mut writes) = (0_u64, [0_u64; 4]);
    let bulk = rig.ring.bulk_staging().ok_or("the ring has no bulk staging")?;
    for round in 0..rounds {
        let first = random.u32(0..ELEMENTS - READ_BYTES / 4) as usize;
        let part = first..first + READ_BYTES as usize / 4;
        let offset = first as u64 * 4;
        let writer = random.usize(0..4);
        writes[writer] += 1;
        let answer = match writer {
            host_or_engine @ (0 | 3) => {
                let values: Vec<f32> = (0..part.len()).map(|_| random.u32(0..1 << 20) as f32).collect();
                let staged: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                mirror[part.clone()].copy_from_slice(&values);
                if host_or_engine == 0 {
                    lane.call(&transfer(Opcode::Write, GRAIN, buffer.slot, offset, READ_BYTES), &staged, &mut [])
                } else {
                    let mut chunk = Arc::clone(&bulk).take().ok_or("no chunk is free")?;
                    chunk.write(&staged);
                    lane.call(&with_chunk(Opcode::WriteBulk, buffer.slot, offset, &chunk), &[], &mut [])
                }
            }
            1 => {
                let (value, count) = (random.u32(0..1 << 20) as f32, random.u32(1..2048));
                mirror[..count as usize].fill(value);
                lane.call(&compute(FILL_SLOT, GRAIN, DeviceSlot::NONE, buffer.slot, count, value), &[], &mut [])
            }
            _ => {
                // Powers of two, back and forth: exact however often.
                let factor = if round % 2 == 0 { 2.0 } else { 0.5 };
                mirror.iter_mut().for_each(|value| *value *= factor);
                lane.call(&compute(SCALE_SLOT, GRAIN, buffer.slot, buffer.slot, 0, factor), &[], &mut [])
            }
        };
        let read = if random.bool() {
            lane.call(&transfer(Opcode::Read, GRAIN, buffer.slot, offset, READ_BYTES), &[], &mut bytes)
        } else {
            let chunk = Arc::clone(&bulk).take().ok_or("no chunk is free")?;
            let answer = lane.call(&with_chunk(Opcode::ReadBulk, buffer.slot, offset, &chunk), &[], &mut []);
            chunk.read(&mut bytes);
            answer
        };
        let values = bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        let same = answer.status == Status::Ok && read.status == Status::Ok && values.eq(mirror[part].iter().copied());
        if !same && wrong < 10 {
            tell(&json!({"step": "coherence", "wrong_in_round": round, "writer": writer, "offset_bytes": offset}));
        }
        wrong += u64::from(!same);
    }
    let [host, ring, beside, engine] = writes;
    tell(&json!({
        "step": "coherence", "rounds": rounds, "wrong": wrong,
        "written_by": {"host": host, "kernel in the ring": ring, "kernel beside it": beside, "copy engine": engine},
    }));
    Ok(wrong == 0)
}

/// The command that has the copy engine move [`READ_BYTES`] between the buffer and the chunk.
fn with_chunk(opcode: Opcode, slot: DeviceSlot, offset_bytes: u64, chunk: &Chunk) -> Command {
    let mut rest = [0; PAYLOAD_WORDS - Transfer::HEADER_WORDS];
    rest[0] = u64::from(chunk.number());
    Command::new(opcode, GRAIN, Transfer { slot, offset_bytes, size_bytes: READ_BYTES }.to_payload(rest))
}
