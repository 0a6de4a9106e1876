//! One case for each fault of the original that this code could have and no other area covers.
//!
//! Elsewhere: compile failures cached (`cache::a_failure_is_not_cached…`), cache size (`cache::its_size…`), handles stale
//! and contents lost (`persistence`), replies without correlation (`requests::concurrent_replies…`), full and empty rings
//! (`progress::a_lane_that_was_full…`), terminate (`shutdown::terminating…`). That the registry does not deadlock on
//! itself and prefers GPUs is tested with doubles, beside it.

use std::thread;

use gpubridge_abstractions::{
    AllocateMessage, ComputeMessage, DeviceIndex, ElementType, ErrorKind, InitializeMessage, KernelId, KernelSpec,
    MemoryType, Parameters, Status,
};
use gpubridge_grains::wait;
use gpubridge_kernels::id::{ADD, FILL, SCALE, SUM};

use crate::rig::{BUDGET, KIB, MIB, Rig, allocate, config, kind, narrow, pattern, silo, stop};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("faults",
    Memory {
        memory_types_have_pools_of_their_own => "ResidentMemory::allocate/memory-type",
        a_memory_type_the_device_lacks_is_an_error => "ResidentMemory::allocate/unsupported-type",
        live_blocks_are_never_evicted => "ResidentMemory::allocate/live-blocks-stay",
        idle_blocks_make_room_for_any_size_and_any_lane => "ResidentMemory::allocate/evicts-idle",
        a_full_budget_waits_for_what_is_about_to_be_free => "ResidentMemory::allocate/waits-for-idle",
        reused_memory_is_zero_for_another_grain => "ResidentMemory::allocate/zeroed",
        the_tail_of_a_block_is_zero_for_another_grain => "ResidentMemory::allocate/zeroed-tail",
        a_restored_grain_sees_nothing_of_others => "GrainRef::allocate/zeroed",
        budget_used_and_allocated_are_three_numbers => "ResidentMemory::metrics/three-numbers",
        the_device_index_is_honoured => "ResidentMemory::allocate/device-index",
        an_unknown_kernel_is_no_success => "ResidentMemory::compute/unknown-kernel",
    }
    Compute {
        a_missing_or_surplus_buffer_is_no_success => "ResidentMemory::compute/buffers",
        an_allocation_that_is_not_live_is_no_success => "ResidentMemory::compute/unknown-allocation",
        a_kernel_without_the_type_names_those_it_has => "ResidentMemory::compute/element-type",
        a_kernel_really_computes => "ResidentMemory::compute/computes",
    }
);

/// Goal: memory types do not share blocks (fault: type ignored by the pool). Method: a block of one type is released; the
/// same size of another type is no hit, and the details tell them apart.
pub fn memory_types_have_pools_of_their_own(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let types = rig.memory.device().info().capabilities;
    let types: Vec<_> = MemoryType::ALL.into_iter().filter(|kind| types.supports_memory(*kind)).collect();
    for memory_type in &types {
        let mut message = AllocateMessage::new(rig.memory.envelope(), 4 * KIB);
        message.memory_type = *memory_type;
        let response = rig.memory.allocate(session, &message).expect("the device has it");
        assert_eq!((response.is_pool_hit, response.handle.memory_type), (false, *memory_type));
        rig.release(session, response.handle.id);
        assert!(rig.memory.allocate(session, &message).expect("there is room").is_pool_hit);
    }
    let mut message = gpubridge_abstractions::GetMetricsMessage::new(rig.memory.envelope());
    message.include_details = true;
    let details = rig.memory.get_metrics(session, &message).expect("is answered").details;
    assert_eq!(details.iter().map(|class| class.memory_type).collect::<Vec<_>>(), types);
}

/// Goal: no silent substitute. Method: every type that the capabilities do not name.
pub fn a_memory_type_the_device_lacks_is_an_error(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let capabilities = rig.memory.device().info().capabilities;
    for memory_type in MemoryType::ALL.into_iter().filter(|kind| !capabilities.supports_memory(*kind)) {
        let mut message = AllocateMessage::new(rig.memory.envelope(), KIB);
        message.memory_type = memory_type;
        let error = rig.memory.allocate(session, &message).expect_err("the device does not have it");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(&memory_type.to_string()), "{error}");
    }
    assert_eq!(rig.memory.metrics().active_allocation_count, 0);
}

fn tiny(bytes: u64) -> gpubridge_runtime::ResidentMemoryConfig {
    gpubridge_runtime::ResidentMemoryConfig { memory_budget_bytes: bytes, ..config() }
}

