//! The one file that names cudarc: the few calls of CUDA's driver that the backend makes, as safe functions.
//!
//! Every call goes through a [`Context`], which makes itself current in the calling thread, and is refused once the device is
//! lost: after a fault nothing of a context can be trusted, not even freeing. What is dropped then is left to the process's
//! end.
#![expect(unsafe_code, reason = "foreign functions: this module is where the backend calls the driver")]

mod copy;
mod graph;
mod link;
mod mapping;
mod memory;
pub(crate) mod nvrtc;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

// For the modules below as well.
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUresult};
use cudarc::nvrtc::sys as compiler;
use gpubridge_abstractions::{Error, ErrorKind};

use crate::process;
use crate::results::{RESTART, meaning};

pub(crate) use graph::{Graph, Step};
pub(crate) use link::{Object, Part};
pub(crate) use mapping::{MAPPING_ALIGNMENT, Mapping, fence};
pub(crate) use memory::{DeviceMemory, PinnedMemory};

/// The oldest driver that is served, as the driver counts: CUDA 12.0.
const OLDEST_DRIVER: c_int = 12_000;
/// Beyond what any device has: lower numbers go first.
const HIGHEST_PRIORITY: c_int = -100;

/// The driver itself, for the probe of calls that the backend never makes.
#[cfg(feature = "probe")]
pub(crate) use cudarc::driver::sys as raw;
/// What an attribute of a device is called.
pub(crate) use sys::CUdevice_attribute_enum as DeviceAttribute;

/// A driver that is there and new enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driver(());

impl Driver {
    /// Loads the driver, once per process.
    ///
    /// # Errors
    /// `Unsupported` without a driver, or with one that is too old or finds no device; the message says what to install.
    pub(crate) fn load() -> Result<Self, Error> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Unsupported, "cuda.load", why));
        // SAFETY: loads the driver's library, whose initialisers the driver's maker answers for.
        if !unsafe { sys::is_culib_present() } {
            return refuse(
                "there is no CUDA driver (libcuda.so.1): install NVIDIA's driver, no toolkit is needed".into(),
            );
        }
        // SAFETY: may be called at any time, by any thread, and again.
        match unsafe { sys::cuInit(0) } {
            CUresult::CUDA_SUCCESS => {}
            other => {
                let does_not =
                    if other == CUresult::CUDA_ERROR_NO_DEVICE { "finds no device" } else { "does not start" };
                // Of a device that is lost there is nothing to say before there is one.
                let (kind, advice) = meaning(other as u32);
                let advice = if kind == ErrorKind::DeviceLost { "see whether nvidia-smi works" } else { advice };
                return refuse(format!("the CUDA driver {does_not}: {}: {advice}", describe(other)));
            }
        }
        let version = Self(()).version()?;
        if version < OLDEST_DRIVER {
            return refuse(format!(
                "the CUDA driver serves CUDA {}.{}; {}.{} or later is needed: install a newer driver",
                version / 1000,
                version % 1000 / 10,
                OLDEST_DRIVER / 1000,
                OLDEST_DRIVER % 1000 / 10
            ));
        }
        Ok(Self(()))
    }

    /// The CUDA that it serves: 1000 times the major version and 10 times the minor.
    pub(crate) fn version(self) -> Result<c_int, Error> {
        let mut version = 0;
        // SAFETY: `version` is the out parameter.
        check(unsafe { sys::cuDriverGetVersion(&raw mut version) }, "cuda.load", "reading the driver's version")?;
        Ok(version)
    }

    /// Whether functions of modules are loaded with their module, not when they are first used.
    pub(crate) fn loads_eagerly(self) -> Result<bool, Error> {
        let mut mode = sys::CUmoduleLoadingMode::CU_MODULE_LAZY_LOADING;
        // SAFETY: the driver is initialised; `mode` is the out parameter, and the driver knows no other modes.
        let result = unsafe { sys::cuModuleGetLoadingMode(&raw mut mode) };
        check(result, "cuda.load", "asking how modules are loaded")?;
        Ok(mode == sys::CUmoduleLoadingMode::CU_MODULE_EAGER_LOADING)
    }

    /// How many devices there are.
    pub(crate) fn device_count(self) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: the driver is initialised; `count` is the out parameter.
        check(unsafe { sys::cuDeviceGetCount(&raw mut count) }, "cuda.devices", "counting devices")?;
        Ok(count.unsigned_abs())
    }

    /// The device with this number, which is below [`Driver::device_count`].
    pub(crate) fn device(self, ordinal: u32) -> Result<DeviceHandle, Error> {
        let mut device = 0;
        // SAFETY: as above.
        let result = unsafe { sys::cuDeviceGet(&raw mut device, ordinal as c_int) };
        check(result, "cuda.devices", "finding a device")?;
        Ok(DeviceHandle(device))
    }
}

