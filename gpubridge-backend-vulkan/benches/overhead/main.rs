//! What the backend costs beside a minimal program on `ash` that executes the same batches: rounds of both in turn, in one
//! process. A latency is from before the first submission until the last answer was observed and checked.
//!
//! `cargo bench -p gpubridge-backend-vulkan --bench overhead`; with `-- --quick` a smoke run whose figures mean nothing.
#![expect(unsafe_code, reason = "the raw program calls the driver, and the backend's submissions are counted")]

mod counted;
mod memory;
mod ours;
mod raw;
mod work;

use std::time::Instant;

use ash::vk;
use gpubridge_abstractions::{Backend, DeviceIndex};
use gpubridge_backend_vulkan::VulkanBackend;

use self::ours::Ours;
use self::raw::Raw;
use self::work::BATCH_MAX;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let Some(loader) = counted::loader() else { return println!("ignored: there is no Vulkan loader") };
    // SAFETY: it is the system's loader, with one function in between that counts and calls the driver's.
    let backend = unsafe { VulkanBackend::new(gpubridge_kernels::library()).with_loader(loader) };
    let device = match backend.devices() {
        Ok(devices) => devices.into_iter().next().expect("the backend lists a device or an error"),
        Err(why) => return println!("ignored: {why}"),
    };
    println!("{} ({}), {}", device.name, device.kind, device.architecture);
    let mut ours = Ours::new(&backend, DeviceIndex(0)).expect("the backend opens the device");
    let mut raw = Raw::new(uuid_of(&device.id)).expect("the raw program opens the device");
    println!("calls | raw p50 p99 p99.9 (µs) | ours p50 p99 p99.9 (µs) | ours / raw | submissions per batch");
    let mut calls = 1;
    while calls <= BATCH_MAX {
        compare(calls, &mut raw, &mut ours, quick);
        calls *= 2;
    }
}

/// The device's UUID, as the backend's id of it has it.
fn uuid_of(id: &str) -> [u8; vk::UUID_SIZE] {
    let digits = id.strip_prefix("vulkan:").expect("an id of the Vulkan backend's");
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hexadecimal digits"))
}

/// Rounds of both sides in turn, after one that does not count.
fn compare(calls: usize, raw: &mut Raw, ours: &mut Ours, quick: bool) {
    let (rounds, batches) = if quick { (2, 2) } else { (11, (1024 / calls).max(4)) };
    let (mut of_raw, mut of_ours, mut submissions) = (Vec::new(), Vec::new(), 0);
    for round in 0..=rounds {
        let by_raw = timed(batches, || raw.run(calls));
        let before = counted::submissions();
        let by_ours = timed(batches, || ours.run(calls));
        if round > 0 {
            submissions += counted::submissions() - before;
            of_raw.extend(by_raw);
            of_ours.extend(by_ours);
        }
    }
    let (raw, ours) = (quantiles(of_raw), quantiles(of_ours));
    let each = submissions as f64 / (rounds * batches) as f64;
    let told = |quantiles: [f64; 3]| quantiles.map(|us| format!("{us:.1}")).join(" ");
    println!("{calls} | {} | {} | {:.2} | {each:.2}", told(raw), told(ours), ours[0] / raw[0]);
}

/// How long each batch took, in µs.
fn timed(batches: usize, mut run: impl FnMut()) -> Vec<f64> {
    let mut one = |_| {
        let since = Instant::now();
        run();
        since.elapsed().as_nanos() as f64 / 1e3
    };
    (0..batches).map(&mut one).collect()
}

/// The 50th, 99th and 99.9th percentile.
fn quantiles(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [0.5, 0.99, 0.999].map(|quantile| all[((all.len() as f64 * quantile) as usize).min(all.len() - 1)])
}
