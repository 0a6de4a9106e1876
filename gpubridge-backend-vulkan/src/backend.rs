//! The backend and its devices.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Device, DeviceBuffer, DeviceIndex, DeviceInfo, Error, ErrorKind, KernelDeclaration, KernelSpec,
    MemoryType, Ring, RingConfig,
};
use gpubridge_kernels::KernelLibrary;
use gpubridge_kernels::device::{Chunk as _, Chunks, KernelTable};
use parking_lot::Mutex;

use crate::gpu::{Allocation, Buffers, Gpu, Instance, Loader, Physical, Pipelines, Use};
use crate::heap::{ALIGNMENT, Chunk};
use crate::kernels::{self, Code};
use crate::owner::Owner;
use crate::report;
use crate::ring::VulkanRing;

/// How the Vulkan backend uses a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VulkanConfig {
    /// For how long commands are gathered while the device is at work; where it is idle they go at once.
    pub gather: Duration,
    /// How long the owner thread looks for work, or for answers, before it waits for them.
    pub spin: Duration,
    /// After how long at one batch the device counts as lost.
    pub batch_limit: Duration,
    /// Whether a batch may hold calls of several kernels, which a shader that has all of them then executes. `None`: unless the
    /// device is a processor, on which a branch costs though no thread takes it.
    pub mixes_kernels: Option<bool>,
    /// Whether the validation layer checks each call: for tests. [`VulkanBackend::validation_messages`] tells what it says.
    pub validates: bool,
}

impl Default for VulkanConfig {
    /// 50 µs of gathering, 50 µs of spinning, 10 s for a batch, no validation.
    fn default() -> Self {
        Self {
            gather: Duration::from_micros(50),
            spin: Duration::from_micros(50),
            batch_limit: Duration::from_secs(10),
            mixes_kernels: None,
            validates: false,
        }
    }
}

/// The Vulkan backend, with the kernels its devices are opened with.
///
/// Making one asks nothing of the driver; without a loader or a driver [`Backend::devices`] says so.
#[derive(Clone, Debug)]
pub struct VulkanBackend {
    library: Arc<KernelLibrary>,
    config: VulkanConfig,
    loader: Option<Loader>,
    loaded: Arc<Loaded>,
}

/// What a backend and its clones have loaded.
#[derive(Debug, Default)]
struct Loaded {
    instance: OnceLock<Arc<Instance>>,
    // By their index: each device is opened once at a time.
    open: Mutex<BTreeMap<u32, Weak<Opened>>>,
}

impl VulkanBackend {
    /// A backend whose devices run the kernels of `library` that have a variant for Vulkan.
    pub fn new(library: KernelLibrary) -> Self {
        Self { library: Arc::new(library), config: VulkanConfig::default(), loader: None, loaded: Arc::default() }
    }

    /// The same with another use of the device.
    #[must_use]
    pub fn with_config(mut self, config: VulkanConfig) -> Self {
        (self.config, self.loaded) = (config, Arc::default());
        self
    }

    /// The same with functions from elsewhere than the system's loader: from a driver that is linked with the program, or from
    /// what a test puts in between.
    ///
    /// # Safety
    /// `vkGetInstanceProcAddr` must be a loader's or a driver's, or do as such a one does.
    #[must_use]
    #[expect(unsafe_code, reason = "a function's address cannot be checked")]
    pub unsafe fn with_loader(mut self, get_instance_proc_addr: Loader) -> Self {
        (self.loader, self.loaded) = (Some(get_instance_proc_addr), Arc::default());
        self
    }

    /// What the validation layer has said so far: see [`VulkanConfig::validates`].
    pub fn validation_messages(&self) -> Vec<String> {
        self.loaded.instance.get().map_or_else(Vec::new, |instance| instance.messages())
    }

    fn instance(&self, operation: &'static str) -> Result<&Arc<Instance>, Error> {
        match self.loaded.instance.get() {
            Some(instance) => Ok(instance),
            None => {
                let instance = Arc::new(Instance::load(operation, self.config.validates, self.loader)?);
                Ok(self.loaded.instance.get_or_init(|| instance))
            }
        }
    }

