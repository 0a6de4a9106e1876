//! Computations: messages that become one command each.

use gpubridge_abstractions::{
    AllocationId, BufferUse, CallShape, Command, Completion, Compute as ComputeCommand, ComputeMessage,
    ComputeResponse, DeviceSlot, Envelope, Error, InlineResult, Opcode, RequestId, Scalars,
};

use super::ResidentMemory;
use super::call::Call;
use super::lane::Counters;
use super::operation::{Operation, Timing};
use super::refusal::Refusal;
use super::session::{Allocation, Allocations, Session};
use crate::kernel_cache::LaneKernels;

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

/// The allocation, if what is in it is not lost.
#[inline]
pub(super) fn with_contents(allocations: &Allocations, id: AllocationId) -> Result<&Allocation, Refusal> {
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

/// Device time in microseconds, if it was taken.
pub(super) fn sampled_us(device_ns: u64) -> Option<f64> {
    (device_ns > 0).then(|| device_ns as f64 / 1e3)
}
