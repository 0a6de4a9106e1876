//! The backend and its one device.

use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Device, DeviceBuffer, DeviceIndex, DeviceInfo, Error, ErrorKind, KernelDeclaration, KernelSpec,
    MemoryType, Ring, RingConfig,
};
use gpubridge_kernels::KernelLibrary;
use gpubridge_kernels::device::KernelTable;

use crate::memory::Heap;
use crate::report;
use crate::ring::CpuRing;

/// How the CPU backend uses the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuConfig {
    /// Threads that serve a ring, at most its lanes; 0 means half of the cores, at least one.
    pub ring_threads: u32,
    /// How long a ring thread without work spins before it parks. Ignored where there is only one core: it parks at
    /// once.
    pub spin: Duration,
    /// Whether rings have no threads at all: whoever rings a lane's doorbell, or activates the ring, serves all its
    /// lanes there and then, work beside the ring included, and answers are there when the call returns. One calling
    /// thread then is the only one, so that a test or a simulation runs alike each time. The two fields above are
    /// ignored.
    ///
    /// A kernel that does not end keeps its caller, whatever the deadline; and one caller's work is another's wait. A
    /// kernel must not wait for another command of its ring.
    pub served_by_callers: bool,
}

impl Default for CpuConfig {
    /// Half of the cores, 100 µs, and threads that serve.
    fn default() -> Self {
        Self { ring_threads: 0, spin: Duration::from_micros(100), served_by_callers: false }
    }
}

/// The CPU backend, with the kernels its device is opened with.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    library: Arc<KernelLibrary>,
    config: CpuConfig,
}

impl CpuBackend {
    /// A backend whose device runs the kernels of `library`.
    pub fn new(library: KernelLibrary) -> Self {
        Self { library: Arc::new(library), config: CpuConfig::default() }
    }

    /// The same with another use of the processor.
    #[must_use]
    pub fn with_config(mut self, config: CpuConfig) -> Self {
        self.config = config;
        self
    }

    fn report(&self) -> Result<DeviceInfo, Error> {
        report::device_info(!self.library.kernels().is_empty())
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &str {
        "cpu"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        Ok(vec![self.report()?])
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        if index != DeviceIndex(0) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "cpu.open",
                format!("there is no device {index}: the CPU backend has device 0 only"),
            ));
        }
        let declarations = self.library.kernels().iter().map(|kernel| kernel.declaration.clone()).collect();
        Ok(Arc::new(CpuDevice {
            info: self.report()?,
            declarations,
            kernels: Arc::new(KernelTable::new(Arc::clone(&self.library))),
            heap: Arc::new(Heap::default()),
            config: self.config,
        }))
    }
}

#[derive(Debug)]
struct CpuDevice {
    info: DeviceInfo,
    declarations: Vec<KernelDeclaration>,
    kernels: Arc<KernelTable>,
    heap: Arc<Heap>,
    config: CpuConfig,
}

impl Device for CpuDevice {
    fn info(&self) -> DeviceInfo {
        let now = report::available_memory_bytes().unwrap_or(self.info.available_memory_bytes);
        DeviceInfo { available_memory_bytes: now, ..self.info.clone() }
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        if !self.info.capabilities.supports_memory(memory_type) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "cpu.reserve",
                format!("the CPU has no {memory_type} memory: choose default or shared memory"),
            ));
        }
        self.heap.reserve(size_bytes, memory_type)
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        &self.declarations
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        self.kernels.compile(spec, slot, "cpu.compile")
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        config.check("cpu.launch")?;
        let ring = CpuRing::launch(config, self.config, Arc::clone(&self.kernels), Arc::clone(&self.heap))?;
        Ok(Box::new(ring))
    }
}
