//! The operations of the data plane: each a message, encoded as commands of the ring.

use gpubridge_abstractions::{
    AllocationId, BufferUse, CallShape, Command, Completion, Compute as ComputeCommand, ComputeMessage,
    ComputeResponse, DeviceSlot, Envelope, Error, InlineResult, Opcode, PAYLOAD_BYTES, PAYLOAD_WORDS, ReadMessage,
    ReadResponse, RequestId, Scalars, StagedRange, Transfer, WriteMessage, WriteResponse,
};

use super::ResidentMemory;
use super::call::{Call, Operation, Timing};
use super::lane::Counters;
use super::refusal::Refusal;
use super::session::{Allocation, Allocations, Session};
use crate::kernel_cache::LaneKernels;

/// Writes staged bytes into an allocation.
#[derive(Debug)]
pub struct Write<'d> {
    message: WriteMessage,
    data: Result<&'d [u8], Refusal>,
    /// Bytes answered for, and bytes of the piece under way.
    done: usize,
    piece: usize,
    device_ns: u64,
}

impl<'d> Write<'d> {
    pub(crate) fn new(message: &WriteMessage, staging: &'d [u8]) -> Self {
        let range = staged(message.staged, message.size_bytes, staging.len());
        Self { message: *message, data: range.map(|range| &staging[range]), done: 0, piece: 0, device_ns: 0 }
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
        (self.done, self.piece, self.device_ns) = (0, 0, 0);
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
        self.piece = (data.len() - self.done).min(staging_bytes);
        let piece = transfer.payload(slot, self.done, self.piece);
        if self.is_inline() {
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
        if self.is_inline() { &[] } else { &self.bytes()[self.done..self.done + self.piece] }
    }

    #[inline]
    fn submitted(&mut self, session: &mut Session, _: &mut Counters) -> bool {
        let size_bytes = self.bytes().len();
        if self.done == 0 {
            session.tracker.record_write(size_bytes as u64, None);
        }
        let last = self.done + self.piece == size_bytes;
        if last
            && let Some(allocation) = session.allocations.find_mut(self.message.allocation)
            && allocation.size_bytes == size_bytes as u64
        {
            allocation.contents_lost = false;
        }
        last
    }

    #[inline]
    fn landing(&mut self) -> &mut [u8] {
        &mut []
    }

    #[inline]
    fn answered(&mut self, completion: &Completion) -> bool {
        self.done += self.piece;
        self.device_ns += u64::from(completion.device_time_ns);
        self.done == self.bytes().len()
    }

    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<WriteResponse, Error> {
        answer.map_err(|refusal| refusal.into_error("write"))?;
        let envelope = memory.clock().envelope(timing.ended);
        let response = WriteResponse::new(envelope, self.message.envelope.request_id, self.done as u64);
        Ok(WriteResponse { transfer_time_us: sampled_us(self.device_ns), ..response })
    }
}

/// Reads bytes of an allocation into the caller's staging.
#[derive(Debug)]
pub struct Read<'d> {
    message: ReadMessage,
    target: Result<&'d mut [u8], Refusal>,
    done: usize,
    piece: usize,
    device_ns: u64,
}

impl<'d> Read<'d> {
    pub(crate) fn new(message: &ReadMessage, staging: &'d mut [u8]) -> Self {
        let range = staged(message.staged, message.size_bytes, staging.len());
        Self { message: *message, target: range.map(|range| &mut staging[range]), done: 0, piece: 0, device_ns: 0 }
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
        (self.done, self.piece, self.device_ns) = (0, 0, 0);
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
        self.piece = (data_bytes - self.done).min(staging_bytes);
        let opcode = if self.is_inline() { Opcode::ReadInline } else { Opcode::Read };
        command.opcode = opcode as u8;
        command.payload = transfer.payload(slot, self.done, self.piece).to_payload([0; 4]);
        Ok(())
    }

    #[inline]
    fn staged(&self) -> &[u8] {
        &[]
    }

    #[inline]
    fn submitted(&mut self, session: &mut Session, _: &mut Counters) -> bool {
        if self.done == 0 {
            session.tracker.record_read(self.size_bytes() as u64, None);
        }
        self.done + self.piece == self.size_bytes()
    }

