//! A ring's bulk staging: chunks of page-locked memory, and who has them.
//!
//! What enforces that nobody touches a chunk of the device's is here: the submitter notes the command that a chunk goes with,
//! and no access and no other command gets at the chunk before that is answered.
#![expect(
    unsafe_code,
    reason = "memory that a device writes is reached by raw pointers; this file is where the host does so in bulk"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use gpubridge_abstractions::{BulkStaging, Chunk, Command, Completions, Error, Opcode, SubmitError, Ticket, Transfer};
use gpubridge_kernels::ring::HostCompletions;
use parking_lot::{Mutex, MutexGuard};

use crate::backend::CudaConfig;
use crate::gpu::{Gpu, Part};
use crate::heap::Kind;
use crate::posted::LaneWords;

/// The payload word that holds a chunk's number.
const CHUNK_WORD: usize = Transfer::HEADER_WORDS;
/// No ring has such a chunk, as the device sees by itself.
const NO_CHUNK: u64 = u64::MAX;

/// Who has a chunk.
#[derive(Debug, Default)]
struct State {
    is_held: bool,
    /// The last command that named it: its lane and its sequence number there.
    command: Option<(usize, u64)>,
}

/// The chunks of a ring.
#[derive(Debug)]
pub(crate) struct BulkChunks {
    part: Part,
    first: NonNull<u8>,
    chunk_bytes: usize,
    // Whoever reaches a chunk's bytes holds its guard meanwhile.
    states: Box<[Mutex<State>]>,
    lanes: Vec<HostCompletions<LaneWords>>,
}

// SAFETY: the bytes of a chunk are reached under its guard alone.
unsafe impl Send for BulkChunks {}
// SAFETY: as above.
unsafe impl Sync for BulkChunks {}

impl BulkChunks {
    /// The chunks of a ring whose lanes answer here; `None` if the configuration wants none.
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        cuda: &CudaConfig,
        lanes: Vec<HostCompletions<LaneWords>>,
    ) -> Result<Option<Arc<Self>>, Error> {
        if !cuda.has_bulk_staging() {
            return Ok(None);
        }
        let part = gpu.take(Kind::Pinned, u64::from(cuda.bulk_chunks) * u64::from(cuda.bulk_chunk_bytes))?;
        let first = gpu.host_of(&part)?;
        let states = (0..cuda.bulk_chunks).map(|_| Mutex::default()).collect();
        Ok(Some(Arc::new(Self { part, first, chunk_bytes: cuda.bulk_chunk_bytes as usize, states, lanes })))
    }

    /// Where the device sees the chunk with this number, which there is.
    pub(crate) fn address(&self, chunk: u64) -> u64 {
        self.part.address() + chunk * self.chunk_bytes as u64
    }

    /// Has `submit` put a command into lane `lane` that names a chunk, which is the device's from then on. A command that
    /// names one that it must not have names none instead, so that the device refuses it.
    pub(crate) fn submit(
        &self,
        lane: usize,
        command: &mut Command,
        submit: impl FnOnce(&Command) -> Result<Ticket, SubmitError>,
    ) -> Result<Ticket, SubmitError> {
        let number = usize::try_from(command.payload[CHUNK_WORD]).ok();
        let state = number.and_then(|number| self.states.get(number)).map(Mutex::lock);
        let Some(mut state) = state.filter(|state| state.is_held && !self.is_the_devices(state)) else {
            command.payload[CHUNK_WORD] = NO_CHUNK;
            return submit(command);
        };
        let ticket = submit(command)?;
        state.command = Some((lane, ticket.sequence()));
        Ok(ticket)
    }

    /// Whether a command that names the chunk is not answered.
    fn is_the_devices(&self, state: &State) -> bool {
        state.command.is_some_and(|(lane, sequence)| !self.lanes[lane].is_complete(sequence))
    }

    /// The guard of a chunk that its holder may reach, and its first byte.
    #[track_caller]
    fn reach(&self, chunk: u32, size_bytes: usize) -> (MutexGuard<'_, State>, *mut u8) {
        assert!(size_bytes <= self.chunk_bytes, "{size_bytes} bytes are more than a chunk holds");
        let state = self.states[chunk as usize].lock();
        assert!(state.is_held, "chunk {chunk} is nobody's: take it first");
        assert!(!self.is_the_devices(&state), "chunk {chunk} is the device's until its command is answered");
        // The numbers of chunks end where the part does.
        (state, self.first.as_ptr().wrapping_add(chunk as usize * self.chunk_bytes))
    }
}

impl BulkStaging for BulkChunks {
    fn chunks(&self) -> u32 {
        self.states.len() as u32
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    fn take(self: Arc<Self>) -> Option<Chunk> {
        // After a loss commands count as answered that the copy engine may still be at.
        if self.part.gpu().context.is_lost() {
            return None;
        }
        let free = |state: &Mutex<State>| {
            let mut state = state.try_lock()?;
            (!state.is_held && !self.is_the_devices(&state)).then(|| state.is_held = true)
        };
        let number = self.states.iter().position(|state| free(state).is_some())?;
        Some(Chunk::new(self, number as u32))
    }

    #[track_caller]
    fn write(&self, chunk: u32, bytes: &[u8]) {
        let (_guard, to) = self.reach(chunk, bytes.len());
        // SAFETY: the chunk has room for the bytes; it is neither the device's nor, under its guard, another thread's; and no
        // reference to it is ever kept, so `bytes` lie elsewhere.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    #[track_caller]
    fn read(&self, chunk: u32, bytes: &mut [u8]) {
        let (_guard, from) = self.reach(chunk, bytes.len());
        // SAFETY: as in `write`; all of the part was zeroed at first. What the device wrote is visible: the answer to its
        // command was seen.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    }

    #[track_caller]
    fn fill(&self, chunk: u32, fill: &mut dyn FnMut(&mut [u8])) {
        let (_guard, first) = self.reach(chunk, self.chunk_bytes);
        // SAFETY: as in `read`; the device writes nothing here before a command names the chunk again, for which it takes the
        // guard that is held until `fill` is done.
        fill(unsafe { std::slice::from_raw_parts_mut(first, self.chunk_bytes) });
    }

    fn give_back(&self, chunk: u32) {
        self.states[chunk as usize].lock().is_held = false;
    }
}

/// Whether a command names a chunk.
pub(crate) fn names_chunk(command: &Command) -> bool {
    command.opcode == Opcode::WriteBulk as u8 || command.opcode == Opcode::ReadBulk as u8
}
