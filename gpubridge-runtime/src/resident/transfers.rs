//! Writes and reads: messages that become copies, in one command or in pieces.

use std::ops::Range;
use std::sync::Arc;

use gpubridge_abstractions::{
    AllocationId, BulkStaging, Chunk, Command, Completion, DeviceSlot, Error, Opcode, PAYLOAD_BYTES, PAYLOAD_WORDS,
    ReadMessage, ReadResponse, StagedRange, Transfer, WriteMessage, WriteResponse,
};

use super::ResidentMemory;
use super::bulk::{BULK_BYTES, ReadChunks, WriteChunks};
use super::lane::Counters;
use super::operation::{Operation, Timing};
use super::operations::{sampled_us, with_contents};
use super::refusal::Refusal;
use super::session::{Allocation, Allocations, Session};
use crate::kernel_cache::LaneKernels;

/// Writes staged bytes into an allocation.
#[derive(Debug)]
pub struct Write<'d> {
    message: WriteMessage,
    data: Result<&'d [u8], Refusal>,
    progress: Pieces,
    chunks: WriteChunks,
}

impl<'d> Write<'d> {
    pub(crate) fn new(message: &WriteMessage, staging: &'d [u8]) -> Self {
        let range = staged(message.staged, message.size_bytes, staging.len());
        let data = range.map(|range| &staging[range]);
        Self { message: *message, data, progress: Pieces::default(), chunks: WriteChunks::default() }
    }

    fn bytes(&self) -> &'d [u8] {
        self.data.unwrap_or_default()
    }

    fn is_inline(&self) -> bool {
        self.bytes().len() <= Transfer::INLINE_WRITE_BYTES
    }
}

impl Operation for Write<'_> {
    type Response = WriteResponse;

    fn restart(&mut self) {
        (self.progress, self.chunks) = (Pieces::default(), WriteChunks::default());
    }

    #[inline]
    fn is_bulk(&self) -> bool {
        self.bytes().len() >= BULK_BYTES
    }

    fn stage(&mut self, bulk: &Arc<dyn BulkStaging>) {
        self.chunks.fill(bulk, self.data.unwrap_or_default(), self.progress.sent);
    }

    #[inline]
    fn command(
        &mut self,
        allocations: &Allocations,
        _: &mut LaneKernels,
        staging_bytes: usize,
        command: &mut Command,
    ) -> Result<(), Refusal> {
        let data = self.data?;
        let transfer =
            Piece { id: self.message.allocation, offset_bytes: self.message.offset_bytes, data_bytes: data.len() };
        let allocation = transfer.check(allocations)?;
        let slot = allocation.device_slot;
        let chunk = self.chunks.next();
        self.progress.piece = chunk.map_or((data.len() - self.progress.done).min(staging_bytes), |(_, bytes)| bytes);
        let piece = transfer.payload(slot, self.progress);
        if let Some((chunk, _)) = chunk {
            (command.opcode, command.payload) = (Opcode::WriteBulk as u8, naming(piece, chunk));
        } else if self.is_inline() {
            let mut bytes = [0; Transfer::INLINE_WRITE_BYTES];
            bytes[..data.len()].copy_from_slice(data);
            let (words, _) = bytes.as_chunks::<8>();
            let inline = std::array::from_fn(|i| u64::from_le_bytes(words[i]));
            (command.opcode, command.payload) = (Opcode::WriteInline as u8, piece.to_payload(inline));
        } else {
            (command.opcode, command.payload) = (Opcode::Write as u8, piece.to_payload([0; 4]));
        }
        Ok(())
    }

    #[inline]
    fn staged(&self) -> &[u8] {
        if self.is_inline() || self.chunks.next().is_some() { &[] } else { &self.bytes()[self.progress.range()] }
    }

    #[inline]
    fn submitted(&mut self, session: &mut Session, _: &mut Counters) -> bool {
        let size_bytes = self.bytes().len();
        if self.progress.done == 0 {
            session.tracker.record_write(size_bytes as u64, None);
        }
        self.chunks.submitted();
        let last = self.progress.submitted() == size_bytes;
        if last {
            note_written(session, self.message.allocation, size_bytes as u64);
        }
        last
    }

    #[inline]
    fn landing(&mut self) -> &mut [u8] {
        &mut []
    }

    #[inline]
    fn answered(&mut self, completion: &Completion) -> bool {
        self.chunks.answered();
        self.progress.answered(completion) == self.bytes().len()
    }

    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<WriteResponse, Error> {
        answer.map_err(|refusal| refusal.into_error("write"))?;
        let envelope = memory.clock().envelope(timing.ended);
        let response = WriteResponse::new(envelope, self.message.envelope.request_id, self.progress.done as u64);
        Ok(WriteResponse { transfer_time_us: sampled_us(self.progress.device_ns), ..response })
    }
}

/// Writes the bytes of a chunk, which its holder filled, into an allocation.
#[derive(Debug)]
pub struct WriteChunk {
    message: WriteMessage,
    chunk: Chunk,
    size_bytes: Result<usize, Refusal>,
    device_ns: u64,
}