    #[inline]
    fn landing(&mut self) -> &mut [u8] {
        if self.is_inline() {
            return &mut [];
        }
        let (done, piece) = (self.done, self.piece);
        self.target.as_deref_mut().map_or(&mut [], |target| &mut target[done..done + piece])
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
        self.done += self.piece;
        self.device_ns += u64::from(completion.device_time_ns);
        self.done == self.size_bytes()
    }

    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<ReadResponse, Error> {
        answer.map_err(|refusal| refusal.into_error("read"))?;
        let envelope = memory.clock().envelope(timing.ended);
        let response = ReadResponse::new(envelope, self.message.envelope.request_id, self.done as u64);
        Ok(ReadResponse { transfer_time_us: sampled_us(self.device_ns), ..response })
    }
}

/// Runs a kernel over allocations.
///
/// A call that the kernel or its checks refuse is answered with `success: false` and a status;
/// [`Call::or_error`] makes it an error that says what was wrong.
#[derive(Debug)]
pub struct Compute {
    message: ComputeMessage,
    is_cache_hit: bool,
    failure_is_error: bool,
}

impl Compute {
    #[inline]
    pub(crate) fn new(message: &ComputeMessage) -> Self {
        Self { message: *message, is_cache_hit: true, failure_is_error: false }
    }
}

/// Writes the command that asks for a computation, checked against what the session holds.
#[inline]
pub(super) fn compute_command(
    message: &ComputeMessage,
    allocations: &Allocations,
    kernels: &mut LaneKernels,
    command: &mut Command,
) -> Result<(), Refusal> {
    let ComputeMessage { input, output, parameters, .. } = message;
    let spec = message.kernel();
    let Some(kernel) = kernels.find(spec) else {
        let is_known = kernels.knows(spec.id);
        return Err(if is_known { Refusal::Uncompiled(spec) } else { Refusal::UnknownKernel(spec.id) });
    };
    let declaration = &*kernel.declaration;
    let (mut slots, mut elements) = ([DeviceSlot::NONE; 3], [0; 3]);
    let named = [input, &parameters.operand, output];
    for (i, id) in named.into_iter().enumerate() {
        let Some(id) = id else { continue };
        let allocation = with_contents(allocations, *id)?;
        slots[i] = allocation.device_slot;
        elements[i] = allocation.size_bytes / 4;
    }
    check_buffers(declaration.buffers, declaration.in_place, named)?;
    let whole = if input.is_none() { elements[2] } else { elements[0] };
    let count = if parameters.count == 0 { whole } else { u64::from(parameters.count) };
    let scalars = parameters.words().map_err(|_| Refusal::ParametersOverflow)?;
    let shape = CallShape { elements, count, scalars: Scalars(scalars), constants: message.constants };
    (declaration.check)(&shape).map_err(Refusal::Call)?;
    let [input, operand, output] = slots;
    command.opcode = Opcode::Compute as u8;
    command.kernel = kernel.slot;
    command.payload = ComputeCommand { input, operand, output, count: parameters.count, scalars }.to_payload();
    Ok(())
}

/// Counts a computation that was submitted.
#[inline]
pub(super) fn count_compute(session: &mut Session, counters: &mut Counters, is_cache_hit: bool) {
    counters.kernel_hits += u64::from(is_cache_hit);
    counters.kernel_misses += u64::from(!is_cache_hit);
    session.tracker.record_compute(None, is_cache_hit);
}

/// The response to an answer of the ring.
#[inline]
pub(super) fn computed(
    envelope: Envelope,
    request: RequestId,
    is_cache_hit: bool,
    completion: &Completion,
) -> ComputeResponse {
    let result = InlineResult::from_words(&completion.payload, usize::from(completion.result_bytes));
    ComputeResponse {
        kernel_time_us: sampled_us(u64::from(completion.device_time_ns)),
        is_cache_hit,
        ..ComputeResponse::succeeded(envelope, request, result.unwrap_or(InlineResult::EMPTY))
    }
}

impl Operation for Compute {
    type Response = ComputeResponse;

    fn restart(&mut self) {
        self.is_cache_hit = true;
    }

    #[inline]
    fn command(
        &mut self,
        allocations: &Allocations,
        kernels: &mut LaneKernels,
        _: usize,
        command: &mut Command,
    ) -> Result<(), Refusal> {
        let written = compute_command(&self.message, allocations, kernels, command);
        self.is_cache_hit &= !matches!(written, Err(Refusal::Uncompiled(_) | Refusal::UnknownKernel(_)));
        written
    }

