//! An open device: its queue, which one thread uses, and what that waits by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ash::vk;
use gpubridge_abstractions::{Error, ErrorKind};

use super::{Instance, Physical, failed};

/// How far a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    UnderWay,
    Landed,
}

/// A device of the driver's, opened.
pub(crate) struct Gpu {
    device: ash::Device,
    queue: vk::Queue,
    family: u32,
    timeline: vk::Semaphore,
    physical: Physical,
    reserved: [AtomicU64; vk::MAX_MEMORY_HEAPS],
    is_lost: AtomicBool,
    is_abandoned: AtomicBool,
    // Dropped behind the device.
    instance: Arc<Instance>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("physical", &self.physical.uuid).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a device that lacks nothing.
    pub(crate) fn open(
        instance: &Arc<Instance>,
        physical: Physical,
        operation: &'static str,
    ) -> Result<Arc<Self>, Error> {
        let fail = |result| failed(operation, "the device could not be opened", result);
        if let Some(missing) = physical.lacks() {
            let why = format!("the device lacks {missing}: use another device, or a later driver");
            return Err(Error::new(ErrorKind::Unsupported, operation, why));
        }
        let family = physical.family.unwrap_or_default();
        let priorities = [1.0];
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&priorities)];
        let features = vk::PhysicalDeviceFeatures::default().shader_float64(true);
        let mut features12 = vk::PhysicalDeviceVulkan12Features::default()
            .timeline_semaphore(true)
            .buffer_device_address(true)
            .vulkan_memory_model(physical.has_memory_model);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_features(&features)
            .push_next(&mut features12);
        // SAFETY: the device is one of the instance's, and has what is asked for.
        let device = unsafe { instance.functions().create_device(physical.handle, &info, None) }.map_err(fail)?;
        // SAFETY: the device was made with this queue.
        let queue = unsafe { device.get_device_queue(family, 0) };
        let mut kind =
            vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE).initial_value(0);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device is alive.
        let timeline = match unsafe { device.create_semaphore(&info, None) } {
            Ok(timeline) => timeline,
            Err(result) => {
                // SAFETY: nothing was made of it.
                unsafe { device.destroy_device(None) };
                return Err(fail(result));
            }
        };
        Ok(Arc::new(Self {
            device,
            queue,
            family,
            timeline,
            physical,
            reserved: [const { AtomicU64::new(0) }; _],
            is_lost: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            instance: Arc::clone(instance),
        }))
    }

    pub(crate) fn functions(&self) -> &ash::Device {
        &self.device
    }

    pub(crate) fn physical(&self) -> &Physical {
        &self.physical
    }

    pub(crate) fn family(&self) -> u32 {
        self.family
    }

    /// Submits a command buffer, after which the timeline has this value. The owner thread alone calls it.
    pub(crate) fn submit(&self, commands: vk::CommandBuffer, value: u64) -> Result<(), vk::Result> {
        let (commands, semaphores, values) = ([commands], [self.timeline], [value]);
        let mut timeline = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&values);
        let info = [vk::SubmitInfo::default()
            .command_buffers(&commands)
            .signal_semaphores(&semaphores)
            .push_next(&mut timeline)];
        // SAFETY: one thread uses the queue; the command buffer is recorded and not under way; what it reaches is kept.
        unsafe { self.device.queue_submit(self.queue, &info, vk::Fence::null()) }
    }

    /// Whether the timeline has this value.
    #[inline]
    pub(crate) fn look(&self, value: u64) -> Result<Flight, vk::Result> {
        // SAFETY: the semaphore is the device's.
        let now = unsafe { self.device.get_semaphore_counter_value(self.timeline) }?;
        Ok(if now >= value { Flight::Landed } else { Flight::UnderWay })
    }

    /// Waits until the timeline has this value, and no longer than `limit`.
    pub(crate) fn wait(&self, value: u64, limit: Duration) -> Result<Flight, vk::Result> {
        let (semaphores, values) = ([self.timeline], [value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        // SAFETY: the semaphore is the device's.
        match unsafe { self.device.wait_semaphores(&info, limit.as_nanos() as u64) } {
            Ok(()) => Ok(Flight::Landed),
            Err(vk::Result::TIMEOUT) => Ok(Flight::UnderWay),
            Err(result) => Err(result),
        }
    }

    /// Keeps account of memory that was allocated from a heap, or freed.
    pub(crate) fn counts(&self, heap: usize, size_bytes: u64, allocated: bool) {
        // Relaxed: a figure.
        if allocated {
            self.reserved[heap].fetch_add(size_bytes, Ordering::Relaxed);
        } else {
            self.reserved[heap].fetch_sub(size_bytes, Ordering::Relaxed);
        }
    }

    /// What this process has not taken of the heap of device memory, in bytes.
    pub(crate) fn available_bytes(&self) -> u64 {
        let heap = self.physical.device_heap();
        let size = self.physical.memory.memory_heaps[heap].size;
        size.saturating_sub(self.reserved[heap].load(Ordering::Relaxed))
    }

    /// Whether the device stopped answering.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// The device stopped answering; what it is at work on never ends if `is_at_work`: then nothing of it is ever freed.
    pub(crate) fn lose(&self, is_at_work: bool) {
        self.is_abandoned.store(is_at_work, Ordering::Release);
        self.is_lost.store(true, Ordering::Release);
    }

    /// Whether nothing of the device may be freed any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.is_abandoned() {
            // Nor may the driver go away.
            std::mem::forget(Arc::clone(&self.instance));
            return;
        }
        // SAFETY: whatever is under way keeps the device, so nothing is.
        unsafe { self.device.destroy_semaphore(self.timeline, None) };
        // SAFETY: all that was made of the device keeps it, so nothing is left.
        unsafe { self.device.destroy_device(None) };
    }
}

impl Physical {
    /// Whether it is a processor, not a GPU.
    pub(crate) fn is_processor(&self) -> bool {
        self.properties.device_type == vk::PhysicalDeviceType::CPU
    }

    /// The largest heap of device memory.
    pub(crate) fn device_heap(&self) -> usize {
        let heaps = self.memory.memory_heaps_as_slice();
        let local = |heap: &vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
        let largest = heaps.iter().enumerate().max_by_key(|(_, heap)| (local(heap), heap.size));
        largest.map_or(0, |(heap, _)| heap)
    }
}
