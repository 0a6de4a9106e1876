//! What a call carries through the ring: one operation of the data plane.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use gpubridge_abstractions::{BulkStaging, Command, Completion, Error};

use super::ResidentMemory;
use super::lane::Counters;
use super::refusal::Refusal;
use super::session::{Allocations, Session};
use crate::kernel_cache::LaneKernels;

/// When a call was made and answered.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
}

impl Timing {
    /// Microseconds from start to end.
    pub(crate) fn total_us(&self) -> f64 {
        self.ended.saturating_duration_since(self.started).as_secs_f64() * 1e6
    }
}

/// An operation on the data plane: write, read or compute. It may take several commands, one after the other; they are
/// one turn of their grain.
pub trait Operation: Unpin + Debug {
    /// What it answers with.
    type Response;

    /// Begins anew, and gives up the chunks that it has.
    fn restart(&mut self);

    /// Whether it is large enough for bulk staging.
    fn is_bulk(&self) -> bool {
        false
    }

    /// Fills the chunk of its next command and empties that of its last one, as far as there is a chunk to be had. Outside of
    /// the lane's guard.
    fn stage(&mut self, _: &Arc<dyn BulkStaging>) {}

    /// Writes its next command, checked against what its session holds; the command names the grain already.
    // In place, here and wherever commands and answers pass: what is moved on is read before its parts have left the
    // store buffer, and then waits for all of it.
    fn command(
        &mut self,
        allocations: &Allocations,
        kernels: &mut LaneKernels,
        staging_bytes: usize,
        command: &mut Command,
    ) -> Result<(), Refusal>;

    /// The bytes that go with the command.
    fn staged(&self) -> &[u8];

    /// The command was submitted: counts it. Returns whether it was the last one.
    fn submitted(&mut self, session: &mut Session, counters: &mut Counters) -> bool;

    /// Where the staged bytes of the answer go.
    fn landing(&mut self) -> &mut [u8];

    /// The answer to the command. Returns whether it was the last one.
    fn answered(&mut self, completion: &Completion) -> bool;

    /// The response: to the last answer, or to why there is none.
    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<Self::Response, Error>;
}
