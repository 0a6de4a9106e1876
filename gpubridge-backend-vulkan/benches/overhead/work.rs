//! What both sides do: so many calls of `sum` over u32, each by a grain of its own, so in a list of its own, over a block of its
//! own.

use std::time::Duration;

use gpubridge_abstractions::{ElementType, KernelSpec};
use gpubridge_kernels::id;

/// The most calls of a batch.
pub const BATCH_MAX: usize = 4096;
/// Elements of a block.
pub const ELEMENTS: u32 = 256;
pub const BLOCK_BYTES: u64 = ELEMENTS as u64 * 4;
/// For how long an answer is looked for before it is waited for: the backend's default.
pub const SPIN: Duration = Duration::from_micros(50);

pub const KERNEL: KernelSpec = KernelSpec::new(id::SUM).of(ElementType::U32);
/// The same as the shaders know it.
pub const SUM: u32 = id::SUM.0 << 2 | ElementType::U32 as u32;

/// What each element of a call's block is.
pub fn value_of(call: usize) -> u32 {
    call as u32 + 1
}

/// The call's answer.
pub fn sum_of(call: usize) -> u64 {
    u64::from(value_of(call) * ELEMENTS)
}