    /// The device of this index, opened if it is not open already: all that have it open share its queue.
    fn opened(&self, instance: &Arc<Instance>, index: u32, physical: Physical) -> Result<Arc<Opened>, Error> {
        let mut open = self.loaded.open.lock();
        if let Some(opened) = open.get(&index).and_then(Weak::upgrade).filter(|opened| !opened.owner.gpu().is_lost()) {
            return Ok(opened);
        }
        let operation = "vulkan.open";
        let gpu = Gpu::open(instance, physical, operation)?;
        let pipelines = Arc::new(Pipelines::new(&gpu, operation)?);
        let buffers = Buffers::new(pipelines, operation)?;
        let owner = Owner::start(&buffers, self.config, operation)?;
        let opened = Arc::new(Opened { owner, chunks: Arc::default() });
        open.insert(index, Arc::downgrade(&opened));
        Ok(opened)
    }
}

impl Backend for VulkanBackend {
    fn name(&self) -> &str {
        "vulkan"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let operation = "vulkan.devices";
        let has_kernels = !kernels::declarations(&self.library).is_empty();
        let devices = self.instance(operation)?.devices(operation)?;
        if devices.is_empty() {
            let why = "there is no Vulkan device: install a driver (Debian: mesa-vulkan-drivers)";
            return Err(Error::new(ErrorKind::Unsupported, operation, why));
        }
        Ok(devices.iter().zip(0..).map(|(device, index)| report::device_info(device, index, has_kernels)).collect())
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        let operation = "vulkan.open";
        let instance = self.instance(operation)?;
        let devices = instance.devices(operation)?;
        let Some(physical) = devices.get(index.0 as usize) else {
            let why = format!("there is no device {index}: the driver finds {}", devices.len());
            return Err(Error::new(ErrorKind::NotFound, operation, why));
        };
        let declarations = kernels::declarations(&self.library);
        Ok(Arc::new(VulkanDevice {
            info: report::device_info(physical, index.0, !declarations.is_empty()),
            opened: self.opened(instance, index.0, *physical)?,
            kernels: Arc::new(KernelTable::new(Arc::clone(&self.library))),
            declarations,
        }))
    }
}

/// A device that is open, once for all that have opened it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) owner: Owner,
    pub(crate) chunks: Arc<Chunks<Chunk>>,
}

#[derive(Debug)]
struct VulkanDevice {
    info: DeviceInfo,
    opened: Arc<Opened>,
    kernels: Arc<KernelTable<Code>>,
    declarations: Vec<KernelDeclaration>,
}

impl Device for VulkanDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { available_memory_bytes: self.opened.owner.gpu().available_bytes(), ..self.info.clone() }
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        let operation = "vulkan.reserve";
        let refuse = |kind, why: String| Err(Error::new(kind, operation, why));
        let usage = match memory_type {
            MemoryType::Default => Use::Device,
            MemoryType::Pinned => Use::Pinned,
            other => {
                let why = format!("a ring on Vulkan has no {other} memory: choose default or pinned memory");
                return refuse(ErrorKind::Unsupported, why);
            }
        };
        if size_bytes == 0 {
            return refuse(ErrorKind::InvalidArgument, "0 bytes were asked for".to_owned());
        }
        let gpu = self.opened.owner.gpu();
        if gpu.is_lost() {
            return Err(self.opened.owner.why_lost(operation));
        }
        let most = gpu.physical().max_allocation_bytes.saturating_sub(ALIGNMENT);
        let available = gpu.available_bytes();
        if size_bytes > available.min(most) {
            let why = format!(
                "{size_bytes} bytes were asked for and {available} are available, at most {most} of them at once"
            );
            return refuse(ErrorKind::OutOfMemory, why);
        }
        let allocation = Allocation::new(gpu, size_bytes + ALIGNMENT, usage, operation)?;
        let chunk = Arc::new(Chunk::of(allocation, size_bytes));
        self.opened.owner.zero(&chunk, operation)?;
        self.opened.chunks.enter(&chunk);
        Ok(Box::new(Buffer { opened: Arc::clone(&self.opened), chunk, memory_type }))
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        &self.declarations
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        kernels::compile(&self.kernels, spec, slot, |kernel| self.opened.owner.prepare(kernel))
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        config.check("vulkan.launch")?;
        Ok(Box::new(VulkanRing::launch(&self.opened, config, &self.kernels)?))
    }
}

#[derive(Debug)]
struct Buffer {
    opened: Arc<Opened>,
    chunk: Arc<Chunk>,
    memory_type: MemoryType,
}

impl DeviceBuffer for Buffer {
    fn address(&self) -> u64 {
        self.chunk.address()
    }

    fn size_bytes(&self) -> u64 {
        self.chunk.size_bytes()
    }

    fn memory_type(&self) -> MemoryType {
        self.memory_type
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.opened.chunks.leave(&self.chunk);
    }
}
