//! Memory of a device: a buffer, the memory behind it, and its address.

use std::ptr::NonNull;
use std::sync::Arc;

use ash::vk;
use gpubridge_abstractions::{Error, ErrorKind};

use super::{Gpu, failed};

type Flags = vk::MemoryPropertyFlags;

/// What memory is for, which says of which type it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The device's own.
    Device,
    /// The host writes, the device reads.
    Arguments,
    /// The device writes, the host reads.
    Results,
    /// The host's own, which the device reaches.
    Pinned,
}

impl Use {
    /// What the memory must be, and what it had better be and not be besides.
    fn wishes(self) -> (Flags, Flags, Flags) {
        let none = Flags::empty();
        match self {
            Self::Device => (none, Flags::DEVICE_LOCAL, Flags::HOST_VISIBLE),
            Self::Arguments => (Flags::HOST_VISIBLE, Flags::DEVICE_LOCAL, Flags::HOST_CACHED),
            Self::Results => (Flags::HOST_VISIBLE, Flags::HOST_CACHED, none),
            Self::Pinned => (Flags::HOST_VISIBLE, Flags::HOST_CACHED, Flags::DEVICE_LOCAL),
        }
    }
}

/// A buffer with memory of its own. Freed when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    gpu: Arc<Gpu>,
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    address: u64,
    size_bytes: u64,
    heap: usize,
    mapped: Option<NonNull<u8>>,
    is_coherent: bool,
}

