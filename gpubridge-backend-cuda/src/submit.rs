//! What a command is told before it enters its lane: which kernel its slot stands for, and whether a bind names memory.

use std::sync::Arc;

use gpubridge_abstractions::{Bind, Command, Opcode, SubmitError, Submitter, Ticket};
use gpubridge_kernels::ring::HostSubmitter;

use crate::bulk::{BulkChunks, names_chunk};
use crate::gpu::Gpu;
use crate::kernels::KernelSlots;
use crate::posted::LaneWords;

/// The payload word of a computation whose upper half is free: there travels the kernel's constant.
const COUNT_WORD: usize = 3;
/// The payload word of a bind that holds the block's address.
const ADDRESS_WORD: usize = 1;
/// No block lies there, as the device sees by itself: it is no multiple of anything.
const NOWHERE: u64 = 1;
/// Commands that are prepared before the first of them is submitted.
const RUN: usize = 16;

/// The submission side of a lane.
#[derive(Debug)]
pub(crate) struct CudaSubmitter {
    pub(crate) lane: HostSubmitter<LaneWords>,
    pub(crate) kernels: Arc<KernelSlots>,
    pub(crate) gpu: Arc<Gpu>,
    /// The ring's chunks, and the number under which they know the lane.
    pub(crate) bulk: Option<(Arc<BulkChunks>, usize)>,
}

impl CudaSubmitter {
    #[inline]
    fn told(&self, command: &Command) -> Command {
        let mut told = *command;
        if command.opcode == Opcode::Compute as u8 {
            let variant = self.kernels.find(command.kernel);
            told.kernel = variant.number;
            told.payload[COUNT_WORD] =
                told.payload[COUNT_WORD] & u64::from(u32::MAX) | u64::from(variant.constant) << 32;
        } else if command.opcode == Opcode::Bind as u8 {
            let bind = Bind::from_payload(&command.payload);
            // Which buffers there are is the host's to know. The device checks that the block lies in memory at all.
            if bind.size_bytes > 0 && !self.gpu.is_within_buffer(bind.address, bind.size_bytes.max(bind.zero_bytes)) {
                told.payload[ADDRESS_WORD] = NOWHERE;
            }
        }
        told
    }
}

impl Submitter for CudaSubmitter {
    #[inline]
    fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError> {
        let mut told = self.told(command);
        match &self.bulk {
            Some((chunks, lane)) if names_chunk(command) => {
                let host = &mut self.lane;
                chunks.submit(*lane, &mut told, |command| host.try_submit(command, staged))
            }
            _ => self.lane.try_submit(&told, staged),
        }
    }

    fn try_submit_run(&mut self, commands: &[Command], tickets: &mut Vec<Ticket>) -> Result<(), SubmitError> {
        if commands.iter().any(names_chunk) {
            return commands.iter().try_for_each(|command| {
                tickets.push(self.try_submit(command, &[])?);
                Ok(())
            });
        }
        let mut run = [Command::new(Opcode::Skip, 0, [0; 7]); RUN];
        for commands in commands.chunks(RUN) {
            for (told, command) in run.iter_mut().zip(commands) {
                *told = self.told(command);
            }
            self.lane.try_submit_run(&run[..commands.len()], tickets)?;
        }
        Ok(())
    }

    fn doorbell(&mut self) {
        // The ring never sleeps.
    }

    fn next_sequence(&self) -> u64 {
        self.lane.next_sequence()
    }

    fn completed_below(&mut self) -> u64 {
        self.lane.completed_below()
    }

    fn pending(&self) -> u32 {
        self.lane.pending()
    }
}
