//! Nobody is left waiting: full lanes, few slots, many tasks, answers that nobody takes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{AllocationId, ErrorKind, ReadMessage};
use gpubridge_grains::storage::MemoryStorage;
use gpubridge_runtime::SessionId;

use crate::rig::{
    Gate, Joined, OpenAtEnd, Rig, allocate, keep, kind, narrow, pattern, silo_config, silo_on, staged, stop,
};
use crate::twins::{COUNTER, GATED, counter, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("progress",
    Memory {
        tasks_that_share_two_slots_are_all_woken => "ResidentMemory/no-lost-wake-up",
        two_threads_share_a_lane => "ResidentMemory/shared-lane",
        answers_that_nobody_takes_are_back_pressure_not_a_hang => "ResidentMemory/back-pressure",
        a_lane_that_was_full_is_empty_again => "ResidentMemory/full-and-empty",
        calls_in_pieces_of_one_grain_take_turns => "ResidentMemory/turns",
        tasks_of_one_thread_do_not_block_each_other => "ResidentMemory/tasks-wait",
    }
    Twins {
        one_slow_grain_holds_up_no_other_in_its_lane => "ResidentMemory/slow-session",
        callers_blocked_by_a_full_lane_are_woken => "ResidentMemory/room-wakes",
        a_kernel_that_panics_fails_its_call_alone => "ResidentMemory::compute/panic",
    }
);

async fn rounds(rig: Rig, session: SessionId, id: AllocationId, rounds: u64) {
    for round in 0..rounds {
        let data = pattern(round, 100);
        let message = rig.write_message(id, 0, 100);
        rig.memory.write(session, &message, &data).await.expect("is written");
        let mut bytes = [0; 100];
        let message = ReadMessage::new(rig.memory.envelope(), id, 0, staged(100));
        rig.memory.read(session, &message, &mut bytes).await.expect("is read");
        assert!(bytes == *data, "another call's bytes");
    }
}

/// Goal: no wake-up is lost when a slot changes hands. Method: eight tasks on four threads await thousands of answers
/// through two slots; one that is not woken runs into its deadline.
pub fn tasks_that_share_two_slots_are_all_woken(context: &Context) {
    let rig = Rig::new(context.device(), narrow(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let session = rig.session(0);
                let id = rig.allocate(session, 100);
                tokio::spawn(rounds(rig.clone(), session, id, 300))
            })
            .collect();
        for task in tasks {
            task.await.expect("every task is woken");
        }
    });
}

/// Goal: the guard keeps two producers apart. Method: two threads, one lane of few slots, contents compared.
pub fn two_threads_share_a_lane(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    thread::scope(|scope| {
        for thread in 0..2 {
            let rig = &rig;
            scope.spawn(move || {
                let session = rig.session(0);
                for round in 0..500 {
                    let id = rig.allocate(session, 300);
                    let data = pattern(thread * 1000 + round, 300);
                    rig.write(session, id, &data);
                    assert!(rig.read(session, id, 300) == data);
                    rig.release(session, id);
                }
            });
        }
    });
}

/// Goal: more answers that nobody takes than slots are back-pressure with a deadline; others' lanes do not notice, and
/// all goes on when the answers are given up. Method: as many posted calls as slots are kept.
pub fn answers_that_nobody_takes_are_back_pressure_not_a_hang(context: &Context) {
    let mut config = narrow(8);
    config.ring.lanes = 2;
    let rig = Rig::new(context.device(), config);
    let (session, beside, elsewhere) = (rig.session(0), rig.session(0), rig.session(1));
    let ids = [session, beside, elsewhere].map(|session| rig.allocate(session, 64));
    let message = rig.write_message(ids[0], 0, 64);
    let mut kept = Vec::new();
    let values: [_; 8] = std::array::from_fn(|value| [value as u8; 64]);
    for value in &values {
        kept.push(rig.memory.write(session, &message, value).post().expect("there is a slot"));
    }
    let short = Duration::from_millis(20);
    let more = rig.memory.write(session, &message, &[9; 64]).with_deadline(short).wait();
    assert_eq!(kind(more), ErrorKind::Timeout);
    for round in 0..100 {
        rig.write(elsewhere, ids[2], &pattern(round, 64));
    }
    kept.truncate(7);
    for round in 0..100 {
        rig.write(beside, ids[1], &pattern(round, 64));
    }
    for call in kept {
        assert_eq!(call.wait().expect("its answer was kept").bytes_written, 64);
    }
    assert_eq!(rig.read(session, ids[0], 64), [7; 64]);
}

/// Goal: a full lane is told from an empty one at every lap. Method: fill, refuse, empty; many laps, at every position.
pub fn a_lane_that_was_full_is_empty_again(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let message = rig.write_message(id, 0, 4);
    for lap in 0..40_u8 {
        let data = [lap; 4];
        let calls: Vec<_> = (0..4)
            .map(|_| rig.memory.write(session, &message, &data).post().expect("an empty lane has four slots"))
            .collect();
        let more = rig.memory.write(session, &message, &[99; 4]).with_deadline(Duration::from_millis(1)).post();
        assert_eq!(kind(more), ErrorKind::Timeout, "a full lane took one more");
        for call in calls {
            call.wait().expect("is written");
        }
        // One more command moves the lap's start.
        assert_eq!(rig.read(session, id, 4), [lap; 4]);
    }
}

