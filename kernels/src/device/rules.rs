//! The rules of commands: looks up what a command names, and checks it again, whatever the host has checked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gpubridge_abstractions::{
    Bind, BufferUse, CallShape, Command, Compute, DeviceSlot, Opcode, PAYLOAD_BYTES, Scalars, Status, Transfer,
};

use super::kernels::{Compiled, KernelCopy};
use super::memory::{BLOCK_ALIGNMENT, DeviceMemory, Extent};
use crate::CpuKernel;

/// What a command asks for, once its checks have passed.
#[derive(Debug)]
pub enum Action<'a, B, R = CpuKernel> {
    /// To answer with the command's own payload.
    Echo,
    /// Nothing more: a slot was unbound.
    Unbound,
    /// A slot was bound: to zero so many bytes of the block from its beginning, which the slot may hold fewer of.
    Zero(B, usize),
    /// To copy to the part from the command's staging area, or from its payload.
    Write(Part<'a, B>),
    /// To copy the part to the command's staging area, or to the answer.
    Read(Part<'a, B>),
    /// To run a kernel.
    Run(Run<'a, B, R>),
}

/// Part of a block.
#[derive(Debug)]
pub struct Part<'a, B> {
    /// The block.
    pub block: &'a B,
    /// Where the part begins.
    pub offset_bytes: usize,
    /// Its length.
    pub size_bytes: usize,
    /// Whether the bytes travel in the command or in its answer, not in staging.
    pub is_inline: bool,
}

/// A kernel's call.
#[derive(Debug)]
pub struct Run<'a, B, R = CpuKernel> {
    /// The kernel.
    pub kernel: &'a Arc<Compiled<R>>,
    /// The blocks that it works on; what is one block may be several references.
    pub buffers: [Option<&'a B>; 3],
    /// Where among them the same block stands first.
    pub first: [usize; 3],
    /// Elements to work on.
    pub count: usize,
    /// What the caller passes along.
    pub scalars: Scalars,
    /// The work that it is, by the kernel's declaration.
    pub work: u64,
}

/// What a slot of the allocation table is bound to.
#[derive(Debug)]
struct Bound<B> {
    block: Option<B>,
    generation: u32,
    owner: u32,
}

/// A lane's allocation table and the rules of its commands.
#[derive(Debug)]
pub struct Rules<M: DeviceMemory> {
    memory: M,
    table: Vec<Bound<M::Block>>,
    allocations: usize,
}

impl<M: DeviceMemory> Rules<M> {
    /// Rules over `memory` without bound slots, for a lane of so many allocations.
    pub fn new(memory: M, allocations: u32) -> Self {
        Self { memory, table: Vec::new(), allocations: allocations as usize }
    }

    /// What a command asks for, whose staging area holds so many bytes. A slot is bound or unbound when this returns. What
    /// panics in a kernel's declaration is a [`Status::KernelFault`].
    ///
    /// # Errors
    /// Why the command fails.
    #[inline]
    pub fn look_up<'a, R>(
        &'a mut self,
        command: &Command,
        kernels: &'a KernelCopy<R>,
        staging_bytes: usize,
    ) -> Result<Action<'a, M::Block, R>, Status> {
        match Opcode::from_number(command.opcode) {
            Some(Opcode::Compute) => self.compute(command, kernels).map(Action::Run),
            Some(Opcode::Bind) => self
                .bind(command)
                .map(|bound| bound.map_or(Action::Unbound, |(block, zero_bytes)| Action::Zero(block, zero_bytes))),
            Some(Opcode::Echo | Opcode::Skip) => Ok(Action::Echo),
            Some(Opcode::Write) => self.transfer(command, staging_bytes, false).map(Action::Write),
            Some(Opcode::WriteInline) => self.transfer(command, Transfer::INLINE_WRITE_BYTES, true).map(Action::Write),
            Some(Opcode::Read) => self.transfer(command, staging_bytes, false).map(Action::Read),
            Some(Opcode::ReadInline) => self.transfer(command, PAYLOAD_BYTES, true).map(Action::Read),
            Some(Opcode::WriteBulk | Opcode::ReadBulk) | None => Err(Status::UnknownOpcode),
        }
    }

    /// Binds a slot, and returns the block with how many of its bytes are to be zeroed; or unbinds it.
    fn bind(&mut self, command: &Command) -> Result<Option<(M::Block, usize)>, Status> {
        let bind = Bind::from_payload(&command.payload);
        let index = bind.slot.index as usize;
        if index >= self.allocations {
            return Err(Status::OutOfBounds);
        }
        if self.table.len() <= index {
            let size = (index + 1).next_power_of_two().min(self.allocations);
            self.table.resize_with(size, || Bound { block: None, generation: 0, owner: 0 });
        }
        if bind.size_bytes == 0 {
            self.find(bind.slot, command.grain)?;
            self.table[index].block = None;
            return Ok(None);
        }
        if !bind.address.is_multiple_of(BLOCK_ALIGNMENT) {
            return Err(Status::InvalidArgument);
        }
        let block =
            self.memory.block(bind.address, bind.size_bytes.max(bind.zero_bytes)).ok_or(Status::InvalidArgument)?;
        let cut = block.clone().cut(bind.size_bytes as usize);
        self.table[index] = Bound { block: Some(cut), generation: bind.slot.generation, owner: command.grain };
        Ok(Some((block, bind.zero_bytes as usize)))
    }

    #[inline]
    fn find(&self, slot: DeviceSlot, grain: u32) -> Result<&M::Block, Status> {
        let bound = self.table.get(slot.index as usize).ok_or(Status::UnknownAllocation)?;
        let block = bound.block.as_ref().ok_or(Status::UnknownAllocation)?;
        if bound.generation != slot.generation {
            return Err(Status::UnknownAllocation);
        }
        if bound.owner != grain {
            return Err(Status::NotOwner);
        }
        Ok(block)
    }

    /// The part that a transfer of at most `limit_bytes` names.
    #[inline]
    fn transfer(&self, command: &Command, limit_bytes: usize, is_inline: bool) -> Result<Part<'_, M::Block>, Status> {
        let transfer = Transfer::from_payload(&command.payload);
        let block = self.find(transfer.slot, command.grain)?;
        let size_bytes = transfer.size_bytes as usize;
        if size_bytes > limit_bytes {
            return Err(Status::InvalidArgument);
        }
        let offset_bytes = usize::try_from(transfer.offset_bytes).map_err(|_| Status::OutOfBounds)?;
        match offset_bytes.checked_add(size_bytes) {
            Some(end) if end <= block.size_bytes() => Ok(Part { block, offset_bytes, size_bytes, is_inline }),
            _ => Err(Status::OutOfBounds),
        }
    }

    #[inline]
    fn compute<'a, R>(&'a self, command: &Command, kernels: &'a KernelCopy<R>) -> Result<Run<'a, M::Block, R>, Status> {
        let kernel = kernels.find(command.kernel).ok_or(Status::UnknownKernel)?;
        let call = Compute::from_payload(&command.payload);
        let mut buffers = [None; 3];
        let mut elements = [0; 3];
        let slots = [call.input, call.operand, call.output];
        for (i, slot) in slots.into_iter().enumerate() {
            if slot.is_none() != (kernel.declaration.buffers[i] == BufferUse::None) {
                return Err(Status::InvalidArgument);
            }
            if !slot.is_none() {
                let block = self.find(slot, command.grain)?;
                elements[i] = block.size_bytes() as u64 / 4;
                buffers[i] = Some(block);
            }
        }
        let same = |a: usize, b: usize| !slots[a].is_none() && slots[a].index == slots[b].index;
        if (same(0, 1) || same(0, 2) || same(1, 2)) && !kernel.declaration.in_place {
            return Err(Status::InvalidArgument);
        }
        let whole = if call.input.is_none() { elements[2] } else { elements[0] };
        let count = if call.count == 0 { whole } else { u64::from(call.count) };
        let scalars = Scalars(call.scalars);
        let shape = CallShape { elements, count, scalars, constants: kernel.constants };
        // What the declaration brings along is a user's code like the kernel itself: if it panics, that is a fault of this
        // command, and the lane goes on.
        let checked = AssertUnwindSafe(|| {
            (kernel.declaration.check)(&shape).map_err(|_| Status::InvalidArgument)?;
            Ok((kernel.declaration.work)(&shape))
        });
        let work = catch_unwind(checked).unwrap_or(Err(Status::KernelFault))?;
        let first = [0, 1, 2].map(|i| (0..i).find(|earlier| same(*earlier, i)).unwrap_or(i));
        Ok(Run { kernel, buffers, first, count: count as usize, scalars, work })
    }
}
