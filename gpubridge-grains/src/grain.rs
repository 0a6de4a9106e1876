//! The resident grain: a caller's reference, and its calls.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytemuck::Pod;
use gpubridge_abstractions::{
    AllocateMessage, AllocateResponse, AllocationId, ComputeMessage, Envelope, Error, ErrorKind, GetMetricsMessage,
    GpuMemoryHandle, GpuMemoryInfo, KernelSpec, MemoryType, MetricsResponse, Parameters, ReadMessage, ReleaseMessage,
    ReleaseResponse, ResidentMemoryTotals, StagedRange, WriteMessage,
};
use gpubridge_runtime::{Call, Compute, Operation, Read, SessionId, Write};

use crate::call::GrainCall;
use crate::key::GrainKey;
use crate::silo::{Entry, Shared};

/// A reference to a resident grain. Cheap to clone and to keep; the grain is activated by its first call and again after
/// a deactivation.
///
/// # Behavior
/// - **turns**: The calls of one grain take effect one at a time, each once, in the order in which they entered its lane,
///   however often the grain is deactivated amid them.
/// - **same-handles**: Handles and contents are the same after any number of deactivations.
/// - **failed-activation**: A call whose grain cannot be activated fails with the storage's error, and leaves neither a
///   session nor memory behind.
/// - **as-if-alone**: Whatever the silo's grains do, through deactivations and restarts and with any number of calls in
///   flight, each handle names the same bytes until it is released, as if there were no other grain.
#[derive(Clone)]
pub struct GrainRef {
    silo: Arc<Shared>,
    entry: Arc<Entry>,
}

impl fmt::Debug for GrainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrainRef").field("key", self.entry.key()).finish_non_exhaustive()
    }
}

impl GrainRef {
    pub(crate) fn new(silo: Arc<Shared>, entry: Arc<Entry>) -> Self {
        Self { silo, entry }
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether the grain is this silo's.
    pub(crate) fn is_of(&self, silo: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.silo, silo)
    }

    /// The grain's key.
    pub fn key(&self) -> &GrainKey {
        self.entry.key()
    }

    /// Allocates device memory.
    ///
    /// # Behavior
    /// - **concurrent**: Allocations made at once, by tasks or by threads, have ids and bytes of their own.
    /// - **zeroed**: The bytes are zero, unless the block was this grain's since its activation: then they are
    ///   unspecified.
    ///
    /// # Errors
    /// `OutOfMemory` with the bytes requested and available; `Unsupported` for a memory type the device does not have;
    /// `InvalidArgument` for 0 bytes.
    pub async fn allocate(&self, size_bytes: u64, memory_type: MemoryType) -> Result<GpuMemoryHandle, Error> {
        self.allocate_reporting(size_bytes, memory_type).await.map(|response| response.handle)
    }

    /// [`GrainRef::allocate`] with the whole response.
    ///
    /// # Behavior
    /// - **pool-hit**: It says whether a released block was used again.
    ///
    /// # Errors
    /// As [`GrainRef::allocate`].
    pub async fn allocate_reporting(
        &self,
        size_bytes: u64,
        memory_type: MemoryType,
    ) -> Result<AllocateResponse, Error> {
        let now_us = self.silo.memory.timestamp_us();
        let mut message = AllocateMessage::new(Envelope::at(now_us), size_bytes);
        message.memory_type = memory_type;
        // What mostly serves needs no future, and its message is not kept in one.
        match self.silo.memory.allocate_idle(self.session(), &message, now_us) {
            Some(response) => Ok(response),
            None => self.allocate_or_wait(message).await,
        }
    }

    async fn allocate_or_wait(&self, message: AllocateMessage) -> Result<AllocateResponse, Error> {
        loop {
            let session = self.session();
            match self.silo.memory.allocate_async(session, &message).await {
                Err(error) if self.is_stale(session, &error) => drop(self.active_session().await?),
                answer => return answer,
            }
        }
    }

