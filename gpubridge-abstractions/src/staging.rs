//! Bulk staging: a ring's large chunks, for transfers that a slot's staging area would cut into many pieces.

use std::fmt;
use std::sync::Arc;

/// Large chunks of host memory that the device's copy engine reaches, reserved when the ring is launched.
///
/// Whoever takes a [`Chunk`] fills it and names it in a [`crate::Opcode::WriteBulk`], or names it in a
/// [`crate::Opcode::ReadBulk`] and takes the bytes out behind its answer.
///
/// # Behavior
/// - **once**: Each chunk has one holder at a time, and when all are in use there is none to be had.
/// - **device-keeps**: From the submission of a command that names it to that command's answer a chunk is the device's. One
///   that is dropped meanwhile is handed out again behind the answer, and not before.
/// - **comes-back**: Every chunk can be had again once its command is answered and its holder has dropped it, also when the
///   ring was terminated.
pub trait BulkStaging: Send + Sync + fmt::Debug {
    /// How many chunks there are, at least 2.
    fn chunks(&self) -> u32;

    /// Bytes of each chunk, the most that one command moves.
    fn chunk_bytes(&self) -> usize;

    /// A chunk that nobody has; `None` when all are in use, or the device is lost.
    ///
    /// Blocking: never. Allocates: no. Ordering: what was done with the chunk before is done.
    fn take(self: Arc<Self>) -> Option<Chunk>;

    /// [`Chunk::write`] of the chunk with this number.
    ///
    /// # Panics
    /// As [`Chunk::write`]; when nobody holds the chunk.
    fn write(&self, chunk: u32, bytes: &[u8]);

    /// [`Chunk::read`] of the chunk with this number.
    ///
    /// # Panics
    /// As [`Chunk::read`]; when nobody holds the chunk.
    fn read(&self, chunk: u32, bytes: &mut [u8]);

    /// [`Chunk::fill`] of the chunk with this number.
    ///
    /// # Panics
    /// As [`Chunk::fill`]; when nobody holds the chunk.
    fn fill(&self, chunk: u32, fill: &mut dyn FnMut(&mut [u8]));

    /// Takes the chunk with this number back from its holder, for the drop of [`Chunk`].
    ///
    /// Blocking: never. Allocates: no.
    fn give_back(&self, chunk: u32);
}

/// The right to one chunk of a ring's [`BulkStaging`]. It is not `Clone`; dropping it gives the chunk back.
///
/// Each of its methods panics while a command that names the chunk is not answered: the chunk is the device's then.
#[derive(Debug)]
pub struct Chunk {
    staging: Arc<dyn BulkStaging>,
    number: u32,
}

impl Chunk {
    /// The right to the chunk with this number. For [`BulkStaging::take`] to hand out, once until it is given back.
    pub fn new(staging: Arc<dyn BulkStaging>, number: u32) -> Self {
        Self { staging, number }
    }

    /// Whether it is one of these.
    pub fn is_of(&self, staging: &Arc<dyn BulkStaging>) -> bool {
        Arc::ptr_eq(&self.staging, staging)
    }

    /// Its number, by which a command names it.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Copies `bytes` to its first bytes, at the speed of memory.
    ///
    /// # Panics
    /// When there are more than a chunk holds; while the chunk is the device's.
    ///
    /// Blocking: for the copy. Allocates: no.
    pub fn write(&mut self, bytes: &[u8]) {
        self.staging.write(self.number, bytes);
    }

    /// Copies its first bytes to `bytes`, at the speed of memory.
    ///
    /// # Panics
    /// When there are more than a chunk holds; while the chunk is the device's.
    ///
    /// Blocking: for the copy. Allocates: no. Ordering: behind a command whose answer was seen.
    pub fn read(&self, bytes: &mut [u8]) {
        self.staging.read(self.number, bytes);
    }

    /// Lends all of its bytes, to be filled in place. They hold what the last holder left.
    ///
    /// # Panics
    /// While the chunk is the device's; when `fill` does.
    ///
    /// Blocking: for as long as `fill` takes. Allocates: no.
    pub fn fill(&mut self, fill: impl FnOnce(&mut [u8])) {
        let mut fill = Some(fill);
        self.staging.fill(self.number, &mut |bytes| {
            if let Some(fill) = fill.take() {
                fill(bytes);
            }
        });
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.staging.give_back(self.number);
    }
}