/// One device, unopened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceHandle(sys::CUdevice);

impl DeviceHandle {
    /// Its name as its maker gives it.
    pub(crate) fn name(self) -> Result<String, Error> {
        let mut name = [0 as c_char; 256];
        // SAFETY: the driver writes at most as many bytes as it is told, with a zero at the end.
        let result = unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, self.0) };
        check(result, "cuda.devices", "reading a device's name")?;
        // SAFETY: the driver ended the name with a zero, within the array.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Tells it from every other device, across restarts.
    pub(crate) fn uuid(self) -> Result<[u8; 16], Error> {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: `uuid` is the out parameter.
        check(unsafe { sys::cuDeviceGetUuid_v2(&raw mut uuid, self.0) }, "cuda.devices", "reading a device's UUID")?;
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    /// All of its memory, in bytes.
    pub(crate) fn total_memory_bytes(self) -> Result<u64, Error> {
        let mut bytes = 0;
        // SAFETY: `bytes` is the out parameter.
        let result = unsafe { sys::cuDeviceTotalMem_v2(&raw mut bytes, self.0) };
        check(result, "cuda.devices", "reading a device's memory")?;
        Ok(bytes as u64)
    }

    /// An attribute.
    pub(crate) fn attribute(self, attribute: Attribute) -> Result<u32, Error> {
        let mut value = 0;
        // SAFETY: `value` is the out parameter.
        let result = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, self.0) };
        check(result, "cuda.devices", "reading a device's attribute")?;
        Ok(value.max(0).unsigned_abs())
    }
}

/// A device's primary context.
#[derive(Debug)]
pub(crate) struct Context {
    device: DeviceHandle,
    context: sys::CUcontext,
    lost: Arc<AtomicBool>,
}

