//! The backend and its one device.

use std::sync::Arc;

use gpubridge_abstractions::{
    Backend, Capabilities, Device, DeviceBuffer, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind,
    KernelDeclaration, KernelSpec, MemoryType, Ring, RingConfig,
};
use gpubridge_kernels::KernelLibrary;
use gpubridge_kernels::device::KernelTable;

use crate::memory::{Heap, TOTAL_BYTES};
use crate::ring::CustomRing;

/// A backend whose one device is a thread of this process, with 1 GiB of memory.
#[derive(Clone, Debug)]
pub struct CustomBackend {
    library: Arc<KernelLibrary>,
    /// However often the device is open, its memory is there once.
    heap: Heap,
}

impl CustomBackend {
    /// A backend whose device runs the kernels of `library`.
    pub fn new(library: KernelLibrary) -> Self {
        Self { library: Arc::new(library), heap: Heap::default() }
    }
}

impl Backend for CustomBackend {
    fn name(&self) -> &str {
        "custom"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let has_kernels = self.library.kernels().iter().any(|kernel| kernel.cpu.is_some());
        Ok(vec![report(self.heap.available_bytes(), has_kernels)])
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        if index != DeviceIndex(0) {
            let why = format!("there is no device {index}: the custom backend has device 0 only");
            return Err(Error::new(ErrorKind::NotFound, "custom.open", why));
        }
        let twins = self.library.kernels().iter().filter(|kernel| kernel.cpu.is_some());
        let declarations = twins.map(|kernel| kernel.declaration.clone()).collect();
        let kernels = Arc::new(KernelTable::new(Arc::clone(&self.library)));
        Ok(Arc::new(CustomDevice { declarations, kernels, heap: self.heap.clone() }))
    }
}

/// What the device says of itself, and only what is so: it is one core of the host's processor.
fn report(available_memory_bytes: u64, has_kernels: bool) -> DeviceInfo {
    let mut capabilities = Capabilities::default().with_memory_types(&[MemoryType::Default, MemoryType::Shared]);
    capabilities.persistent_kernel = true;
    capabilities.compute = has_kernels;
    DeviceInfo {
        id: "custom:0".to_owned(),
        uuid: None,
        index: DeviceIndex(0),
        name: "a thread of this process".to_owned(),
        kind: DeviceKind::Cpu,
        vendor: "gpubridge".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        total_memory_bytes: TOTAL_BYTES,
        available_memory_bytes,
        deferred_memory_bytes: 0,
        compute_units: 1,
        clock_mhz: 0,
        max_threads_per_block: 1,
        max_work_group: [1, 1, 1],
        warp_size: 1,
        capabilities,
        status: DeviceStatus::Available,
    }
}

#[derive(Debug)]
struct CustomDevice {
    declarations: Vec<KernelDeclaration>,
    kernels: Arc<KernelTable>,
    heap: Heap,
}

impl Device for CustomDevice {
    fn info(&self) -> DeviceInfo {
        report(self.heap.available_bytes(), !self.declarations.is_empty())
    }

    fn reserve(&self, size_bytes: u64, memory_type: MemoryType) -> Result<Box<dyn DeviceBuffer>, Error> {
        if !self.info().capabilities.supports_memory(memory_type) {
            let why = format!("the device has no {memory_type} memory: choose default or shared memory");
            return Err(Error::new(ErrorKind::Unsupported, "custom.reserve", why));
        }
        self.heap.reserve(size_bytes, memory_type)
    }

    fn kernels(&self) -> &[KernelDeclaration] {
        &self.declarations
    }

    fn compile(&self, spec: &KernelSpec, slot: u16) -> Result<(), Error> {
        self.kernels.compile(spec, slot, "custom.compile")
    }

    fn launch(&self, config: RingConfig) -> Result<Box<dyn Ring>, Error> {
        config.check("custom.launch")?;
        Ok(Box::new(CustomRing::launch(config, &self.heap, &self.kernels)?))
    }
}