    #[inline]
    fn staged(&self) -> &[u8] {
        &[]
    }

    #[inline]
    fn submitted(&mut self, session: &mut Session, counters: &mut Counters) -> bool {
        count_compute(session, counters, self.is_cache_hit);
        true
    }

    #[inline]
    fn landing(&mut self) -> &mut [u8] {
        &mut []
    }

    #[inline]
    fn answered(&mut self, _: &Completion) -> bool {
        true
    }

    /// A failure of the call is a response that says so; a failure of the way there is an error.
    fn respond(
        &mut self,
        memory: &ResidentMemory,
        timing: Timing,
        answer: Result<Completion, Refusal>,
    ) -> Result<ComputeResponse, Error> {
        let response = match answer {
            Ok(completion) => {
                let envelope = memory.clock().envelope(timing.ended);
                computed(envelope, self.message.envelope.request_id, self.is_cache_hit, &completion)
            }
            Err(refusal @ (Refusal::NoSession | Refusal::Stopped | Refusal::Timeout | Refusal::Cancelled)) => {
                return Err(refusal.into_error("compute"));
            }
            Err(refusal) if self.failure_is_error => return Err(refusal.into_error("compute")),
            Err(refusal) => ComputeResponse::failed(
                memory.clock().envelope(timing.ended),
                self.message.envelope.request_id,
                refusal.status(),
            ),
        };
        Ok(ComputeResponse { total_time_us: Some(timing.total_us()), ..response })
    }
}

impl Call<'_, Compute> {
    /// The same, with an error where the response would say that the kernel did not run to its end.
    #[inline]
    pub fn or_error(mut self) -> Self {
        self.operation_mut().failure_is_error = true;
        self
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

    fn payload(&self, slot: DeviceSlot, done: usize, piece: usize) -> Transfer {
        Transfer { slot, offset_bytes: self.offset_bytes + done as u64, size_bytes: piece as u32 }
    }
}

/// The allocation, if what is in it is not lost.
#[inline]
fn with_contents(allocations: &Allocations, id: AllocationId) -> Result<&Allocation, Refusal> {
    let allocation = allocations.find(id).ok_or(Refusal::UnknownAllocation(id))?;
    if allocation.contents_lost { Err(Refusal::ContentsLost(id)) } else { Ok(allocation) }
}

#[inline]
fn check_buffers(uses: [BufferUse; 3], in_place: bool, named: [&Option<AllocationId>; 3]) -> Result<(), Refusal> {
    for i in 0..3 {
        if (uses[i] == BufferUse::None) == named[i].is_some() {
            return Err(wrong_buffer(uses, i));
        }
    }
    let same = |a: &Option<AllocationId>, b: &Option<AllocationId>| a.is_some() && a == b;
    if !in_place && (same(named[0], named[1]) || same(named[0], named[2]) || same(named[1], named[2])) {
        return Err(Refusal::Call("the kernel cannot work in place: name different allocations"));
    }
    Ok(())
}

/// What is wrong about naming the `i`th buffer, or not.
#[cold]
fn wrong_buffer(uses: [BufferUse; 3], i: usize) -> Refusal {
    const MISSING: [&str; 3] = [
        "the kernel needs an input: name one",
        "the kernel needs an operand: name one in the parameters",
        "the kernel needs an output: name one",
    ];
    const SURPLUS: [&str; 3] = [
        "the kernel takes no input: leave it out",
        "the kernel takes no operand: leave it out of the parameters",
        "the kernel takes no output: leave it out",
    ];
    Refusal::Call(if uses[i] == BufferUse::None { SURPLUS[i] } else { MISSING[i] })
}

/// The staged range of a transfer of `size_bytes`.
fn staged(range: StagedRange, size_bytes: u64, staging_bytes: usize) -> Result<std::ops::Range<usize>, Refusal> {
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

/// Device time in microseconds, if it was taken.
fn sampled_us(device_ns: u64) -> Option<f64> {
    (device_ns > 0).then(|| device_ns as f64 / 1e3)
}

const _: () = assert!(PAYLOAD_WORDS - Transfer::HEADER_WORDS == 4, "an inline write has four words of data");
