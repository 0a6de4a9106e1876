//! The options that say where to run.

use clap::Args;
use gpubridge::runtime::AUTO;

/// Where to run.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Backend to run on, by name, or `auto`
    #[arg(long, value_name = "NAME", default_value = AUTO)]
    pub backend: String,
    /// Device of the backend, by index, name, part of the name, or id, as `gpubridge devices` lists them; or `auto`
    #[arg(long, value_name = "DEVICE", default_value = AUTO)]
    pub device: String,
}

impl Default for Place {
    /// The first backend in order that works, and its first device.
    fn default() -> Self {
        Self { backend: AUTO.into(), device: AUTO.into() }
    }
}
