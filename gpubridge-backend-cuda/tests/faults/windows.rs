//! Windows, in which all rings of a GPU are parked because the driver is asked for memory: commands notice nothing of them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Command, Completion, Device, DeviceIndex, DeviceSlot, ErrorKind, MemoryType, Opcode, Ring, RingConfig,
    Status, SubmitError, Taken, Ticket, Transfer,
};
use ringkernel_tests::lane::{Bench, Driver, bind, echo, transfer};

use crate::device::{Gate, MIB, RING, SOON, calls, eventually, impatient, open, refused};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case::new("windows::under_load", "trace={folder}/trace", under_load),
    Case::new("windows::while_rings_end", "", while_rings_end),
    Case::new("windows::not_to_be_had", "gate=gpubridge_beside_grid:{folder}/gate", not_to_be_had),
    Case::new(
        "windows::a_ring_is_terminated_meanwhile",
        "gate=gpubridge_beside_grid:{folder}/gate",
        terminated_meanwhile,
    ),
    Case { leaves_kernel: true, ..Case::new("windows::of_a_ring_that_froze", "freeze=400000", of_a_ring_that_froze) },
];

pub const CONFIG: RingConfig = RingConfig { lanes: 2, slots: 64, staging_bytes: 256, allocations: 64 };
/// Zeroed beside the ring.
pub const BLOCK_BYTES: u64 = 66 * 1024;

/// What a command must be answered.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Nothing.
    Done,
    /// This number.
    Number(u64),
}

/// A producer that numbers what it submits, in two grains of a lane: each number is written to a block and read from it, and
/// now and then the block is zeroed beside the ring.
pub struct Producer {
    lane: Driver,
    flying: VecDeque<(Ticket, u32, Expected)>,
    address: u64,
    numbers: [u64; 2],
    submitted: u64,
    /// Whether its ring may be terminated.
    may_end: bool,
    /// Of each grain, whether a command was cancelled.
    cancelled: [bool; 4],
}

impl Producer {
    pub fn new(lane: Driver, address: u64, may_end: bool) -> Self {
        let (flying, numbers, cancelled) = (VecDeque::new(), [0; 2], [false; 4]);
        Self { lane, flying, address, numbers, submitted: 0, may_end, cancelled }
    }

    /// The next command, and what it must be answered.
    fn next(&mut self) -> (Command, Expected) {
        let grain = (self.submitted / 7 % 2) as u32;
        let number = &mut self.numbers[grain as usize];
        let slot = DeviceSlot { index: grain, generation: 1 };
        match self.submitted % 7 {
            0 if (self.submitted / 14).is_multiple_of(8) => {
                *number = 0;
                let address = self.address + u64::from(grain) * BLOCK_BYTES;
                (bind(grain, slot, address, BLOCK_BYTES, BLOCK_BYTES), Expected::Done)
            }
            1 | 3 | 5 => {
                *number += 1;
                let payload = Transfer { slot, offset_bytes: 8, size_bytes: 8 }.to_payload([*number, 0, 0, 0]);
                (Command::new(Opcode::WriteInline, grain, payload), Expected::Done)
            }
            2 | 4 | 6 => {
                let read = transfer(Opcode::ReadInline, slot, 8, 8);
                (Command { grain, ..read }, Expected::Number(*number))
            }
            _ => (echo(grain + 2, self.submitted), Expected::Number(self.submitted)),
        }
    }

    /// Submits one command if there is room, and takes the oldest answers that there are; false when the ring is stopped.
    pub fn turn(&mut self) -> bool {
        let before = (self.numbers, self.submitted);
        let (command, expected) = self.next();
        match self.lane.try_submit(&command, &[]) {
            Ok(ticket) => {
                self.submitted += 1;
                self.flying.push_back((ticket, command.grain, expected));
            }
            Err(error) => {
                (self.numbers, self.submitted) = before;
                if error == SubmitError::Stopped {
                    return false;
                }
            }
        }
        while let Some((ticket, grain, expected)) = self.flying.front_mut() {
            let Taken::Ready(answer) = self.lane.look(ticket) else { break };
            let (grain, expected) = (*grain, *expected);
            self.judge(&answer, grain, expected);
            self.flying.pop_front();
        }
        true
    }

    /// Waits for all answers. Returns how many commands there were.
    pub fn end(mut self) -> u64 {
        while let Some((ticket, grain, expected)) = self.flying.pop_front() {
            let answer = self.lane.wait(ticket);
            self.judge(&answer, grain, expected);
        }
        self.submitted
    }