/// Goal: long calls of one grain follow each other, each whole. Method: four threads write and read 16 KiB in pieces of
/// 256 bytes.
pub fn calls_in_pieces_of_one_grain_take_turns(context: &Context) {
    const SIZE: usize = 16 << 10;
    let rig = Rig::new(context.device(), narrow(4));
    let session = rig.session(0);
    let id = rig.allocate(session, SIZE as u64);
    thread::scope(|scope| {
        for thread in 1..=4_u8 {
            let rig = &rig;
            scope.spawn(move || {
                for _ in 0..10 {
                    rig.write(session, id, &vec![thread; SIZE]);
                    let bytes = rig.read(session, id, SIZE);
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "two writes are mixed");
                }
            });
        }
    });
}

/// Goal: no awaited operation blocks its thread while the lane is full: those who make room may be tasks of the same
/// thread. Method: on a runtime of one thread, one task holds as many answers as the lane has slots; beside it another one
/// allocates, deactivates, or activates with something to restore; only when that one waits the first takes its answers.
pub fn tasks_of_one_thread_do_not_block_each_other(context: &Context) {
    let mut config = silo_config(narrow(4));
    config.memory.call_deadline = Duration::from_secs(20);
    let silo = silo_on(context.device(), Arc::new(MemoryStorage::new()), config);
    let (full, other) = (silo.grain("full").expect("good"), silo.grain("other").expect("good"));
    let handle = allocate(&full, 4);
    let kept_value = keep(&other, 7);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let beside_a_full_lane = async |work: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let data = [1_u32];
        let calls: Vec<_> =
            (0..4).map(|_| full.write(handle, &data, 0).post().expect("an empty lane has four slots")).collect();
        let take = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            for call in calls {
                call.await.expect("is written");
            }
        };
        tokio::join!(work, take);
    };
    runtime.block_on(async {
        for _ in 0..5 {
            let grain = other.clone();
            let work = async move {
                let handle = grain.allocate(64, Default::default()).await.expect("there is room in the end");
                grain.release(handle, true).await.expect("is answered");
            };
            beside_a_full_lane(Box::pin(work)).await;
            let grain = other.clone();
            beside_a_full_lane(Box::pin(async move { grain.deactivate().await.expect("is saved") })).await;
            let grain = other.clone();
            let work = async move {
                assert_eq!(grain.read::<u32>(kept_value, 0, 1).await.expect("is restored"), [7]);
            };
            beside_a_full_lane(Box::pin(work)).await;
        }
    });
    stop(silo);
}

/// Goal: a slow command holds back its own grain, not its lane. Method: one grain at a gate among a hundred in one lane.
pub fn one_slow_grain_holds_up_no_other_in_its_lane(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), narrow(8));
    let slow = rig.session(0);
    let id = rig.allocate(slow, 4);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(slow, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let behind = rig.compute(slow, COUNTER, Some(id)).post().expect("is submitted");
    for _ in 0..100 {
        let session = rig.session(0);
        let id = rig.allocate(session, 4);
        for sum in 1..=5 {
            assert_eq!(rig.run(session, COUNTER, Some(id)).result.u32_at(0), Some(sum));
        }
    }
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    assert_eq!(behind.wait().expect("is answered").result.u32_at(0), Some(1));
}

/// Goal: who found the lane full is woken when there is room. Method: a lane is filled behind a gate; tasks and threads
/// come to it; the gate opens, and each is answered.
pub fn callers_blocked_by_a_full_lane_are_woken(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), narrow(4));
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    let waiting = rig.compute(session, GATED, None).post().expect("is submitted");
    gate.wait_arrived(1);
    let queued: Vec<_> =
        (0..3).map(|_| rig.compute(session, COUNTER, Some(id)).post().expect("there is a slot")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let rig = rig.clone();
            runtime.spawn(async move { rig.compute(session, COUNTER, Some(id)).await.map(|r| r.success) })
        })
        .collect();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let rig = rig.clone();
            thread::spawn(move || rig.compute(session, COUNTER, Some(id)).wait().map(|r| r.success))
        })
        .collect();
    assert!(tasks.iter().all(|task| !task.is_finished()));
    gate.open();
    assert!(waiting.wait().expect("is answered").success);
    for call in queued {
        assert!(call.wait().expect("is answered").success);
    }
    for thread in threads {
        assert!(thread.joined().expect("is answered"));
    }
    for task in tasks {
        assert!(runtime.block_on(task).expect("no panic").expect("is answered"));
    }
    assert_eq!(rig.run(session, COUNTER, Some(id)).result.u32_at(0), Some(16));
}

/// Goal: a kernel that panics is a fault of its own call. Method: it answers so; the grain, the lane and the kernels go on.
pub fn a_kernel_that_panics_fails_its_call_alone(context: &Context) {
    let kernels = [crate::twins::faulty(), counter()];
    let rig = Rig::new(context.device_with(&kernels), narrow(4));
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    for sum in 1..=5 {
        let response = rig.compute(session, crate::twins::FAULTY, None).wait().expect("is answered");
        assert_eq!((response.success, response.error), (false, Some(gpubridge_abstractions::Status::KernelFault)));
        assert_eq!(rig.run(session, COUNTER, Some(id)).result.u32_at(0), Some(sum));
    }
    let error = rig.compute(session, crate::twins::FAULTY, None).or_error().wait();
    assert_eq!(kind(error), ErrorKind::KernelFault);
}
