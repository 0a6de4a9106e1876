//! What a program may have its process do: that it ends though the driver's exit handlers do not return, and how it begins.

use std::path::Path;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{Backend, DeviceIndex, ErrorKind};
use gpubridge_backend_cuda::{end_process_when_lost, exit, loads_eagerly, request_eager_loading};
use ringkernel_tests::lane::Bench;

use crate::device::{RING, SOON, eventually, impatient, open, refused};
use crate::program::{Case, End};

/// The driver waits for a kernel that does not go on.
const FROZEN: &str = "freeze=400000,exit=waits";

const fn loading(
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    run: fn(&Path) -> End,
) -> Case {
    Case { variables, ..Case::new(name, "", run) }
}

pub const CASES: &[Case] = &[
    Case::new("ending::of_a_lost_device", FROZEN, of_a_lost_device),
    Case::new("ending::by_the_watchdog", FROZEN, by_the_watchdog),
    Case::new("ending::by_a_watchdog_that_comes_late", FROZEN, by_a_late_watchdog),
    Case::new("ending::with_a_ring_that_runs", "exit=waits", with_a_ring_that_runs),
    Case::new("ending::with_nothing_left", "exit=ends", with_nothing_left),
    loading("ending::begun_with_eager_loading", &[("CUDA_MODULE_LOADING", "")], |_| begun(true)),
    loading("ending::begun_as_its_user_wants", &[("CUDA_MODULE_LOADING", "LAZY")], |_| begun(false)),
    loading("ending::begun_too_late", &[], begun_too_late),
];

/// A ring whose kernel has stopped for good.
fn lost() -> Bench {
    // Long enough for a kernel that has stopped, not one that is slow: that one would end when told.
    let device = impatient(Duration::from_secs(3)).open(DeviceIndex(0)).expect("the device opens");
    let bench = Bench::new(device, RING);
    eventually("the device is lost", || bench.ring.activate(SOON).is_err());
    refused(bench.ring.activate(SOON), ErrorKind::DeviceLost, &["no sign of life"]);
    bench
}

fn of_a_lost_device(_: &Path) -> End {
    let _bench = lost();
    exit(0)
}

fn by_the_watchdog(_: &Path) -> End {
    end_process_when_lost(Duration::from_millis(100), 0);
    let _bench = lost();
    // Its handlers do not return, and its code is not the watchdog's.
    std::process::exit(1)
}

fn by_a_late_watchdog(_: &Path) -> End {
    let _bench = lost();
    end_process_when_lost(Duration::ZERO, 0);
    loop {
        thread::park();
    }
}

fn with_a_ring_that_runs(_: &Path) -> End {
    let _bench = Bench::new(open(), RING);
    exit(0)
}

/// Goal: where nothing holds the exit handlers up, they run.
fn with_nothing_left(_: &Path) -> End {
    let mut bench = Bench::new(open(), RING);
    bench.lane.probe(1);
    bench.ring.terminate(SOON).expect("it ends");
    drop(bench);
    // They end the process with 0.
    exit(1)
}

fn begun(eager: bool) -> End {
    assert_eq!(request_eager_loading(), eager);
    assert_eq!(loads_eagerly().expect("there is a driver"), eager);
    Bench::new(open(), RING).lane.probe(1);
    End::Passed
}

fn begun_too_late(_: &Path) -> End {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || ended.recv());
    assert!(!request_eager_loading(), "another thread may be reading the environment");
    assert!(!loads_eagerly().expect("there is a driver"));
    drop(end);
    other.join().expect("it does not panic").expect_err("it was told to end");
    End::Passed
}
