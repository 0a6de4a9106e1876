//! The counting allocator, for the cases that say that nothing is allocated.

#[doc(hidden)]
pub use stats_alloc;
use stats_alloc::INSTRUMENTED_SYSTEM;

/// Installs an allocator that counts, for the whole program: put it beside `main`. Without it the cases that count
/// allocations are ignored, and say so.
#[macro_export]
macro_rules! count_allocations {
    () => {
        #[global_allocator]
        static COUNTED: &$crate::stats_alloc::StatsAlloc<::std::alloc::System> =
            &$crate::stats_alloc::INSTRUMENTED_SYSTEM;
    };
}

/// Calls of the allocator that took memory, by any thread of the process.
pub(crate) fn allocations() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.allocations + stats.reallocations
}

/// Whether the program was built with [`count_allocations!`](crate::count_allocations).
pub(crate) fn is_installed() -> bool {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    allocations() > before
}
