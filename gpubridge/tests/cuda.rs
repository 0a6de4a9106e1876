//! The program built with CUDA: on the emulated driver it does its work in the kernel, without a driver it says so and takes the
//! CPU.

mod common;
#[path = "../../gpubridge-backend-cuda/tests/emulation/mod.rs"]
#[expect(dead_code, reason = "only a program that loads the driver itself starts anew")]
mod emulation;

use common::{Bench, finish};

/// Readings of a few sensors, some hundred each.
fn readings() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let rows = (0..2000).map(|row| format!("s{},{}\n", row % 5, random.i32(-500..500)));
    std::iter::once("sensor,value\n".to_owned()).chain(rows).collect()
}

const STREAM: [&str; 5] = ["--key", "sensor", "--value", "value", "--verify"];

#[test]
fn on_the_emulated_driver_every_score_comes_from_the_kernel_and_is_right() {
    let Some(driver) = emulation::build() else {
        eprintln!("ignored: there is no C++ compiler");
        return;
    };
    let bench = Bench::new();
    let file = bench.file("readings.csv", readings());
    let mut program = bench.command(&[&["stream", &file], &STREAM[..]].concat());
    let report = finish(program.env("LD_LIBRARY_PATH", driver).spawn().unwrap()).report();
    assert!(report.contains("emulated CUDA device (no GPU)"), "{report}");
    assert!(report.contains("all 2000 scores"), "{report}");
}

#[test]
fn without_a_driver_it_says_so_and_takes_the_cpu() {
    let bench = Bench::new();
    let file = bench.file("readings.csv", readings());
    let devices = finish(bench.command(&["devices"]).env_remove("LD_LIBRARY_PATH").spawn().unwrap()).report();
    if !devices.contains("there is no CUDA driver") {
        eprintln!("ignored: this machine has a CUDA driver");
        return;
    }
    let mut program = bench.command(&[&["stream", &file], &STREAM[..]].concat());
    let report = finish(program.env_remove("LD_LIBRARY_PATH").spawn().unwrap()).report();
    assert!(report.contains("there is no CUDA driver"), "{report}");
    assert!(report.contains("all 2000 scores"), "{report}");
}