impl WriteChunk {
    pub(crate) fn new(message: &WriteMessage, chunk: Chunk, bulk: Option<&Arc<dyn BulkStaging>>) -> Self {
        let size_bytes = match bulk.filter(|bulk| chunk.is_of(bulk)) {
            None => Err(Refusal::Call("the chunk is another ring's: take one of this memory's")),
            Some(bulk) => staged(message.staged, message.size_bytes, bulk.chunk_bytes()).and_then(|range| {
                let why = Refusal::Call("a chunk is written from its first byte on: stage at offset 0");
                if range.start == 0 { Ok(range.end) } else { Err(why) }
            }),
        };
        Self { message: *message, chunk, size_bytes, device_ns: 0 }
    }
}

impl Operation for WriteChunk {
    type Response = WriteResponse;

    fn restart(&mut self) {
        // The chunk is what there is to write: it stays until the call is dropped.
        self.device_ns = 0;
    }

    fn command(
        &mut self,
        allocations: &Allocations,
        _: &mut LaneKernels,
        _: usize,
        command: &mut Command,
    ) -> Result<(), Refusal> {
        let data_bytes = self.size_bytes?;
        let transfer = Piece { id: self.message.allocation, offset_bytes: self.message.offset_bytes, data_bytes };
        let slot = transfer.check(allocations)?.device_slot;
        let whole = Pieces { piece: data_bytes, ..Pieces::default() };
        command.opcode = Opcode::WriteBulk as u8;
        command.payload = naming(transfer.payload(slot, whole), self.chunk.number());
        Ok(())
    }

    fn staged(&self) -> &[u8] {
        &[]
    }

    fn submitted(&mut self, session: &mut Session, _: &mut Counters) -> bool {
        let size_bytes = self.size_bytes.map_or(0, |size_bytes| size_bytes as u64);
        session.tracker.record_write(size_bytes, None);
        note_written(session, self.message.allocation, size_bytes);
        true
    }

    fn landing(&mut self) -> &mut [u8] {
        &mut []
    }

    fn answered(&mut self, completion: &Completion) -> bool {
        self.device_ns = u64::from(completion.device_time_ns);
        true
    }

    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<WriteResponse, Error> {
        answer.map_err(|refusal| refusal.into_error("write"))?;
        let envelope = memory.clock().envelope(timing.ended);
        let response = WriteResponse::new(envelope, self.message.envelope.request_id, self.message.size_bytes);
        Ok(WriteResponse { transfer_time_us: sampled_us(self.device_ns), ..response })
    }
}

/// What was lost of an allocation is there again when all of it was written.
#[inline]
fn note_written(session: &mut Session, id: AllocationId, size_bytes: u64) {
    if let Some(allocation) = session.allocations.find_mut(id)
        && allocation.size_bytes == size_bytes
    {
        allocation.contents_lost = false;
    }
}

/// Reads bytes of an allocation into the caller's staging.
#[derive(Debug)]
pub struct Read<'d> {
    message: ReadMessage,
    target: Result<&'d mut [u8], Refusal>,
    progress: Pieces,
    chunks: ReadChunks,
}

impl<'d> Read<'d> {
    pub(crate) fn new(message: &ReadMessage, staging: &'d mut [u8]) -> Self {
        let range = staged(message.staged, message.size_bytes, staging.len());
        let target = range.map(|range| &mut staging[range]);
        Self { message: *message, target, progress: Pieces::default(), chunks: ReadChunks::default() }
    }

    fn size_bytes(&self) -> usize {
        self.target.as_ref().map_or(0, |target| target.len())
    }

    fn is_inline(&self) -> bool {
        self.size_bytes() <= PAYLOAD_BYTES
    }
}