    fn judge(&mut self, answer: &Completion, grain: u32, expected: Expected) {
        let cancelled = &mut self.cancelled[grain as usize];
        if self.may_end && answer.status == Status::Cancelled {
            *cancelled = true;
            return;
        }
        assert!(!*cancelled, "executed behind a command of its grain that was cancelled");
        assert_eq!(answer.status, Status::Ok, "{expected:?}");
        if let Expected::Number(number) = expected {
            assert_eq!(answer.payload[0], number, "commands were lost, doubled or executed out of order");
        }
    }
}

/// Is set when it goes, so that the threads of a case that fails end too.
pub struct SetAtEnd<'f>(pub &'f AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens a window: a request for more than there is, now and then for something that there is.
fn window(device: &dyn Device, number: usize) {
    match number % 16 {
        3 => drop(device.reserve(66 * MIB, MemoryType::Pinned).expect("there is memory")),
        9 => drop(device.reserve(80 * MIB, MemoryType::Default).expect("there is memory")),
        _ => drop(refused(device.reserve(1 << 40, MemoryType::Default), ErrorKind::OutOfMemory, &[])),
    }
}

/// Goal: several hundred windows while several rings of one GPU are busy and change between run and hold: nothing is lost,
/// doubled or reordered.
pub fn under_load(folder: &Path) -> End {
    const WINDOWS: usize = 300;
    let devices = [open(), open()];
    let rings: Vec<_> = devices.iter().map(|device| device.launch(CONFIG).expect("there is room")).collect();
    let memory = devices[0].reserve(8 * BLOCK_BYTES, MemoryType::Default).expect("there is memory");
    rings.iter().for_each(|ring| ring.activate(SOON).expect("it starts"));
    let mut address = memory.address();
    let mut producers = Vec::new();
    for (ring, lane) in rings.iter().flat_map(|ring| (0..CONFIG.lanes).map(move |lane| (ring, lane))) {
        producers.push(Producer::new(Driver::take(&**ring, lane), address, false));
        address += 2 * BLOCK_BYTES;
    }
    let done = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let running: Vec<_> = producers
            .into_iter()
            .map(|mut producer| {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        assert!(producer.turn(), "nobody stopped it");
                        thread::yield_now();
                    }
                    producer
                })
            })
            .collect();
        scope.spawn(|| toggle(&*rings[1], &done));
        let at_end = SetAtEnd(&done);
        (0..WINDOWS).for_each(|number| window(&*devices[number % 2], number));
        drop(at_end);
        running.into_iter().map(|thread| thread.join().expect("it saw no fault")).collect::<Vec<_>>()
    });
    rings[1].activate(SOON).expect("it goes on");
    for producer in ended {
        assert!(producer.end() > 100, "commands were executed all the while");
    }
    let launches = calls(folder).iter().filter(|(name, _)| name == "cuLaunchCooperativeKernel").count();
    // Two rings; now and then a window is needless, because an earlier one left memory.
    assert!(launches >= 2 * WINDOWS * 4 / 5, "{launches} launches of two rings: windows were opened");
    End::Passed
}

/// Lets a ring run and hold in turn.
fn toggle(ring: &dyn Ring, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        ring.deactivate(SOON).expect("it holds");
        ring.activate(SOON).expect("it goes on");
        let until = Instant::now() + Duration::from_millis(2);
        eventually("some time passes", || Instant::now() >= until);
    }
}

/// Goal: rings that end while windows open and close are answered to the last command, and do not hold up the others.
pub fn while_rings_end(_: &Path) -> End {
    const RINGS: usize = 40;
    let device = open();
    let memory = device.reserve(4 * BLOCK_BYTES, MemoryType::Default).expect("there is memory");
    let mut steady = Bench::new(open(), RING);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                window(&*device, number);
            }
        });
        let _at_end = SetAtEnd(&done);
        for round in 0..RINGS as u64 {
            let ring = device.launch(CONFIG).expect("there is room");
            ring.activate(SOON).expect("it starts");
            let mut producers = [0, 1].map(|lane| {
                Producer::new(Driver::take(&*ring, lane), memory.address() + u64::from(lane) * 2 * BLOCK_BYTES, true)
            });
            for _ in 0..30 + round * 3 {
                producers.iter_mut().for_each(|producer| assert!(producer.turn(), "nobody stopped it"));
            }
            if round % 3 == 0 {
                drop(ring.deactivate(Duration::ZERO));
            }
            thread::scope(|scope| {
                let [first, second] = &mut producers;
                scope.spawn(move || eventually("submissions are refused", || !first.turn()));
                scope.spawn(move || eventually("submissions are refused", || !second.turn()));
                ring.terminate(SOON).expect("it ends");
            });
            for producer in producers {
                producer.end();
            }
            steady.lane.probe(round);
        }
    });
    End::Passed
}