// SAFETY: the driver's contexts may be used by any thread; each call makes it current first.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn open(device: DeviceHandle) -> Result<Arc<Self>, Error> {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is the out parameter; given back in `drop`.
        let result = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, device.0) };
        check(result, "cuda.open", "opening the device")?;
        Ok(Arc::new(Self { device, context, lost: Arc::default() }))
    }

    /// Whether the device stopped answering: no call goes to the driver any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says so when the context is gone.
    pub(crate) fn loss(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lost)
    }

    /// States that it did.
    pub(crate) fn lose(&self) {
        // Relaxed: orders nothing.
        if !self.lost.swap(true, Ordering::Relaxed) {
            process::device_is_lost();
        }
    }

    /// Makes the context current, makes the call, and judges its result.
    pub(crate) fn call(
        &self,
        operation: &'static str,
        what: &str,
        call: impl FnOnce() -> CUresult,
    ) -> Result<(), Error> {
        let result = self.make_current(operation, what).and_then(|()| check(call(), operation, what));
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::DeviceLost) {
            self.lose();
        }
        result
    }

    fn make_current(&self, operation: &'static str, what: &str) -> Result<(), Error> {
        if self.is_lost() {
            let why = format!("{what}: the device stopped answering: {RESTART}");
            return Err(Error::new(ErrorKind::DeviceLost, operation, why));
        }
        // SAFETY: the context is retained as long as `self` lives.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, operation, what)
    }

    /// The memory that is free now, in bytes.
    pub(crate) fn free_memory_bytes(&self) -> Result<u64, Error> {
        let (mut free, mut total) = (0, 0);
        let operation = "cuda.memory";
        // SAFETY: both are out parameters.
        self.call(operation, "reading free memory", || unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }

    /// Loads a module: PTX that ends with a zero, which is compiled, or what [`Context::link`] made. Never while a ring runs.
    pub(crate) fn load(self: &Arc<Self>, image: &[u8]) -> Result<Module, Error> {
        let mut module = ptr::null_mut();
        let image = image.as_ptr().cast::<c_void>();
        // SAFETY: `module` is the out parameter; the image says where it ends, and outlives the call.
        self.call("cuda.open", "loading the ring's kernels", || unsafe {
            sys::cuModuleLoadData(&raw mut module, image)
        })?;
        Ok(Module { context: Arc::clone(self), module })
    }

    /// A stream that waits for no other.
    pub(crate) fn stream(self: &Arc<Self>) -> Result<Stream, Error> {
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
        // SAFETY: `stream` is the out parameter.
        self.call("cuda.open", "making a stream", || unsafe { sys::cuStreamCreate(&raw mut stream, flags) })?;
        Ok(Stream { context: Arc::clone(self), stream })
    }

    /// A stream that waits for no other, and whose kernels go before those of [`Context::stream`].
    pub(crate) fn urgent_stream(self: &Arc<Self>) -> Result<Stream, Error> {
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
        let make = || {
            // SAFETY: `stream` is the out parameter. The driver cuts the priority to the highest there is.
            unsafe { sys::cuStreamCreateWithPriority(&raw mut stream, flags, HIGHEST_PRIORITY) }
        };
        self.call("cuda.open", "making a stream", make)?;
        Ok(Stream { context: Arc::clone(self), stream })
    }

    /// Reserves device memory, uninitialised. Never while a ring runs.
    pub(crate) fn allocate(self: &Arc<Self>, size_bytes: u64) -> Result<DeviceMemory, Error> {
        let mut address = 0;
        let size = size_bytes as usize;
        // SAFETY: `address` is the out parameter.
        self.call("cuda.reserve", "reserving device memory", || unsafe { sys::cuMemAlloc_v2(&raw mut address, size) })?;
        Ok(DeviceMemory { context: Arc::clone(self), address })
    }

    /// Reserves page-locked host memory that the device reaches, zeroed. Never while a ring runs.
    pub(crate) fn allocate_pinned(self: &Arc<Self>, size_bytes: u64) -> Result<PinnedMemory, Error> {
        let mut bytes = ptr::null_mut();
        // Cacheable: a write-combined page would be read at a microsecond a word.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        let (operation, what, size) = ("cuda.reserve", "reserving page-locked memory", size_bytes as usize);
        // SAFETY: `bytes` is the out parameter.
        self.call(operation, what, || unsafe { sys::cuMemHostAlloc(&raw mut bytes, size, flags) })?;
        let Some(host) = NonNull::new(bytes.cast::<u8>()) else {
            return Err(Error::new(ErrorKind::OutOfMemory, operation, "the driver gave no page-locked memory"));
        };
        let mut memory = PinnedMemory { context: Arc::clone(self), host, address: 0 };
        let address = &raw mut memory.address;
        // SAFETY: `address` is the out parameter; the memory was made to be mapped.
        self.call(operation, what, || unsafe { sys::cuMemHostGetDevicePointer_v2(address, bytes, 0) })?;
        Ok(memory)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open`; everything made in it holds it, and so is gone.
        self.call("cuda.close", "closing the device", || unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device.0) })
            .ok();
    }
}

/// Compiled kernels.
#[derive(Debug)]
pub(crate) struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: the driver's modules are not bound to a thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// The kernel of this name, loaded now whatever `CUDA_MODULE_LOADING` says: loading it when it is first launched would
    /// wait for a ring that never ends.
    pub(crate) fn function(&self, name: &CStr) -> Result<Function, Error> {
        let mut function = ptr::null_mut();
        let (module, name) = (self.module, name.as_ptr());
        // SAFETY: `function` is the out parameter; the name ends with a zero.
        let find = || unsafe { sys::cuModuleGetFunction(&raw mut function, module, name) };
        self.context.call("cuda.open", "finding a kernel", find)?;
        Ok(Function(function))
    }

    /// How many blocks of so many threads a multiprocessor holds.
    pub(crate) fn blocks_per_unit(&self, function: Function, threads: u32) -> Result<u32, Error> {
        let mut blocks = 0;
        // SAFETY: `blocks` is the out parameter.
        self.context.call("cuda.open", "asking for the occupancy", || unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, function.0, threads as c_int, 0)
        })?;
        Ok(blocks.max(0).unsigned_abs())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let module = self.module;
        // SAFETY: unloaded once; whoever launches its functions holds it.
        self.context.call("cuda.close", "unloading kernels", || unsafe { sys::cuModuleUnload(module) }).ok();
    }
}

/// A kernel of a module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(sys::CUfunction);

#[cfg(feature = "probe")]
impl Function {
    /// As the driver names it.
    pub(crate) fn raw(self) -> sys::CUfunction {
        self.0
    }
}

// SAFETY: the driver's functions are not bound to a thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
}

/// A queue of work for the device, in order.
#[derive(Debug)]
pub(crate) struct Stream {
    context: Arc<Context>,
    stream: sys::CUstream,
}

// SAFETY: the driver's streams are not bound to a thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Whether all that was queued is done.
    pub(crate) fn is_done(&self) -> Result<bool, Error> {
        let mut done = true;
        self.context.call("cuda.stream", "asking for a stream's state", || {
            // SAFETY: the stream lives as long as `self`.
            match unsafe { sys::cuStreamQuery(self.stream) } {
                CUresult::CUDA_ERROR_NOT_READY => {
                    done = false;
                    CUresult::CUDA_SUCCESS
                }
                other => other,
            }
        })?;
        Ok(done)
    }

    /// Waits for all that was queued. Never for a stream that a ring runs on.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        // SAFETY: the stream lives as long as `self`.
        self.context.call("cuda.stream", "waiting for a stream", || unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Queues the zeroing of `size_bytes` from `address` on, which the caller owns.
    pub(crate) fn zero(&self, address: u64, size_bytes: u64) -> Result<(), Error> {
        let (stream, size) = (self.stream, size_bytes as usize);
        // SAFETY: the range lies within an allocation of this context, as the heap gave it out.
        self.context
            .call("cuda.reserve", "zeroing memory", || unsafe { sys::cuMemsetD8Async(address, 0, size, stream) })
    }

    /// Queues a kernel with these arguments, as they lie in memory. With `together` all blocks are on the device at once, or the
    /// launch fails.
    ///
    /// The caller answers for what the kernel does with its arguments.
    pub(crate) fn launch<const N: usize>(
        &self,
        function: Function,
        shape: Shape,
        together: bool,
        arguments: [&[u64]; N],
    ) -> Result<(), Error> {
        let mut pointers = arguments.map(|argument| argument.as_ptr().cast_mut().cast::<c_void>());
        let (blocks, threads, stream) = (shape.blocks, shape.threads, self.stream);
        let pointers = pointers.as_mut_ptr();
        // The driver copies the arguments before it returns.
        self.context.call("cuda.launch", "launching a kernel", || {
            if together {
                // SAFETY: the function belongs to a loaded module, and there is a pointer for each of its parameters.
                unsafe { sys::cuLaunchCooperativeKernel(function.0, blocks, 1, 1, threads, 1, 1, 0, stream, pointers) }
            } else {
                let extra = ptr::null_mut();
                // SAFETY: as above.
                unsafe { sys::cuLaunchKernel(function.0, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, extra) }
            }
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let stream = self.stream;
        // SAFETY: destroyed once. The driver lets queued work end.
        self.context.call("cuda.close", "closing a stream", || unsafe { sys::cuStreamDestroy_v2(stream) }).ok();
    }
}

/// An error for a result that is none of success, of the kind that a caller can act on.
fn check(result: CUresult, operation: &'static str, what: &str) -> Result<(), Error> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let (kind, advice) = meaning(result as u32);
    Err(Error::new(kind, operation, format!("{what} failed: {}: {advice}", describe(result))))
}

/// A result's name and number.
fn describe(result: CUresult) -> String {
    let mut name = ptr::null();
    // SAFETY: `name` is the out parameter; it gets a text that lives as long as the driver, or nothing.
    let known = unsafe { sys::cuGetErrorName(result, &raw mut name) };
    if known != CUresult::CUDA_SUCCESS || name.is_null() {
        return format!("CUDA error {}", result as u32);
    }
    // SAFETY: a text of the driver's that ends with a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    format!("{name} ({})", result as u32)
}