    /// Releases an allocation. A handle that is not live changes nothing: the response says 0 bytes freed.
    ///
    /// # Behavior
    /// - **for-good**: The handle never names a later allocation, not after a restart either.
    ///
    /// # Errors
    /// None but those of the grain's activation.
    pub async fn release(&self, handle: GpuMemoryHandle, return_to_pool: bool) -> Result<ReleaseResponse, Error> {
        let now_us = self.silo.memory.timestamp_us();
        let mut message = ReleaseMessage::new(Envelope::at(now_us), handle.id);
        message.return_to_pool = return_to_pool;
        match self.silo.memory.release_at(self.session(), &message, now_us) {
            Some(response) => Ok(response),
            None => self.release_once_active(message).await,
        }
    }

    async fn release_once_active(&self, message: ReleaseMessage) -> Result<ReleaseResponse, Error> {
        self.with_session(|session| self.silo.memory.release(session, &message)).await
    }

    /// Writes `data` into an allocation from element `offset_elements` on. The data is captured when the call is first
    /// polled, waited for or posted.
    ///
    /// # Errors
    /// `InvalidArgument` for a range beyond the allocation; `NotFound` for a handle that is not live; `ContentsLost` for
    /// one that an unclean stop took; `Timeout`.
    pub fn write<'g, T: Pod>(
        &'g self,
        handle: GpuMemoryHandle,
        data: &'g [T],
        offset_elements: u64,
    ) -> GrainCall<'g, Write<'g>> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let staged = StagedRange { offset_bytes: 0, size_bytes: bytes.len() as u64 };
        let offset_bytes = offset_bytes::<T>(offset_elements);
        let made = Instant::now();
        let message = WriteMessage::new(self.silo.memory.envelope_at(made), handle.id, offset_bytes, staged);
        self.call(self.silo.memory.write_at(made, self.session(), &message, bytes), [Some(handle.id), None, None])
    }

    /// Reads elements into `target`, from element `offset_elements` of an allocation on. Allocates nothing.
    ///
    /// # Errors
    /// As [`GrainRef::write`].
    pub fn read_into<'g, T: Pod>(
        &'g self,
        handle: GpuMemoryHandle,
        offset_elements: u64,
        target: &'g mut [T],
    ) -> GrainCall<'g, Read<'g>> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(target);
        let staged = StagedRange { offset_bytes: 0, size_bytes: bytes.len() as u64 };
        let offset_bytes = offset_bytes::<T>(offset_elements);
        let made = Instant::now();
        let message = ReadMessage::new(self.silo.memory.envelope_at(made), handle.id, offset_bytes, staged);
        self.call(self.silo.memory.read_at(made, self.session(), &message, bytes), [Some(handle.id), None, None])
    }

    /// Reads `count` elements from element `offset_elements` of an allocation on.
    ///
    /// # Behavior
    /// - **as-written**: What was written is read, bit for bit, whole or in part.
    /// - **any-type**: Bytes are read as any plain type, whichever wrote them, also as one of no size.
    /// - **beyond**: Whatever offset and count are asked for, a range that cannot be is an error: nothing overflows, and
    ///   memory of the host that is not there ends no process.
    ///
    /// # Errors
    /// As [`GrainRef::write`].
    pub async fn read<T: Pod>(
        &self,
        handle: GpuMemoryHandle,
        offset_elements: u64,
        count: usize,
    ) -> Result<Vec<T>, Error> {
        let beyond = handle.size_bytes / size_of::<T>().max(1) as u64;
        if count as u64 > beyond {
            let why = format!("{count} elements were asked for and the allocation holds {beyond}");
            return Err(Error::new(ErrorKind::InvalidArgument, "read", why));
        }
        let mut target = Vec::new();
        target.try_reserve_exact(count).map_err(|error| {
            let why = format!("{count} elements were asked for, and the host has no memory for them");
            Error::new(ErrorKind::OutOfMemory, "read", why).with_source(error)
        })?;
        target.resize(count, T::zeroed());
        self.read_into(handle, offset_elements, &mut target).await?;
        Ok(target)
    }

    /// Runs a kernel over allocations of this grain. A bare kernel id means its f32 form without constants.
    ///
    /// # Errors
    /// `NotFound` for an unknown kernel or handle; `InvalidArgument` for what the kernel's checks refuse;
    /// `KernelBuild` with the compiler's text; `KernelFault`; `ContentsLost`; `Timeout`.
    #[inline]
    pub fn compute(
        &self,
        kernel: impl Into<KernelSpec>,
        input: Option<GpuMemoryHandle>,
        output: Option<GpuMemoryHandle>,
        parameters: Parameters,
    ) -> GrainCall<'_, Compute> {
        let (input, output) = (input.map(|handle| handle.id), output.map(|handle| handle.id));
        let made = Instant::now();
        let mut message = ComputeMessage::new(self.silo.memory.envelope_at(made), kernel, input, output);
        message.parameters = parameters;
        let call = self.silo.memory.compute_at(made, self.session(), &message).or_error();
        self.call(call, [input, parameters.operand, output])
    }

    /// The metrics of the grain's device, as its session is answered them.
    ///
    /// # Errors
    /// None but those of the grain's activation.
    pub async fn metrics(&self, include_details: bool) -> Result<MetricsResponse, Error> {
        let mut message = GetMetricsMessage::new(self.silo.memory.envelope());
        message.include_details = include_details;
        self.with_session(|session| self.silo.memory.get_metrics(session, &message)).await
    }

    /// What this grain did since its activation, which is part of it: what it brought back was allocated, and written if
    /// its contents were saved.
    ///
    /// # Errors
    /// None but those of the grain's activation.
    pub async fn totals(&self) -> Result<ResidentMemoryTotals, Error> {
        self.with_session(|session| self.silo.memory.totals(session)).await
    }

    /// The state of the device's memory.
    pub fn memory_info(&self) -> GpuMemoryInfo {
        self.silo.memory.memory_info()
    }

    /// Releases every allocation of the grain.
    ///
    /// # Behavior
    /// - **everything**: Afterwards its handles are refused and no whole-grain buffer is stored, whether the grain was
    ///   active or had to be activated for it.
    ///
    /// # Errors
    /// None but those of the grain's activation.
    pub async fn clear(&self) -> Result<(), Error> {
        let memory = &self.silo.memory;
        self.with_session(|session| {
            let allocations = memory.allocations(session)?;
            // Not before: the activation may just have brought it back.
            *self.entry.stored.lock() = None;
            for allocation in allocations {
                memory.release(session, &ReleaseMessage::new(memory.envelope(), allocation.id))?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps `data` as the grain's one whole-grain buffer.
    ///
    /// # Behavior
    /// - **replaces**: It takes the place of the buffer before, which is released.
    /// - **restart**: It outlives a restart, until it is replaced or cleared.
    ///
    /// # Errors
    /// As [`GrainRef::allocate`] and [`GrainRef::write`]; the buffer before is kept then.
    pub async fn store<T: Pod>(&self, data: &[T]) -> Result<(), Error> {
        let handle = self.allocate(size_of_val(data) as u64, MemoryType::Default).await?;
        if let Err(error) = self.write(handle, data, 0).await {
            self.release(handle, true).await?;
            return Err(error);
        }
        let before = self.entry.stored.lock().replace(handle);
        if let Some(before) = before {
            self.release(before, true).await?;
        }
        Ok(())
    }

    /// The whole-grain buffer; `None` when none was stored.
    ///
    /// # Behavior
    /// - **whole-elements**: A buffer that is not a whole number of `T` is refused with `InvalidArgument` and kept.
    ///
    /// # Errors
    /// As [`GrainRef::read_into`].
    pub async fn load<T: Pod>(&self) -> Result<Option<Vec<T>>, Error> {
        // Activation is what brings a stored buffer back.
        self.active_session().await?;
        let stored = *self.entry.stored.lock();
        match stored {
            Some(handle) => {
                let (size_bytes, width) = (handle.size_bytes, size_of::<T>().max(1) as u64);
                if !size_bytes.is_multiple_of(width) {
                    let why = format!("{size_bytes} bytes are stored, no multiple of the {width} of an element");
                    return Err(Error::new(ErrorKind::InvalidArgument, "load", why));
                }
                self.read(handle, 0, (size_bytes / width) as usize).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Saves the grain now.
    ///
    /// # Behavior
    /// - **between-turns**: It happens between two turns: calls meanwhile wait and are answered.
    /// - **given-up**: Dropping the future leaves the grain active, with everything that was written.
    /// - **repeatable**: A save or deactivation whose answer was an error, or was not waited for, can be repeated,
    ///   whether it took effect or not.
    /// - **conflict**: A record that another writer made is never replaced: `Conflict`.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn save(&self) -> Result<(), Error> {
        self.silo.save(&self.entry).await
    }

    /// Deactivates the grain: saves it by policy and gives its memory back. Its next call activates it again.
    ///
    /// # Behavior
    /// - **frees**: A grain that is not active holds no device memory.
    /// - **stays-active**: A grain that cannot be saved stays active, with everything that it holds.
    /// - **never-stale**: A grain that goes on after a deactivation that failed or was given up is never restored from
    ///   the record which that deactivation may have made.
    /// - **not-noted**: While the storage cannot note that it goes on, its calls fail with the storage's error and change
    ///   nothing.
    /// - **no-record**: A grain without allocations leaves no record.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn deactivate(&self) -> Result<(), Error> {
        self.silo.deactivate(&self.entry).await
    }

    #[inline]
    fn session(&self) -> SessionId {
        self.entry.touch(&self.silo);
        self.entry.session_or_refusing()
    }

    pub(crate) async fn active_session(&self) -> Result<SessionId, Error> {
        self.silo.activate(&self.entry).await
    }

    #[inline]
    fn call<'g, O: Operation>(&'g self, call: Call<'g, O>, names: [Option<AllocationId>; 3]) -> GrainCall<'g, O> {
        GrainCall::new(self, call, names)
    }

    /// Runs a request that the host answers, activating the grain if need be.
    async fn with_session<R>(&self, request: impl Fn(SessionId) -> Result<R, Error>) -> Result<R, Error> {
        loop {
            let session = self.session();
            match request(session) {
                Err(error) if self.is_stale(session, &error) => drop(self.active_session().await?),
                answer => return answer,
            }
        }
    }

    /// Whether a call was refused because its session was replaced meanwhile.
    pub(crate) fn is_stale(&self, session: SessionId, error: &Error) -> bool {
        error.kind() == ErrorKind::InvalidState && !self.silo.memory.is_open(session)
    }

    /// A refusal of an unknown handle, told apart as far as the grain's record goes: released, or lost in an unclean stop.
    pub(crate) async fn explain(&self, error: Error, names: [Option<AllocationId>; 3]) -> Error {
        for id in names.into_iter().flatten() {
            if self.silo.is_lost(&self.entry, id).await {
                let why = format!(
                    "grain `{}` has no record from after allocation {id} was made: an unclean stop lost it, unless it had been \
                     released; allocate again",
                    self.key()
                );
                return Error::new(ErrorKind::ContentsLost, error.operation(), why);
            }
        }
        error
    }
}

/// A byte offset; one that cannot be is beyond every allocation.
fn offset_bytes<T>(offset_elements: u64) -> u64 {
    offset_elements.saturating_mul(size_of::<T>() as u64)
}
