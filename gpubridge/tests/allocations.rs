//! After warm-up, nothing on the data plane allocates: not a ring operation, not a grain's call.
//!
//! The counter sees every thread of the process, the ring's and the driver's too, so this program has one test only.

use std::alloc::System;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{Computation, GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::id::{SCALE, SUM};
use gpubridge::runtime::Answered;
use gpubridge::{
    Command, ComputeResponse, Device, Error, GpuMemoryHandle, MemoryType, Opcode, Parameters, RingConfig, Taken,
    backends,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TIMES: usize = 2_000;
const ROUNDS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(10);

/// Calls of the allocator that took memory, by any thread.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Runs `operation` many times, and again, and asserts that this took no memory. A thread of the device that starts or
/// sleeps for the first time meanwhile takes some once, so the quietest of some rounds counts; what an operation takes, it
/// takes in all of them.
#[track_caller]
fn allocates_nothing(name: &str, mut operation: impl FnMut(usize)) {
    (0..TIMES).for_each(&mut operation);
    let round = |_| {
        let before = allocations();
        (0..TIMES).for_each(&mut operation);
        allocations() - before
    };
    let taken: Vec<usize> = (0..ROUNDS).map(round).take_while(|taken| *taken > 0).collect();
    assert!(taken.len() < ROUNDS, "allocations by {TIMES} × {name}, in each round: {taken:?}");
}

/// Polls until the future is ready, as an executor that owns this thread does.
fn polled<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // The answer comes from another thread, which may want this core.
        std::thread::yield_now();
    }
}

#[test]
fn nothing_allocates_after_warm_up() {
    // The counter counts: a test that cannot fail says nothing.
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);

    let selection = backends(gpubridge::kernels::library()).select(None, None).expect("a backend is built in");
    let device = selection.open().expect("its device opens");
    ring_operations(&*device);

    let silo = wait(Silo::start(device, Arc::new(MemoryStorage::new()), SiloConfig::default())).expect("it starts");
    let grain = silo.grain(1).expect("the key is good");
    transfers(&grain);
    computations(&silo, &grain);
    allocate_and_release(&silo);
    assert!(wait(silo.shutdown(DEADLINE)).is_clean());
}

fn ring_operations(device: &dyn Device) {
    let ring = device.launch(RingConfig::default()).expect("it launches");
    let mut lane = ring.take_lane(0).expect("there is a lane");
    ring.activate(DEADLINE).expect("it is activated");
    allocates_nothing("echo on the bare lane", |time| {
        let payload = [time as u64; 7];
        let echo = Command::new(Opcode::Echo, 0, payload);
        let mut ticket = lane.submitter.try_submit(&echo, &[]).expect("there is room");
        lane.submitter.doorbell();
        let completion = loop {
            match lane.completions.take(&mut ticket, &mut []) {
                Taken::Ready(completion) => break completion,
                Taken::Pending => std::thread::yield_now(),
                Taken::Gone => panic!("the ticket is awaited"),
            }
        };
        assert_eq!(completion.payload, payload);
    });
    ring.terminate(DEADLINE).expect("it terminates");
}

fn transfers(grain: &GrainRef) {
    // In the command itself, through one slot's staging, and in several pieces.
    for elements in [4, 256, 4_000] {
        let block = wait(grain.allocate(4 * elements, MemoryType::Default)).expect("there is memory");
        let (mut data, mut held) = (vec![0_u32; elements as usize], vec![0_u32; elements as usize]);
        let name = |call: &str| format!("{call} of {elements} elements");
        let bytes = 4 * elements;
        allocates_nothing(&name("write and read_into, waited for"), |time| {
            data.fill(time as u32);
            assert_eq!(grain.write(block, &data, 0).wait().expect("it is written").bytes_written, bytes);
            grain.read_into(block, 0, &mut held).wait().expect("it is read");
            assert_eq!(held, data);
        });
        allocates_nothing(&name("write and read_into, polled"), |time| {
            data.fill(!time as u32);
            assert_eq!(polled(grain.write(block, &data, 0)).expect("it is written").bytes_written, bytes);
            polled(grain.read_into(block, 0, &mut held)).expect("it is read");
            assert_eq!(held, data);
        });
        allocates_nothing(&name("write, posted"), |time| {
            data.fill(time as u32);
            drop(grain.write(block, &data, 0).post().expect("it is posted"));
        });
        assert_eq!(wait(grain.release(block, true)).expect("it is released").bytes_freed, bytes);
    }
}

fn computations(silo: &Silo, grain: &GrainRef) {
    let allocate = || wait(grain.allocate(16, MemoryType::Default)).expect("there is memory");
    let (input, output) = (allocate(), allocate());
    grain.write(input, &[1.0_f32, 2.0, 3.0, 4.0], 0).wait().expect("it is written");
    let sum = || grain.compute(SUM, Some(output), None, Parameters::new());
    let factor = |time: usize| time as f32;
    let scale = |time| grain.compute(SCALE, Some(input), Some(output), Parameters::new().with_f32(factor(time)));
    allocates_nothing("compute, waited for", |time| {
        scale(time).wait().expect("it runs");
        check(time, sum().wait());
    });
    allocates_nothing("compute, polled", |time| {
        polled(scale(time)).expect("it runs");
        check(time, polled(sum()));
    });
    let mut batch = silo.batch(NonZeroUsize::new(64).expect("64 is not 0"));
    let oldest = |(time, answer): Answered| {
        if time != u64::MAX {
            check(time as usize, answer);
        }
    };
    allocates_nothing("compute, in a batch", |time| {
        let parameters = Parameters::new().with_f32(factor(time));
        let scale = Computation {
            grain,
            kernel: SCALE.into(),
            input: Some(input),
            output: Some(output),
            parameters,
            token: u64::MAX,
        };
        let sum = Computation {
            kernel: SUM.into(),
            input: Some(output),
            output: None,
            parameters: Parameters::new(),
            token: time as u64,
            ..scale
        };
        batch.submit([scale, sum], oldest);
    });
    std::iter::from_fn(|| batch.next()).for_each(oldest);
    let all = [input, output].map(|handle: GpuMemoryHandle| wait(grain.release(handle, true)));
    assert!(all.into_iter().all(|released| released.is_ok()));
}

/// The sum of 1, 2, 3 and 4, each times `time`.
fn check(time: usize, answer: Result<ComputeResponse, Error>) {
    assert_eq!(answer.expect("it runs").result.f32_at(0), Some(10.0 * time as f32));
}

fn allocate_and_release(silo: &Silo) {
    let grains = [2, 3, 4, 5].map(|key| silo.grain(key).expect("the key is good"));
    allocates_nothing("allocate and release, several owners", |time| {
        let grain = &grains[time % grains.len()];
        let handles = [320, 4096, 320]
            .map(|size_bytes| polled(grain.allocate(size_bytes, MemoryType::Default)).expect("there is memory"));
        // Waited for, so that the lane is done with the blocks: how many are idle, and with them the pool's tables, does
        // not depend on how fast the device is.
        grain.write(handles[2], &[time as u32], 0).wait().expect("it is written");
        for handle in handles {
            let released = polled(grain.release(handle, true)).expect("it is released");
            assert_eq!(released.bytes_freed, handle.size_bytes);
        }
    });
}
