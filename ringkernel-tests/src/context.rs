//! The backend under test, as cases see it.

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{Backend, Capabilities, Device, DeviceIndex, DeviceInfo};
use gpubridge_kernels::{Kernel, KernelLibrary, library};

use crate::{Needs, counting};

type Factory = dyn Fn(KernelLibrary) -> Arc<dyn Backend> + Send + Sync;

/// Opens devices of the backend under test.
#[derive(Clone)]
pub struct Context {
    backend: Arc<dyn Backend>,
    /// Makes the backend anew over a library with kernels of the suite's own.
    with_library: Option<Arc<Factory>>,
    /// What its first device reports, or why there is none.
    device: Result<DeviceInfo, String>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("backend", &self.backend).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Context {
    /// Asks the backend what it has, and opens nothing.
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        let device = match backend.devices() {
            Ok(devices) => devices.into_iter().next().ok_or_else(|| "it has no device".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Self { backend, with_library: None, device }
    }

    pub(crate) fn set_twins(&mut self, factory: impl Fn(KernelLibrary) -> Arc<dyn Backend> + Send + Sync + 'static) {
        self.with_library = Some(Arc::new(factory));
    }

    /// The backend's name.
    pub fn name(&self) -> &str {
        self.backend.name()
    }

    /// What the first device reported when the suite began.
    ///
    /// # Errors
    /// Why there is no device.
    pub fn info(&self) -> Result<&DeviceInfo, &str> {
        self.device.as_ref().map_err(String::as_str)
    }

    /// Why cases with these needs cannot run here; `None` if they can.
    pub fn lacks(&self, needs: Needs) -> Option<String> {
        let can = |what: fn(&Capabilities) -> bool| self.device.as_ref().is_ok_and(|device| what(&device.capabilities));
        let (compute, bulk) = (can(|can| can.compute), can(|can| can.bulk_staging));
        let missing = match needs {
            Needs::Compute | Needs::Twins | Needs::CountedCompute | Needs::BulkCompute if !compute => {
                "needs capability `compute`"
            }
            Needs::Bulk | Needs::BulkCompute if !bulk => "needs capability `bulk staging`",
            Needs::Twins if self.with_library.is_none() => "needs kernels of the suite's own: `Suite::running_twins`",
            Needs::CountedAllocations | Needs::CountedCompute if !counting::is_installed() => {
                "needs `ringkernel_tests::count_allocations!()`"
            }
            Needs::Memory
            | Needs::Compute
            | Needs::Twins
            | Needs::CountedAllocations
            | Needs::CountedCompute
            | Needs::Bulk
            | Needs::BulkCompute => return None,
        };
        Some(missing.to_owned())
    }

    /// The backend, as it was handed to the suite.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Its first device, newly opened.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn device(&self) -> Arc<dyn Device> {
        Self::open(&self.backend)
    }

    /// Its first device, newly opened, with these kernels beside the library's. For cases that need [`Needs::Twins`].
    ///
    /// # Panics
    /// If it cannot be opened, if the kernels' ids or names collide, or if the backend takes no kernels.
    pub fn device_with(&self, kernels: &[Kernel]) -> Arc<dyn Device> {
        let with_library = self.with_library.as_ref().expect("only cases that need twins bring kernels");
        let mut library = library();
        for kernel in kernels {
            library.register(kernel.clone()).expect("the suite's kernels differ");
        }
        Self::open(&with_library(library))
    }

    fn open(backend: &Arc<dyn Backend>) -> Arc<dyn Device> {
        backend.open(DeviceIndex(0)).expect("the backend under test has a device 0")
    }
}
