//! Faults of the copies: bytes that do not arrive, or arrive where they should not.

use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{Command, Opcode, Transfer};

use crate::wrap::{Fault, InnerLane};

/// Changes where and how much a write with staged bytes copies.
fn change_write(command: &mut Command, change: impl FnOnce(&mut Transfer)) {
    if command.opcode == Opcode::Write as u8 {
        let mut transfer = Transfer::from_payload(&command.payload);
        change(&mut transfer);
        command.payload = transfer.to_payload([0; 4]);
    }
}

/// Is wrong at one alignment: writes at 13 modulo 16 arrive turned by a byte.
#[derive(Debug, Default)]
pub struct WrongAtOneAlignment;

impl Fault for WrongAtOneAlignment {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, staged: &mut Vec<u8>) {
        change_write(command, |transfer| {
            if transfer.offset_bytes % 16 == 13 && !staged.is_empty() {
                staged.rotate_left(1);
            }
        });
    }
}

/// Copies whole blocks of 64 bytes only, when there is at least one: the last partial block is lost.
#[derive(Debug, Default)]
pub struct LosesTheLastPartialBlock;

impl Fault for LosesTheLastPartialBlock {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_write(command, |transfer| {
            if transfer.size_bytes > 64 {
                transfer.size_bytes -= transfer.size_bytes % 64;
            }
        });
    }
}

/// Copies whole words: a write touches the bytes behind its end.
#[derive(Debug, Default)]
pub struct WritesWholeWords;

impl Fault for WritesWholeWords {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, staged: &mut Vec<u8>) {
        change_write(command, |transfer| {
            let whole = transfer.size_bytes.next_multiple_of(8);
            let room = lane.bound(transfer.slot).map_or(0, |(_, bind)| bind.size_bytes);
            if transfer.offset_bytes.saturating_add(u64::from(whole)) <= room {
                transfer.size_bytes = whole;
                staged.resize(whole as usize, 0);
            }
        });
    }
}

/// Loses every 100th write, and says that it is done.
#[derive(Debug, Default)]
pub struct LosesWrites {
    written: AtomicU64,
}

impl Fault for LosesWrites {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_write(command, |transfer| {
            if self.written.fetch_add(1, Ordering::Relaxed) % 100 == 99 {
                transfer.size_bytes = 0;
            }
        });
    }
}
