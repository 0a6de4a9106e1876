//! The grain lifecycle: the six tests of the documents, on runtimes and without.

use std::collections::HashSet;
use std::thread;
use std::time::SystemTime;

use gpubridge_abstractions::{ErrorKind, GpuMemoryHandle, MemoryType};
use gpubridge_grains::{Silo, wait};

use crate::rig::{BUDGET, Joined, KIB, MIB, SOON, allocate, kind, pattern, silo, stop};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!(
    "grains",
    Memory {
        activation_initializes_the_ring_kernel => "Silo::grain/lazy",
        allocation_tracks_pool_hits => "GrainRef::allocate_reporting/pool-hit",
        write_and_read_keep_1024_floats => "GrainRef::read/as-written",
        bytes_are_read_as_any_type => "GrainRef::read/any-type",
        ranges_that_cannot_be_are_refused => "GrainRef::read/beyond",
        a_stored_buffer_is_loaded_in_whole_elements => "GrainRef::load/whole-elements",
        metrics_are_comprehensive => "Silo::metrics/exact",
        deactivation_frees_the_device => "GrainRef::deactivate/frees",
        a_hundred_tasks_allocate_at_once => "GrainRef::allocate/concurrent",
        a_hundred_calls_from_threads_allocate_at_once => "GrainRef::allocate/concurrent",
    }
);

/// Runs `case` on a silo of its own: without a runtime, on one of one thread, on one of several.
fn everywhere<F: Future<Output = ()>>(context: &Context, case: impl Fn(Silo) -> F) {
    wait(case(silo(context)));
    let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    one.block_on(case(silo(context)));
    let several = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    several.block_on(case(silo(context)));
}

async fn end(silo: Silo) {
    let report = silo.shutdown(SOON).await;
    assert!(report.is_clean(), "{report:?}");
}

/// Goal: the first call of a grain opens its session on the device's ring, and none before. Method: grains are named,
/// called, and counted.
pub fn activation_initializes_the_ring_kernel(context: &Context) {
    everywhere(context, async |silo: Silo| {
        let grain = silo.grain("first").expect("the key is good");
        assert_eq!((silo.active_grains(), silo.metrics().total_messages_processed), (0, 0), "naming is not calling");
        let response = grain.metrics(false).await.expect("the grain is activated");
        assert_eq!(silo.active_grains(), 1);
        assert_eq!(response.total_messages_processed, 2, "Initialize, and the request for metrics");
        let totals = grain.totals().await.expect("its tracker runs");
        assert!(totals.start_time <= SystemTime::now() && totals.allocations.count == 0);
        silo.grain(7).expect("the key is good").metrics(false).await.expect("activated");
        assert_eq!(silo.active_grains(), 2);
        end(silo).await;
    });
}

/// Goal: an allocation after a release of its size is a pool hit, and is counted. Method: allocate, release, allocate.
pub fn allocation_tracks_pool_hits(context: &Context) {
    everywhere(context, async |silo: Silo| {
        let grain = silo.grain("hits").expect("the key is good");
        let first = grain.allocate_reporting(4 * KIB, MemoryType::Default).await.expect("there is room");
        assert!(!first.is_pool_hit);
        let released = grain.release(first.handle, true).await.expect("is answered");
        assert_eq!((released.bytes_freed, released.returned_to_pool), (4 * KIB, true));
        let second = grain.allocate_reporting(4 * KIB, MemoryType::Default).await.expect("there is room");
        assert!(second.is_pool_hit && second.handle.id != first.handle.id);
        let metrics = grain.metrics(false).await.expect("is answered");
        assert_eq!((metrics.pool_hit_count, metrics.pool_miss_count), (1, 1));
        let totals = grain.totals().await.expect("is answered");
        assert_eq!((totals.allocations.count, totals.allocations.pool_hit_count, totals.releases.count), (2, 1, 1));
        assert!((totals.pool_hit_rate() - 0.5).abs() < 1e-12);
        end(silo).await;
    });
}

