//! The device that figures are taken on, and what is opened on it.

use std::sync::Arc;

use gpubridge_grains::storage::{GrainStorage, MemoryStorage};
use gpubridge_grains::{GrainRef, Silo, SiloConfig, wait};
use gpubridge_runtime::Selection;

use super::kernel::kernels;
use crate::{Device, DeviceKind, Error, GpuMemoryHandle, KernelSpec, MemoryType, backends};

/// Bytes of a grain's state: what the footprint is measured beside.
pub const STATE_BYTES: u64 = 320;

/// Chooses the device to measure by its backend and its own index, name or id, each of which may be `auto`, with the kernels
/// that figures need.
///
/// # Errors
/// Those of [`gpubridge_runtime::BackendRegistry::select`].
pub fn select(backend: &str, device: &str) -> Result<Selection, Error> {
    backends(kernels()).select(Some(backend), Some(device))
}

/// The device, and the backend's name.
#[derive(Debug)]
pub struct Subject {
    pub device: Arc<dyn Device>,
    pub backend: String,
}

impl Subject {
    /// Why these kernels cannot be run here, if so.
    pub fn lacks(&self, needs: &[KernelSpec]) -> Option<String> {
        let info = self.device.info();
        if !needs.is_empty() && !info.capabilities.compute {
            return Some(format!("device {} ({}) runs no kernels", info.id, info.name));
        }
        // The slot is nobody's between two parts: each opens its silos anew.
        needs.iter().find_map(|spec| self.device.compile(spec, 0).err()).map(|error| error.to_string())
    }

    /// One of two bars: a processor's ring answers faster, a graphics processor is farther away.
    pub fn bar(&self, cpu: f64, gpu: f64) -> f64 {
        if self.device.info().kind == DeviceKind::Gpu { gpu } else { cpu }
    }

    /// A silo without durable storage.
    pub fn silo(&self) -> Silo {
        self.silo_over(Arc::new(MemoryStorage::new()), SiloConfig::default())
    }

    /// A silo over a storage.
    pub fn silo_over(&self, storage: Arc<dyn GrainStorage>, config: SiloConfig) -> Silo {
        wait(Silo::start(Arc::clone(&self.device), storage, config)).expect("the silo starts")
    }
}

/// A grain with its state.
#[derive(Clone, Debug)]
pub struct Actor {
    pub grain: GrainRef,
    pub state: GpuMemoryHandle,
}

impl Actor {
    pub fn new(silo: &Silo, key: u64) -> Self {
        let grain = silo.grain(key).expect("the key is good");
        let state = wait(grain.allocate(STATE_BYTES, MemoryType::Default)).expect("there is memory");
        Self { grain, state }
    }
}
