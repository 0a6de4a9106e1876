//! After warm-up nothing on the data plane allocates host memory: neither a caller nor the device.
//!
//! The counter sees every thread of the process, so these cases run alone.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use gpubridge_abstractions::{
    Command, ComputeResponse, Error, GpuMemoryHandle, MemoryType, Opcode, Parameters, RingConfig, Taken,
};
use gpubridge_grains::{Computation, GrainRef, Silo};
use gpubridge_kernels::id::{SCALE, SUM};
use gpubridge_runtime::Answered;

use crate::counting::allocations;
use crate::rig::{KIB, SOON, allocate, silo, stop};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("allocations",
    CountedAllocations {
        commands_of_a_lane_take_no_memory => "Submitter::try_submit/takes-no-memory",
        writes_and_reads_take_no_memory => "ResidentMemory::write/takes-no-memory",
        allocations_that_hit_take_no_memory => "ResidentMemory::allocate/takes-no-memory",
    }
    CountedCompute {
        computations_take_no_memory => "ResidentMemory::compute/takes-no-memory",
        batches_take_no_memory => "Batch/takes-no-memory",
    }
);

const TIMES: usize = 2_000;
const ROUNDS: usize = 3;

/// Runs `operation` many times, and again, and asserts that this took no memory. A thread of the device that starts or
/// sleeps for the first time meanwhile takes some once, so the quietest of some rounds counts; what an operation takes, it
/// takes in all of them.
#[track_caller]
fn takes_no_memory(name: &str, mut operation: impl FnMut(usize)) {
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
    let mut context = TaskContext::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // The answer comes from another thread, which may want this core.
        std::thread::yield_now();
    }
}

/// Goal: a command and its answer take no memory. Method: echoes on a lane of the bare ring, each checked.
pub fn commands_of_a_lane_take_no_memory(context: &Context) {
    let ring = context.device().launch(RingConfig::default()).expect("it launches");
    let mut lane = ring.take_lane(0).expect("there is a lane");
    ring.activate(SOON).expect("it is activated");
    takes_no_memory("echo on the bare lane", |time| {
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
    ring.terminate(SOON).expect("it terminates");
}

/// Goal: nor do transfers. Method: in the command itself, through one slot's staging and in several pieces; waited for,
/// polled and posted; each read compared.
pub fn writes_and_reads_take_no_memory(context: &Context) {
    let silo = silo(context);
    let grain = silo.grain("transfers").expect("the key is good");
    for elements in [4, 256, 4_000] {
        let bytes = 4 * elements;
        let block = allocate(&grain, bytes);
        let (mut data, mut held) = (vec![0_u32; elements as usize], vec![0_u32; elements as usize]);
        takes_no_memory(&format!("write and read_into of {elements} elements, waited for"), |time| {
            data.fill(time as u32);
            assert_eq!(grain.write(block, &data, 0).wait().expect("it is written").bytes_written, bytes);
            grain.read_into(block, 0, &mut held).wait().expect("it is read");
            assert_eq!(held, data);
        });
        takes_no_memory(&format!("write and read_into of {elements} elements, polled"), |time| {
            data.fill(!time as u32);
            assert_eq!(polled(grain.write(block, &data, 0)).expect("it is written").bytes_written, bytes);
            polled(grain.read_into(block, 0, &mut held)).expect("it is read");
            assert_eq!(held, data);
        });
        takes_no_memory(&format!("write of {elements} elements, posted"), |time| {
            data.fill(time as u32);
            drop(grain.write(block, &data, 0).post().expect("it is posted"));
        });
        grain.read_into(block, 0, &mut held).wait().expect("it is read");
        assert_eq!(held, data, "what was posted last");
    }
    stop(silo);
}

/// A grain with 1, 2, 3 and 4 in one allocation, and another to scale them into.
struct Scaled {
    grain: GrainRef,
    input: GpuMemoryHandle,
    output: GpuMemoryHandle,
}

impl Scaled {
    fn new(silo: &Silo) -> Self {
        let grain = silo.grain("scaled").expect("the key is good");
        let (input, output) = (allocate(&grain, 16), allocate(&grain, 16));
        grain.write(input, &[1.0_f32, 2.0, 3.0, 4.0], 0).wait().expect("it is written");
        Self { grain, input, output }
    }
}

/// The sum of 1, 2, 3 and 4, each times `time`.
fn check(time: usize, answer: Result<ComputeResponse, Error>) {
    assert_eq!(answer.expect("it runs").result.f32_at(0), Some(10.0 * time as f32));
}

/// Goal: nor do computations. Method: scale and sum, waited for and polled, each sum checked.
pub fn computations_take_no_memory(context: &Context) {
    let silo = silo(context);
    let Scaled { grain, input, output } = Scaled::new(&silo);
    let sum = || grain.compute(SUM, Some(output), None, Parameters::new());
    let scale = |time: usize| {
        let parameters = Parameters::new().with_f32(time as f32);
        grain.compute(SCALE, Some(input), Some(output), parameters)
    };
    takes_no_memory("compute, waited for", |time| {
        scale(time).wait().expect("it runs");
        check(time, sum().wait());
    });
    takes_no_memory("compute, polled", |time| {
        polled(scale(time)).expect("it runs");
        check(time, polled(sum()));
    });
    stop(silo);
}

/// Goal: nor do batches. Method: as above, 64 in flight.
pub fn batches_take_no_memory(context: &Context) {
    let silo = silo(context);
    let Scaled { grain, input, output } = Scaled::new(&silo);
    let mut batch = silo.batch(NonZeroUsize::new(64).expect("64 is not 0"));
    let oldest = |(time, answer): Answered| {
        if time != u64::MAX {
            check(time as usize, answer);
        }
    };
    takes_no_memory("compute, in a batch", |time| {
        let scale = Computation {
            grain: &grain,
            kernel: SCALE.into(),
            input: Some(input),
            output: Some(output),
            parameters: Parameters::new().with_f32(time as f32),
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
    stop(silo);
}

/// Goal: nor do allocations that a released block serves, and releases. Method: three blocks at a time, of four owners in
/// turn.
pub fn allocations_that_hit_take_no_memory(context: &Context) {
    let silo = silo(context);
    let grains = [2, 3, 4, 5].map(|key| silo.grain(key).expect("the key is good"));
    takes_no_memory("allocate and release, several owners", |time| {
        let grain = &grains[time % grains.len()];
        let handles = [320, 4 * KIB, 320]
            .map(|size_bytes| polled(grain.allocate(size_bytes, MemoryType::Default)).expect("there is memory"));
        // Waited for, so that the lane is done with the blocks: how many are idle, and with them the pool's tables, does
        // not depend on how fast the device is.
        grain.write(handles[2], &[time as u32], 0).wait().expect("it is written");
        for handle in handles {
            let released = polled(grain.release(handle, true)).expect("it is released");
            assert_eq!(released.bytes_freed, handle.size_bytes);
        }
    });
    stop(silo);
}
