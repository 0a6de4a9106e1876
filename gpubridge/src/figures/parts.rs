//! The parts that figures are measured in: one function each.

use gpubridge_kernels::id::SAXPY;

use super::kernel::{MIX, numbered};
use super::line::Table;
use super::subject::Subject;
use super::{
    Area, Effort, batches, calls, compared, concurrent, footprint, kernel_cache, memory, pipeline, pool, start, traces,
    transfers, turnover,
};
use crate::KernelSpec;

/// Some figures that are measured together.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What they are about.
    pub area: Area,
    /// Its name, for `cargo bench`.
    pub name: &'static str,
    /// What it measures.
    pub figures: &'static str,
    /// The kernels that it runs.
    pub(super) needs: &'static [KernelSpec],
    pub(super) run: fn(&Subject, Effort, &mut Table),
}

const NOTHING: &[KernelSpec] = &[];
const MIXING: &[KernelSpec] = &[MIX];
const NUMBERED: &[KernelSpec] = &[numbered(0)];
const EXECUTED: &[KernelSpec] = &[MIX, KernelSpec::new(SAXPY)];

type Row = (Area, &'static str, &'static str, &'static [KernelSpec], fn(&Subject, Effort, &mut Table));

#[rustfmt::skip]
const ROWS: [Row; 18] = [
    // First: memory that other parts gave back to the allocator would not count.
    (Area::Grains, "footprint", "memory per activated grain", MIXING, footprint::run),
    (Area::Ring, "calls", "one call at a time, spinning and awaited", MIXING, calls::run),
    (Area::Ring, "pipeline", "pipelined calls by depth", MIXING, pipeline::depths),
    (Area::Ring, "batches", "pipelined calls that come when they come", MIXING, batches::run),
    (Area::Ring, "plain-execution", "kernel execution compared with plain host code", EXECUTED, compared::execution),
    (Area::Alloc, "pool", "pool pairs by path", NOTHING, pool::run),
    (Area::Alloc, "memory", "grain's allocate and release", MIXING, memory::run),
    (Area::Alloc, "miss", "grain's allocate, pool miss", NOTHING, memory::misses),
    (Area::Alloc, "plain-allocation", "allocation compared with plain host code", NOTHING, compared::allocation),
    (Area::Transfer, "transfers", "writes and reads", NOTHING, transfers::run),
    (Area::Transfer, "plain-transfer", "4 KiB transfer compared with plain host code", NOTHING, compared::transfer),
    (Area::Grains, "many", "pipelined calls of 1, 10 and 100 grains", MIXING, pipeline::many_grains),
    (Area::Grains, "concurrent", "10 grains with 1,000 calls each at once", MIXING, concurrent::run),
    (Area::Grains, "start", "activation, first call, termination", MIXING, start::run),
    (Area::HitRate, "traces", "hit rate of five traces", NOTHING, traces::run),
    (Area::HitRate, "budgets", "hit rate of five traces within a budget", NOTHING, traces::budgets),
    (Area::HitRate, "turnover", "hit rate of the documents' workload", NOTHING, turnover::run),
    (Area::KernelCache, "kernel-cache", "hit rate and miss of the kernel cache", NUMBERED, kernel_cache::run),
];

impl Part {
    fn all() -> impl Iterator<Item = Part> {
        ROWS.into_iter().map(|(area, name, figures, needs, run)| Part { area, name, figures, needs, run })
    }

    /// The parts of one area, or of all.
    pub fn of(area: Option<Area>) -> Vec<Part> {
        Self::all().filter(|part| area.is_none_or(|area| part.area == area)).collect()
    }

    /// The parts that these words name: an area, or a word of a part's name. All parts without any word.
    pub fn named(words: &[&str]) -> Vec<Part> {
        let is_named = |part: &Part| words.iter().any(|word| part.area.name() == *word || part.name.contains(word));
        Self::all().filter(|part| words.is_empty() || is_named(part)).collect()
    }

    /// The names of all parts.
    pub fn names() -> String {
        Self::all().map(|part| part.name).collect::<Vec<_>>().join(", ")
    }
}
