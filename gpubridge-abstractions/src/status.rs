//! The one-byte outcome of a command.

use std::fmt;

use crate::ErrorKind;

/// How a command ended. One byte, so that it fits a completion and costs nothing to carry; the numbers are part of the
/// ring's layout and never change their meaning.
///
/// # Behavior
/// - **numbers**: The numbers go both ways, and one that is none of these is no status.
/// - **advice**: Every failure has a kind to react to, and its text says what happened and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The command did what it says.
    Ok = 0,
    /// The ring does not know the operation.
    UnknownOpcode = 1,
    /// No live allocation has this id: it was never made, or it is released.
    UnknownAllocation = 2,
    /// The range reaches beyond the end of the allocation.
    OutOfBounds = 3,
    /// The allocation belongs to another grain.
    NotOwner = 4,
    /// The ring has no kernel of this id.
    UnknownKernel = 5,
    /// An argument is outside what the operation or kernel accepts.
    InvalidArgument = 6,
    /// The kernel ran and failed.
    KernelFault = 7,
    /// A shutdown came before the command ran.
    Cancelled = 8,
    /// The device stopped answering.
    DeviceLost = 9,
    /// The device cannot do this.
    Unsupported = 10,
}

impl Status {
    /// All statuses, in the order of their numbers.
    pub const ALL: [Status; 11] = [
        Self::Ok,
        Self::UnknownOpcode,
        Self::UnknownAllocation,
        Self::OutOfBounds,
        Self::NotOwner,
        Self::UnknownKernel,
        Self::InvalidArgument,
        Self::KernelFault,
        Self::Cancelled,
        Self::DeviceLost,
        Self::Unsupported,
    ];

    /// The status with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What a caller can do about it, in the terms of the control plane.
    ///
    /// `Ok` is no failure and has no kind of its own: it answers [`ErrorKind::InvalidState`], which is the state of
    /// whoever takes a success for a failure.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Ok => ErrorKind::InvalidState,
            Self::UnknownAllocation | Self::NotOwner | Self::UnknownKernel => ErrorKind::NotFound,
            Self::OutOfBounds | Self::InvalidArgument => ErrorKind::InvalidArgument,
            Self::KernelFault => ErrorKind::KernelFault,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::DeviceLost => ErrorKind::DeviceLost,
            Self::UnknownOpcode | Self::Unsupported => ErrorKind::Unsupported,
        }
    }
}

/// One sentence: what happened and what to do about it.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "done",
            Self::UnknownOpcode => "the ring does not know this operation; use a ring of the same layout version",
            Self::UnknownAllocation => {
                "no live allocation has this id; allocate again, or check that it was not released"
            }
            Self::OutOfBounds => "the range reaches beyond the allocation; keep offset + size within its size",
            Self::NotOwner => "the allocation belongs to another grain; use a handle of this grain",
            Self::UnknownKernel => "the ring has no kernel of this id; register the kernel first",
            Self::InvalidArgument => {
                "an argument is outside its range; compare it with the kernel's or operation's documentation"
            }
            Self::KernelFault => "the kernel ran and failed; check its input, its parameters and its code",
            Self::Cancelled => "a shutdown came before the command ran; submit it again after the restart",
            Self::DeviceLost => "the device stopped answering; open it again, resident contents are gone",
            Self::Unsupported => "the device cannot do this; choose another device, memory type or kernel variant",
        })
    }
}
