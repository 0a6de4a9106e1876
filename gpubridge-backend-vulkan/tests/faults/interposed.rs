//! Functions in place of the driver's, which fail when they are told to.
#![expect(unsafe_code, reason = "they are called by, and call, the driver's interface")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "a pointer's type is given back to it and it is called")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::mem::transmute;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use ash::vk::{self, Handle};

/// Which call is to fail, and how often each has been made.
#[derive(Debug, Default)]
struct Plan {
    fails: Option<(&'static str, u32, vk::Result)>,
    calls: BTreeMap<&'static str, u32>,
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { fails: None, calls: BTreeMap::new() });

/// From now on the call of this number, counted from 1, of this function comes to that; or none does.
pub fn plan(fails: Option<(&'static str, u32, vk::Result)>) {
    *PLAN.lock().unwrap() = Plan { fails, calls: BTreeMap::new() };
}

/// How often each function was called since the plan was made.
pub fn calls() -> BTreeMap<&'static str, u32> {
    PLAN.lock().unwrap().calls.clone()
}

/// Whether memory hides that it keeps itself coherent, whether the timeline stands still, and whether layouts are spoiled.
static SPOILS_LAYOUTS: AtomicBool = AtomicBool::new(false);
static HIDES_COHERENCE: AtomicBool = AtomicBool::new(false);
static STANDS_STILL: AtomicBool = AtomicBool::new(false);

/// Has memory not tell that it is coherent, from now on.
pub fn hide_coherence(hides: bool) {
    HIDES_COHERENCE.store(hides, Ordering::Relaxed);
}

/// Has layouts of pipelines be made with three bytes of push constants, which is forbidden, from now on.
pub fn spoil_layouts(spoils: bool) {
    SPOILS_LAYOUTS.store(spoils, Ordering::Relaxed);
}

/// Has nothing land, from now on.
pub fn stop_time(stops: bool) {
    STANDS_STILL.store(stops, Ordering::Relaxed);
}

/// Counts a call, and says whether it fails. A device that is lost stays lost.
fn comes_to(name: &'static str) -> Option<vk::Result> {
    let mut plan = PLAN.lock().unwrap();
    let calls = plan.calls.entry(name).or_default();
    *calls += 1;
    let number = *calls;
    let (fails, at, result) = plan.fails?;
    (fails == name && (number == at || number > at && result == vk::Result::ERROR_DEVICE_LOST)).then_some(result)
}

type Any = unsafe extern "system" fn();

/// Defines functions, and a table of them by their names.
macro_rules! interposed {
    ($($name:ident as $function:ident: $kind:ty = ($($argument:ident: $type:ty),*);)*) => {
        $(
            static $name: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

            unsafe extern "system" fn $function($($argument: $type),*) -> vk::Result {
                if STANDS_STILL.load(Ordering::Relaxed) && stringify!($function) == "vkWaitSemaphores" {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    return vk::Result::TIMEOUT;
                }
                if let Some(result) = comes_to(stringify!($function)) {
                    if result == vk::Result::ERROR_DEVICE_LOST {
                        // A device that is lost is at work no more.
                        wait_until_idle();
                    }
                    return result;
                }
                // SAFETY: it is the driver's function of this name.
                unsafe { transmute::<*mut (), $kind>($name.load(Ordering::Relaxed))($($argument),*) }
            }
        )*

        /// The function to call in place of the real one, which is kept.
        fn in_place_of(name: &CStr, real: Any) -> Any {
            match name.to_bytes() {
                $(
                    bytes if bytes == stringify!($function).as_bytes() => {
                        $name.store(real as *mut (), Ordering::Relaxed);
                        // SAFETY: whoever asked for the name knows its type.
                        unsafe { transmute::<$kind, Any>($function) }
                    }
                )*
                _ => real,
            }
        }
    };
}

#[expect(non_snake_case, reason = "the functions' own names, by which they are found")]
mod functions {
    use super::*;

    type Allocator<'a> = *const vk::AllocationCallbacks<'a>;