/// Goal: pressure evicts idle blocks alone. Method: a budget full of live blocks; more is refused with requested and
/// available bytes, and every block is as it was.
pub fn live_blocks_are_never_evicted(context: &Context) {
    const SIZE: usize = 64 << 10;
    let rig = Rig::new(context.device(), tiny(MIB));
    let session = rig.session(0);
    let ids: Vec<_> = std::iter::from_fn(|| rig.try_allocate(session, SIZE as u64).ok()).map(|(h, _)| h.id).collect();
    assert_eq!(ids.len(), 16, "the whole budget");
    for (seed, id) in (0..).zip(&ids) {
        rig.write(session, *id, &pattern(seed, SIZE));
    }
    for hash in [0, 1] {
        let error = rig.try_allocate(rig.session(hash), SIZE as u64).expect_err("everything is live");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.message().contains("requested 65536 B") && error.message().contains("available"), "{error}");
    }
    for (seed, id) in (0..).zip(&ids) {
        assert!(rig.read(session, *id, SIZE) == pattern(seed, SIZE), "block {seed} was evicted");
    }
}

/// Goal: idle blocks do not use the budget up for ever (fault: never evicted). Method: small blocks of one session are
/// released; large ones are wanted, in the same lane, then in the other, then small ones again.
pub fn idle_blocks_make_room_for_any_size_and_any_lane(context: &Context) {
    let rig = Rig::new(context.device(), tiny(MIB));
    let sessions = [rig.session(0), rig.session(1)];
    for round in 0..6 {
        let session = sessions[round % 2];
        let size = [16 * KIB, 256 * KIB, MIB][round % 3];
        let ids: Vec<_> = (0..MIB / size).map(|_| rig.allocate(session, size)).collect();
        assert_eq!(rig.memory.metrics().used_pool_size_bytes, MIB);
        for id in ids {
            rig.release(session, id);
        }
    }
    assert!(rig.memory.memory_info().reserved_bytes <= MIB);
}

/// Goal: a block that is released and whose last commands are about to end is room: no spurious refusal. Method: two
/// sessions in turn take the whole budget at once, in one lane and in two.
pub fn a_full_budget_waits_for_what_is_about_to_be_free(context: &Context) {
    const ALL: u64 = 256 * KIB;
    let rig = Rig::new(context.device(), tiny(ALL));
    for hashes in [[0, 0], [0, 1]] {
        let sessions = hashes.map(|hash| rig.session(hash));
        for round in 0..100 {
            let session = sessions[round % 2];
            let id = rig.allocate(session, ALL);
            let message = rig.write_message(id, 0, 4000);
            drop(rig.memory.write(session, &message, &[1; 4000]).post().expect("is submitted"));
            rig.release(session, id);
        }
    }
}

/// Goal: memory is zero for a new owner. Method: two grains in one lane alternate over the same blocks, sizes in a class
/// and beyond what the ring zeroes itself, every byte filled before the release.
pub fn reused_memory_is_zero_for_another_grain(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let sessions = [rig.session(0), rig.session(0)];
    for size in [4_usize, 60, 100, 4096, 70_000, 300_000] {
        for round in 0..6 {
            let session = sessions[round % 2];
            let (handle, hit) = rig.try_allocate(session, size as u64).expect("there is room");
            assert!(hit || round == 0, "the same block goes to and fro");
            assert!(rig.read(session, handle.id, size).iter().all(|byte| *byte == 0), "{size} bytes, round {round}");
            rig.write(session, handle.id, &vec![0xff; size]);
            rig.release(session, handle.id);
        }
    }
}

/// Goal: a new owner never sees a block's tail beyond what it asked for first. Method: a whole block is filled; another
/// grain gets it for a smaller size, releases it, and asks for the whole: its own block, which is not zeroed again.
pub fn the_tail_of_a_block_is_zero_for_another_grain(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let (first, second) = (rig.session(0), rig.session(0));
    for (small, whole) in [(100_usize, 112_usize), (3600, 4096), (60_000, 65_536), (115_000, 131_072)] {
        let id = rig.allocate(first, whole as u64);
        rig.write(first, id, &vec![0xff; whole]);
        rig.release(first, id);
        let (handle, hit) = rig.try_allocate(second, small as u64).expect("there is room");
        assert!(hit, "{small} and {whole} bytes are one class");
        rig.release(second, handle.id);
        let (handle, hit) = rig.try_allocate(second, whole as u64).expect("there is room");
        assert!(hit, "its own block");
        let bytes = rig.read(second, handle.id, whole);
        assert!(bytes.iter().all(|byte| *byte == 0), "the tail shows what the first grain left");
        rig.release(second, handle.id);
    }
}

