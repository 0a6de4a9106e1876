//! Faults of the way in: laps, full and empty, order, and who holds up whom.

use std::sync::atomic::{AtomicU64, Ordering};

use gpubridge_abstractions::{
    Command, Compute, Device, DeviceSlot, Error, Opcode, Ring, RingConfig, SubmitError, Taken, Ticket,
};
use parking_lot::Mutex;

use crate::wrap::{Fault, InnerLane};

/// Is off by one at the wrap: the first command of a lap takes the payload of the last one of the lap before.
#[derive(Debug, Default)]
pub struct OffByOneAtTheWrap {
    last: Mutex<[u64; 7]>,
}

impl Fault for OffByOneAtTheWrap {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        let (next, slots) = (lane.next_sequence(), u64::from(lane.config.slots));
        let last = std::mem::replace(&mut *self.last.lock(), command.payload);
        if next > 0 && next.is_multiple_of(slots) && command.opcode == Opcode::Echo as u8 {
            command.payload = last;
        }
    }
}

/// Keeps one slot free, because it cannot tell a full lane from an empty one.
#[derive(Debug, Default)]
pub struct KeepsASlotFree;

impl Fault for KeepsASlotFree {
    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        if lane.in_flight() + 1 >= lane.config.slots as usize {
            return Err(SubmitError::Full);
        }
        lane.submit(command, staged)
    }
}

/// Takes a full lane for an empty one: it counts what is pending modulo the slots.
#[derive(Debug, Default)]
pub struct TakesFullForEmpty;

impl Fault for TakesFullForEmpty {
    fn pending(&self, lane: &InnerLane<Self>) -> u32 {
        lane.submitter.lock().pending() % lane.config.slots
    }
}

/// More slots than were asked for, and more than any case fills.
fn with_many_slots(device: &dyn Device, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
    config.check("broken.launch")?;
    device.launch(RingConfig { slots: (config.slots * 64).min(RingConfig::SLOTS_MAX), ..config })
}

/// Never says that a lane is full.
#[derive(Debug, Default)]
pub struct NeverFull;

impl Fault for NeverFull {
    fn launch(&self, device: &dyn Device, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        with_many_slots(device, config)
    }
}

/// Frees the slot of an answer that was given up, though the device is still at work on it.
#[derive(Debug, Default)]
pub struct FreesWhatIsAbandoned;

impl Fault for FreesWhatIsAbandoned {
    fn launch(&self, device: &dyn Device, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        with_many_slots(device, config)
    }

    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        if lane.in_flight() >= lane.config.slots as usize {
            return Err(SubmitError::Full);
        }
        lane.submit(command, staged)
    }
}

/// Lets the command behind a write overtake it, once in four.
#[derive(Debug, Default)]
pub struct Reorders {
    /// The true tickets by those that callers have; none of a write that is held back.
    tickets: Mutex<Vec<Option<Ticket>>>,
    held: Mutex<Option<(usize, Command, Vec<u8>)>>,
}

impl Reorders {
    fn release(&self, lane: &InnerLane<Self>) {
        let mut held = self.held.lock();
        if let Some(ticket) = held.as_ref().and_then(|(_, command, staged)| lane.submit(command, staged).ok())
            && let Some((number, ..)) = held.take()
        {
            self.tickets.lock()[number] = Some(ticket);
            lane.submitter.lock().doorbell();
        }
    }
}

impl Fault for Reorders {
    fn submit(&self, lane: &InnerLane<Self>, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let number = self.tickets.lock().len();
        let is_write = [Opcode::Write as u8, Opcode::WriteInline as u8].contains(&command.opcode);
        if is_write && number % 4 == 1 && self.held.lock().is_none() {
            *self.held.lock() = Some((number, *command, staged.to_vec()));
            self.tickets.lock().push(None);
        } else {
            self.tickets.lock().push(Some(lane.submit(command, staged)?));
            self.release(lane);
        }
        Ok(Ticket::new(number as u64))
    }

    fn take(&self, lane: &InnerLane<Self>, ticket: &mut Ticket, staged: &mut [u8]) -> Taken {
        self.release(lane);
        let ticket = &mut self.tickets.lock()[ticket.sequence() as usize];
        ticket.as_mut().map_or(Taken::Pending, |ticket| lane.completions.take(ticket, staged))
    }
}

/// Lets commands of one grain overlap, if they name no buffer.
#[derive(Debug, Default)]
pub struct Overlaps;

impl Fault for Overlaps {
    fn alter(&self, lane: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        let call = Compute::from_payload(&command.payload);
        let alone = [call.input, call.operand, call.output].into_iter().all(DeviceSlot::is_none);
        if alone && command.opcode == Opcode::Compute as u8 {
            command.grain = u32::MAX - lane.next_sequence() as u32;
        }
    }
}

/// Has one queue for all grains of a lane, so that a slow one holds up the others.
#[derive(Debug, Default)]
pub struct HasOneQueueForAll;

impl Fault for HasOneQueueForAll {
    fn alter(&self, _: &InnerLane<Self>, command: &mut Command, _: &mut Vec<u8>) {
        command.grain = 0;
    }
}

/// Loses every third ring of the doorbell.
#[derive(Debug, Default)]
pub struct LosesDoorbells {
    rung: AtomicU64,
}

impl Fault for LosesDoorbells {
    fn doorbell(&self, lane: &InnerLane<Self>) {
        if self.rung.fetch_add(1, Ordering::Relaxed) % 3 < 2 {
            lane.submitter.lock().doorbell();
        }
    }
}

/// Makes a write visible before its staged bytes, once in 16: the device takes those of the write before.
#[derive(Debug, Default)]
pub struct SubmitsBeforeTheBytes {
    submitted: AtomicU64,
    last: Mutex<Vec<u8>>,
}

impl Fault for SubmitsBeforeTheBytes {
    fn alter(&self, _: &InnerLane<Self>, _: &mut Command, staged: &mut Vec<u8>) {
        if staged.is_empty() {
            return;
        }
        let last = std::mem::replace(&mut *self.last.lock(), staged.clone());
        if self.submitted.fetch_add(1, Ordering::Relaxed) % 16 == 15 {
            staged.iter_mut().zip(last).for_each(|(byte, before)| *byte = before);
        }
    }
}
