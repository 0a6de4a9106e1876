//! A grain at work beside the ring holds itself and nobody else.

use std::collections::VecDeque;
use std::sync::Arc;

use gpubridge_abstractions::{DeviceSlot, MemoryType, Placement, RingConfig, Status, Taken};

use crate::bench::{Bench, GRAIN, SMALL, bind, call, echo};
use crate::kernels::{Gate, Journal, compile_all, gated, library, noted};

const GATED: u16 = 0;
const NOTED: u16 = 1;
const NOTED_BESIDE: u16 = 2;

/// A bench with the three kernels above.
fn bench(config: RingConfig) -> (Bench, Arc<Gate>, Journal) {
    let (gate, journal) = (Arc::new(Gate::default()), Journal::default());
    let kernels = library([
        gated(0, &gate),
        noted(1, "noted", Placement::InRing, &journal),
        noted(2, "noted beside", Placement::Beside, &journal),
    ]);
    let bench = Bench::new(kernels, config);
    compile_all(&*bench.device);
    (bench, gate, journal)
}

#[test]
fn a_thousand_others_are_answered_meanwhile() {
    let (mut bench, gate, journal) = bench(RingConfig { slots: 16, ..SMALL });
    let mut slow = bench.lane.submit(&call(GATED, GRAIN, 1));
    gate.wait_for(1);
    let mut behind = bench.lane.submit(&call(NOTED, GRAIN, 2));
    for other in 1000..2000 {
        let completion = bench.lane.run(&call(NOTED, other, other));
        assert_eq!((completion.status, completion.payload[0]), (Status::Ok, u64::from(other)));
    }
    for ticket in [&mut slow, &mut behind] {
        assert_eq!(bench.lane.0.completions.take(ticket, &mut []), Taken::Pending);
    }
    let noted: Vec<_> = journal.lock().unwrap().iter().map(|(_, number)| *number).collect();
    assert_eq!(noted, (1000..2000).collect::<Vec<_>>());
    assert_eq!((bench.lane.0.submitter.pending(), bench.lane.0.submitter.completed_below()), (2, slow.sequence()));
    gate.open();
    assert_eq!(bench.lane.wait(slow).payload[0], 1);
    assert_eq!(bench.lane.wait(behind).payload[0], 2);
    assert_eq!(bench.lane.0.submitter.pending(), 0);
}

#[test]
fn a_slow_grains_own_commands_stay_in_order() {
    let (mut bench, gate, journal) = bench(RingConfig { slots: 128, ..SMALL });
    let slow = bench.lane.submit(&call(GATED, GRAIN, 0));
    gate.wait_for(1);
    // In the ring and beside it in turn: what waits is held again by what it starts.
    let kernels = [NOTED, NOTED_BESIDE, NOTED, NOTED, NOTED_BESIDE, NOTED_BESIDE];
    let behind: Vec<_> = (1..100).map(|i| bench.lane.submit(&call(kernels[i as usize % 6], GRAIN, i))).collect();
    assert_eq!(bench.lane.run(&echo(GRAIN + 1, 3)).payload, [3; 7]);
    assert!(journal.lock().unwrap().is_empty(), "nothing of the grain runs before its slow command has ended");
    gate.open();
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
    for (number, ticket) in (1..).zip(behind) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
    let noted: Vec<_> = journal.lock().unwrap().iter().map(|(_, number)| *number).collect();
    assert_eq!(noted, (1..100).collect::<Vec<_>>());
}

#[test]
fn many_grains_beside_the_ring_each_keep_their_order() {
    let (mut bench, _gate, journal) = bench(RingConfig { slots: 64, ..SMALL });
    let mut random = fastrand::Rng::with_seed(4);
    let mut waiting = VecDeque::new();
    for number in 0..5000_u32 {
        if waiting.len() == 60 {
            assert_eq!(bench.lane.wait(waiting.pop_front().unwrap()).status, Status::Ok);
        }
        // The grain is the number's remainder, so that the journal tells whose it was.
        let kernel = if random.u8(..4) == 0 { NOTED_BESIDE } else { NOTED };
        waiting.push_back(bench.lane.submit(&call(kernel, number % 8, number)));
    }
    waiting.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
    let noted: Vec<_> = journal.lock().unwrap().iter().map(|(_, number)| *number).collect();
    assert_eq!(noted.len(), 5000);
    for grain in 0..8 {
        assert!(noted.iter().filter(|number| **number % 8 == grain).is_sorted(), "grain {grain}");
    }
}

#[test]
fn a_large_block_is_zeroed_for_another_grain_meanwhile() {
    let (mut bench, gate, _journal) = bench(SMALL);
    let slow = bench.lane.submit(&call(GATED, GRAIN, 0));
    gate.wait_for(1);
    let buffer = bench.device.reserve(1 << 20, MemoryType::Default).unwrap();
    let slot = DeviceSlot { index: 0, generation: 1 };
    let status = bench.lane.status(&bind(GRAIN + 1, slot, buffer.address(), 1 << 20, 1 << 20));
    assert_eq!(status, Status::Ok);
    gate.open();
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
}

#[test]
fn abandoned_work_beside_the_ring_is_finished_and_its_slot_used_again() {
    let (mut bench, gate, journal) = bench(SMALL);
    let mut slow = bench.lane.submit(&call(GATED, GRAIN, 0));
    gate.wait_for(1);
    let mut behind = bench.lane.submit(&call(NOTED, GRAIN, 1));
    for ticket in [&mut slow, &mut behind] {
        bench.lane.0.completions.abandon(ticket);
        assert_eq!(bench.lane.0.completions.take(ticket, &mut []), Taken::Gone);
    }
    // Two slots stay with the device for many laps.
    for number in 0..1000 {
        assert_eq!(bench.lane.run(&echo(GRAIN + 1, number)).payload[0], number);
    }
    assert_eq!(bench.lane.0.submitter.pending(), 2);
    gate.open();
    assert_eq!(bench.lane.run(&call(NOTED, GRAIN, 2)).payload[0], 2);
    assert_eq!(journal.lock().unwrap().len(), 2);
    assert_eq!(bench.lane.0.submitter.pending(), 0);
    let tickets: Vec<_> = (0..u64::from(SMALL.slots)).map(|i| bench.lane.submit(&echo(GRAIN, i))).collect();
    tickets.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
}