/// Goal: what is written is read. Method: 1,024 floats, bit for bit.
pub fn write_and_read_keep_1024_floats(context: &Context) {
    everywhere(context, async |silo: Silo| {
        let grain = silo.grain("floats").expect("the key is good");
        let floats: Vec<f32> = (0..1024_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect();
        let handle = grain.allocate(4096, MemoryType::Default).await.expect("there is room");
        let response = grain.write(handle, &floats, 0).await.expect("is written");
        assert_eq!(response.bytes_written, 4096);
        let read = grain.read::<f32>(handle, 0, 1024).await.expect("is read");
        assert!(read.iter().zip(&floats).all(|(a, b)| a.to_bits() == b.to_bits()));
        let part = grain.read::<f32>(handle, 1000, 24).await.expect("is read");
        assert!(part.iter().zip(&floats[1000..]).all(|(a, b)| a.to_bits() == b.to_bits()));
        end(silo).await;
    });
}

/// Goal: what was written as one type is read as another. Method: bytes as words from an odd word on, and as a type of no
/// size.
pub fn bytes_are_read_as_any_type(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("bytes").expect("the key is good");
    let handle = allocate(&grain, 8);
    grain.write(handle, &[1_u8, 2, 3, 4, 5, 6, 7, 8], 0).wait().expect("is written");
    let words = [0x0403_u16, 0x0605].map(u16::from_le);
    assert_eq!(wait(grain.read::<u16>(handle, 1, 2)).expect("it is within"), words);
    assert_eq!(wait(grain.read::<[u8; 3]>(handle, 1, 1)).expect("it is within"), [[4, 5, 6]]);
    assert_eq!(wait(grain.read::<()>(handle, 3, 2)).expect("nothing is read"), [(), ()]);
    stop(silo);
}

/// Goal: no offset and no count overflows or ends the process. Method: the greatest of each, and a handle that claims to
/// be that large.
pub fn ranges_that_cannot_be_are_refused(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("odd").expect("the key is good");
    let handle = allocate(&grain, 8);
    assert_eq!(kind(wait(grain.read::<u64>(handle, u64::MAX, 1))), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.read::<u8>(handle, 0, usize::MAX))), ErrorKind::InvalidArgument);
    assert_eq!(kind(grain.write(handle, &[1_u64], u64::MAX).wait()), ErrorKind::InvalidArgument);
    let forged = GpuMemoryHandle { size_bytes: u64::MAX, ..handle };
    assert_eq!(kind(wait(grain.read::<u64>(forged, 0, usize::MAX / 8))), ErrorKind::OutOfMemory);
    assert_eq!(kind(wait(grain.read::<u64>(forged, 0, 2))), ErrorKind::InvalidArgument);
    assert_eq!(kind(wait(grain.allocate(u64::MAX, MemoryType::Default))), ErrorKind::OutOfMemory);
    stop(silo);
}

/// Goal: a buffer is loaded as what it is a whole number of, or not at all. Method: six bytes, before and after a
/// deactivation.
pub fn a_stored_buffer_is_loaded_in_whole_elements(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("buffer").expect("the key is good");
    wait(grain.store(&[1_u16, 2, 3])).expect("there is room");
    for _ in 0..2 {
        assert_eq!(kind(wait(grain.load::<u32>())), ErrorKind::InvalidArgument, "six bytes");
        assert_eq!(wait(grain.load::<u16>()).expect("it is kept"), Some(vec![1, 2, 3]));
        wait(grain.deactivate()).expect("is saved");
    }
    stop(silo);
}

