//! Why the data plane refused a request: small, `Copy`, without allocation. At the edge it becomes an [`Error`].

use gpubridge_abstractions::{AllocationId, Error, ErrorKind, KernelId, KernelSpec, MemoryType, Status, SubmitError};

/// Why a request was not submitted. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// No session of this name takes requests.
    NoSession,
    /// The session is open already.
    AlreadyOpen,
    /// The lane is full: wait.
    Full,
    /// An operation in pieces has the grain's turn: wait.
    Busy,
    /// The kernel is not compiled: compile it, then try again.
    Uncompiled(KernelSpec),
    /// The ring is stopped.
    Stopped,
    UnknownAllocation(AllocationId),
    ContentsLost(AllocationId),
    AlreadyRestored(AllocationId),
    OutOfBounds {
        offset_bytes: u64,
        size_bytes: u64,
        allocation_bytes: u64,
    },
    StagedRange {
        offset_bytes: u64,
        size_bytes: u64,
        staging_bytes: u64,
    },
    UnknownKernel(KernelId),
    /// What is wrong with a call of a kernel.
    Call(&'static str),
    ParametersOverflow,
    Quota {
        size_bytes: u64,
        live_bytes: u64,
        quota_bytes: u64,
    },
    MemoryType(MemoryType),
    AllocationsFull {
        limit: u32,
    },
    /// An allocation to be restored has a slot that no table reaches.
    BeyondTable {
        id: AllocationId,
        limit: u32,
    },
    /// All generations of the epoch are issued.
    EpochExhausted,
    /// The device answered with a failure.
    Device(Status),
    Timeout,
    Cancelled,
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full => Self::Full,
            SubmitError::Stopped => Self::Stopped,
            SubmitError::TooLarge => Self::Call("a piece exceeds the staging area"),
        }
    }
}

impl Refusal {
    /// Whether waiting and trying again helps.
    pub(crate) fn is_back_pressure(self) -> bool {
        matches!(self, Refusal::Full | Refusal::Busy)
    }

    /// The status that a response carries for it.
    pub(crate) fn status(self) -> Status {
        match self {
            Refusal::UnknownAllocation(_) | Refusal::ContentsLost(_) => Status::UnknownAllocation,
            Refusal::OutOfBounds { .. } | Refusal::StagedRange { .. } => Status::OutOfBounds,
            Refusal::UnknownKernel(_) | Refusal::Uncompiled(_) => Status::UnknownKernel,
            Refusal::Device(status) => status,
            Refusal::NoSession | Refusal::Stopped | Refusal::Cancelled | Refusal::Timeout => Status::Cancelled,
            _ => Status::InvalidArgument,
        }
    }

    /// The error of `operation`.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let (kind, message) = match self {
            Refusal::NoSession => (
                ErrorKind::InvalidState,
                "the session is not open: send Initialize first, or use the session that followed it".to_owned(),
            ),
            Refusal::AlreadyOpen => {
                (ErrorKind::InvalidState, "the session is initialized already: use it, or name another".to_owned())
            }
            Refusal::Full => (ErrorKind::Full, "the lane is full: wait for answers, then try again".to_owned()),
            Refusal::Busy => (ErrorKind::Full, "an operation in pieces has the grain's turn: wait for it".to_owned()),
            Refusal::Uncompiled(spec) => (ErrorKind::KernelBuild, format!("kernel {} is not compiled", spec.id)),
            Refusal::Stopped => (ErrorKind::InvalidState, "the ring is stopped: open the device again".to_owned()),
            Refusal::UnknownAllocation(id) => (
                ErrorKind::NotFound,
                format!("allocation {id} is not live in this session: it was released, or is another grain's"),
            ),
            Refusal::ContentsLost(id) => (
                ErrorKind::ContentsLost,
                format!("the contents of allocation {id} were lost in an unclean stop: write it before you use it"),
            ),
            Refusal::AlreadyRestored(id) => (ErrorKind::InvalidState, format!("allocation {id} is live already")),
            Refusal::OutOfBounds { offset_bytes, size_bytes, allocation_bytes } => (
                ErrorKind::InvalidArgument,
                format!("bytes {offset_bytes} + {size_bytes} reach beyond the allocation's {allocation_bytes} bytes"),
            ),
            Refusal::StagedRange { offset_bytes, size_bytes, staging_bytes } => (
                ErrorKind::InvalidArgument,
                format!("the staged bytes {offset_bytes} + {size_bytes} reach beyond the staging's {staging_bytes}"),
            ),
            Refusal::UnknownKernel(id) => {
                (ErrorKind::NotFound, format!("the device has no kernel {id}: register it in the device's library"))
            }
            Refusal::Call(why) => (ErrorKind::InvalidArgument, why.to_owned()),
            Refusal::ParametersOverflow => {
                (ErrorKind::InvalidArgument, "more than 24 bytes of scalars: pass the rest in an allocation".to_owned())
            }
            Refusal::Quota { size_bytes, live_bytes, quota_bytes } => (
                ErrorKind::OutOfMemory,
                format!(
                    "{size_bytes} bytes were requested and {} are available of the session's quota of {quota_bytes}: \
                     release something, or initialize with a larger pool",
                    quota_bytes - live_bytes
                ),
            ),
            Refusal::MemoryType(memory_type) => (
                ErrorKind::Unsupported,
                format!("the device has no {memory_type} memory: choose a type that its capabilities name"),
            ),
            Refusal::AllocationsFull { limit } => {
                (ErrorKind::Full, format!("the lane holds {limit} allocations, its limit: release some"))
            }
            Refusal::BeyondTable { id, limit } => (
                ErrorKind::InvalidArgument,
                format!("allocation {id} has slot {}, a table has at most {limit}: launch a ring of more", id.slot),
            ),
            Refusal::EpochExhausted => {
                (ErrorKind::Full, "the lane issued all handles of this epoch: restart with the next epoch".to_owned())
            }
            Refusal::Device(status) => (status.kind(), status.to_string()),
            Refusal::Timeout => (
                ErrorKind::Timeout,
                "the deadline passed before the device answered: whether the call took effect is unknown".to_owned(),
            ),
            Refusal::Cancelled => (ErrorKind::Cancelled, Status::Cancelled.to_string()),
        };
        Error::new(kind, operation, message)
    }
}
