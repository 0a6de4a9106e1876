//! Many computations in flight from one thread, over many grains.

use std::num::NonZeroUsize;
use std::sync::Arc;

use gpubridge_abstractions::{ComputeMessage, Error, ErrorKind, GpuMemoryHandle, KernelSpec, Parameters};
use gpubridge_runtime::{Answered, Batch, BatchCall, wait};
use smallvec::SmallVec;

use crate::grain::GrainRef;
use crate::silo::{Entry, Shared};

/// One computation for a [`GrainBatch`]; see [`GrainRef::compute`].
#[derive(Clone, Copy, Debug)]
pub struct Computation<'g> {
    /// The grain that computes.
    pub grain: &'g GrainRef,
    /// The kernel.
    pub kernel: KernelSpec,
    /// The allocation it reads, if it reads one.
    pub input: Option<GpuMemoryHandle>,
    /// The allocation it writes, if it writes one.
    pub output: Option<GpuMemoryHandle>,
    /// A second input, the number of elements and scalars.
    pub parameters: Parameters,
    /// Comes back with the answer.
    pub token: u64,
}

/// A pipeline of computations over a silo's grains: [`GrainBatch::submit`] puts several into it and, once its depth is
/// reached, answers the oldest.
///
/// Dropping it gives up the answers that were not taken; the device finishes what was submitted.
///
/// # Behavior
/// - **in-order**: Every computation is answered once, and answers come in the order of submission.
/// - **deactivations**: Computations follow their grain through deactivations: none is lost or done twice.
#[derive(Debug)]
pub struct GrainBatch {
    shared: Arc<Shared>,
    batch: Batch,
    calls: SmallVec<[BatchCall; Batch::AT_ONCE]>,
}

impl GrainBatch {
    pub(crate) fn new(shared: Arc<Shared>, depth: NonZeroUsize) -> Self {
        Self { batch: shared.memory.batch(depth), shared, calls: SmallVec::new() }
    }

    /// Submits computations, and hands the oldest answers to `answered` while the pipeline is full. All are submitted
    /// when this returns. Submitting sixteen at once costs far less than submitting sixteen one by one.
    ///
    /// Up to sixteen are gathered before they are submitted, so what the iterator itself does with these grains comes
    /// before them.
    ///
    /// # Behavior
    /// - **refusals**: A computation that is refused, as [`GrainRef::compute`] says, is answered with the error in its
    ///   turn; the others go on.
    /// - **other-silo**: So is one for a grain of another silo: `InvalidArgument`.
    /// - **after-panic**: After a panic of the iterator or of `answered` computations that were submitted stay in flight,
    ///   those gathered are dropped, and the batch goes on with the next submission.
    ///
    /// # Panics
    /// When the iterator or `answered` does.
    ///
    /// Blocking: while the pipeline or a lane is full or another operation has a grain's turn, and while a grain is
    /// activated or a kernel compiled. Allocates: no, but for these two and for refusals. Ordering: in the order of
    /// `computations`, per grain.
    #[inline]
    pub fn submit<'g>(
        &mut self,
        computations: impl IntoIterator<Item = Computation<'g>>,
        mut answered: impl FnMut(Answered),
    ) {
        // In halves, so that the device works on one while the other is answered.
        let at_once = Batch::AT_ONCE.min(self.batch.depth().div_ceil(2));
        let mut grains = SmallVec::<[&GrainRef; Batch::AT_ONCE]>::new();
        // An iterator or a receiver of answers that panicked may have left some.
        self.calls.clear();
        for computation in computations {
            self.gather(&computation);
            grains.push(computation.grain);
            if grains.len() == at_once {
                self.submit_gathered(&grains, &mut answered);
                grains.clear();
            }
        }
        self.submit_gathered(&grains, &mut answered);
    }

    /// Waits for the oldest answer; `None` when nothing is in flight.
    ///
    /// Blocking: until the answer, or the configured deadline of a call from now. Allocates: no. Ordering: in the order
    /// of submission.
    #[expect(clippy::should_implement_trait, reason = "waiting for answers is not iterating over what is there")]
    #[inline]
    pub fn next(&mut self) -> Option<Answered> {
        self.batch.next()
    }

    /// Computations that were not answered yet.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Adds a computation to those that are submitted next. Its session is looked up later.
    // Always: whatever is passed by way of the stack is written in other parts than it is read, and waits for that.
    #[inline(always)]
    fn gather(&mut self, computation: &Computation<'_>) {
        let KernelSpec { id, element, constants } = computation.kernel;
        let message = ComputeMessage {
            envelope: self.batch.envelope(),
            kernel_id: id,
            element,
            constants,
            input: computation.input.as_ref().map(|handle| handle.id),
            output: computation.output.as_ref().map(|handle| handle.id),
            parameters: computation.parameters,
        };
        self.calls.push(BatchCall { session: Entry::REFUSING, message, token: computation.token });
    }

    /// Submits the calls that were gathered, which are for these grains.
    #[inline]
    fn submit_gathered(&mut self, grains: &[&GrainRef], answered: &mut impl FnMut(Answered)) {
        while self.batch.room() < grains.len()
            && let Some(oldest) = self.batch.next()
        {
            answered(oldest);
        }
        // With nothing between: with many grains few are in the cache, and so their lines come side by side.
        for (call, grain) in self.calls.iter_mut().zip(grains) {
            // The sessions of two silos have the same names.
            if grain.is_of(&self.shared) {
                grain.entry().touch(&self.shared);
                call.session = grain.entry().session_or_refusing();
            }
        }
        let mut done = 0;
        while done < grains.len() {
            match self.batch.submit(&self.calls[done..]) {
                Ok(0) => self.batch.next().into_iter().for_each(&mut *answered),
                Ok(submitted) => done += submitted,
                Err(why) => done += self.resolve(&grains[done..], done, why, answered),
            }
        }
        self.calls.clear();
    }

    /// Does what the call at `first` needs before it is submitted, or refuses it. `grains` are those of this call and the
    /// ones behind it. Returns the number of calls that are done with.
    #[cold]
    fn resolve(
        &mut self,
        grains: &[&GrainRef],
        first: usize,
        why: Error,
        answered: &mut impl FnMut(Answered),
    ) -> usize {
        let (grain, BatchCall { session, message, token }) = (grains[0], self.calls[first]);
        let refusal = if !grain.is_of(&self.shared) {
            let why = format!("grain `{}` belongs to another silo: use a batch of that silo", grain.key());
            Error::new(ErrorKind::InvalidArgument, "batch.submit", why)
        } else if grain.is_stale(session, &why) {
            // The activation may need room in the lane, which the answers take that are here.
            std::iter::from_fn(|| self.batch.next()).for_each(answered);
            match wait(self.shared.activate(grain.entry())) {
                Ok(session) => {
                    let same = grains.iter().map(|other| std::ptr::eq(other.entry(), grain.entry()));
                    self.calls[first..].iter_mut().zip(same).filter(|(_, same)| *same).for_each(|(call, _)| {
                        call.session = session;
                    });
                    return 0;
                }
                Err(error) => error,
            }
        } else if why.kind() == ErrorKind::NotFound {
            wait(grain.explain(why, [message.input, message.parameters.operand, message.output]))
        } else {
            why
        };
        self.batch.refuse(token, refusal);
        1
    }
}