// SAFETY: the mapping belongs to the allocation alone, and is not thread-bound.
unsafe impl Send for Allocation {}
// SAFETY: shared references reach no mapped byte: `write` and `read` take the allocation by exclusive reference.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// A buffer of so many bytes. What it holds is left over.
    pub(crate) fn new(gpu: &Arc<Gpu>, size_bytes: u64, usage: Use, operation: &'static str) -> Result<Self, Error> {
        let fail = |result| failed(operation, &format!("{size_bytes} bytes of memory could not be had"), result);
        let info = vk::BufferCreateInfo::default().size(size_bytes).usage(
            vk::BufferUsageFlags::STORAGE_BUFFER
                | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS
                | vk::BufferUsageFlags::INDIRECT_BUFFER
                | vk::BufferUsageFlags::TRANSFER_DST,
        );
        // SAFETY: the device is alive and the info is valid.
        let buffer = unsafe { gpu.functions().create_buffer(&info, None) }.map_err(fail)?;
        let mut made = Self {
            gpu: Arc::clone(gpu),
            buffer,
            memory: vk::DeviceMemory::null(),
            address: 0,
            size_bytes,
            heap: 0,
            mapped: None,
            is_coherent: true,
        };
        // SAFETY: the buffer is the device's.
        let needs = unsafe { gpu.functions().get_buffer_memory_requirements(buffer) };
        let limit = gpu.physical().max_allocation_bytes;
        if needs.size > limit {
            let why = format!("{size_bytes} bytes were asked for; the device gives at most {limit} at once");
            return Err(Error::new(ErrorKind::OutOfMemory, operation, why));
        }
        let kind = made.choose(needs.memory_type_bits, usage).ok_or_else(|| {
            let why = format!("the device has no memory for {usage:?}: use another device");
            Error::new(ErrorKind::Unsupported, operation, why)
        })?;
        let flags = gpu.physical().memory.memory_types[kind].property_flags;
        made.heap = gpu.physical().memory.memory_types[kind].heap_index as usize;
        let mut addressed = vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(needs.size)
            .memory_type_index(kind as u32)
            .push_next(&mut addressed);
        // SAFETY: the type is one of the device's, and what the info points to outlives the call.
        made.memory = unsafe { gpu.functions().allocate_memory(&info, None) }.map_err(fail)?;
        gpu.counts(made.heap, size_bytes, true);
        // SAFETY: memory and buffer are new and the memory is as large as was asked for.
        unsafe { gpu.functions().bind_buffer_memory(buffer, made.memory, 0) }.map_err(fail)?;
        let info = vk::BufferDeviceAddressInfo::default().buffer(buffer);
        // SAFETY: the buffer was made to be addressed, and has memory.
        made.address = unsafe { gpu.functions().get_buffer_device_address(&info) };
        if flags.contains(Flags::HOST_VISIBLE) && usage != Use::Device {
            made.is_coherent = flags.contains(Flags::HOST_COHERENT);
            let (all, none) = (vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
            // SAFETY: the memory is host-visible and not mapped.
            let mapped = unsafe { gpu.functions().map_memory(made.memory, 0, all, none) }.map_err(fail)?;
            made.mapped = NonNull::new(mapped.cast());
        }
        Ok(made)
    }

    /// The memory type for `usage` among those of `allowed`: the first that has most of what it had better be.
    fn choose(&self, allowed: u32, usage: Use) -> Option<usize> {
        let (must, better, worse) = usage.wishes();
        let types = self.gpu.physical().memory.memory_types_as_slice();
        let fits = types.iter().enumerate().filter(|(i, kind)| {
            let odd = Flags::PROTECTED | Flags::LAZILY_ALLOCATED | Flags::DEVICE_COHERENT_AMD;
            allowed >> i & 1 == 1 && kind.property_flags.contains(must) && !kind.property_flags.intersects(odd)
        });
        let worth = |flags: Flags| {
            let coherent = u32::from(flags.contains(Flags::HOST_COHERENT));
            4 * (flags & better).as_raw().count_ones() + coherent + 2 - 2 * (flags & worse).as_raw().count_ones().min(1)
        };
        // The last of the greatest is the first of them in reverse.
        fits.rev().max_by_key(|(_, kind)| worth(kind.property_flags)).map(|(i, _)| i)
    }

    pub(crate) fn buffer(&self) -> vk::Buffer {
        self.buffer
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Copies `bytes` to `offset` of mapped memory.
    ///
    /// # Panics
    /// When it is not mapped, or they leave it.
    #[inline]
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: the range is mapped, as was checked; the device is not at work on it, whose owner alone calls this.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// Copies from `offset` of mapped memory. Panics as [`Allocation::write`].
    #[inline]
    pub(crate) fn read(&mut self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        // SAFETY: the range is mapped, as was checked; the device is not at work on it, whose owner alone calls this.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len()) };
    }

    #[inline]
    fn at(&self, offset: usize, size_bytes: usize) -> NonNull<u8> {
        let end = offset.checked_add(size_bytes);
        assert!(end.is_some_and(|end| end as u64 <= self.size_bytes), "the bytes lie in the allocation");
        let first = self.mapped.expect("the memory is mapped");
        // SAFETY: the offset lies within the mapping, as was checked.
        unsafe { first.add(offset) }
    }

    /// Has the device see the first `size_bytes` of what the host has written.
    pub(crate) fn flush(&self, size_bytes: usize) -> Result<(), vk::Result> {
        if self.is_coherent {
            return Ok(());
        }
        // SAFETY: the range is mapped and ends on a unit, or with the memory.
        unsafe { self.gpu.functions().flush_mapped_memory_ranges(&[self.range(size_bytes)]) }
    }

    /// Has the host see the first `size_bytes` of what the device has written.
    pub(crate) fn invalidate(&self, size_bytes: usize) -> Result<(), vk::Result> {
        if self.is_coherent {
            return Ok(());
        }
        // SAFETY: as in `flush`.
        unsafe { self.gpu.functions().invalidate_mapped_memory_ranges(&[self.range(size_bytes)]) }
    }

    /// From the beginning, in whole units of what the device transfers.
    fn range(&self, size_bytes: usize) -> vk::MappedMemoryRange<'static> {
        let unit = self.gpu.physical().properties.limits.non_coherent_atom_size;
        let end = (size_bytes as u64).next_multiple_of(unit);
        let size = if end < self.size_bytes { end } else { vk::WHOLE_SIZE };
        vk::MappedMemoryRange::default().memory(self.memory).offset(0).size(size)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            // A kernel that does not end may still be at work on it.
            return;
        }
        let functions = self.gpu.functions();
        // SAFETY: the buffer is the device's; whoever works on it keeps the allocation.
        unsafe { functions.destroy_buffer(self.buffer, None) };
        if self.memory != vk::DeviceMemory::null() {
            self.gpu.counts(self.heap, self.size_bytes, false);
            // SAFETY: as above; freeing unmaps.
            unsafe { functions.free_memory(self.memory, None) };
        }
    }
}
