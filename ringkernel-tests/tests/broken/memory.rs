//! Faults of memory: what is given out, what it holds, who reaches it.

use std::sync::Arc;

use gpubridge_abstractions::{Bind, Command, Device, DeviceBuffer, Error, MemoryType, Opcode, Transfer};
use parking_lot::Mutex;

use crate::wrap::{Fault, InnerLane, Said};

/// Takes default memory for whichever type is asked for.
#[derive(Debug, Default)]
pub struct IgnoresTheMemoryType;

impl Fault for IgnoresTheMemoryType {
    fn reserve(&self, device: &dyn Device, size: u64, kind: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let buffer = device.reserve(size, MemoryType::Default)?;
        Ok(Box::new(Said { memory_type: kind, ..Said::of(buffer.into()) }))
    }
}

/// Gives out memory that begins at no multiple of 256.
#[derive(Debug, Default)]
pub struct AlignsTooLittle;

impl Fault for AlignsTooLittle {
    fn reserve(&self, device: &dyn Device, size: u64, kind: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let buffer = device.reserve(if size == 0 { 0 } else { size.saturating_add(64) }, kind)?;
        Ok(Box::new(Said { offset_bytes: 64, size_bytes: size, ..Said::of(buffer.into()) }))
    }
}

/// Never gives a dropped buffer's memory back.
#[derive(Debug, Default)]
pub struct LeaksBuffers {
    leaked: Mutex<Vec<Arc<dyn DeviceBuffer>>>,
}

impl Fault for LeaksBuffers {
    fn reserve(&self, device: &dyn Device, size: u64, kind: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let buffer: Arc<dyn DeviceBuffer> = device.reserve(size, kind)?.into();
        self.leaked.lock().push(Arc::clone(&buffer));
        Ok(Box::new(Said::of(buffer)))
    }
}

/// Gives out the same memory to all who ask for the same size.
#[derive(Debug, Default)]
pub struct GivesOutTwice {
    given: Mutex<Vec<Arc<dyn DeviceBuffer>>>,
}

impl Fault for GivesOutTwice {
    fn reserve(&self, device: &dyn Device, size: u64, kind: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let mut given = self.given.lock();
        let before = given.iter().find(|buffer| (buffer.size_bytes(), buffer.memory_type()) == (size, kind));
        if let Some(buffer) = before {
            return Ok(Box::new(Said::of(Arc::clone(buffer))));
        }
        let buffer: Arc<dyn DeviceBuffer> = device.reserve(size, kind)?.into();
        given.push(Arc::clone(&buffer));
        Ok(Box::new(Said::of(buffer)))
    }
}

fn change_bind(command: &mut Command, change: impl FnOnce(&mut Bind)) {
    if command.opcode == Opcode::Bind as u8 {
        let mut bind = Bind::from_payload(&command.payload);
        change(&mut bind);
        command.payload = bind.to_payload();
    }
}

/// Leaves in memory what another owner left there.
#[derive(Debug, Default)]
pub struct ShowsStaleData;

impl Fault for ShowsStaleData {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_bind(command, |bind| bind.zero_bytes = 0);
    }
}

/// Zeroes whole words only, and leaves the bytes of the last partial one.
#[derive(Debug, Default)]
pub struct ZeroesWholeWords;

impl Fault for ZeroesWholeWords {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_bind(command, |bind| bind.zero_bytes -= bind.zero_bytes % 8);
    }
}

/// Loses the contents of a block that is bound again.
#[derive(Debug, Default)]
pub struct LosesContents;

impl Fault for LosesContents {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_bind(command, |bind| bind.zero_bytes = bind.zero_bytes.max(bind.size_bytes));
    }
}

/// Rounds an allocation up to 64 bytes, and lets all of them be reached.
#[derive(Debug, Default)]
pub struct ReachesBeyondTheEnd;

impl Fault for ReachesBeyondTheEnd {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        change_bind(command, |bind| {
            bind.size_bytes = bind.size_bytes.checked_next_multiple_of(64).unwrap_or(bind.size_bytes);
        });
    }
}

/// Whether a command copies from or to an allocation.
fn is_copy(command: &Command) -> bool {
    let copies = [Opcode::Write, Opcode::WriteInline, Opcode::Read, Opcode::ReadInline];
    copies.into_iter().any(|opcode| opcode as u8 == command.opcode)
}

/// Takes a name of any generation for the block that is bound now.
#[derive(Debug, Default)]
pub struct IgnoresTheGeneration;

impl Fault for IgnoresTheGeneration {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        let slot = Transfer::from_payload(&command.payload).slot;
        if let Some((_, bind)) = lane.bound(slot).filter(|_| is_copy(command)) {
            command.payload[0] = bind.to_payload()[0];
        }
    }
}

/// Lets any grain reach any block of its lane.
#[derive(Debug, Default)]
pub struct IgnoresTheOwner;

impl Fault for IgnoresTheOwner {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        let slot = Transfer::from_payload(&command.payload).slot;
        if let Some((owner, _)) = lane.bound(slot).filter(|_| is_copy(command)) {
            command.grain = owner;
        }
    }
}
