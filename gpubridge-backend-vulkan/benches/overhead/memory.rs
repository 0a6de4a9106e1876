//! Memory of the raw program.

use std::ptr::NonNull;

use ash::{Device, vk};

type Flags = vk::MemoryPropertyFlags;
type Types = vk::PhysicalDeviceMemoryProperties;

/// A buffer with memory of its own.
pub struct Memory {
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    address: u64,
    size_bytes: u64,
}

impl Memory {
    /// The device's own.
    pub fn of_device(device: &Device, types: &Types, size_bytes: u64) -> Result<Self, vk::Result> {
        Self::new(device, types, size_bytes, Flags::empty(), Flags::DEVICE_LOCAL, Flags::HOST_VISIBLE)
    }

    /// Of the first type that is what it `must` be and most of what it had better be, and not be.
    fn new(
        device: &Device,
        types: &Types,
        size_bytes: u64,
        must: Flags,
        better: Flags,
        worse: Flags,
    ) -> Result<Self, vk::Result> {
        let info = vk::BufferCreateInfo::default().size(size_bytes).usage(
            vk::BufferUsageFlags::STORAGE_BUFFER
                | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS
                | vk::BufferUsageFlags::INDIRECT_BUFFER
                | vk::BufferUsageFlags::TRANSFER_DST,
        );
        // SAFETY: the device is alive and the info is valid.
        let buffer = unsafe { device.create_buffer(&info, None) }?;
        // SAFETY: the buffer is the device's.
        let needs = unsafe { device.get_buffer_memory_requirements(buffer) };
        let fits = types.memory_types_as_slice().iter().zip(0..).filter(|(kind, index)| {
            let odd = Flags::PROTECTED | Flags::LAZILY_ALLOCATED | Flags::DEVICE_COHERENT_AMD;
            let flags = kind.property_flags;
            needs.memory_type_bits >> index & 1 == 1 && flags.contains(must) && !flags.intersects(odd)
        });
        let worth = |flags: Flags| 2 * u32::from(flags.contains(better)) + u32::from(!flags.intersects(worse));
        // The last of the greatest is the first of them in reverse.
        let best = fits.collect::<Vec<_>>().into_iter().rev().max_by_key(|(kind, _)| worth(kind.property_flags));
        let (_, kind) = best.ok_or(vk::Result::ERROR_FEATURE_NOT_PRESENT)?;
        let mut addressed = vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(needs.size)
            .memory_type_index(kind)
            .push_next(&mut addressed);
        // SAFETY: the type is one of the device's, and what the info points to outlives the call.
        let memory = unsafe { device.allocate_memory(&info, None) }?;
        // SAFETY: memory and buffer are new and the memory is as large as was asked for.
        unsafe { device.bind_buffer_memory(buffer, memory, 0) }?;
        let info = vk::BufferDeviceAddressInfo::default().buffer(buffer);
        // SAFETY: the buffer was made to be addressed, and has memory.
        let address = unsafe { device.get_buffer_device_address(&info) };
        Ok(Self { buffer, memory, address, size_bytes })
    }

    pub fn buffer(&self) -> vk::Buffer {
        self.buffer
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    /// Gives it back: it is not used any more.
    pub fn free(&self, device: &Device) {
        // SAFETY: the buffer is the device's, which is at rest.
        unsafe { device.destroy_buffer(self.buffer, None) };
        // SAFETY: as above; freeing unmaps.
        unsafe { device.free_memory(self.memory, None) };
    }
}

/// Memory that the host reaches, and that keeps itself coherent.
pub struct Mapped {
    memory: Memory,
    first: NonNull<u8>,
}

impl Mapped {
    /// What the host writes and the device reads.
    pub fn arguments(device: &Device, types: &Types, size_bytes: usize) -> Result<Self, vk::Result> {
        Self::new(device, types, size_bytes, Flags::DEVICE_LOCAL, Flags::HOST_CACHED)
    }

    /// What the device writes and the host reads.
    pub fn results(device: &Device, types: &Types, size_bytes: usize) -> Result<Self, vk::Result> {
        Self::new(device, types, size_bytes, Flags::HOST_CACHED, Flags::empty())
    }

    fn new(device: &Device, types: &Types, size_bytes: usize, better: Flags, worse: Flags) -> Result<Self, vk::Result> {
        let must = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let memory = Memory::new(device, types, size_bytes as u64, must, better, worse)?;
        let (all, none) = (vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
        // SAFETY: the memory is host-visible and not mapped.
        let mapped = unsafe { device.map_memory(memory.memory, 0, all, none) }?;
        let first = NonNull::new(mapped.cast()).ok_or(vk::Result::ERROR_MEMORY_MAP_FAILED)?;
        Ok(Self { memory, first })
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn buffer(&self) -> vk::Buffer {
        self.memory.buffer
    }

    pub fn address(&self) -> u64 {
        self.memory.address
    }

    /// Writes words at an offset in bytes.
    #[inline]
    pub fn write<const N: usize>(&mut self, offset: usize, words: &[u32; N]) {
        let to = self.at(offset, N * 4);
        // SAFETY: the range is mapped, as was checked; the device is at rest.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(words).cast(), N * 4) };
    }

    /// Reads bytes at an offset.
    #[inline]
    pub fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        let from = self.at(offset, N);
        // SAFETY: the range is mapped, as was checked, and any bytes are an array of bytes; the device is at rest.
        unsafe { from.cast().read_unaligned() }
    }

    #[inline]
    fn at(&self, offset: usize, size_bytes: usize) -> NonNull<u8> {
        assert!((offset + size_bytes) as u64 <= self.memory.size_bytes, "the bytes lie in the memory");
        // SAFETY: the offset lies within the mapping, as was checked.
        unsafe { self.first.add(offset) }
    }
}
