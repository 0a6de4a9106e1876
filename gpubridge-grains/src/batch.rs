//! Many computations in flight from one thread, over many grains.

use std::num::NonZeroUsize;
use std::sync::Arc;

use gpubridge_abstractions::{ComputeMessage, Error, ErrorKind, GpuMemoryHandle, KernelSpec, Parameters};
use gpubridge_runtime::{Answered, Batch};

use crate::grain::GrainRef;
use crate::silo::Shared;
use gpubridge_runtime::wait;

/// A pipeline of computations over a silo's grains: each [`GrainBatch::compute`] submits one and, once the depth is
/// reached, answers the oldest. Answers come in the order of submission.
#[derive(Debug)]
pub struct GrainBatch {
    shared: Arc<Shared>,
    batch: Batch,
}

impl GrainBatch {
    pub(crate) fn new(shared: Arc<Shared>, depth: NonZeroUsize) -> Self {
        Self { batch: shared.memory.batch(depth), shared }
    }

    /// Submits a computation; `token` comes back with its answer. Returns the oldest answer when the pipeline is full.
    ///
    /// # Errors
    /// What is refused before it is submitted, as [`GrainRef::compute`] says; the pipeline goes on without it and loses no
    /// answer. `InvalidArgument` for a grain of another silo.
    ///
    /// Blocking: while the pipeline or the lane is full, and while the grain is activated. Allocates: no. Ordering: in
    /// the order of calls, per grain.
    #[inline]
    pub fn compute(
        &mut self,
        grain: &GrainRef,
        kernel: impl Into<KernelSpec>,
        input: Option<GpuMemoryHandle>,
        output: Option<GpuMemoryHandle>,
        parameters: Parameters,
        token: u64,
    ) -> Result<Option<Answered>, Error> {
        if !grain.is_of(&self.shared) {
            // The sessions of two silos have the same names.
            let why = format!("grain `{}` belongs to another silo: use a batch of that silo", grain.key());
            return Err(Error::new(ErrorKind::InvalidArgument, "batch.compute", why));
        }
        let entry = grain.entry();
        entry.touch(&self.shared);
        let (input, output) = (input.map(|handle| handle.id), output.map(|handle| handle.id));
        let mut message = ComputeMessage::new(self.batch.envelope(), kernel, input, output);
        message.parameters = parameters;
        loop {
            let session = entry.session_or_refusing();
            match self.batch.compute(session, &message, token) {
                Err(error) if grain.is_stale(session, &error) => {
                    wait(self.shared.activate(entry))?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(wait(grain.explain(error, [input, parameters.operand, output])));
                }
                answer => return answer,
            }
        }
    }

    /// Waits for the oldest answer; `None` when nothing is in flight.
    #[expect(clippy::should_implement_trait, reason = "waiting for answers is not iterating over what is there")]
    #[inline]
    pub fn next(&mut self) -> Option<Answered> {
        self.batch.next()
    }

    /// Computations in flight.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}
