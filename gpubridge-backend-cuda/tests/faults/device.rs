//! What the cases share: short ways to open things, to look at errors, and to hold up the emulated driver.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Backend, Device, DeviceIndex, Error, ErrorKind, RingConfig};
use gpubridge_backend_cuda::{CudaBackend, CudaConfig};
use gpubridge_kernels::library;

/// How long what must happen is waited for. A bound against hanging, no measure of anything.
pub const SOON: Duration = Duration::from_secs(60);

pub const MIB: u64 = 1 << 20;

/// One lane of a few slots.
pub const RING: RingConfig = RingConfig { lanes: 1, slots: 16, staging_bytes: 256, allocations: 1024 };

pub fn backend() -> CudaBackend {
    CudaBackend::new(library())
}

/// With rings that count as lost soon: after this without a sign of life.
pub fn impatient(heartbeat_limit: Duration) -> CudaBackend {
    let mut config = CudaConfig::default();
    config.heartbeat_limit = heartbeat_limit;
    backend().with_config(config)
}

pub fn try_open() -> Result<Arc<dyn Device>, Error> {
    backend().open(DeviceIndex(0))
}

pub fn open() -> Arc<dyn Device> {
    try_open().expect("the device opens")
}

/// The error that this must be, of this kind, with all of these words in its text.
#[track_caller]
pub fn refused<T>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) -> Error {
    let Err(error) = result else { panic!("this must be refused, with {kind:?}") };
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not said: {text}");
    }
    error
}

/// Waits until `holds`, by looking; panics with `what` when it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "never happened: {what}");
        thread::yield_now();
    }
}

/// The gate that `gate=KERNEL:{folder}/gate` names: closed, such kernels do not begin. It is open while a device is opened,
/// because each kernel is launched once then.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl Gate {
    pub fn new(folder: &Path) -> Self {
        let gate = Self(folder.join("gate"));
        gate.open();
        gate
    }

    pub fn open(&self) {
        File::create(&self.0).expect("the gate opens");
    }

    pub fn close(&self) {
        fs::remove_file(&self.0).expect("the gate closes");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // So that a case that fails leaves no kernel waiting.
        self.open();
    }
}

/// The driver's calls so far, by `trace={folder}/trace`: function and code.
pub fn calls(folder: &Path) -> Vec<(String, u32)> {
    let text = fs::read_to_string(folder.join("trace")).unwrap_or_default();
    let call = |line: &str| {
        let (function, code) = line.split_once(' ').expect("a line has two words");
        (function.to_owned(), code.parse().expect("a code is a number"))
    };
    // What is behind the last end of a line is being written.
    text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().map(call).collect()
}
