//! The backend and its devices.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Device, DeviceBuffer, DeviceIndex, DeviceInfo, Error, ErrorKind, KernelDeclaration, KernelSpec,
    MemoryType, Ring, RingConfig,
};
use gpubridge_kernels::KernelLibrary;

use crate::driver::Driver;
use crate::gpu::{Gpu, Part};
use crate::heap::Kind;
use crate::kernels::KernelSlots;
use crate::report;
use crate::ring::CudaRing;

/// How the CUDA backend uses a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaConfig {
    /// The most multiprocessors that a ring takes, at most one per lane; an eighth of the device's if this is `None`.
    pub multiprocessors: Option<u32>,
    /// After how long without a sign of life of a ring's kernel the device counts as lost.
    pub heartbeat_limit: Duration,
    /// After how long at one command, in a ring or beside it, the device counts as lost; the error names the kernel and the
    /// grain. `Duration::MAX` for never.
    ///
    /// Time in which the process itself was stopped, as by a debugger, counts for neither limit.
    pub command_limit: Duration,
    /// For profilers and sanitizers, under which a kernel that never ends never begins, and for `CUDA_LAUNCH_BLOCKING`: a block of
    /// a ring's kernel ends by itself after about so many commands, and when it has had none for a few milliseconds; the kernel is
    /// launched again when there is something to do. `None`, as is usual: never.
    ///
    /// If it is `None`, the environment variable `GPUBRIDGE_CUDA_MAX_COMMANDS` says it.
    pub max_commands: Option<u32>,
    /// From how many phases on, two at the least, what a grid does beside a ring is launched as one graph, instead of one by one.
    /// Less than what the GPU's first open device says counts as that.
    pub graph_phases_min: u32,
    /// For how long more memory than the device's eighth may lie unused before it is given back to the driver, for which the rings
    /// park for a moment. What the GPU's first open device says.
    pub unused_memory_limit: Duration,
    /// Whether commands are posted to the device's memory where the host can map that, so that the device reads them without the way
    /// across the bus.
    pub posts_commands: bool,
    /// Chunks of a ring's bulk staging, page-locked: two for each large transfer at once. Fewer than two are none.
    pub bulk_chunks: u32,
    /// Bytes of each of them, a multiple of 256; 0 is no bulk staging.
    pub bulk_chunk_bytes: u32,
}

/// Says [`CudaConfig::max_commands`] from outside: a profiler is put in front of a program as it is.
const MAX_COMMANDS_VARIABLE: &str = "GPUBRIDGE_CUDA_MAX_COMMANDS";

impl CudaConfig {
    /// With what the environment adds.
    fn with_environment(mut self) -> Result<Self, Error> {
        if let (None, Some(text)) =
            (self.max_commands, env::var_os(MAX_COMMANDS_VARIABLE).filter(|text| !text.is_empty()))
        {
            let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&number: &u32| number > 0);
            let refuse = || {
                let why = format!(
                    "{MAX_COMMANDS_VARIABLE} is {text:?}: set it to a number of commands from 1 on, or unset it"
                );
                Error::new(ErrorKind::InvalidArgument, "cuda.load", why)
            };
            self.max_commands = Some(number.ok_or_else(refuse)?);
        }
        Ok(self)
    }

    pub(crate) fn has_bulk_staging(&self) -> bool {
        self.bulk_chunks >= 2 && self.bulk_chunk_bytes > 0
    }

    fn check(&self, operation: &'static str) -> Result<(), Error> {
        let bytes = self.bulk_chunk_bytes;
        if bytes.is_multiple_of(256) {
            return Ok(());
        }
        let why = format!("chunks of {bytes} bytes were asked for; a multiple of 256 is needed");
        Err(Error::new(ErrorKind::InvalidArgument, operation, why))
    }
}

impl Default for CudaConfig {
    /// An eighth of the multiprocessors, 10 s without a sign of life, 60 s for a command, a kernel that never ends, graphs from three
    /// phases on, 10 s of unused memory, commands posted, four chunks of 4 MiB.
    fn default() -> Self {
        Self {
            multiprocessors: None,
            heartbeat_limit: Duration::from_secs(10),
            command_limit: Duration::from_secs(60),
            max_commands: None,
            graph_phases_min: 3,
            unused_memory_limit: Duration::from_secs(10),
            posts_commands: true,
            bulk_chunks: 4,
            // To be measured on a GPU: a copy is to last long beside the way of its command and its answer.
            bulk_chunk_bytes: 4 << 20,
        }
    }
}

