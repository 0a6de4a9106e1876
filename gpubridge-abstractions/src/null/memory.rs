//! The device's memory, and the allocation table through which commands reach it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::{
    Bind, Command, Completion, DeviceBuffer, DeviceSlot, Error, ErrorKind, MemoryType, Opcode, PAYLOAD_BYTES, Status,
    Transfer,
};

/// Alignment of the addresses given out, and of a block within its buffer.
const BUFFER_ALIGNMENT: u64 = 4096;
const BLOCK_ALIGNMENT: u64 = 64;

/// All buffers of the device, by address. An address is a number made up here, so a forged one reaches nothing.
#[derive(Debug)]
pub(super) struct Heap {
    pub(super) total_bytes: u64,
    pub(super) buffers: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Heap {
    pub(super) fn available_bytes(&self) -> u64 {
        self.total_bytes - lock(&self.buffers).values().map(|bytes| bytes.len() as u64).sum::<u64>()
    }

    pub(super) fn reserve(self: &Arc<Self>, size_bytes: u64, memory_type: MemoryType) -> Result<NullBuffer, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "null.reserve", why));
        if size_bytes == 0 {
            return refuse(ErrorKind::InvalidArgument, "0 bytes were asked for".to_owned());
        }
        let mut buffers = lock(&self.buffers);
        let available = self.total_bytes - buffers.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        if size_bytes > available {
            let why = format!("{size_bytes} bytes were asked for and {available} are available");
            return refuse(ErrorKind::OutOfMemory, why);
        }
        // The alignment after the last buffer's end: a gap keeps one buffer's end from being another's start.
        let end = buffers.last_key_value().map_or(0, |(address, bytes)| address + bytes.len() as u64);
        let address = end.next_multiple_of(BUFFER_ALIGNMENT) + BUFFER_ALIGNMENT;
        buffers.insert(address, vec![0; size_bytes as usize]);
        Ok(NullBuffer { heap: Arc::clone(self), address, size_bytes, memory_type })
    }

    /// Lends a range to `copy`; `None` when it does not lie within one buffer.
    fn access(&self, address: u64, size_bytes: u64, copy: impl FnOnce(&mut [u8])) -> Option<()> {
        let mut buffers = lock(&self.buffers);
        let (first, bytes) = buffers.range_mut(..=address).next_back()?;
        let start = address - first;
        let end = start.checked_add(size_bytes)?;
        bytes.get_mut(usize::try_from(start).ok()?..usize::try_from(end).ok()?).map(copy)
    }
}

#[derive(Debug)]
pub(super) struct NullBuffer {
    heap: Arc<Heap>,
    address: u64,
    size_bytes: u64,
    memory_type: MemoryType,
}

impl DeviceBuffer for NullBuffer {
    fn address(&self) -> u64 {
        self.address
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}

impl Drop for NullBuffer {
    fn drop(&mut self) {
        lock(&self.heap.buffers).remove(&self.address);
    }
}

/// A lane's allocation table: executes what a command says, after checking it.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) heap: Arc<Heap>,
    pub(super) allocations: u32,
    /// What each slot is bound to, and to which grain.
    pub(super) table: HashMap<u32, (Bind, u32)>,
}

impl Executor {
    pub(super) fn execute(&mut self, command: &Command, staging: &mut [u8]) -> Completion {
        let mut inline: [u8; PAYLOAD_BYTES] = std::array::from_fn(|i| command.payload[i / 8].to_le_bytes()[i % 8]);
        let result_bytes = match Opcode::from_number(command.opcode) {
            Some(Opcode::Echo) => Ok(PAYLOAD_BYTES),
            Some(Opcode::Bind) => self.bind(command).map(|()| 0),
            Some(Opcode::Write) => self.write(command, staging),
            Some(Opcode::WriteInline) => self.write(command, &inline[Transfer::HEADER_WORDS * 8..]),
            Some(Opcode::Read) => self.read(command, staging).map(|_| 0),
            Some(Opcode::ReadInline) => self.read(command, &mut inline),
            Some(Opcode::Compute) => Err(Status::UnknownKernel),
            // Hosts pass over slots by themselves; nobody can ask for it.
            Some(Opcode::Skip | Opcode::WriteBulk | Opcode::ReadBulk) | None => Err(Status::UnknownOpcode),
        };
        let result_bytes = match result_bytes {
            Ok(result_bytes) => result_bytes,
            Err(status) => return Completion::of(status),
        };
        inline[result_bytes..].fill(0);
        let payload = std::array::from_fn(|i| u64::from_le_bytes(inline.as_chunks().0[i]));
        Completion { payload, result_bytes: result_bytes as u8, ..Completion::of(Status::Ok) }
    }

    fn bind(&mut self, command: &Command) -> Result<(), Status> {
        let bind = Bind::from_payload(&command.payload);
        if bind.slot.index >= self.allocations {
            return Err(Status::OutOfBounds);
        }
        if bind.size_bytes == 0 {
            self.find(bind.slot, command.grain)?;
            self.table.remove(&bind.slot.index);
            return Ok(());
        }
        if !bind.address.is_multiple_of(BLOCK_ALIGNMENT) {
            return Err(Status::InvalidArgument);
        }
        let zero = |bytes: &mut [u8]| bytes[..bind.zero_bytes as usize].fill(0);
        let whole_bytes = bind.size_bytes.max(bind.zero_bytes);
        self.heap.access(bind.address, whole_bytes, zero).ok_or(Status::InvalidArgument)?;
        self.table.insert(bind.slot.index, (bind, command.grain));
        Ok(())
    }

    fn find(&self, slot: DeviceSlot, grain: u32) -> Result<&Bind, Status> {
        match self.table.get(&slot.index) {
            Some((bind, _)) if bind.slot != slot => Err(Status::UnknownAllocation),
            Some((_, owner)) if *owner != grain => Err(Status::NotOwner),
            Some((bind, _)) => Ok(bind),
            None => Err(Status::UnknownAllocation),
        }
    }

    /// Checks a transfer of at most `limit_bytes` and lends its range to `copy`. Returns its size.
    fn transfer(&self, command: &Command, limit: usize, copy: impl FnOnce(&mut [u8])) -> Result<usize, Status> {
        let transfer = Transfer::from_payload(&command.payload);
        let bind = self.find(transfer.slot, command.grain)?;
        let size = transfer.size_bytes as usize;
        if size > limit {
            return Err(Status::InvalidArgument);
        }
        let end = transfer.offset_bytes.checked_add(size as u64).ok_or(Status::OutOfBounds)?;
        if end > bind.size_bytes {
            return Err(Status::OutOfBounds);
        }
        // The buffer may be dropped by now: then the allocation is gone with it.
        let range = self.heap.access(bind.address + transfer.offset_bytes, size as u64, copy);
        range.map(|()| size).ok_or(Status::UnknownAllocation)
    }

    fn write(&self, command: &Command, source: &[u8]) -> Result<usize, Status> {
        self.transfer(command, source.len(), |bytes| bytes.copy_from_slice(&source[..bytes.len()])).map(|_| 0)
    }

    fn read(&self, command: &Command, target: &mut [u8]) -> Result<usize, Status> {
        self.transfer(command, target.len(), |bytes| target[..bytes.len()].copy_from_slice(bytes))
    }
}
