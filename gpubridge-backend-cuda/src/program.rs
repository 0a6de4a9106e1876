//! The module that rings run: the library's kernels, or those with kernels of users' own linked to them.

use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use crate::driver::{Context, DeviceMemory, Function, Module, Shape, Step, Stream};
use crate::parameters::RECORD_BYTES;

/// The phases that kernels of the library have which have several: see `kernels/cuda/library`.
pub(crate) const PHASES_OF_THE_LIBRARY: [u32; 3] = [2, 3, 14];

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
}

impl Trial<'_> {
    /// What a graph of so many phases is made of, which each launch of it replaces.
    pub(crate) fn phases(self, functions: Functions, phases: u32) -> Vec<Step> {
        let arguments = |phase| [self.record.address(), NONE_OF_THE_LIBRARY, phase, 0];
        let step = |function, phase| Step { function, shape: ONE_WARP, arguments: arguments(phase) };
        let phases = (0..u64::from(phases)).map(|phase| step(functions.beside_grid, phase));
        phases.chain([step(functions.beside_finish, 0)]).collect()
    }
}

impl Program {
    /// The library's kernels alone.
    pub(crate) fn of_the_library(context: &Arc<Context>, trial: Trial<'_>) -> Result<Self, Error> {
        let mut image = gpubridge_kernels::cuda::PTX.as_bytes().to_vec();
        image.push(0);
        Self::load(context, &image, trial)
    }

    /// What this image holds.
    pub(crate) fn load(context: &Arc<Context>, image: &[u8], trial: Trial<'_>) -> Result<Self, Error> {
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
        Ok(Self { _module: module, functions, blocks_per_unit })
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
