//! Stop and hold with work that does not end, chains behind it, a lane that is full and answers that nobody takes.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{
    Backend, Completion, DeviceBuffer, DeviceIndex, DeviceSlot, ErrorKind, KernelSpec, MemoryType, RingConfig, Scalars,
    Status, SubmitError, Taken, Ticket,
};
use gpubridge_kernels::library::id::{FILL, WINDOW_ZSCORE};
use ringkernel_tests::lane::{Bench, Driver, GRAIN, bind, compute, echo};

use crate::device::{Gate, MIB, RING, SOON, eventually, impatient, open, refused};
use crate::program::{Case, End};

const GATED: &str = "gate=gpubridge_beside_grid:{folder}/gate";

pub const CASES: &[Case] = &[
    Case::new("stops::hold_with_a_full_lane", GATED, hold_with_a_full_lane),
    Case::new("stops::park_with_a_full_lane_in_hold", GATED, park_in_hold),
    Case::new("stops::terminate_with_a_full_lane", GATED, terminate_with_a_full_lane),
    Case::new("stops::terminate_in_hold_with_a_chain", GATED, terminate_in_hold),
    Case::new("stops::nothing_runs_behind_what_was_cancelled", "", nothing_behind),
    Case::new("stops::a_block_that_ended_is_not_lost", GATED, a_block_that_ended),
    Case::new("stops::hold_behind_a_command_in_the_ring", "stuck=16:{folder}/stuck", hold_in_the_ring),
    Case::new("stops::dropped_with_work_that_does_not_end", GATED, dropped),
];

/// A lane that is full: of grain 1 a command beside the ring that does not end and a chain behind it, of grain 2 one without
/// a chain, and commands that were answered, their answers untaken.
struct Full {
    bench: Bench,
    gate: Gate,
    beside: Vec<Ticket>,
    chain: Vec<Ticket>,
    answered: Vec<Ticket>,
    buffer: Box<dyn DeviceBuffer>,
}

/// A bind whose zeroing takes place beside the ring.
fn zeroing(grain: u32, address: u64, generation: u32) -> gpubridge_abstractions::Command {
    bind(grain, DeviceSlot { index: grain, generation }, address + u64::from(grain) * MIB, MIB, MIB)
}