/// Goal: where a command beside a ring does not end, the window is not had, and the ring goes on at once; that it was told to
/// pause all the while does not make it count as lost.
fn not_to_be_had(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let device = impatient(Duration::from_secs(3)).open(DeviceIndex(0)).expect("the device opens");
    let mut bench = Bench::new(device, CONFIG);
    let mut second = Driver::take(&*bench.ring, 1);
    let mut third = Bench::new(open(), RING);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let beside = bench.lane.submit(&bind(1, DeviceSlot { index: 0, generation: 1 }, buffer.address(), MIB, MIB));
    let behind = bench.lane.submit(&echo(1, 5));
    // Read behind them.
    bench.lane.probe(1);
    let reserve = || bench.device.reserve(70 * MIB, MemoryType::Default);
    thread::scope(|scope| {
        let reserved = scope.spawn(reserve);
        for number in 0..20 {
            second.probe(number);
        }
        assert!(!reserved.is_finished(), "others have their turn while a window waits");
        refused(reserved.join().expect("it returns"), ErrorKind::Timeout, &["does not park", "try again"]);
    });
    third.lane.probe(1);
    second.probe(2);
    refused(bench.ring.deactivate(Duration::from_millis(20)), ErrorKind::Timeout, &[]);
    bench.ring.activate(SOON).expect("it goes on");
    second.probe(3);
    bench.lane.probe(4);
    assert!(!bench.lane.is_complete(&beside) && !bench.lane.is_complete(&behind));
    gate.open();
    assert_eq!(bench.lane.wait(beside).status, Status::Ok);
    assert_eq!(bench.lane.wait(behind).payload, [5; 7]);
    reserve().expect("now there is a window");
    second.probe(6);
    End::Passed
}

/// Goal: a ring that is terminated while a window waits for it cancels what waits, and does not wait for the window.
fn terminated_meanwhile(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let mut bench = Bench::new(open(), CONFIG);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let beside = bench.lane.submit(&bind(1, DeviceSlot { index: 0, generation: 1 }, buffer.address(), MIB, MIB));
    let behind = bench.lane.submit(&echo(1, 5));
    bench.lane.probe(1);
    thread::scope(|scope| {
        let reserved = scope.spawn(|| bench.device.reserve(70 * MIB, MemoryType::Default).map(drop));
        // The window is open once nothing else is executed.
        let mut paused = Vec::new();
        eventually("the ring is paused", || {
            paused.push(bench.lane.submit(&echo(2, 1)));
            let last = paused.last().expect("it was pushed");
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until && !bench.lane.is_complete(last) {
                thread::yield_now();
            }
            let is_paused = !bench.lane.is_complete(last);
            if !is_paused {
                bench.lane.wait(paused.pop().expect("it was pushed"));
            }
            is_paused
        });
        refused(bench.ring.terminate(Duration::ZERO), ErrorKind::Timeout, &[]);
        for ticket in paused.into_iter().chain([behind]) {
            assert_eq!(bench.lane.wait(ticket).status, Status::Cancelled, "while the window waits");
        }
        gate.open();
        bench.ring.terminate(SOON).expect("it ends");
        reserved.join().expect("it does not panic").expect("there is a window once the ring has ended");
    });
    assert_eq!(bench.lane.wait(beside).status, Status::Ok, "what was started is answered");
    End::Passed
}

/// Goal: who waits for a window learns that the device is lost, not that the time is over.
fn of_a_ring_that_froze(_: &Path) -> End {
    let device = impatient(Duration::from_secs(2)).open(DeviceIndex(0)).expect("the device opens");
    let mut bench = Bench::new(device, RING);
    eventually("the window is not had", || {
        // As long as it answers it has not frozen. Where it is only slow, there is a window, and all begins anew.
        let until = Instant::now() + Duration::from_millis(300);
        if let Ok(mut ticket) = bench.lane.try_submit(&echo(1, 1), &[]) {
            while Instant::now() < until {
                if bench.lane.look(&mut ticket) != Taken::Pending {
                    return false;
                }
            }
            bench.lane.0.completions.abandon(&mut ticket);
        }
        match bench.device.reserve(1 << 40, MemoryType::Default) {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => false,
            result => {
                refused(result, ErrorKind::DeviceLost, &["restart the process"]);
                true
            }
        }
    });
    refused(bench.ring.activate(SOON), ErrorKind::DeviceLost, &["restart the process"]);
    End::Passed
}
