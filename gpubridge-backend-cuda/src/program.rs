//! The module that rings run: the library's kernels, or those with kernels of users' own linked to them.

use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use crate::driver::{Context, DeviceMemory, Function, Module, Shape, Stream};
use crate::parameters::RECORD_BYTES;

/// The module's kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Functions {
    pub(crate) ring: Function,
    pub(crate) beside_grid: Function,
    pub(crate) beside_block: Function,
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
            beside_block: module.function(c"gpubridge_beside_block")?,
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
    let shape = Shape { blocks: 1, threads: 32 };
    // Numbers of no kernel's.
    for (function, variant) in [
        (functions.beside_grid, 0),
        (functions.beside_block, 0),
        (functions.user_grid, u64::from(u16::MAX)),
        (functions.user_block, u64::from(u16::MAX)),
    ] {
        stream.launch(function, shape, false, [&[record.address()], &[variant]])?;
    }
    stream.launch(functions.beside_finish, shape, false, [&[record.address()]])?;
    stream.wait()
}
