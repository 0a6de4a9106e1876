//! What is launched beside the rings: on streams of its own, by a block, or phase by phase by a grid.

use std::sync::Arc;

use gpubridge_abstractions::Error;
use gpubridge_kernels::cuda::PARTIALS;
use parking_lot::Mutex;

use crate::driver::{Context, DeviceMemory, Shape, Step, Stream};
use crate::gpu::Limits;
use crate::parameters::{FIRST_USER, Request};
use crate::program::Program;

/// Streams for work beside the rings.
pub(crate) const SIDES: usize = 8;
/// Threads of a block beside the ring that is one of a grid's.
const GRID_THREADS: u32 = 256;
/// Element operations of a thread there.
const WORK_PER_THREAD: u64 = 8;
/// Blocks per multiprocessor at the most.
const BLOCKS_PER_UNIT: u32 = 8;

/// The shape of what tells a command's executor that it is done.
const FINISH: Shape = Shape { blocks: 1, threads: 32 };

/// A stream for work beside the rings, of all of them.
#[derive(Debug)]
pub(crate) struct Side {
    number: usize,
    pub(crate) stream: Stream,
    /// The address of what the blocks of a grid keep from phase to phase.
    partials: u64,
    /// Whoever holds it launches: the phases of a command lie side by side on the stream.
    launching: Mutex<()>,
}

/// Memory for the partial results of all sides on a device of so many multiprocessors.
pub(crate) fn reserve_partials(context: &Arc<Context>, units: u32) -> Result<DeviceMemory, Error> {
    context.allocate(SIDES as u64 * partials_bytes(units))
}

fn partials_bytes(units: u32) -> u64 {
    u64::from(units * BLOCKS_PER_UNIT) * PARTIALS * size_of::<u64>() as u64
}

impl Side {
    /// The side of this number, on a device of so many multiprocessors, with its share of the memory for partial results.
    pub(crate) fn new(number: usize, stream: Stream, units: u32, partials: &DeviceMemory) -> Self {
        let partials = partials.address() + number as u64 * partials_bytes(units);
        Self { number, stream, partials, launching: Mutex::default() }
    }

    /// Queues the kernel that a request asks for, and behind it what tells its executor that it is done. From so many phases on
    /// that is a graph, if there is one.
    pub(crate) fn launch(
        &self,
        program: &Program,
        limits: Limits,
        request: Request,
        record: u64,
        graph_phases_min: u32,
    ) -> Result<(), Error> {
        let (functions, variant) = (program.functions, u64::from(request.variant));
        let is_user = request.variant >= FIRST_USER;
        // What the library has beside the ring, a grid does.
        if request.phases == 0 {
            let shape = Shape { blocks: 1, threads: limits.ring_threads };
            self.stream.launch(functions.user_block, shape, false, [&[record], &[variant]])?;
            return self.finish(program, record);
        }
        let (function, threads) =
            if is_user { (functions.user_grid, limits.ring_threads) } else { (functions.beside_grid, limits.threads) };
        let shape = grid(limits, threads, request.work);
        let phase = |phase| Step { function, shape, arguments: [record, variant, phase, self.partials] };
        let phases = (0..u64::from(request.phases)).map(phase);
        let _launching = self.launching.lock();
        let wanted = request.phases >= graph_phases_min;
        if let Some(graph) = program.graph(self.number, request.phases).filter(|_| wanted) {
            let finish = Step { function: functions.beside_finish, shape: FINISH, arguments: [record, 0, 0, 0] };
            return graph.launch(phases.chain([finish]), &self.stream);
        }
        for Step { function, shape, arguments: [record, variant, phase, partials] } in phases {
            self.stream.launch(function, shape, false, [&[record], &[variant], &[phase], &[partials]])?;
        }
        self.finish(program, record)
    }

    /// Queues a copy between a chunk and a block that both lie in the host's memory, by a kernel: a copy of the driver's would not
    /// return before it is done. The request says which way.
    pub(crate) fn copy_by_kernel(
        &self,
        program: &Program,
        limits: Limits,
        request: Request,
        record: u64,
        chunk: u64,
    ) -> Result<(), Error> {
        // A word in one operation.
        let shape = grid(limits, limits.threads, request.work / 8);
        let arguments: [&[u64]; 4] = [&[record], &[u64::from(request.variant)], &[0], &[chunk]];
        self.stream.launch(program.functions.beside_grid, shape, false, arguments)
    }

    /// Queues what tells the executor of a command that what was queued before is done.
    pub(crate) fn finish(&self, program: &Program, record: u64) -> Result<(), Error> {
        self.stream.launch(program.functions.beside_finish, FINISH, false, [&[record]])
    }
}

/// As many blocks as so much work is for.
fn grid(limits: Limits, threads: u32, work: u64) -> Shape {
    let threads = threads.min(GRID_THREADS);
    let wanted = work.div_ceil(u64::from(threads) * WORK_PER_THREAD);
    let blocks = wanted.clamp(1, u64::from(limits.units * BLOCKS_PER_UNIT)) as u32;
    Shape { blocks, threads }
}