/// Goal: the device's metrics say what happened, each value. Method: a known life, every value computed outside.
pub fn metrics_are_comprehensive(context: &Context) {
    let device = context.device().info();
    everywhere(context, async |silo: Silo| {
        let before = SystemTime::now();
        let grain = silo.grain("metrics").expect("the key is good");
        let kept = grain.allocate(4000, MemoryType::Default).await.expect("there is room");
        let released = grain.allocate(100, MemoryType::Default).await.expect("there is room");
        grain.write(kept, &[1_u8; 4000], 0).await.expect("is written");
        grain.read::<u8>(kept, 0, 10).await.expect("is read");
        grain.release(released, true).await.expect("is answered");
        grain.allocate(110, MemoryType::Default).await.expect("there is room");
        let m = silo.metrics();
        assert_eq!((m.total_pool_size_bytes, m.used_pool_size_bytes), (BUDGET, 4110));
        assert!((m.pool_utilization - 4110.0 / BUDGET as f64).abs() < 1e-12);
        assert_eq!((m.pool_hit_count, m.pool_miss_count, m.active_allocation_count), (1, 2, 2));
        assert!((m.pool_hit_rate - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(m.total_messages_processed, 7, "Initialize, three allocations, a write, a read, a release");
        assert!(m.messages_per_second > 0.0 && m.average_message_latency_ns >= 0.0);
        assert_eq!(m.pending_message_count, 0);
        assert!(m.total_allocated_bytes >= m.used_pool_size_bytes && m.total_allocated_bytes < MIB);
        assert_eq!((m.kernel_cache_size, m.kernel_cache_hit_rate), (0, 0.0));
        assert_eq!((m.device_type.as_str(), m.device_name.as_str()), (&*device.kind.to_string(), &*device.name));
        assert!(m.start_time <= before && m.uptime(SystemTime::now()) < SOON);
        assert_eq!(m.average_allocation_size(), 2055.0);
        let info = grain.memory_info();
        assert_eq!(info.total_bytes, info.allocated_bytes + info.free_bytes);
        assert!(info.reserved_bytes >= info.allocated_bytes && info.ring_kernel_bytes > 0 && info.buffer_bytes > 0);
        assert_eq!((info.device_index, info.device_name), (device.index, device.name.clone()));
        end(silo).await;
    });
}

/// Goal: a deactivated grain holds no device memory. Method: one grain takes all of the budget, is deactivated, and
/// another takes all of it.
pub fn deactivation_frees_the_device(context: &Context) {
    everywhere(context, async |silo: Silo| {
        for key in ["first", "second", "third"] {
            let grain = silo.grain(key).expect("the key is good");
            let handle = grain.allocate(15 * MIB, MemoryType::Default).await.expect("all is free");
            grain.release(handle, true).await.expect("is answered");
            grain.allocate(15 * MIB, MemoryType::Default).await.expect("all is free");
            grain.clear().await.expect("is answered");
            grain.allocate(50 * KIB, MemoryType::Default).await.expect("there is room");
            assert_eq!((silo.active_grains(), silo.metrics().active_allocation_count), (1, 1));
            grain.deactivate().await.expect("is saved");
            let metrics = silo.metrics();
            assert_eq!(
                (silo.active_grains(), metrics.active_allocation_count, metrics.used_pool_size_bytes),
                (0, 0, 0)
            );
        }
        end(silo).await;
    });
}

fn size_bytes(number: u64) -> u64 {
    KIB + number * 91 % (9 * KIB)
}

/// Goal: a hundred allocations of 1–10 KB at once have unique ids and blocks of their own. Method: tasks on a runtime,
/// each fills its block; all are read when all are written.
pub fn a_hundred_tasks_allocate_at_once(context: &Context) {
    let silo = silo(context);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("a runtime");
    let grain = silo.grain("crowded").expect("the key is good");
    let handles = runtime.block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let grain = grain.clone();
                tokio::spawn(async move {
                    let handle = grain.allocate(size_bytes(number), MemoryType::Default).await.expect("there is room");
                    grain.write(handle, &pattern(number, size_bytes(number) as usize), 0).await.expect("is written");
                    handle
                })
            })
            .collect();
        let mut handles = Vec::new();
        for task in tasks {
            handles.push(task.await.expect("no panic"));
        }
        handles
    });
    all_are_intact(&silo, &grain, &handles);
    stop(silo);
}

fn all_are_intact(silo: &Silo, grain: &gpubridge_grains::GrainRef, handles: &[GpuMemoryHandle]) {
    assert_eq!(handles.iter().map(|handle| handle.id).collect::<HashSet<_>>().len(), 100, "ids are not unique");
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(handle.size_bytes, size_bytes(number));
        let read = wait(grain.read::<u8>(*handle, 0, handle.size_bytes as usize)).expect("is read");
        assert!(read == pattern(number, read.len()), "block {number} was overwritten");
    }
    assert_eq!(silo.metrics().active_allocation_count, 100);
    assert_eq!(silo.metrics().used_pool_size_bytes, (0..100).map(size_bytes).sum::<u64>());
}

/// Goal and method as above, from ten threads without a runtime.
pub fn a_hundred_calls_from_threads_allocate_at_once(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("crowded").expect("the key is good");
    let handles: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..10)
            .map(|ten| {
                let grain = &grain;
                scope.spawn(move || {
                    let one = |number| {
                        let handle = allocate(grain, size_bytes(number));
                        grain.write(handle, &pattern(number, size_bytes(number) as usize), 0).wait().expect("written");
                        handle
                    };
                    (ten * 10..ten * 10 + 10).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.joined()).collect()
    });
    all_are_intact(&silo, &grain, &handles);
    stop(silo);
}