/// Goal: a deactivated grain's memory is zero for those after it, and a restored one has its own bytes only. Method: two
/// grains are deactivated in turn, over the same memory.
pub fn a_restored_grain_sees_nothing_of_others(context: &Context) {
    let silo = silo(context);
    let keys: Vec<u64> =
        (0..1000).filter(|key| gpubridge_grains::GrainKey::from(*key).stable_hash() % 2 == 0).collect();
    let grains = [keys[0], keys[1]].map(|key| silo.grain(key).expect("good"));
    let mut handles = [None, None];
    for round in 0..6_u8 {
        let which = usize::from(round % 2);
        let grain = &grains[which];
        let new = allocate(grain, 1000);
        assert_eq!(wait(grain.read::<u8>(new, 0, 1000)).expect("is read"), [0; 1000]);
        grain.write(new, &[round + 1; 1000], 0).wait().expect("is written");
        if let Some((old, value)) = handles[which].replace((new, round + 1)) {
            assert_eq!(wait(grain.read::<u8>(old, 0, 1000)).expect("is restored"), [value; 1000]);
        }
        wait(grain.deactivate()).expect("is saved");
    }
    stop(silo);
}

/// Goal: total, used and allocated differ (fault: all three the same). Method: a live and an idle block.
pub fn budget_used_and_allocated_are_three_numbers(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    rig.allocate(session, 1000);
    let idle = rig.allocate(session, 10_000);
    rig.release(session, idle);
    let metrics = rig.memory.metrics();
    assert_eq!((metrics.total_pool_size_bytes, metrics.used_pool_size_bytes), (BUDGET, 1000));
    assert!((11_000..MIB).contains(&metrics.total_allocated_bytes), "{metrics:?}");
    let info = rig.memory.memory_info();
    assert_eq!((info.total_bytes, info.allocated_bytes), (BUDGET, metrics.total_allocated_bytes));
    assert!(info.reserved_bytes >= info.allocated_bytes && info.utilization < 0.001, "{info:?}");
}

/// Goal: a device that is asked for is used or refused (fault: index ignored). Method: one that is not there, in opening,
/// Initialize and Allocate; the handle names its own.
pub fn the_device_index_is_honoured(context: &Context) {
    const NONE: DeviceIndex = DeviceIndex(99);
    let error = context.backend().open(NONE).expect_err("there is no such device");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("99"), "{error}");
    let rig = Rig::new(context.device(), config());
    let session = rig.memory.session(0);
    let mut initialize = InitializeMessage::new(rig.memory.envelope());
    initialize.device_index = Some(NONE);
    assert_eq!(kind(rig.memory.initialize(session, &initialize)), ErrorKind::Unsupported);
    assert!(!rig.memory.is_open(session));
    let session = rig.session(0);
    let mut allocate = AllocateMessage::new(rig.memory.envelope(), 64);
    allocate.device_index = Some(NONE);
    assert_eq!(kind(rig.memory.allocate(session, &allocate)), ErrorKind::Unsupported);
    allocate.device_index = Some(rig.memory.device_index());
    let handle = rig.memory.allocate(session, &allocate).expect("its own").handle;
    assert_eq!(handle.device_index, rig.memory.device_index());
}

/// Goal: a kernel that is not there does nothing and says so (fault: success of a no-op). Method: an id nobody has, with
/// and without buffers; a message and a grain's call.
pub fn an_unknown_kernel_is_no_success(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    rig.write(session, id, &[7; 64]);
    for output in [None, Some(id)] {
        let response = rig.compute(session, KernelId(777_777).into(), output).wait().expect("is an answer");
        assert_eq!((response.success, response.error), (false, Some(Status::UnknownKernel)));
    }
    assert_eq!(rig.read(session, id, 64), [7; 64]);
    assert_eq!(rig.memory.metrics().kernel_cache_size, 0);
    let silo = silo(context);
    let grain = silo.grain("unknown").expect("good");
    let error = grain.compute(KernelId(777_777), None, None, Parameters::new()).wait().expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("777777"), "{error}");
    stop(silo);
}

fn message(rig: &Rig, kernel: impl Into<KernelSpec>) -> ComputeMessage {
    ComputeMessage::new(rig.memory.envelope(), kernel, None, None)
}

