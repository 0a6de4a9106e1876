//! A grain's call: from the public method through the ring to the kernel and back, device included.

use std::sync::Arc;

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::id::SUM;
use gpubridge::runtime::{BackendRegistry, Selection};
use gpubridge::{GpuMemoryHandle, MemoryType, Parameters, kernels};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};

use super::OPERATIONS;

/// The CPU backend without threads of its own.
pub fn selection() -> Selection {
    let mut config = CpuConfig::default();
    config.served_by_callers = true;
    let mut registry = BackendRegistry::new();
    let backend = CpuBackend::new(kernels::library()).with_config(config);
    registry.register(Arc::new(backend)).expect("the first of its name");
    registry.select(Some("cpu"), None).expect("it is there")
}

/// A grain that sums four numbers at each call.
#[derive(Debug)]
pub struct Actor {
    _silo: Silo,
    grain: GrainRef,
    numbers: GpuMemoryHandle,
}

impl Actor {
    pub fn new() -> Self {
        let device = selection().open().expect("the device opens");
        let silo = wait(Silo::start(device, Arc::new(MemoryStorage::new()), SiloConfig::default())).expect("it starts");
        let grain = silo.grain("the only one").expect("a good key");
        let numbers = wait(grain.allocate(16, MemoryType::Default)).expect("there is memory");
        grain.write(numbers, &[1.0_f32, 2.0, 3.0, 4.0], 0).wait().expect("is written");
        let mut warm = Self { _silo: silo, grain, numbers };
        (0..OPERATIONS).for_each(|_| warm.step());
        warm
    }

    #[inline]
    pub fn step(&mut self) {
        let sum = self.grain.compute(SUM, Some(self.numbers), None, Parameters::new()).wait().expect("is answered");
        assert_eq!(sum.result.f32_at(0), Some(10.0));
    }
}
