//! What a GPU does with a ring, measured and checked. `.ci/gpu` runs all of it, each step in a process of its own.
//!
//! Prints one line of JSON per result. Exit codes: 0 done, 1 a check did not hold, 2 the step could not be run.

mod beside;
mod bulk;
mod coherence;
mod drill;
mod hazards;
mod kernels;
mod lane;
mod latency;
mod markdown;
mod phases;
mod placement;
mod rows;

use std::env;
use std::error::Error;

use gpubridge_abstractions::DeviceIndex;
use gpubridge_backend_cuda::probe;
use serde_json::{Value, json};

const USAGE: &str = "gpu probe | latency [SECONDS [LANES]] | coherence [ROUNDS] | beside [MEGABYTES] | bulk [MEGABYTES] | \
                     phases [ROUNDS [ELEMENTS]] | placement [ROUNDS] | kernels [COUNT] | hazards [SECONDS] | hazard NAME | drill | rows EVENTS KEYS | \
                     compile MAJOR.MINOR FILE | markdown FILE";

fn main() {
    // As the `gpubridge` program has it: what is measured here is to be so there.
    gpubridge_backend_cuda::request_eager_loading();
    let words: Vec<String> = env::args().skip(1).collect();
    let nth = |n: usize, default: u64| words.get(n).map_or(Ok(default), |word| word.parse());
    let number = |default| nth(1, default);
    let done = match words.first().map(String::as_str) {
        Some("probe") => report_device(),
        Some("latency") => number(3).map_err(Into::into).and_then(|seconds| latency::run(seconds, nth(2, 64)?)),
        Some("coherence") => number(100_000).map_err(Into::into).and_then(coherence::run),
        Some("beside") => number(256).map_err(Into::into).and_then(beside::run),
        Some("bulk") => number(256).map_err(Into::into).and_then(bulk::run),
        Some("phases") => number(1000).map_err(Into::into).and_then(|rounds| phases::run(rounds, nth(2, 1 << 26)?)),
        Some("placement") => number(200).map_err(Into::into).and_then(placement::run),
        Some("hazards") => number(5).map_err(Into::into).and_then(hazards::run_all),
        Some("kernels") => number(100).map_err(Into::into).and_then(kernels::run),
        Some("drill") => drill::run(),
        Some("rows") => rows::print(&words[1..]),
        Some("compile") => kernels::compile(&words[1..]),
        Some("markdown") => markdown::print(words.get(1).map_or("", String::as_str)),
        Some("hazard") => hazards::run(words.get(1).map_or("", String::as_str)),
        _ => Err(USAGE.into()),
    };
    let code = match done {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            tell(&json!({"error": error.to_string()}));
            2
        }
    };
    // Also where a device is lost, for which the driver's exit handlers would wait.
    gpubridge_backend_cuda::exit(code)
}

/// Whether every check held, or why the step could not be run.
type Done = Result<bool, Box<dyn Error>>;

/// The device that everything is run on.
const DEVICE: DeviceIndex = DeviceIndex(0);

fn tell(value: &Value) {
    println!("{value}");
}

fn report_device() -> Done {
    for (name, value) in probe::attributes(DEVICE)? {
        tell(&json!({"step": "probe", "name": name, "value": value}));
    }
    Ok(true)
}
