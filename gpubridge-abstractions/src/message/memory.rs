//! Allocate, write, read, release.

use super::Envelope;
use crate::{AllocationId, DeviceIndex, GpuMemoryHandle, MemoryType, RequestId};

/// A range of the staging buffer that is handed over with a message: until the response is seen, its bytes belong to
/// the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StagedRange {
    /// Where the range starts, from the start of the staging buffer, in bytes.
    pub offset_bytes: u64,
    /// How long it is, in bytes.
    pub size_bytes: u64,
}

/// Asks for a block of device memory.
///
/// # Behavior
/// - **kept**: Size, memory type and device arrive as they were given.
/// - **defaults**: Who asks for nothing else gets device-local memory on any device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// How much, in bytes.
    pub size_bytes: u64,
    /// The kind of memory. Device-local unless asked for otherwise.
    pub memory_type: MemoryType,
    /// The device; `None` leaves the choice to the runtime.
    pub device_index: Option<DeviceIndex>,
}

impl AllocateMessage {
    /// Asks for `size_bytes` of device-local memory on any device.
    pub fn new(envelope: Envelope, size_bytes: u64) -> Self {
        Self { envelope, size_bytes, memory_type: MemoryType::Default, device_index: None }
    }
}

/// Answers an [`AllocateMessage`].
///
/// # Behavior
/// - **kept**: Handle and pool flag arrive as they were given, the time of allocation to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// Names the new block.
    pub handle: GpuMemoryHandle,
    /// Whether the block came from the pool's idle blocks.
    pub is_pool_hit: bool,
}

impl AllocateResponse {
    /// Answers `original_request_id` with the block it was given.
    pub fn new(envelope: Envelope, original_request_id: RequestId, handle: GpuMemoryHandle, is_pool_hit: bool) -> Self {
        Self { envelope, original_request_id, handle, is_pool_hit }
    }
}

/// Asks to copy staged bytes into an allocation.
///
/// # Behavior
/// - **staged**: It keeps its target, the offset there and the staged range, and is as long as that range unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// Where to.
    pub allocation: AllocationId,
    /// The first byte to write, from the start of the allocation.
    pub offset_bytes: u64,
    /// How many bytes; at most the size of `staged`.
    pub size_bytes: u64,
    /// Where the bytes lie.
    pub staged: StagedRange,
}

impl WriteMessage {
    /// Asks to copy all of `staged` into `allocation`, `offset_bytes` from its start.
    pub fn new(envelope: Envelope, allocation: AllocationId, offset_bytes: u64, staged: StagedRange) -> Self {
        Self { envelope, allocation, offset_bytes, size_bytes: staged.size_bytes, staged }
    }
}

/// Answers a [`WriteMessage`].
///
/// # Behavior
/// - **exact**: Bytes are exact; a time is there if the call was sampled, and `None`, not 0, if it was not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// How many bytes were written.
    pub bytes_written: u64,
    /// How long the copy took on the device, in microseconds; `None` when this call was not sampled (times are sampled
    /// on the data plane, counters are exact).
    pub transfer_time_us: Option<f64>,
}

impl WriteResponse {
    /// Answers `original_request_id`: so much was written, in a time nobody took.
    pub fn new(envelope: Envelope, original_request_id: RequestId, bytes_written: u64) -> Self {
        Self { envelope, original_request_id, bytes_written, transfer_time_us: None }
    }
}

/// Asks to copy bytes of an allocation into the staging buffer.
///
/// # Behavior
/// - **staged**: It keeps its source, the offset there and the staged range, and is as long as that range unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// Where from.
    pub allocation: AllocationId,
    /// The first byte to read, from the start of the allocation.
    pub offset_bytes: u64,
    /// How many bytes; at most the size of `staged`.
    pub size_bytes: u64,
    /// Where the bytes are wanted.
    pub staged: StagedRange,
}

impl ReadMessage {
    /// Asks to fill all of `staged` from `allocation`, `offset_bytes` from its start.
    pub fn new(envelope: Envelope, allocation: AllocationId, offset_bytes: u64, staged: StagedRange) -> Self {
        Self { envelope, allocation, offset_bytes, size_bytes: staged.size_bytes, staged }
    }
}

/// Answers a [`ReadMessage`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How long the copy took on the device, in microseconds; `None` when this call was not sampled (times are sampled
    /// on the data plane, counters are exact).
    pub transfer_time_us: Option<f64>,
}

impl ReadResponse {
    /// Answers `original_request_id`: so much was read, in a time nobody took.
    pub fn new(envelope: Envelope, original_request_id: RequestId, bytes_read: u64) -> Self {
        Self { envelope, original_request_id, bytes_read, transfer_time_us: None }
    }
}

/// Gives an allocation back.
///
/// # Behavior
/// - **to-pool**: The block goes back to the pool unless the caller says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// What.
    pub allocation: AllocationId,
    /// Whether the pool may keep the block for the next allocation of its size; yes unless said otherwise.
    pub return_to_pool: bool,
}

impl ReleaseMessage {
    /// Gives `allocation` back to the pool.
    pub fn new(envelope: Envelope, allocation: AllocationId) -> Self {
        Self { envelope, allocation, return_to_pool: true }
    }
}

/// Answers a [`ReleaseMessage`].
///
/// # Behavior
/// - **kept**: Bytes freed and what became of the block arrive as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// How many bytes the allocation had; 0 if it was unknown or released before.
    pub bytes_freed: u64,
    /// Whether the pool kept the block.
    pub returned_to_pool: bool,
}

impl ReleaseResponse {
    /// Answers `original_request_id`: so much was freed, and this became of the block.
    pub fn new(envelope: Envelope, original_request_id: RequestId, bytes_freed: u64, returned_to_pool: bool) -> Self {
        Self { envelope, original_request_id, bytes_freed, returned_to_pool }
    }
}