/// The CUDA backend, with the kernels its devices are opened with.
///
/// Making one asks nothing of the driver; without a driver [`Backend::devices`] says so.
#[derive(Clone, Debug)]
pub struct CudaBackend {
    library: KernelLibrary,
    config: CudaConfig,
}

impl CudaBackend {
    /// A backend whose devices run the kernels of `library` that have a variant for CUDA.
    pub fn new(library: KernelLibrary) -> Self {
        Self { library, config: CudaConfig::default() }
    }

    /// The same with another use of the device.
    #[must_use]
    pub fn with_config(mut self, config: CudaConfig) -> Self {
        self.config = config;
        self
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &str {
        "cuda"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let driver = Driver::load()?;
        let config = self.config.with_environment()?;
        let has_kernels = !KernelSlots::new(self.library.clone()).declarations().is_empty();
        (0..driver.device_count()?).map(|ordinal| report::device_info(driver, ordinal, config, has_kernels)).collect()
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "cuda.open", why));
        let driver = Driver::load()?;
        let config = self.config.with_environment()?;
        let count = driver.device_count()?;
        if index.0 >= count {
            return refuse(ErrorKind::NotFound, format!("there is no device {index}: the driver finds {count}"));
        }
        if let Some(why) = report::why_unusable(driver.device(index.0)?, config)? {
            return refuse(ErrorKind::Unsupported, format!("device {index} cannot run a ring: {why}"));
        }
        let kernels = Arc::new(KernelSlots::new(self.library.clone()));
        let info = report::device_info(driver, index.0, config, !kernels.declarations().is_empty())?;
        Ok(Arc::new(CudaDevice { gpu: Gpu::open(driver, index.0, config)?, info, kernels, config }))
    }
}

#[derive(Debug)]
struct CudaDevice {
    gpu: Arc<Gpu>,
    info: DeviceInfo,
    kernels: Arc<KernelSlots>,
    config: CudaConfig,
}

impl Device for CudaDevice {
    fn info(&self) -> DeviceInfo {
        let [available_memory_bytes, deferred_memory_bytes] = self.gpu.available_and_deferred_bytes();
        DeviceInfo { available_memory_bytes, deferred_memory_bytes, ..self.info.clone() }
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let refuse = |kind, why: String| Err(Error::new(kind, "cuda.reserve", why));
        let kind = match memory_type {
            MemoryType::Default => Kind::Device,
            MemoryType::Pinned => Kind::Pinned,
            other => {
                let why = format!("a ring on CUDA has no {other} memory: choose default or pinned memory");
                return refuse(ErrorKind::Unsupported, why);
            }
        };
        if size_bytes == 0 {
            return refuse(ErrorKind::InvalidArgument, "0 bytes were asked for".to_owned());
        }
        let part = self.gpu.take(kind, size_bytes)?;
        self.gpu.enter(part.address(), size_bytes);
        self.gpu.bound_deferred();
        Ok(Box::new(Buffer { part, memory_type, _released: Released(Arc::clone(&self.gpu)) }))
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        self.kernels.declarations()
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        self.kernels.compile(&self.gpu, spec, slot)
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        config.check("cuda.launch")?;
        self.config.check("cuda.launch")?;
        Ok(Box::new(CudaRing::launch(&self.gpu, config, self.config, &self.kernels)?))
    }
}

#[derive(Debug)]
struct Buffer {
    part: Part,
    memory_type: MemoryType,
    // Dropped behind the part.
    _released: Released,
}

/// That memory was released, when it is dropped.
#[derive(Debug)]
struct Released(Arc<Gpu>);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.bound_deferred();
    }
}

impl DeviceBuffer for Buffer {
    fn address(&self) -> u64 {
        self.part.address()
    }

    fn size_bytes(&self) -> u64 {
        self.part.size_bytes()
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Before the part is given back: nobody is told that another's memory is a buffer.
        self.part.gpu().leave(self.part.address());
    }
}
