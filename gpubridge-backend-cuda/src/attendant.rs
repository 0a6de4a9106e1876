//! The thread that attends a ring: launches what the device asks for, keeps the kernel alive, and looks after both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Error, ErrorKind, SharedMemory};

use crate::care::Care;
use crate::kernels::KernelSlots;
use crate::parameters::{COPY_ADDRESS, COPY_BYTES, COPY_CHUNK, COPY_IN, COPY_OUT, FIRST_USER, RECORD_BYTES, Request};
use crate::program::Program;
use crate::ring::Core;
use crate::side::Side;

/// Between two looks at the kernel itself.
const CARE: Duration = Duration::from_millis(1);
/// How long after a request the thread looks for the next one without sleeping.
const EAGER: Duration = Duration::from_millis(1);
/// The sleep between two looks, later.
const NAP: Duration = Duration::from_micros(50);

/// Starts the thread. It ends with the ring.
pub(crate) fn start(core: &Arc<Core>, kernels: &Arc<KernelSlots>) -> Result<JoinHandle<()>, Error> {
    let blocks = core.shape.blocks as usize;
    let care = Care::new(Arc::clone(core), Arc::clone(kernels));
    let attendant = Attendant { core: Arc::clone(core), taken: vec![0; blocks], launched: 0, care };
    let thread = thread::Builder::new().name("gpubridge-cuda".to_owned()).spawn(move || attendant.run());
    thread.map_err(|error| {
        Error::new(ErrorKind::Io, "cuda.launch", "the ring's thread could not be started").with_source(error)
    })
}

struct Attendant {
    core: Arc<Core>,
    // Requests taken from each block's outbox.
    taken: Vec<u64>,
    launched: usize,
    care: Care,
}

impl Attendant {
    fn run(mut self) {
        if let Err(error) = self.attend() {
            self.core.lose(&error);
        }
    }

    /// Attends until the ring has ended.
    fn attend(&mut self) -> Result<(), Error> {
        let core = Arc::clone(&self.core);
        // A kernel that ends by itself is waited for each time.
        let care = if core.cuda.max_commands.is_some() { NAP } else { CARE };
        let mut cared = Instant::now();
        let mut asked = Instant::now();
        loop {
            if core.outside_windows(|| self.take_requests())? {
                asked = Instant::now();
            }
            if cared.elapsed() >= care {
                if !self.core.look_after(self.care.has_beside())? {
                    return Ok(());
                }
                self.care.look()?;
                cared = Instant::now();
            }
            if asked.elapsed() > EAGER {
                thread::sleep(NAP);
            } else {
                thread::yield_now();
            }
        }
    }

    /// Launches what was asked for. Returns whether there was anything.
    fn take_requests(&mut self) -> Result<bool, Error> {
        let requests_max = u64::from(self.core.parameters.requests_max);
        let mut any = false;
        for block in 0..self.taken.len() {
            loop {
                let taken = self.taken[block];
                let at = block as u64 * requests_max + taken % requests_max;
                // Acquire: pairs with the device's fence before its store: the record is there before the request.
                let word = self.core.outbox.words()[at as usize].load(Ordering::Acquire);
                let lap = u64::from((taken / requests_max).is_multiple_of(2));
                if word >> 63 != lap {
                    break;
                }
                self.taken[block] += 1;
                self.launch(Request::from_word(word))?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Launches a command beside the ring, and behind it what tells its executor that it is done.
    fn launch(&mut self, request: Request) -> Result<(), Error> {
        let core = &*self.core;
        let slots = u64::from(core.parameters.config.slots);
        let record = core.records + (u64::from(request.lane) * slots + u64::from(request.slot)) * RECORD_BYTES;
        self.launched += 1;
        let side = self.launched % core.gpu.sides.len();
        self.care.watch_beside(side, request);
        let side = &core.gpu.sides[side];
        let launch =
            |program: &Program| side.launch(program, core.gpu.limits, request, record, core.cuda.graph_phases_min);
        let library = core.gpu.library();
        if matches!(request.variant, COPY_IN | COPY_OUT) {
            copy(core, library, side, request, record)?;
            side.finish(library, record)
        } else if request.variant >= FIRST_USER {
            core.gpu.with_program(launch)
        } else {
            launch(library)
        }
    }
}

/// Queues the copy that a command asks for, between a block and a chunk of bulk staging.
fn copy(core: &Core, program: &Program, side: &Side, request: Request, record: u64) -> Result<(), Error> {
    let staging = core.staging(request.lane, request.slot);
    // Relaxed: the request, which was read with Acquire, comes behind them.
    let [address, size_bytes, chunk] =
        [COPY_ADDRESS, COPY_BYTES, COPY_CHUNK].map(|word| staging[word].load(Ordering::Relaxed));
    // A ring without chunks asks for none.
    let chunk = core.bulk.as_ref().map_or(0, |chunks| chunks.address(chunk));
    if core.gpu.is_pinned(address) {
        return side.copy_by_kernel(program, core.gpu.limits, request, record, chunk);
    }
    match request.variant {
        COPY_IN => side.stream.copy(address, chunk, size_bytes),
        _ => side.stream.copy(chunk, address, size_bytes),
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        if thread::panicking() {
            let why = "the thread that attends the ring panicked";
            self.core.lose(&Error::new(ErrorKind::DeviceLost, "cuda.ring", why));
        }
    }
}
