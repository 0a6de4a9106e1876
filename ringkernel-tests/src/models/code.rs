//! A sequence as the source of a test.

use std::fmt::Debug;

use super::{GrainOp, Op};

/// A test that replays these on resident memory.
pub(super) fn resident(ops: &[Op]) -> String {
    test("Op", "replay", ops)
}

/// A test that replays these on grains.
pub(super) fn grains(ops: &[GrainOp]) -> String {
    test("GrainOp", "replay_grains", ops)
}

/// What an operation prints as is Rust where the names of its variants are in scope.
fn test(of: &str, replay: &str, ops: &[impl Debug]) -> String {
    let ops: String = ops.iter().map(|op| format!("            {op:?},\n")).collect();
    format!(
        "#[test]
fn reproduction() {{
    #![allow(unused_imports, reason = \"a sequence need not have every operation\")]
    use gpubridge_abstractions::MemoryType::*;
    use ringkernel_tests::models::{{Kernel::*, {of}::*, {replay}}};
    {replay}(
        &backend(), // The backend under test.
        &[
{ops}        ],
    );
}}
"
    )
}

#[cfg(test)]
mod tests {
    use gpubridge_abstractions::MemoryType::*;

    use super::super::Kernel::*;

    /// Operations, and their source as it stands here.
    macro_rules! sources {
        ($($op:expr),* $(,)?) => { (vec![$($op),*], vec![$(stringify!($op)),*]) };
    }

    fn without_spaces(text: &str) -> String {
        text.replace([' ', '\n'], "").replace(",}", "}")
    }

    #[test]
    fn operations_of_resident_memory_print_as_their_source() {
        use super::super::Op::*;
        let (ops, sources) = sources![
            Open { session: 0, quota_bytes: None },
            Open { session: 3, quota_bytes: Some(5000) },
            Allocate { session: 1, size_bytes: 7, memory_type: Pinned },
            Allocate { session: 1, size_bytes: 7, memory_type: Default },
            Write { session: 0, allocation: 2, offset_bytes: 1, size_bytes: 3, seed: 9, wait: false },
            Read { session: 0, allocation: 2, offset_bytes: 1, size_bytes: 3, wait: true },
            Compute { session: 0, kernel: Add, buffers: [2, 0, 1], count: 4, value: 77, wait: true },
            Release { session: 2, allocation: 0, return_to_pool: false },
            Trespass { session: 1, other: 0, allocation: 3 },
            Take { call: 2 },
            Metrics { session: 0 },
            Reopen { session: 1 },
            Close { session: 3, drain: false },
        ];
        let code = without_spaces(&super::resident(&ops));
        assert!(sources.iter().all(|source| code.contains(&without_spaces(source))), "{sources:?} in {code}");
    }

    #[test]
    fn operations_of_grains_print_as_their_source() {
        use super::super::GrainOp::*;
        let (ops, sources) = sources![
            Allocate { grain: 1, size_bytes: 7, memory_type: Shared },
            Write { grain: 0, allocation: 2, offset_bytes: 1, size_bytes: 3, seed: 9, wait: false },
            Read { grain: 0, allocation: 2, offset_bytes: 1, size_bytes: 3, wait: true },
            Compute { grain: 0, kernel: Scan, buffers: [2, 0, 1], count: 4, value: 77, wait: true },
            Release { grain: 2, allocation: 0, return_to_pool: false },
            Trespass { grain: 1, other: 0, allocation: 3 },
            Store { grain: 0, size_bytes: 40, seed: 3 },
            Load { grain: 0 },
            Clear { grain: 1 },
            Save { grain: 1 },
            Deactivate { grain: 1 },
            Restart,
            Take { call: 2 },
            Metrics { grain: 0 },
        ];
        let code = without_spaces(&super::grains(&ops));
        assert!(sources.iter().all(|source| code.contains(&without_spaces(source))), "{sources:?} in {code}");
    }
}