    interposed! {
        CREATE_DEVICE as vkCreateDevice: vk::PFN_vkCreateDevice = (physical: vk::PhysicalDevice, info: *const vk::DeviceCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::Device);
        ENUMERATE as vkEnumeratePhysicalDevices: vk::PFN_vkEnumeratePhysicalDevices = (instance: vk::Instance, count: *mut u32, devices: *mut vk::PhysicalDevice);
        CREATE_SEMAPHORE as vkCreateSemaphore: vk::PFN_vkCreateSemaphore = (device: vk::Device, info: *const vk::SemaphoreCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::Semaphore);
        CREATE_BUFFER as vkCreateBuffer: vk::PFN_vkCreateBuffer = (device: vk::Device, info: *const vk::BufferCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::Buffer);
        ALLOCATE_MEMORY as vkAllocateMemory: vk::PFN_vkAllocateMemory = (device: vk::Device, info: *const vk::MemoryAllocateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::DeviceMemory);
        BIND_MEMORY as vkBindBufferMemory: vk::PFN_vkBindBufferMemory = (device: vk::Device, buffer: vk::Buffer, memory: vk::DeviceMemory, offset: vk::DeviceSize);
        MAP_MEMORY as vkMapMemory: vk::PFN_vkMapMemory = (device: vk::Device, memory: vk::DeviceMemory, offset: vk::DeviceSize, size: vk::DeviceSize, flags: vk::MemoryMapFlags, made: *mut *mut std::ffi::c_void);
        CREATE_LAYOUT as vkCreatePipelineLayout: vk::PFN_vkCreatePipelineLayout = (device: vk::Device, info: *const vk::PipelineLayoutCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::PipelineLayout);
        CREATE_MODULE as vkCreateShaderModule: vk::PFN_vkCreateShaderModule = (device: vk::Device, info: *const vk::ShaderModuleCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::ShaderModule);
        CREATE_PIPELINES as vkCreateComputePipelines: vk::PFN_vkCreateComputePipelines = (device: vk::Device, cache: vk::PipelineCache, count: u32, infos: *const vk::ComputePipelineCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::Pipeline);
        CREATE_POOL as vkCreateCommandPool: vk::PFN_vkCreateCommandPool = (device: vk::Device, info: *const vk::CommandPoolCreateInfo<'_>, allocator: Allocator<'_>, made: *mut vk::CommandPool);
        ALLOCATE_COMMANDS as vkAllocateCommandBuffers: vk::PFN_vkAllocateCommandBuffers = (device: vk::Device, info: *const vk::CommandBufferAllocateInfo<'_>, made: *mut vk::CommandBuffer);
        BEGIN as vkBeginCommandBuffer: vk::PFN_vkBeginCommandBuffer = (commands: vk::CommandBuffer, info: *const vk::CommandBufferBeginInfo<'_>);
        END as vkEndCommandBuffer: vk::PFN_vkEndCommandBuffer = (commands: vk::CommandBuffer);
        SUBMIT as vkQueueSubmit: vk::PFN_vkQueueSubmit = (queue: vk::Queue, count: u32, infos: *const vk::SubmitInfo<'_>, fence: vk::Fence);
        LOOK as vkGetSemaphoreCounterValue: vk::PFN_vkGetSemaphoreCounterValue = (device: vk::Device, semaphore: vk::Semaphore, value: *mut u64);
        FLUSH as vkFlushMappedMemoryRanges: vk::PFN_vkFlushMappedMemoryRanges = (device: vk::Device, count: u32, ranges: *const vk::MappedMemoryRange<'_>);
        INVALIDATE as vkInvalidateMappedMemoryRanges: vk::PFN_vkInvalidateMappedMemoryRanges = (device: vk::Device, count: u32, ranges: *const vk::MappedMemoryRange<'_>);
        WAIT as vkWaitSemaphores: vk::PFN_vkWaitSemaphores = (device: vk::Device, info: *const vk::SemaphoreWaitInfo<'_>, limit: u64);
    }

    static MEMORY: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

    unsafe extern "system" fn memory_properties(
        physical: vk::PhysicalDevice,
        properties: *mut vk::PhysicalDeviceMemoryProperties,
    ) {
        let real = MEMORY.load(Ordering::Relaxed);
        // SAFETY: it is the driver's function.
        unsafe { transmute::<*mut (), vk::PFN_vkGetPhysicalDeviceMemoryProperties>(real)(physical, properties) };
        if HIDES_COHERENCE.load(Ordering::Relaxed) {
            // SAFETY: the caller's pointer is valid.
            let properties = unsafe { &mut *properties };
            for kind in &mut properties.memory_types {
                kind.property_flags &= !vk::MemoryPropertyFlags::HOST_COHERENT;
            }
        }
    }

    static GET_INSTANCE: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    static GET_DEVICE: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    static WAIT_IDLE: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    static DEVICE: AtomicU64 = AtomicU64::new(0);

    /// By who uses the device's queue: the device that was opened last.
    fn wait_until_idle() {
        let (wait, device) = (WAIT_IDLE.load(Ordering::Relaxed), vk::Device::from_raw(DEVICE.load(Ordering::Relaxed)));
        // SAFETY: it is the driver's function, and the device is alive, as whoever asks has it.
        let waited = unsafe { transmute::<*mut (), vk::PFN_vkDeviceWaitIdle>(wait)(device) };
        assert_eq!(waited, vk::Result::SUCCESS);
    }

    /// The loader, with these functions in between.
    pub fn loader() -> Option<vk::PFN_vkGetInstanceProcAddr> {
        // SAFETY: it is the system's loader, as the backend loads it.
        let entry = unsafe { ash::Entry::load() }.ok()?;
        GET_INSTANCE.store(entry.static_fn().get_instance_proc_addr as *mut (), Ordering::Relaxed);
        // It stays loaded.
        std::mem::forget(entry);
        Some(get_instance_proc_addr)
    }

    unsafe extern "system" fn get_instance_proc_addr(
        instance: vk::Instance,
        name: *const c_char,
    ) -> vk::PFN_vkVoidFunction {
        let get = GET_INSTANCE.load(Ordering::Relaxed);
        // SAFETY: it is the loader's function.
        let found = unsafe { transmute::<*mut (), vk::PFN_vkGetInstanceProcAddr>(get)(instance, name) };
        // SAFETY: the caller passes a string.
        let name = unsafe { CStr::from_ptr(name) };
        if name == c"vkGetDeviceProcAddr" && !instance.is_null() {
            GET_DEVICE.store(found? as *mut (), Ordering::Relaxed);
            // SAFETY: whoever asked for the name knows its type.
            return Some(unsafe { transmute::<vk::PFN_vkGetDeviceProcAddr, Any>(get_device_proc_addr) });
        }
        if name == c"vkGetPhysicalDeviceMemoryProperties" {
            MEMORY.store(found? as *mut (), Ordering::Relaxed);
            // SAFETY: whoever asked for the name knows its type.
            return Some(unsafe { transmute::<vk::PFN_vkGetPhysicalDeviceMemoryProperties, Any>(memory_properties) });
        }
        Some(in_place_of(name, found?))
    }

    /// A layout, with too few bytes if it is to be spoiled.
    unsafe extern "system" fn layout(
        device: vk::Device,
        info: *const vk::PipelineLayoutCreateInfo<'_>,
        allocator: Allocator<'_>,
        made: *mut vk::PipelineLayout,
    ) -> vk::Result {
        let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(3)];
        let spoiled = vk::PipelineLayoutCreateInfo::default().push_constant_ranges(&ranges);
        let info = if SPOILS_LAYOUTS.load(Ordering::Relaxed) { &raw const spoiled } else { info };
        // SAFETY: all else is the caller's; drivers survive what is forbidden here.
        unsafe { vkCreatePipelineLayout(device, info, allocator, made) }
    }

    /// The timeline's value, which is what it was at first if time stands still.
    unsafe extern "system" fn look(device: vk::Device, semaphore: vk::Semaphore, value: *mut u64) -> vk::Result {
        if STANDS_STILL.load(Ordering::Relaxed) {
            // SAFETY: the caller's pointer is valid.
            unsafe { *value = 0 };
            return vk::Result::SUCCESS;
        }
        // SAFETY: all is the caller's.
        unsafe { vkGetSemaphoreCounterValue(device, semaphore, value) }
    }

    unsafe extern "system" fn get_device_proc_addr(device: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
        let get = GET_DEVICE.load(Ordering::Relaxed);
        // SAFETY: it is the loader's function.
        let get = unsafe { transmute::<*mut (), vk::PFN_vkGetDeviceProcAddr>(get) };
        if DEVICE.swap(device.as_raw(), Ordering::Relaxed) != device.as_raw() {
            // SAFETY: the device is the caller's, the name a string.
            let wait = unsafe { get(device, c"vkDeviceWaitIdle".as_ptr()) };
            WAIT_IDLE.store(wait? as *mut (), Ordering::Relaxed);
        }
        // SAFETY: both are the caller's.
        let found = unsafe { get(device, name) };
        // SAFETY: the caller passes a string.
        let name = unsafe { CStr::from_ptr(name) };
        let function = in_place_of(name, found?);
        if name == c"vkGetSemaphoreCounterValue" {
            // SAFETY: whoever asked for the name knows its type.
            return Some(unsafe { transmute::<vk::PFN_vkGetSemaphoreCounterValue, Any>(look) });
        }
        if name == c"vkCreatePipelineLayout" {
            // SAFETY: whoever asked for the name knows its type.
            return Some(unsafe { transmute::<vk::PFN_vkCreatePipelineLayout, Any>(layout) });
        }
        Some(function)
    }
}

pub use functions::loader;
