//! Initialize and Shutdown: opening and closing a grain's session on its device's ring.

use super::Envelope;
use crate::{DeviceIndex, RequestId};

/// Opens a session.
///
/// # Behavior
/// - **defaults**: 1 GiB, 100 kernels and any device unless told; what is told arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitializeMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// The most the pool may hold, live and idle, in bytes.
    pub max_pool_size_bytes: u64,
    /// The most compiled kernels to keep. A device keeps one cache for all its sessions, so this is a wish; what holds
    /// is in the response.
    pub max_kernel_cache_size: u32,
    /// The device; `None` leaves the choice to the runtime.
    pub device_index: Option<DeviceIndex>,
}

impl InitializeMessage {
    /// The size of the pool unless asked for otherwise: 1 GiB.
    pub const DEFAULT_MAX_POOL_SIZE_BYTES: u64 = 1 << 30;
    /// The number of compiled kernels to keep unless asked for otherwise.
    pub const DEFAULT_MAX_KERNEL_CACHE_SIZE: u32 = 100;

    /// Opens a session with the default limits on any device.
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            max_pool_size_bytes: Self::DEFAULT_MAX_POOL_SIZE_BYTES,
            max_kernel_cache_size: Self::DEFAULT_MAX_KERNEL_CACHE_SIZE,
            device_index: None,
        }
    }
}

/// Answers an [`InitializeMessage`]: what was really granted, which may differ from what was asked for.
///
/// # Behavior
/// - **granted**: Device, pool bytes and cache slots arrive as they were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitializeResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// The device the session is on.
    pub device_index: DeviceIndex,
    /// The budget of its pool, in bytes.
    pub pool_size_bytes: u64,
    /// How many compiled kernels the device's cache holds, which its sessions share.
    pub kernel_cache_slots: u32,
}

impl InitializeResponse {
    /// Answers `original_request_id` with what was granted.
    pub fn new(
        envelope: Envelope,
        original_request_id: RequestId,
        device_index: DeviceIndex,
        pool_size_bytes: u64,
        kernel_cache_slots: u32,
    ) -> Self {
        Self { envelope, original_request_id, device_index, pool_size_bytes, kernel_cache_slots }
    }
}

/// Closes a session.
///
/// # Behavior
/// - **drains**: It drains unless told; the response counts what was drained and what was cancelled apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownMessage {
    /// Who and when.
    pub envelope: Envelope,
    /// Whether to finish what is queued (yes unless said otherwise); if not, every pending request is answered
    /// [`Status::Cancelled`](crate::Status::Cancelled).
    pub drain_pending_messages: bool,
}

impl ShutdownMessage {
    /// Closes the session after what is queued is done.
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, drain_pending_messages: true }
    }
}

/// Answers a [`ShutdownMessage`]: what became of the requests that were pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownResponse {
    /// Who and when.
    pub envelope: Envelope,
    /// The request that this answers.
    pub original_request_id: RequestId,
    /// How many pending requests were finished.
    pub messages_drained: u64,
    /// How many pending requests were answered "cancelled".
    pub messages_cancelled: u64,
}

impl ShutdownResponse {
    /// Answers `original_request_id` with what became of the pending requests.
    pub fn new(
        envelope: Envelope,
        original_request_id: RequestId,
        messages_drained: u64,
        messages_cancelled: u64,
    ) -> Self {
        Self { envelope, original_request_id, messages_drained, messages_cancelled }
    }
}
