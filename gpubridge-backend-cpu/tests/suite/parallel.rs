//! Wake-ups, and lanes side by side.

use std::collections::VecDeque;
use std::thread;

use gpubridge_abstractions::{Command, DeviceSlot, MemoryType, Opcode, RingConfig, Status, Transfer};
use gpubridge_backend_cpu::CpuConfig;
use gpubridge_kernels::KernelLibrary;

use crate::bench::{Bench, BenchLane, GRAIN, HANG, SMALL, echo, open, parking, served_by_callers, transfer};

#[test]
fn a_parked_ring_wakes_for_every_command() {
    let mut bench = Bench::new(KernelLibrary::empty(), SMALL);
    let mut random = fastrand::Rng::with_seed(6);
    for number in 0..50_000 {
        // The ring thread goes to sleep as soon as it has nothing to do. Pauses of all lengths, so that commands come
        // before that, while it does, and after.
        (0..random.u32(..2000)).for_each(|_| std::hint::spin_loop());
        assert_eq!(bench.lane.run(&echo(GRAIN, number)).payload, [number; 7]);
    }
}

#[test]
fn a_parked_ring_wakes_for_one_doorbell_after_many_commands() {
    let mut bench = Bench::new(KernelLibrary::empty(), SMALL);
    for round in 0..3000 {
        let submit = |number| bench.lane.0.submitter.try_submit(&echo(GRAIN, number), &[]).unwrap();
        let tickets: Vec<_> = (0..1 + round % 8).map(submit).collect();
        bench.lane.0.submitter.doorbell();
        for (number, ticket) in (0..).zip(tickets) {
            assert_eq!(bench.lane.wait(ticket).payload[0], number);
        }
    }
}

/// Writes and reads back through one lane, with several commands in flight.
fn traffic(mut lane: BenchLane, slot: DeviceSlot, address: u64, seed: u64) {
    assert_eq!(lane.bind(GRAIN, slot, address, 4096, 4096), Status::Ok);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut waiting = VecDeque::new();
    for _ in 0..10_000 {
        let (number, offset_bytes) = (random.u64(..), random.u64(..4088));
        let inline = Transfer { slot, offset_bytes, size_bytes: 8 }.to_payload([number, 0, 0, 0]);
        let written = lane.submit(&Command::new(Opcode::WriteInline, GRAIN, inline));
        let read = lane.submit(&transfer(Opcode::Read, slot, offset_bytes, 8));
        waiting.push_back((number, written, read));
        if waiting.len() == 4 {
            let (number, written, read) = waiting.pop_front().unwrap();
            let mut bytes = [0; 8];
            assert_eq!(lane.wait(written).status, Status::Ok);
            assert_eq!(lane.wait_into(read, &mut bytes).status, Status::Ok);
            assert_eq!(u64::from_le_bytes(bytes), number);
        }
    }
}

fn lanes_side_by_side(lanes: u32, ring_threads: u32, cpu: CpuConfig) {
    let mut cpu = cpu;
    cpu.ring_threads = ring_threads;
    let device = open(KernelLibrary::empty(), cpu);
    let ring = device.launch(RingConfig { lanes, ..SMALL }).unwrap();
    ring.activate(HANG).unwrap();
    let buffer = device.reserve(u64::from(lanes) * 4096, MemoryType::Default).unwrap();
    thread::scope(|scope| {
        for index in 0..lanes {
            let lane = BenchLane(ring.take_lane(index).unwrap());
            let address = buffer.address() + u64::from(index) * 4096;
            // The lanes have a table each: the same slot names another block in each of them.
            scope.spawn(move || traffic(lane, DeviceSlot { index: 0, generation: 1 }, address, u64::from(index)));
        }
    });
}

#[test]
fn two_lanes_of_one_ring_thread() {
    lanes_side_by_side(2, 1, parking());
}

#[test]
fn two_lanes_of_two_ring_threads() {
    lanes_side_by_side(2, 2, parking());
}

#[test]
fn five_lanes_of_two_ring_threads_that_spin() {
    lanes_side_by_side(5, 2, CpuConfig::default());
}

#[test]
fn five_lanes_whose_callers_serve_each_other() {
    lanes_side_by_side(5, 0, served_by_callers());
}
