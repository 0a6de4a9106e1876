//! The system's loader with `vkQueueSubmit` counted: how many submissions the backend makes of a batch.

use std::ffi::{CStr, c_char};
use std::mem::transmute;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ash::{Entry, vk};

static SUBMISSIONS: AtomicU64 = AtomicU64::new(0);
static GET_INSTANCE: OnceLock<vk::PFN_vkGetInstanceProcAddr> = OnceLock::new();
static GET_DEVICE: OnceLock<vk::PFN_vkGetDeviceProcAddr> = OnceLock::new();
static SUBMIT: OnceLock<vk::PFN_vkQueueSubmit> = OnceLock::new();

/// Submissions so far.
pub fn submissions() -> u64 {
    // Relaxed: a figure, read when all of it has been answered.
    SUBMISSIONS.load(Ordering::Relaxed)
}

/// The loader, if there is one.
pub fn loader() -> Option<vk::PFN_vkGetInstanceProcAddr> {
    // SAFETY: the library that is found by the loader's name is the loader.
    let entry = unsafe { Entry::load() }.ok()?;
    GET_INSTANCE.get_or_init(|| entry.static_fn().get_instance_proc_addr);
    // It stays loaded.
    std::mem::forget(entry);
    Some(get_instance_proc_addr)
}

unsafe extern "system" fn get_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    let get = GET_INSTANCE.get()?;
    // SAFETY: it is the loader's function, the arguments are the caller's.
    let found = unsafe { get(instance, name) }?;
    // SAFETY: the caller passes a string.
    if unsafe { CStr::from_ptr(name) } != c"vkGetDeviceProcAddr" {
        return Some(found);
    }
    // SAFETY: it is the function of this name.
    GET_DEVICE.get_or_init(|| unsafe { transmute(found) });
    // SAFETY: whoever asked for the name knows its type.
    Some(unsafe { transmute::<vk::PFN_vkGetDeviceProcAddr, unsafe extern "system" fn()>(get_device_proc_addr) })
}

unsafe extern "system" fn get_device_proc_addr(device: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    let get = GET_DEVICE.get()?;
    // SAFETY: it is the loader's function, the arguments are the caller's.
    let found = unsafe { get(device, name) }?;
    // SAFETY: the caller passes a string.
    if unsafe { CStr::from_ptr(name) } != c"vkQueueSubmit" {
        return Some(found);
    }
    // SAFETY: it is the function of this name.
    SUBMIT.get_or_init(|| unsafe { transmute(found) });
    // SAFETY: whoever asked for the name knows its type.
    Some(unsafe { transmute::<vk::PFN_vkQueueSubmit, unsafe extern "system" fn()>(submit) })
}

unsafe extern "system" fn submit(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    SUBMISSIONS.fetch_add(1, Ordering::Relaxed);
    let submit = SUBMIT.get().expect("whoever calls this was given it in place of the driver's");
    // SAFETY: it is the driver's function, the arguments are the caller's.
    unsafe { submit(queue, count, infos, fence) }
}
