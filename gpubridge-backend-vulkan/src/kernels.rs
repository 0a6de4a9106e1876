//! A device's kernels: which operation of the shaders a kernel slot stands for.

use gpubridge_abstractions::{Error, KernelDeclaration, KernelId, KernelSpec, Placement, Scalars};
use gpubridge_kernels::device::KernelTable;
use gpubridge_kernels::vulkan::THREADS;
use gpubridge_kernels::{Kernel, KernelLibrary, id};

const TARGET: &str = "vulkan";

/// What a kernel slot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// What the shaders know the kernel as, with its element type.
    pub(crate) what: u32,
    /// In how many phases a grid runs it; 0 when none ever does.
    pub(crate) phases: u32,
    /// The most turns that a thread's loops take in a list, whatever the work.
    pub(crate) turns: u32,
    /// For how many element operations they take another one at the most.
    pub(crate) turns_share: u64,
}

/// The kernels of `library` that have a variant for Vulkan.
pub(crate) fn declarations(library: &KernelLibrary) -> Vec<KernelDeclaration> {
    let kernels = library.kernels().iter().filter(|kernel| has_variant(kernel));
    kernels.map(|kernel| kernel.declaration.clone()).collect()
}

/// Lets `slot` stand for `spec` from now on. `prepare` has the device ready for a kernel.
pub(crate) fn compile(
    table: &KernelTable<Code>,
    spec: &KernelSpec,
    slot: u16,
    prepare: impl FnOnce(&Code) -> Result<(), Error>,
) -> Result<(), Error> {
    let operation = "vulkan.compile";
    let kernel = table.library().resolve(spec, TARGET, has_variant, operation)?;
    let is_product_or_sort = matches!(spec.id, id::MATVEC | id::MATMUL | id::TOP_K);
    let code = Code {
        what: spec.id.0 << 2 | spec.element as u32,
        phases: if kernel.declaration.placement == Placement::InRing { 0 } else { phases(spec.id) },
        turns: if is_product_or_sort { 1800 } else { 88 },
        turns_share: if is_product_or_sort { 8 } else { 32 },
    };
    prepare(&code)?;
    table.insert(kernel, spec, slot, operation, || {
        // The twin knows what the constants may be.
        kernel.cpu.as_ref().map_or(Ok(()), |compile| compile(spec).map(drop))?;
        Ok(code)
    })
}

/// The most turns that one thread's loops take in a dispatch of a grid of so many workgroups, of kernels for which that grows
/// beyond bounds though the grid is as large as it may be: see `kernels/vulkan`.
pub(crate) fn grid_turns(kernel: KernelId, scalars: Scalars, groups: u32) -> u32 {
    let [a, b, c] = [0, 1, 2].map(|scalar| u64::from(scalars.bits(scalar)));
    let threads = u64::from(THREADS) * u64::from(groups);
    let turns = match kernel {
        id::MATVEC | id::MATMUL => {
            let (k, n) = (b, if kernel == id::MATVEC { 1 } else { c });
            let all = a.saturating_mul(n);
            if k >= 32 && (n == 1 || all < threads) {
                let together = if k < 512 { 32 } else { u64::from(THREADS) };
                all.div_ceil(threads / together).saturating_mul(k.div_ceil(4 * together) + 10)
            } else {
                all.div_ceil(threads).saturating_mul(k.div_ceil(4) + 2)
            }
        }
        // One workgroup sorts.
        id::TOP_K => {
            let (sorted, steps) = (a.next_power_of_two(), u64::from(a.next_power_of_two().ilog2()));
            steps * (steps + 1) / 2 * (sorted.div_ceil(4096) + 2)
        }
        _ => 0,
    };
    u32::try_from(turns).unwrap_or(u32::MAX)
}

fn has_variant(kernel: &Kernel) -> bool {
    kernel.declaration.id < KernelId::FIRST_USER && kernel.declaration.targets.contains(&TARGET)
}

fn phases(kernel: KernelId) -> u32 {
    match kernel {
        id::DOT | id::SUM | id::MIN_MAX | id::HISTOGRAM | id::INCLUSIVE_SCAN => 2,
        id::MEAN_VARIANCE => 3,
        id::TOP_K => 14,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llvmpipe would do wrong is beyond the bound; what it does right is not.
    #[test]
    fn large_products_are_bounded() {
        let turns = |kernel, [a, b, c]: [u32; 3], groups| {
            let scalars = Scalars::default().with_bits(0, a).with_bits(1, b).with_bits(2, c);
            grid_turns(kernel, scalars, groups)
        };
        assert!(turns(id::MATMUL, [2048; 3], 1024) < 60_000);
        assert!(turns(id::MATMUL, [4096; 3], 1024) > 65_535);
        assert!(turns(id::MATVEC, [1 << 16, 1 << 12, 0], 1024) < 60_000);
        assert!(turns(id::TOP_K, [1 << 20, 0, 0], 1024) < 60_000);
        assert_eq!(turns(id::SUM, [0; 3], 1), 0);
    }
}
