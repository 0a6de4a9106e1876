//! How a command went, as one byte on the ring.

use std::fmt;

use crate::ErrorKind;

/// The outcome of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such opcode.
    UnknownOpcode = 1,
    /// The slot is not bound, or was bound anew.
    UnknownAllocation = 2,
    /// The range leaves the allocation.
    OutOfBounds = 3,
    /// The allocation belongs to another grain.
    NotOwner = 4,
    /// No such kernel on this device.
    UnknownKernel = 5,
    /// The kernel refused its arguments.
    InvalidArgument = 6,
    /// The kernel failed.
    KernelFault = 7,
    /// Not executed: the ring was stopped first.
    Cancelled = 8,
    /// The device stopped answering.
    DeviceLost = 9,
    /// The device cannot do this.
    Unsupported = 10,
}

impl Status {
    /// The status with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        const ALL: [Status; 11] = [
            Status::Ok,
            Status::UnknownOpcode,
            Status::UnknownAllocation,
            Status::OutOfBounds,
            Status::NotOwner,
            Status::UnknownKernel,
            Status::InvalidArgument,
            Status::KernelFault,
            Status::Cancelled,
            Status::DeviceLost,
            Status::Unsupported,
        ];
        ALL.get(usize::from(number)).copied()
    }

    /// What a caller can do about it; [`Status::Ok`] has no kind of its own.
    pub fn kind(self) -> Option<ErrorKind> {
        Some(match self {
            Status::Ok => return None,
            _ => ErrorKind::InvalidArgument,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
