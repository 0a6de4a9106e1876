//! The program built with CUDA: on the emulated driver it does its work in the kernel, without a driver it says so and takes the
//! CPU.

mod common;
#[path = "../../gpubridge-backend-cuda/tests/emulation/mod.rs"]
#[expect(dead_code, reason = "only a program that loads the driver itself starts anew")]
mod emulation;

use std::process::{Command, ExitCode};

use common::scored::{readings, scores, trial};
use common::{Bench, finish};
use libtest_mimic::Arguments;
use ringkernel_tests::is_required;
use serde_json::Value;

const NO_DRIVER: &str = "there is no CUDA driver";

fn main() -> ExitCode {
    let driver = emulation::build();
    let devices = finish(Bench::new().command(&["devices"]).env_remove("LD_LIBRARY_PATH").spawn().unwrap()).report();
    let has_driver = !devices.contains(NO_DRIVER);
    let required = is_required("cuda");
    // Where CUDA is required, the test runs without one, and fails.
    let compiler = if driver.is_some() || required { "" } else { "needs a C++ compiler" };
    let bare = if has_driver { "this machine has a CUDA driver" } else { "" };
    let emulated = |settings: &'static str| {
        let driver = driver.clone();
        move |program: &mut Command| {
            let driver = driver.as_ref().expect("a C++ compiler");
            program.env("LD_LIBRARY_PATH", driver).env("EMULATED_CUDA", settings);
        }
    };
    let (frozen, eager, lazy, measured) =
        (emulated("freeze=100000,exit=waits"), emulated(""), emulated(""), emulated(""));
    let [listed, by_index, by_id, by_name] = [(); 4].map(|()| emulated("devices=3"));
    let trials = vec![
        trial("when_the_device_is_lost_it_says_so_and_ends_though_the_driver_waits", compiler, move || {
            let bench = Bench::new();
            let file = bench.file("readings.csv", readings());
            let mut program = bench.command(&["stream", &file, "--key", "sensor", "--value", "value"]);
            frozen(&mut program);
            let error = finish(program.spawn().unwrap()).error(1);
            assert!(error.contains("the device stopped answering"), "{error}");
        }),
        trial("kernels_are_loaded_eagerly_unless_the_user_wants_otherwise", compiler, move || {
            let bench = Bench::new();
            let mut devices = bench.command(&["devices"]);
            eager(devices.env_remove("CUDA_MODULE_LOADING"));
            let report = finish(devices.spawn().unwrap()).report();
            assert!(report.contains("cuda loads kernels with their module"), "{report}");
            lazy(devices.env("CUDA_MODULE_LOADING", "LAZY"));
            let report = finish(devices.spawn().unwrap()).report();
            assert!(report.contains("CUDA_MODULE_LOADING=EAGER"), "{report}");
        }),
        trial("of_several_devices_one_is_chosen_as_the_list_names_it", compiler, move || {
            let bench = Bench::new();
            let mut devices = bench.command(&["devices"]);
            listed(&mut devices);
            let list = finish(devices.spawn().unwrap()).report();
            let lines: Vec<_> = list.lines().filter(|line| line.starts_with("cuda · ")).collect();
            assert_eq!(lines.len(), 3, "{list}");
            assert!(lines.iter().all(|line| line.contains(" · can be opened · ")), "{list}");
            let id = lines[1].rsplit(" · ").next().expect("a line has an id").to_uppercase();
            let choose = |device: &str, set: &dyn Fn(&mut Command)| {
                let mut program = bench.command(&["stress", "pool", "--operations", "10", "--device", device]);
                set(&mut program);
                finish(program.spawn().unwrap())
            };
            let report = choose("2", &by_index).report();
            assert!(report.contains("backend cuda, device 2 (emulated CUDA device (no GPU), GPU, the"), "{report}");
            assert!(choose(&id, &by_id).report().contains("backend cuda, device 1 ("), "{id}");
            let refused = choose("emulated", &by_name).error(2);
            assert!(refused.contains("device `emulated` (the caller's choice) may be any of: 0 ("), "{refused}");
        }),
        trial("every_figure_of_the_ring_is_measured", compiler, move || {
            let bench = Bench::new();
            let mut program = bench.command(&["bench", "ring", "--quick", "--json", "-"]);
            measured(&mut program);
            let ran = finish(program.spawn().unwrap());
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let report: Value = serde_json::from_str(&ran.stdout).expect("standard output is one JSON object");
            let lines = report["lines"].as_array().expect("there are lines");
            assert!(lines.len() >= 10 && lines.iter().all(|line| line["not_measured"].is_null()), "{report:#}");
        }),
        trial("on_the_emulated_driver_every_score_comes_from_the_kernel_and_is_right", compiler, move || {
            let report = scores(|program| program.env("LD_LIBRARY_PATH", driver.expect("a C++ compiler")));
            assert!(report.contains("emulated CUDA device (no GPU)"), "{report}");
        }),
        trial("without_a_driver_it_says_so_and_takes_the_cpu", bare, || {
            let report = scores(|program| program.env_remove("LD_LIBRARY_PATH"));
            assert!(report.contains(NO_DRIVER), "{report}");
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
