//! A call of a resident grain: that of its session, and the way back to one when the grain was deactivated.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gpubridge_abstractions::{AllocationId, Error, ErrorKind};
use gpubridge_runtime::{Call, Operation, SessionId, wait};

use crate::grain::GrainRef;

type Slow<'g> = Pin<Box<dyn Future<Output = Slowly> + Send + 'g>>;

/// What the slow path came to.
enum Slowly {
    Activated(Result<SessionId, Error>),
    Explained(Error),
}

/// A call of a resident grain. It is awaited, waited for on the thread ([`GrainCall::wait`]) or posted
/// ([`GrainCall::post`]); it does nothing before. Dropping it gives its answer up and stalls nobody.
///
/// Blocking: awaiting it takes the lane's guard and no more, except while it compiles a kernel, and while it activates the
/// grain: there the storage may be awaited, and restoring may wait for the device's driver. Allocates: nothing on its way
/// through the ring; activating the grain and refusing a call do. Ordering: the grain's turn is the moment its command
/// enters the lane, at the first poll, [`GrainCall::wait`] or [`GrainCall::post`] that finds room.
///
/// # Behavior
/// - **given-up-activation**: Dropped while its grain is activated it leaves neither a session nor memory behind.
#[must_use = "a call does nothing until it is awaited, waited for or posted"]
pub struct GrainCall<'g, O: Operation> {
    grain: &'g GrainRef,
    call: Call<'g, O>,
    names: [Option<AllocationId>; 3],
    pending: Option<Slow<'g>>,
}

impl<O: Operation> fmt::Debug for GrainCall<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrainCall").field("grain", self.grain).field("call", &self.call).finish_non_exhaustive()
    }
}

impl<'g, O: Operation> GrainCall<'g, O> {
    pub(crate) fn new(grain: &'g GrainRef, call: Call<'g, O>, names: [Option<AllocationId>; 3]) -> Self {
        Self { grain, call, names, pending: None }
    }

    /// The same with another deadline than the configured one (30 s by default), from when the call was made.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.call = self.call.with_deadline(deadline);
        self
    }

    /// Waits for the answer on this thread: spins for some microseconds, then parks.
    ///
    /// # Errors
    /// As the method that made the call.
    #[inline]
    pub fn wait(mut self) -> Result<O::Response, Error> {
        loop {
            match self.call.wait_here() {
                Err(error) if self.grain.is_stale(self.call.session(), &error) => {
                    let session = wait(self.grain.active_session())?;
                    self.call.retarget(session);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(wait(self.grain.explain(error, self.names)));
                }
                answer => return answer,
            }
        }
    }

    /// Submits the call, with its data captured, and returns without waiting for the answer; blocks only while the lane
    /// is full. What is returned may be awaited, waited for or dropped.
    ///
    /// # Errors
    /// What is refused before it is submitted.
    pub fn post(mut self) -> Result<Self, Error> {
        loop {
            match self.call.post_here() {
                Err(error) if self.grain.is_stale(self.call.session(), &error) => {
                    let session = wait(self.grain.active_session())?;
                    self.call.retarget(session);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(wait(self.grain.explain(error, self.names)));
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(self),
            }
        }
    }
}

impl<O: Operation> Future for GrainCall<'_, O> {
    type Output = Result<O::Response, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(pending) = &mut this.pending {
                let Poll::Ready(slowly) = pending.as_mut().poll(context) else { return Poll::Pending };
                this.pending = None;
                match slowly {
                    Slowly::Activated(Ok(session)) => this.call.retarget(session),
                    Slowly::Activated(Err(error)) | Slowly::Explained(error) => return Poll::Ready(Err(error)),
                }
            }
            let Poll::Ready(answer) = Pin::new(&mut this.call).poll(context) else { return Poll::Pending };
            let (grain, names) = (this.grain, this.names);
            match answer {
                Err(error) if grain.is_stale(this.call.session(), &error) => {
                    this.pending = Some(Box::pin(async { Slowly::Activated(grain.active_session().await) }));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    this.pending = Some(Box::pin(async move { Slowly::Explained(grain.explain(error, names).await) }));
                }
                answer => return Poll::Ready(answer),
            }
        }
    }
}
