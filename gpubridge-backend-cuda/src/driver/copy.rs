//! Copies by the device's copy engines.

use gpubridge_abstractions::Error;

use super::{Stream, sys};

impl Stream {
    /// Queues a copy of `size_bytes` between addresses of the device. One that lies in the host's memory is that of
    /// page-locked memory: from any other the driver would copy by way of its own, waiting.
    ///
    /// The caller answers for both ranges until the copy is done.
    pub(crate) fn copy(&self, to: u64, from: u64, size_bytes: u64) -> Result<(), Error> {
        let (stream, size) = (self.stream, size_bytes as usize);
        // SAFETY: both ranges lie in allocations of this context, whose owners keep them until the copy is done.
        self.context.call("cuda.copy", "copying", || unsafe { sys::cuMemcpyAsync(to, from, size, stream) })
    }
}
