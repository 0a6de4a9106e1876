//! The rich error of the control plane.
//!
//! The data plane has small `Copy` errors of its own (a full ring, a status byte); everything that may
//! allocate, wait or fail for reasons a person must read returns [`Error`].

use std::fmt;

/// What a caller can do about an [`Error`]. Each kind is one way to react.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name, id or handle is unknown here. Look it up again, or correct it.
    NotFound,
    /// The device or backend cannot do this. Choose another device, memory type or kernel variant.
    Unsupported,
    /// An argument is outside its range. Correct the call.
    InvalidArgument,
    /// The call came in the wrong state (before Initialize, after Shutdown, twice). Correct the order of calls.
    InvalidState,
    /// The budget, quota or device memory is used up. Release something, or raise the limit.
    OutOfMemory,
    /// A bounded queue is full. Wait for completions, then try again.
    Full,
    /// A kernel did not compile; the compiler's text is in the message. Correct the kernel.
    KernelBuild,
    /// The kernel ran and refused or failed. Correct its arguments or the kernel.
    KernelFault,
    /// The deadline passed. The outcome of the call is unknown.
    Timeout,
    /// The call was cancelled by a shutdown before it ran. Submit it again after a restart.
    Cancelled,
    /// The contents behind a handle are gone (unclean stop, lost device). Allocate and write again.
    ContentsLost,
    /// The device stopped answering. Open it again; resident contents are gone.
    DeviceLost,
    /// Another writer was faster (a version tag did not match). Read again, then decide.
    Conflict,
    /// Stored data is damaged or of an unknown version. Restore it from elsewhere.
    Corrupt,
    /// The operating system or a library failed; its error is the source.
    Io,
}

/// An error of the control plane: what was tried, what was seen, and where it came from.
///
/// `Display` is one line; `source` keeps the native error.
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation` (a method name such as `"ring.launch"`); `message` says what was asked,
    /// which limit, the value seen and what to do next.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }

    /// Adds the native error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What was asked, seen and advised.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("operation", &self.operation)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// The result of a control-plane call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_and_the_source_is_kept() {
        let error =
            Error::new(ErrorKind::Io, "storage.open", "cannot open `x`").with_source(std::io::Error::other("no"));
        assert_eq!(error.to_string(), "storage.open: cannot open `x`");
        assert_eq!(std::error::Error::source(&error).map(ToString::to_string), Some("no".to_owned()));
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