/// Goal: a kernel that is not given what it needs does not run (fault: a silent pass-through). Method: every buffer
/// missing, too many, the same twice, too small; the output is as it was.
pub fn a_missing_or_surplus_buffer_is_no_success(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let [a, b, small] = [64, 64, 4].map(|size| rig.allocate(session, size));
    let (some, none) = (Some(a), None);
    let operand = Parameters::new().with_operand(b);
    let wrong = [
        ComputeMessage { input: none, output: none, ..message(&rig, SUM) },
        ComputeMessage { input: some, output: some, ..message(&rig, SUM) },
        ComputeMessage { input: none, output: none, ..message(&rig, FILL) },
        ComputeMessage { input: some, output: none, ..message(&rig, SCALE) },
        ComputeMessage { input: none, output: some, ..message(&rig, SCALE) },
        ComputeMessage { input: some, output: Some(small), ..message(&rig, SCALE) },
        ComputeMessage { input: some, output: Some(b), ..message(&rig, ADD) },
        ComputeMessage { input: none, output: some, parameters: operand, ..message(&rig, ADD) },
        ComputeMessage { input: some, parameters: Parameters::new().with_count(17), ..message(&rig, SUM) },
        ComputeMessage { input: some, parameters: overflowing(), ..message(&rig, SUM) },
    ];
    rig.write(session, b, &[1; 64]);
    for wrong in wrong {
        let response = rig.memory.compute(session, &wrong).wait().expect("a failure is a response");
        assert_eq!((response.success, response.error), (false, Some(Status::InvalidArgument)), "{wrong:?}");
        let error = rig.memory.compute(session, &wrong).or_error().wait();
        assert_eq!(kind(error), ErrorKind::InvalidArgument);
    }
    assert_eq!(rig.read(session, b, 64), [1; 64]);
}

fn overflowing() -> Parameters {
    (0..7).fold(Parameters::new(), |parameters, _| parameters.with_f32(1.0))
}

/// Goal: an input, operand or output that is not live is told. Method: a released one, a stranger's, one never issued.
pub fn an_allocation_that_is_not_live_is_no_success(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let (session, other) = (rig.session(0), rig.session(0));
    let live = rig.allocate(session, 64);
    let released = rig.allocate(session, 64);
    rig.release(session, released);
    let never = gpubridge_abstractions::AllocationId { slot: 1 << 20, generation: 12345 };
    for dead in [released, rig.allocate(other, 64), never] {
        let calls = [
            ComputeMessage { input: Some(dead), ..message(&rig, SUM) },
            ComputeMessage { output: Some(dead), ..message(&rig, FILL) },
            ComputeMessage {
                input: Some(live),
                output: Some(live),
                parameters: Parameters::new().with_operand(dead),
                ..message(&rig, ADD)
            },
        ];
        for call in calls {
            let response = rig.memory.compute(session, &call).wait().expect("a failure is a response");
            assert_eq!((response.success, response.error), (false, Some(Status::UnknownAllocation)), "{call:?}");
        }
    }
}

/// Goal: what a kernel does not come in is told with what it comes in (fault: dropped in silence). Method: `scale`, which
/// is for f32, asked for integers; the typed error names the types there are.
pub fn a_kernel_without_the_type_names_those_it_has(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    let spec = KernelSpec::new(SCALE).of(ElementType::I32);
    let call = ComputeMessage { input: Some(id), output: Some(id), ..message(&rig, spec) };
    for _ in 0..2 {
        let error = rig.memory.compute(session, &call).wait().expect_err("there is no such variant");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("scale") && error.message().contains("f32"), "{error}");
    }
}

/// Goal: success means that it was computed (fault: sleep as compute). Method: sums of random numbers, from threads, each
/// compared with its own.
pub fn a_kernel_really_computes(context: &Context) {
    let rig = Rig::new(context.device(), config());
    thread::scope(|scope| {
        for thread in 0..3_u32 {
            let rig = &rig;
            scope.spawn(move || {
                let session = rig.session(u64::from(thread));
                let id = rig.allocate(session, 400);
                for round in 0..100_u32 {
                    let numbers: Vec<u32> =
                        (0..100).map(|i| (i + round * 7 + thread).wrapping_mul(2_654_435_761) % 1000).collect();
                    rig.write(session, id, bytemuck::cast_slice(&numbers));
                    let spec = KernelSpec::new(SUM).of(ElementType::U32);
                    let call = ComputeMessage { input: Some(id), ..message(rig, spec) };
                    let response = rig.memory.compute(session, &call).wait().expect("is answered");
                    assert_eq!(response.result.u32_at(0), Some(numbers.iter().sum()));
                }
            });
        }
    });
}