impl Operation for Read<'_> {
    type Response = ReadResponse;

    fn restart(&mut self) {
        (self.progress, self.chunks) = (Pieces::default(), ReadChunks::default());
    }

    #[inline]
    fn is_bulk(&self) -> bool {
        self.size_bytes() >= BULK_BYTES
    }

    fn stage(&mut self, bulk: &Arc<dyn BulkStaging>) {
        let Pieces { done, sent, .. } = self.progress;
        if let Ok(target) = &mut self.target {
            self.chunks.turn(bulk, target, sent, sent > done);
        }
    }

    #[inline]
    fn command(
        &mut self,
        allocations: &Allocations,
        _: &mut LaneKernels,
        staging_bytes: usize,
        command: &mut Command,
    ) -> Result<(), Refusal> {
        let data_bytes = self.target.as_ref().map_err(|refusal| *refusal)?.len();
        let transfer = Piece { id: self.message.allocation, offset_bytes: self.message.offset_bytes, data_bytes };
        transfer.check(allocations)?;
        let slot = with_contents(allocations, self.message.allocation)?.device_slot;
        let chunk = self.chunks.next();
        self.progress.piece = chunk.map_or((data_bytes - self.progress.done).min(staging_bytes), |(_, bytes)| bytes);
        let piece = transfer.payload(slot, self.progress);
        if let Some((chunk, _)) = chunk {
            (command.opcode, command.payload) = (Opcode::ReadBulk as u8, naming(piece, chunk));
        } else {
            let opcode = if self.is_inline() { Opcode::ReadInline } else { Opcode::Read };
            (command.opcode, command.payload) = (opcode as u8, piece.to_payload([0; 4]));
        }
        Ok(())
    }

    #[inline]
    fn staged(&self) -> &[u8] {
        &[]
    }

    #[inline]
    fn submitted(&mut self, session: &mut Session, _: &mut Counters) -> bool {
        if self.progress.done == 0 {
            session.tracker.record_read(self.size_bytes() as u64, None);
        }
        self.chunks.submitted();
        self.progress.submitted() == self.size_bytes()
    }

    #[inline]
    fn landing(&mut self) -> &mut [u8] {
        if self.is_inline() || self.chunks.is_flying() {
            return &mut [];
        }
        let range = self.progress.range();
        self.target.as_deref_mut().map_or(&mut [], |target| &mut target[range])
    }

    #[inline]
    fn answered(&mut self, completion: &Completion) -> bool {
        if self.is_inline()
            && let Ok(target) = &mut self.target
        {
            for (chunk, word) in target.chunks_mut(8).zip(completion.payload) {
                chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            }
        }
        self.chunks.answered(self.progress.range());
        let is_last = self.progress.answered(completion) == self.size_bytes();
        if is_last && let Ok(target) = &mut self.target {
            self.chunks.empty(target);
        }
        is_last
    }

    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<ReadResponse, Error> {
        answer.map_err(|refusal| refusal.into_error("read"))?;
        let envelope = memory.clock().envelope(timing.ended);
        let response = ReadResponse::new(envelope, self.message.envelope.request_id, self.progress.done as u64);
        Ok(ReadResponse { transfer_time_us: sampled_us(self.progress.device_ns), ..response })
    }
}

/// A transfer between an allocation and a staging buffer.
struct Piece {
    id: AllocationId,
    offset_bytes: u64,
    data_bytes: usize,
}

impl Piece {
    /// The allocation, if the transfer stays within it.
    #[inline]
    fn check<'a>(&self, allocations: &'a Allocations) -> Result<&'a Allocation, Refusal> {
        let allocation = allocations.find(self.id).ok_or(Refusal::UnknownAllocation(self.id))?;
        let (offset_bytes, size_bytes) = (self.offset_bytes, self.data_bytes as u64);
        let allocation_bytes = allocation.size_bytes;
        if offset_bytes.checked_add(size_bytes).is_none_or(|end| end > allocation_bytes) {
            return Err(Refusal::OutOfBounds { offset_bytes, size_bytes, allocation_bytes });
        }
        Ok(allocation)
    }

    fn payload(&self, slot: DeviceSlot, Pieces { done, piece, .. }: Pieces) -> Transfer {
        Transfer { slot, offset_bytes: self.offset_bytes + done as u64, size_bytes: piece as u32 }
    }
}

/// The payload of a bulk copy.
fn naming(transfer: Transfer, chunk: u32) -> [u64; PAYLOAD_WORDS] {
    transfer.to_payload([u64::from(chunk), 0, 0, 0])
}

/// How far a transfer in pieces is.
#[derive(Clone, Copy, Debug, Default)]
struct Pieces {
    /// Bytes answered for, bytes submitted, and bytes of the piece at hand.
    done: usize,
    sent: usize,
    piece: usize,
    device_ns: u64,
}

impl Pieces {
    /// Where the piece at hand lies in the caller's memory.
    fn range(self) -> Range<usize> {
        self.done..self.done + self.piece
    }

    /// The piece at hand is on its way; returns how many bytes are.
    fn submitted(&mut self) -> usize {
        self.sent = self.done + self.piece;
        self.sent
    }

    /// It is answered; returns for how many bytes answers came.
    fn answered(&mut self, completion: &Completion) -> usize {
        self.done = self.sent;
        self.device_ns += u64::from(completion.device_time_ns);
        self.done
    }
}

/// The staged range of a transfer of `size_bytes`.
fn staged(range: StagedRange, size_bytes: u64, staging_bytes: usize) -> Result<Range<usize>, Refusal> {
    let within = || {
        let first = usize::try_from(range.offset_bytes).ok()?;
        let end = first.checked_add(usize::try_from(size_bytes).ok()?)?;
        (size_bytes <= range.size_bytes && end <= staging_bytes).then_some(first..end)
    };
    within().ok_or(Refusal::StagedRange {
        offset_bytes: range.offset_bytes,
        size_bytes,
        staging_bytes: staging_bytes as u64,
    })
}

const _: () = assert!(PAYLOAD_WORDS - Transfer::HEADER_WORDS == 4, "an inline write has four words of data");
