//! The module that rings run: the library's kernels, or those with kernels of users' own linked to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use crate::driver::{Context, DeviceMemory, Function, Graph, Module, Shape, Step, Stream};
use crate::parameters::RECORD_BYTES;
use crate::side::SIDES;

/// The phases that kernels of the library have which have several: see `kernels/cuda/library`.
const PHASES_OF_THE_LIBRARY: [u32; 3] = [2, 3, 14];

/// The shape of what is only tried.
const ONE_WARP: Shape = Shape { blocks: 1, threads: 32 };
/// What no kernel of the library, and none of a user's, is named by.
const NONE_OF_THE_LIBRARY: u64 = 0;
const NONE_OF_A_USER: u64 = u16::MAX as u64;

/// The module's kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Functions {
    pub(crate) ring: Function,
    pub(crate) beside_grid: Function,
    pub(crate) user_grid: Function,
    pub(crate) user_block: Function,
    pub(crate) beside_finish: Function,
}

/// A module that is loaded to its last function. Loaded and dropped while no ring runs.
#[derive(Debug)]
pub(crate) struct Program {
    // Of its own kernels, by their phases: one for each side. Dropped before the module.
    graphs: BTreeMap<u32, Vec<Graph>>,
    _module: Module,
    pub(crate) functions: Functions,
    /// Blocks of the ring that a multiprocessor holds.
    pub(crate) blocks_per_unit: u32,
}

/// What new kernels are tried on: a record's worth of memory, and how a ring will be launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) record: &'a DeviceMemory,
    pub(crate) ring_threads: u32,
    /// From how many phases on there are graphs.
    pub(crate) graph_phases_min: u32,
}

impl Program {
    /// The library's kernels alone, with their graphs.
    pub(crate) fn of_the_library(context: &Arc<Context>, trial: Trial<'_>) -> Result<Self, Error> {
        let mut image = gpubridge_kernels::cuda::PTX.as_bytes().to_vec();
        image.push(0);
        let mut program = Self::load(context, &image, trial)?;
        let beside = (program.functions.beside_grid, NONE_OF_THE_LIBRARY);
        program.make_graphs(context, trial, beside, PHASES_OF_THE_LIBRARY)?;
        Ok(program)
    }

    /// The library's kernels and users' that are linked with them, with graphs of users' that have so many phases.
    pub(crate) fn with_users(
        context: &Arc<Context>,
        image: &[u8],
        phases: impl IntoIterator<Item = u32>,
        trial: Trial<'_>,
    ) -> Result<Self, Error> {
        let mut program = Self::load(context, image, trial)?;
        let beside = (program.functions.user_grid, NONE_OF_A_USER);
        program.make_graphs(context, trial, beside, phases)?;
        Ok(program)
    }

    fn load(context: &Arc<Context>, image: &[u8], trial: Trial<'_>) -> Result<Self, Error> {
        let module = context.load(image)?;
        let functions = Functions {
            ring: module.function(c"gpubridge_ring")?,
            beside_grid: module.function(c"gpubridge_beside_grid")?,
            user_grid: module.function(c"gpubridge_user_grid")?,
            user_block: module.function(c"gpubridge_user_block")?,
            beside_finish: module.function(c"gpubridge_beside_finish")?,
        };
        let blocks_per_unit = module.blocks_per_unit(functions.ring, trial.ring_threads)?;
        warm_up(trial, functions)?;
        Ok(Self { graphs: BTreeMap::new(), _module: module, functions, blocks_per_unit })
    }

    /// Makes graphs of a grid's function, called in vain, for so many phases: what is done together, or waits for another, shares
    /// none.
    fn make_graphs(
        &mut self,
        context: &Arc<Context>,
        Trial { stream, record, graph_phases_min, .. }: Trial<'_>,
        (grid, none): (Function, u64),
        phases: impl IntoIterator<Item = u32>,
    ) -> Result<(), Error> {
        let step = |function, phase| Step { function, shape: ONE_WARP, arguments: [record.address(), none, phase, 0] };
        for phases in phases.into_iter().filter(|phases| *phases >= graph_phases_min.max(2)) {
            let steps = (0..u64::from(phases)).map(|phase| step(grid, phase));
            let steps: Vec<_> = steps.chain([step(self.functions.beside_finish, 0)]).collect();
            let graphs = (0..SIDES).map(|_| Graph::new(context, &steps, stream)).collect::<Result<_, _>>()?;
            self.graphs.insert(phases, graphs);
        }
        Ok(())
    }

    /// The graph by which this side launches the program's kernels of so many phases, if there is one.
    pub(crate) fn graph(&self, side: usize, phases: u32) -> Option<&Graph> {
        self.graphs.get(&phases)?.get(side)
    }

    /// # Errors
    /// `KernelBuild` when a multiprocessor holds fewer blocks of the ring than it has to.
    pub(crate) fn check_occupancy(&self, least: u32) -> Result<(), Error> {
        if self.blocks_per_unit >= least {
            return Ok(());
        }
        let why = format!(
            "a multiprocessor would hold {} blocks of a ring with this kernel, not {least}: have it declare no shared memory",
            self.blocks_per_unit
        );
        Err(Error::new(ErrorKind::KernelBuild, "cuda.compile", why))
    }
}

/// Launches each kernel that is launched under a running ring once before there is one: whatever a first launch still waits
/// for is done then.
fn warm_up(Trial { stream, record, .. }: Trial<'_>, functions: Functions) -> Result<(), Error> {
    stream.zero(record.address(), RECORD_BYTES)?;
    for (of_grid, none) in [(functions.beside_grid, NONE_OF_THE_LIBRARY), (functions.user_grid, NONE_OF_A_USER)] {
        stream.launch(of_grid, ONE_WARP, false, [&[record.address()], &[none], &[0], &[0]])?;
    }
    stream.launch(functions.user_block, ONE_WARP, false, [&[record.address()], &[NONE_OF_A_USER]])?;
    stream.launch(functions.beside_finish, ONE_WARP, false, [&[record.address()]])?;
    stream.wait()
}
