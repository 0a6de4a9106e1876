//! `gpubridge devices`: what actors can live on.

use super::engine;
use super::error::Error;
use super::process;
use super::report;

/// Prints one line per device.
pub fn run() -> Result<(), Error> {
    let mut text = String::new();
    for line in engine::devices() {
        text.push_str(&format!("{} · {} · {}\n", line.backend, line.device, line.detail));
    }
    if let Some(loading) = process::loading() {
        text.push_str(&format!("cuda loads kernels {loading}\n"));
    }
    report::write(&text, false)
}
