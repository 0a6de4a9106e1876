//! Which transfers take the ring's bulk staging, and the chunks of one that does.
//!
//! A transfer in pieces has one command under way. By bulk staging the host fills the next piece's chunk, or empties the last
//! one's, meanwhile: two chunks are all that one transfer ever has. One that finds no free chunk moves its next piece by a
//! slot, and then looks again: nobody waits for chunks, so a call that is kept without being polled keeps its chunks, and holds
//! nobody back.

use std::ops::Range;
use std::sync::Arc;

use gpubridge_abstractions::{BulkStaging, Chunk};

/// The least bytes of a transfer that takes bulk staging: below, the way beside the ring costs more than pieces by slots. To be
/// measured on a GPU.
pub(super) const BULK_BYTES: usize = 64 << 10;
/// The most bytes of a piece: filling the next one is to take no longer than copying this one by much. To be measured on a GPU.
pub(super) const PIECE_BYTES: usize = 2 << 20;

/// Bytes of the piece from `first` on, of a transfer of `size_bytes`.
fn piece_bytes(bulk: &dyn BulkStaging, first: usize, size_bytes: usize) -> usize {
    (size_bytes - first).min(PIECE_BYTES).min(bulk.chunk_bytes())
}

/// The chunks of a write: of the command under way, and the next one's.
#[derive(Debug, Default)]
pub(super) struct WriteChunks {
    flying: Option<Chunk>,
    filled: Option<(Chunk, usize)>,
}

impl WriteChunks {
    /// Fills a chunk for the piece of `data` from `first` on, if none is filled and one is free.
    pub(super) fn fill(&mut self, bulk: &Arc<dyn BulkStaging>, data: &[u8], first: usize) {
        if self.filled.is_none()
            && first < data.len()
            && let Some(mut chunk) = Arc::clone(bulk).take()
        {
            let size_bytes = piece_bytes(&**bulk, first, data.len());
            chunk.write(&data[first..first + size_bytes]);
            self.filled = Some((chunk, size_bytes));
        }
    }

    /// The chunk of the next command, and the bytes in it.
    pub(super) fn next(&self) -> Option<(u32, usize)> {
        self.filled.as_ref().map(|(chunk, size_bytes)| (chunk.number(), *size_bytes))
    }

    /// The next command was submitted.
    pub(super) fn submitted(&mut self) {
        self.flying = self.filled.take().map(|(chunk, _)| chunk);
    }

    /// It was answered.
    pub(super) fn answered(&mut self) {
        self.flying = None;
    }
}

/// The chunks of a read: the next command's, of the one under way, and what the last one brought.
#[derive(Debug, Default)]
pub(super) struct ReadChunks {
    free: Option<(Chunk, usize)>,
    flying: Option<Chunk>,
    full: Option<(Chunk, Range<usize>)>,
}

impl ReadChunks {
    /// Has a chunk for the piece of `target` from `first` on, if one is free, and empties the one that is full: while a
    /// command is under way, or when its chunk is needed.
    pub(super) fn turn(&mut self, bulk: &Arc<dyn BulkStaging>, target: &mut [u8], first: usize, is_under_way: bool) {
        let wants = first < target.len() && self.free.is_none();
        let take = || if wants { Arc::clone(bulk).take() } else { None };
        let chunk = match is_under_way {
            true => self.empty(target).or_else(take),
            // The device is not kept waiting for what can be copied while it works.
            false => take().or_else(|| if wants { self.empty(target) } else { None }),
        };
        if wants {
            self.free = chunk.map(|chunk| (chunk, piece_bytes(&**bulk, first, target.len())));
        }
    }

    /// Copies what the last answer brought to where it belongs.
    pub(super) fn empty(&mut self, target: &mut [u8]) -> Option<Chunk> {
        let (chunk, range) = self.full.take()?;
        chunk.read(&mut target[range]);
        Some(chunk)
    }

    /// The chunk of the next command, and the bytes that it shall bring.
    pub(super) fn next(&self) -> Option<(u32, usize)> {
        self.free.as_ref().map(|(chunk, size_bytes)| (chunk.number(), *size_bytes))
    }

    /// The next command was submitted.
    pub(super) fn submitted(&mut self) {
        self.flying = self.free.take().map(|(chunk, _)| chunk);
    }

    /// It was answered, with this range of the target if it has a chunk.
    pub(super) fn answered(&mut self, range: Range<usize>) {
        self.full = self.flying.take().map(|chunk| (chunk, range));
    }

    /// Whether the command under way has a chunk.
    pub(super) fn is_flying(&self) -> bool {
        self.flying.is_some()
    }
}