fn full(folder: &Path) -> Full {
    let gate = Gate::new(folder);
    let mut bench = Bench::new(open(), RING);
    let buffer = bench.device.reserve(4 * MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let mut submit = |command| bench.lane.submit(&command);
    let beside = [1, 2].map(|grain| submit(zeroing(grain, buffer.address(), 1))).into();
    let chain = (0..4).map(|number| submit(echo(1, number))).collect();
    let answered: Vec<Ticket> = (6..16).map(|number| submit(echo(3, number))).collect();
    eventually("the other grain is answered", || answered.iter().all(|ticket| bench.lane.is_complete(ticket)));
    assert_eq!(bench.lane.try_submit(&echo(3, 0), &[]), Err(SubmitError::Full));
    Full { bench, gate, beside, chain, answered, buffer }
}

fn ok(lane: &Driver, tickets: Vec<Ticket>) {
    for ticket in tickets {
        assert_eq!(lane.wait(ticket).status, Status::Ok);
    }
}

/// How many of a chain are answered: the first ones. How many the device begins before it learns that it is to hold is up to
/// it; from then on they stay as many.
fn count_started(lane: &Driver, chain: &[Ticket]) -> usize {
    let started = chain.iter().take_while(|ticket| lane.is_complete(ticket)).count();
    assert!(!chain[started..].iter().any(|ticket| lane.is_complete(ticket)), "in order");
    started
}

fn in_order(lane: &Driver, tickets: Vec<Ticket>, from: u64) {
    for (number, ticket) in (from..).zip(tickets) {
        let Completion { status, payload, .. } = lane.wait(ticket);
        assert_eq!((status, payload), (Status::Ok, [number; 7]));
    }
}

pub fn hold_with_a_full_lane(folder: &Path) -> End {
    let Full { bench, gate, beside, chain, answered, .. } = full(folder);
    let Bench { ring, mut lane, .. } = bench;
    refused(ring.deactivate(Duration::from_millis(20)), ErrorKind::Timeout, &["still at work"]);
    gate.open();
    ring.deactivate(SOON).expect("it holds once the work has ended");
    assert!(beside.iter().all(|ticket| lane.is_complete(ticket)), "what was started is answered");
    let started = count_started(&lane, &chain);
    ok(&lane, beside);
    in_order(&lane, answered, 6);
    // Behind the chain, of its grain.
    let behind = lane.submit(&echo(1, 4));
    assert_eq!(count_started(&lane, &chain), started, "what waits is not started");
    ring.activate(SOON).expect("it goes on");
    in_order(&lane, chain.into_iter().chain([behind]).collect(), 0);
    End::Passed
}

/// Goal: a window in which a chain is kept, and nothing else is lost.
pub fn park_in_hold(folder: &Path) -> End {
    let Full { bench, gate, beside, chain, answered, buffer } = full(folder);
    let Bench { device, ring, mut lane } = bench;
    refused(ring.deactivate(Duration::ZERO), ErrorKind::Timeout, &[]);
    gate.open();
    for size_bytes in [70 * MIB, u64::MAX / 4, 80 * MIB] {
        // Two of these fit, each in a window of its own.
        drop(device.reserve(size_bytes, MemoryType::Default));
    }
    ring.deactivate(SOON).expect("it holds");
    ok(&lane, beside);
    let started = count_started(&lane, &chain);
    drop(device.reserve(75 * MIB, MemoryType::Default));
    assert_eq!(count_started(&lane, &chain), started, "what waits is not started");
    // Free slots are those of the two beside; a chain that waits behind another command beside the ring.
    gate.close();
    let again = lane.submit(&zeroing(1, buffer.address(), 2));
    let last = lane.submit(&echo(1, 9));
    ring.activate(SOON).expect("it goes on");
    in_order(&lane, chain, 0);
    refused(ring.deactivate(Duration::ZERO), ErrorKind::Timeout, &[]);
    assert!(!lane.is_complete(&again));
    gate.open();
    ring.deactivate(SOON).expect("it holds");
    drop(device.reserve(90 * MIB, MemoryType::Pinned).expect("there is memory"));
    ring.activate(SOON).expect("it goes on");
    ok(&lane, vec![again]);
    in_order(&lane, vec![last], 9);
    in_order(&lane, answered, 6);
    End::Passed
}

pub fn terminate_with_a_full_lane(folder: &Path) -> End {
    let Full { bench, gate, beside, chain, answered, .. } = full(folder);
    let Bench { ring, lane, .. } = bench;
    refused(ring.terminate(Duration::from_millis(20)), ErrorKind::Timeout, &["still at work"]);
    for ticket in chain {
        assert_eq!(lane.wait(ticket).status, Status::Cancelled, "what waits is cancelled while the other one works");
    }
    assert!(!beside.iter().any(|ticket| lane.is_complete(ticket)));
    gate.open();
    ring.terminate(SOON).expect("it ends");
    ok(&lane, beside);
    in_order(&lane, answered, 6);
    End::Passed
}

pub fn terminate_in_hold(folder: &Path) -> End {
    let Full { bench, gate, beside, chain, answered, .. } = full(folder);
    let Bench { device, ring, lane } = bench;
    gate.open();
    ring.deactivate(SOON).expect("it holds");
    drop(device.reserve(70 * MIB, MemoryType::Default).expect("there is memory"));
    let started: Vec<bool> = chain.iter().map(|ticket| lane.is_complete(ticket)).collect();
    ring.terminate(SOON).expect("it ends");
    ok(&lane, beside);
    for (started, mut ticket) in started.into_iter().zip(chain) {
        let Taken::Ready(answer) = lane.look(&mut ticket) else { panic!("every command is answered") };
        assert_eq!(answer.status, if started { Status::Ok } else { Status::Cancelled });
    }
    in_order(&lane, answered, 6);
    End::Passed
}

/// Goal: of each grain the first commands are executed and the others are cancelled, wherever a termination meets them: behind
/// a command beside the ring, or on their way behind slow ones of another grain.
pub fn nothing_behind(_: &Path) -> End {
    const ELEMENTS: u32 = 1 << 16;
    let device = open();
    let buffer = device.reserve(4 * MIB, MemoryType::Default).expect("there is memory");
    let config = RingConfig { slots: 64, ..RING };
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..60 {
        let bench = Bench::with_kernels(Arc::clone(&device), config, &[KernelSpec::new(FILL)]);
        let Bench { ring, mut lane, .. } = bench;
        let slot = DeviceSlot { index: GRAIN, generation: 1 };
        let block = bind(GRAIN, slot, buffer.address() + 3 * MIB, MIB, 0);
        let slow = compute(0, [DeviceSlot::NONE, DeviceSlot::NONE, slot], ELEMENTS, Scalars::default());
        let mut tickets = vec![(GRAIN, lane.submit(&block)), (1, lane.submit(&zeroing(1, buffer.address(), 1)))];
        for number in 0..20 {
            tickets.push((1, lane.submit(&echo(1, number))));
            tickets.push((GRAIN, lane.submit(&slow)));
        }
        let met = random.usize(..20);
        eventually("some are executed", || lane.is_complete(&tickets[met].1));
        ring.terminate(SOON).expect("it ends");
        let mut cancelled = Vec::new();
        for (grain, ticket) in tickets {
            match lane.wait(ticket).status {
                Status::Cancelled => cancelled.push(grain),
                status => assert_eq!((status, cancelled.contains(&grain)), (Status::Ok, false), "of grain {grain}"),
            }
        }
    }
    End::Passed
}

/// Goal: that a block has ended, as it was told, says nothing of the device while another one still works.
fn a_block_that_ended(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let limit = Duration::from_secs(1);
    let device = impatient(limit).open(DeviceIndex(0)).expect("the device opens");
    let mut bench = Bench::new(device, RingConfig { lanes: 2, ..RING });
    let buffer = bench.device.reserve(4 * MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let beside = bench.lane.submit(&zeroing(1, buffer.address(), 1));
    // Read behind it.
    bench.lane.probe(1);
    refused(bench.ring.terminate(2 * limit), ErrorKind::Timeout, &["still at work"]);
    gate.open();
    bench.ring.terminate(SOON).expect("it ends");
    assert_eq!(bench.lane.wait(beside).status, Status::Ok, "what was started is answered");
    Bench::new(bench.device, RING).lane.probe(1);
    End::Passed
}

/// Goal: a ring that is to hold ends the command that it has begun, and begins none of those that stand behind it in the ring; a
/// window keeps them, activation executes them in order, and the ring's end cancels them.
fn hold_in_the_ring(folder: &Path) -> End {
    let stuck = folder.join("stuck");
    let kernels = [KernelSpec::new(WINDOW_ZSCORE).with_constants([2, 0])];
    let mut bench = Bench::with_kernels(open(), RingConfig { lanes: 2, ..RING }, &kernels);
    let mut second = Driver::take(&*bench.ring, 1);
    let (_buffer, slot) = bench.bound(0, 64);
    let value = |x: f32| {
        compute(0, [DeviceSlot::NONE, DeviceSlot::NONE, slot], 0, Scalars::default().with_bits(0, x.to_bits()))
    };
    let mut hold = |bench: &mut Bench| {
        for x in [0.0, 8.0] {
            assert_eq!(bench.lane.run(&value(x)).status, Status::Ok);
        }
        File::create(&stuck).expect("the file can be made");
        // The variance of 0 and 8 is 16.
        let begun = bench.lane.submit(&value(1.0));
        let behind = [(GRAIN, 1), (9, 2), (GRAIN, 3), (9, 4)].map(|(grain, number)| echo(grain, number));
        let mut behind = behind.map(|command| bench.lane.submit(&command));
        let met = stuck.with_extension("met");
        eventually("it is begun", || met.exists());
        // Most likely what stands behind it has been read as well.
        (0..3).for_each(|number| second.probe(number));
        refused(bench.ring.deactivate(Duration::from_millis(20)), ErrorKind::Timeout, &["still at work"]);
        fs::remove_file(&stuck).expect("the file is there");
        bench.ring.deactivate(SOON).expect("it holds");
        assert_eq!(bench.lane.wait(begun).status, Status::Ok);
        fs::remove_file(met).expect("the file is there");
        bench.device.reserve(70 * MIB, MemoryType::Default).expect("there is a window");
        for ticket in &mut behind {
            assert_eq!(bench.lane.look(ticket), Taken::Pending);
        }
        behind
    };
    let behind = hold(&mut bench);
    bench.ring.activate(SOON).expect("it goes on");
    for (number, ticket) in (1..).zip(behind) {
        assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
    }
    let behind = hold(&mut bench);
    bench.ring.terminate(SOON).expect("it ends");
    for ticket in behind {
        assert_eq!(bench.lane.wait(ticket).status, Status::Cancelled);
    }
    End::Passed
}

/// Goal: dropping does not wait for ever; what is dropped late is given back all the same.
fn dropped(folder: &Path) -> End {
    let Full { bench, gate, beside, chain, .. } = full(folder);
    let Bench { device, ring, lane } = bench;
    let free_bytes = device.info().available_memory_bytes;
    drop(ring);
    for ticket in chain {
        assert_eq!(lane.wait(ticket).status, Status::Cancelled);
    }
    gate.open();
    ok(&lane, beside);
    drop(lane);
    eventually("its memory comes back", || device.info().available_memory_bytes > free_bytes);
    Bench::new(device, RING).lane.probe(1);
    End::Passed
}
