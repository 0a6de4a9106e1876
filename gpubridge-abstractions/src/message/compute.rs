//! Run a kernel over resident memory.

use super::{Envelope, InlineResult, Parameters};
use crate::{AllocationId, ElementType, KernelId, KernelSpec, RequestId, Status};

/// Asks to run a kernel.
///
/// # Behavior
/// - **kept**: Kernel, input, output, operand, count and scalars arrive as they were given; there are no parameters by
///   default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// Which kernel.
    pub kernel_id: KernelId,
    /// For which element type.
    pub element: ElementType,
    /// With which compile-time constants.
    pub constants: [u32; 2],
    /// The allocation it reads, if it reads one.
    pub input: Option<AllocationId>,
    /// The allocation it writes, if it writes one.
    pub output: Option<AllocationId>,
    /// A second input, the number of elements and scalars; none unless given.
    pub parameters: Parameters,
}

impl ComputeMessage {
    /// Asks to run `kernel` from `input` to `output`, without parameters. A bare kernel id means its f32 form without
    /// constants.
    pub fn new(
        envelope: Envelope,
        kernel: impl Into<KernelSpec>,
        input: Option<AllocationId>,
        output: Option<AllocationId>,
    ) -> Self {
        let KernelSpec { id: kernel_id, element, constants } = kernel.into();
        Self { envelope, kernel_id, element, constants, input, output, parameters: Parameters::new() }
    }

    /// The specialization that is asked for.
    pub fn kernel(&self) -> KernelSpec {
        KernelSpec { id: self.kernel_id, element: self.element, constants: self.constants }
    }
}

/// Answers a [`ComputeMessage`].
///
/// Times are sampled on the data plane, counters are exact: a time is `None` when this call was not sampled.
///
/// # Behavior
/// - **times**: Both times and the cache flag arrive as they were given; a time that was not taken is `None`.
/// - **failure**: A failure is `success: false` with its reason, and each reason says what to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputeResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// Whether the kernel ran to its end; otherwise `error` says why not.
    pub success: bool,
    /// How long the kernel itself ran on the device, in microseconds.
    pub kernel_time_us: Option<f64>,
    /// How long it took from submission to the observed completion, in microseconds.
    pub total_time_us: Option<f64>,
    /// Whether the kernel was found compiled in the kernel cache.
    pub is_cache_hit: bool,
    /// Why the kernel did not run to its end. One byte: nothing is allocated for a failure; its `Display` gives the
    /// sentence.
    pub error: Option<Status>,
    /// What the kernel returned within the completion.
    pub result: InlineResult,
}

impl ComputeResponse {
    /// Answers `original_request_id`: the kernel ran to its end and returned `result`. Not timed, not a cache hit,
    /// unless the caller says so.
    pub fn succeeded(envelope: Envelope, original_request_id: RequestId, result: InlineResult) -> Self {
        Self {
            envelope,
            original_request_id,
            success: true,
            kernel_time_us: None,
            total_time_us: None,
            is_cache_hit: false,
            error: None,
            result,
        }
    }

    /// Answers `original_request_id`: the kernel did not run to its end, because of `error`.
    pub fn failed(envelope: Envelope, original_request_id: RequestId, error: Status) -> Self {
        let unanswered = Self::succeeded(envelope, original_request_id, InlineResult::EMPTY);
        Self { success: false, error: Some(error), ..unanswered }
    }
}
