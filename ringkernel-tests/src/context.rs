//! The backend under test.

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{Backend, Device, DeviceIndex};
use gpubridge_kernels::{Kernel, KernelLibrary, library};

use crate::Needs;

type Factory = dyn Fn(KernelLibrary) -> Arc<dyn Backend> + Send + Sync;

/// Opens devices of the backend under test.
#[derive(Clone)]
pub struct Context {
    name: String,
    factory: Arc<Factory>,
    runs_twins: bool,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).field("runs_twins", &self.runs_twins).finish()
    }
}

impl Context {
    /// The backend that `factory` makes of a kernel library; `name` is for messages.
    pub fn new(
        name: impl Into<String>,
        factory: impl Fn(KernelLibrary) -> Arc<dyn Backend> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), factory: Arc::new(factory), runs_twins: false }
    }

    /// The same for a backend that runs kernels' CPU twins: the suite then registers kernels of its own, which count,
    /// wait at a gate or fail to compile.
    #[must_use]
    pub fn running_twins(mut self) -> Self {
        self.runs_twins = true;
        self
    }

    /// Why cases with these needs cannot run here; `None` if they can.
    pub fn lacks(&self, needs: Needs) -> Option<String> {
        let compute = || self.backend(&[]).devices().is_ok_and(|devices| devices[0].capabilities.compute);
        match needs {
            Needs::Memory => None,
            Needs::Compute if compute() => None,
            Needs::Compute => Some(format!("needs kernels, and the {} backend runs none", self.name)),
            Needs::Twins if self.runs_twins => None,
            Needs::Twins => Some(format!("needs kernels that run on the host, not on the {} backend", self.name)),
        }
    }

    /// The backend, with these kernels beside the library's.
    ///
    /// # Panics
    /// If the kernels' ids or names collide.
    pub fn backend(&self, kernels: &[Kernel]) -> Arc<dyn Backend> {
        let mut library = library();
        for kernel in kernels {
            library.register(kernel.clone()).expect("the suite's kernels differ");
        }
        (self.factory)(library)
    }

    /// Its first device, newly opened, with the library's kernels.
    pub fn device(&self) -> Arc<dyn Device> {
        self.device_with(&[])
    }

    /// Its first device, newly opened, with these kernels beside the library's.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn device_with(&self, kernels: &[Kernel]) -> Arc<dyn Device> {
        self.backend(kernels).open(DeviceIndex(0)).expect("the backend under test has a device 0")
    }
}
