//! The order of a lane: a grain's commands one after the other, other grains beside them.

use std::collections::VecDeque;
use std::sync::Arc;

use gpubridge_abstractions::{Command, DeviceSlot, MemoryType, Opcode, RingConfig, Status, SubmitError, Taken};

use crate::lane::{Bench, GRAIN, SMALL, bind, call, echo, transfer, write_word};
use crate::rig::{Gate, MIB, OpenAtEnd, SOON, eventually};
use crate::twins::{GATED, Journal, NOTED, NOTED_BESIDE, gated, noted};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("order",
    Memory {
        writes_and_reads_of_a_grain_keep_their_order => "Submitter::try_submit/in-order",
        order_survives_slots_that_are_passed_over => "Submitter::try_submit/in-order",
    }
    Twins {
        calls_of_a_grain_never_overlap => "Submitter::try_submit/in-order",
        what_waits_behind_a_slow_call_keeps_its_order => "Submitter::try_submit/in-order",
        a_thousand_others_are_answered_meanwhile => "Submitter::try_submit/independent",
        memory_is_zeroed_for_others_meanwhile => "Submitter::try_submit/independent",
        a_command_at_work_is_passed_over_for_many_laps => "Submitter::try_submit/passed-over",
        a_lane_is_full_of_commands_at_work => "Submitter::try_submit/full",
        a_command_that_was_given_up_runs_and_frees_its_slot => "Completions::abandon/executed",
    }
);

/// The kernel slots of [`at_the_gate`].
const AT_GATE: u16 = 0;
const IN_RING: u16 = 1;
const BESIDE: u16 = 2;

/// A lane whose device has [`GATED`], [`NOTED`] and [`NOTED_BESIDE`].
fn at_the_gate(context: &Context, slots: u32) -> (Bench, Arc<Gate>, Arc<Journal>) {
    let (gate, journal) = (Gate::closed(), Journal::new());
    let [in_ring, beside] = noted(&journal);
    let device = context.device_with(&[gated(&gate), in_ring, beside]);
    let bench = Bench::with_kernels(device, RingConfig { slots, ..SMALL }, &[GATED, NOTED, NOTED_BESIDE]);
    (bench, gate, journal)
}

/// Goal: a read sees the write before it and not the one behind. Method: thousands of pairs in flight, three grains in turn.
pub fn writes_and_reads_of_a_grain_keep_their_order(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 64, ..SMALL });
    let buffer = bench.device.reserve(256, MemoryType::Default).expect("there is memory");
    for grain in 0..3 {
        let name = DeviceSlot { index: grain, generation: 1 };
        let address = buffer.address() + 64 * u64::from(grain);
        assert_eq!(bench.lane.bind(grain, name, address, 64, 64), Status::Ok);
    }
    let mut waiting = VecDeque::new();
    for number in 0..10_000 {
        let grain = (number % 3) as u32;
        let slot = DeviceSlot { index: grain, generation: 1 };
        let written = bench.lane.submit(&Command { grain, ..write_word(slot, 8, number) });
        let read = bench.lane.submit(&Command { grain, ..transfer(Opcode::ReadInline, slot, 8, 8) });
        waiting.push_back((number, written, read));
        if waiting.len() == 32 {
            let (number, written, read) = waiting.pop_front().expect("it is full");
            assert_eq!(bench.lane.wait(written).status, Status::Ok);
            assert_eq!(bench.lane.wait(read).payload[0], number, "a read does not see the write before it");
        }
    }
}

/// Goal: order is that of the tickets, not of the slots. Method: in an inactive ring three commands are submitted beside an
/// answer that is kept, at every position of the lane, so that later ones lie in earlier slots; what is read tells the order.
pub fn order_survives_slots_that_are_passed_over(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 4, ..SMALL });
    let (_buffer, slot) = bench.bound(0, 64);
    for round in 1..=64_u64 {
        let mut early: Vec<_> = (0..4).map(|number| bench.lane.submit(&echo(GRAIN, number))).collect();
        eventually("all are answered", || early.iter().all(|ticket| bench.lane.is_complete(ticket)));
        bench.ring.deactivate(SOON).expect("the ring follows");
        let kept = early.remove(round as usize / 4 % 4);
        early.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
        let first = bench.lane.submit(&write_word(slot, 0, round));
        let second = bench.lane.submit(&write_word(slot, 0, round + 1000));
        let third = bench.lane.submit(&transfer(Opcode::ReadInline, slot, 0, 8));
        bench.ring.activate(SOON).expect("the ring follows");
        assert_eq!(bench.lane.wait(third).payload[0], round + 1000, "round {round}");
        for ticket in [first, second, kept] {
            assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
        }
        // Another position in the next round.
        (0..round % 3).for_each(|number| bench.lane.probe(number));
    }
}

/// Goal: one at a time, whatever the device does in parallel. Method: thousands of calls of eight grains, in the ring and
/// beside it at random; a kernel that finds another call of its grain at work fails; each grain's numbers are in order.
pub fn calls_of_a_grain_never_overlap(context: &Context) {
    let (mut bench, _gate, journal) = at_the_gate(context, 64);
    let mut random = fastrand::Rng::with_seed(4);
    let mut waiting = VecDeque::new();
    for number in 0..4000_u32 {
        if waiting.len() == 60 {
            let (number, ticket) = waiting.pop_front().expect("it is full");
            let completion = bench.lane.wait(ticket);
            assert_eq!((completion.status, completion.payload[0]), (Status::Ok, u64::from(number)));
        }
        let kernel = if random.u8(..4) == 0 { BESIDE } else { IN_RING };
        waiting.push_back((number, bench.lane.submit(&call(kernel, number % 8, number))));
    }
    for (number, ticket) in waiting {
        let completion = bench.lane.wait(ticket);
        assert_eq!((completion.status, completion.payload[0]), (Status::Ok, u64::from(number)));
    }
    for grain in 0..8 {
        assert!(journal.numbers_of(grain).into_iter().eq((grain..4000).step_by(8)), "grain {grain} out of order");
    }
}

/// Goal: what waits for a slow call waits in order. Method: behind a call at a gate a hundred of its grain, in the ring and
/// beside it in turn, so that what waits is held again by what it starts.
pub fn what_waits_behind_a_slow_call_keeps_its_order(context: &Context) {
    let (mut bench, gate, journal) = at_the_gate(context, 128);
    let _open = OpenAtEnd(&gate);
    let slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
    gate.wait_arrived(1);
    let kernels = [IN_RING, BESIDE, IN_RING, IN_RING, BESIDE, BESIDE];
    let behind: Vec<_> = (1..100).map(|i| bench.lane.submit(&call(kernels[i as usize % 6], GRAIN, i))).collect();
    assert_eq!(bench.lane.run(&echo(GRAIN + 1, 3)).payload, [3; 7]);
    assert!(journal.numbers().is_empty(), "a command ran before the slow one of its grain had ended");
    gate.open();
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
    for (number, ticket) in (1..).zip(behind) {
        assert_eq!(bench.lane.wait(ticket).payload[0], number);
    }
    assert!(journal.numbers().into_iter().eq(1..100), "{:?}", journal.numbers());
}

/// Goal: a slow grain holds itself and nobody else. Method: one call at a gate and one behind it; a thousand grains call
/// meanwhile in the same lane, and the two are still not answered.
pub fn a_thousand_others_are_answered_meanwhile(context: &Context) {
    let (mut bench, gate, journal) = at_the_gate(context, 16);
    let _open = OpenAtEnd(&gate);
    let mut slow = bench.lane.submit(&call(AT_GATE, GRAIN, 1));
    gate.wait_arrived(1);
    let mut behind = bench.lane.submit(&call(IN_RING, GRAIN, 2));
    for other in 1000..2000 {
        let completion = bench.lane.run(&call(IN_RING, other, other));
        assert_eq!((completion.status, completion.payload[0]), (Status::Ok, u64::from(other)));
    }
    assert_eq!([bench.lane.look(&mut slow), bench.lane.look(&mut behind)], [Taken::Pending; 2]);
    assert!(journal.numbers().into_iter().eq(1000..2000), "others' calls are out of order");
    let submitter = &mut bench.lane.0.submitter;
    assert_eq!((submitter.pending(), submitter.completed_below()), (2, slow.sequence()));
    gate.open();
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
    assert_eq!(bench.lane.wait(behind).payload[0], 2);
    assert_eq!(bench.lane.0.submitter.pending(), 0);
}

/// Goal: zeroing does not wait for a kernel that may not end. Method: with a call at a gate another grain binds and zeroes a
/// block that is large enough to be zeroed beside the ring.
pub fn memory_is_zeroed_for_others_meanwhile(context: &Context) {
    let (mut bench, gate, _journal) = at_the_gate(context, 8);
    let _open = OpenAtEnd(&gate);
    let slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
    gate.wait_arrived(1);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    let slot = DeviceSlot { index: 0, generation: 1 };
    let status = bench.lane.status(&bind(GRAIN + 1, slot, buffer.address(), MIB, MIB));
    assert_eq!(status, Status::Ok);
    gate.open();
    assert_eq!(bench.lane.wait(slow).status, Status::Ok);
}

/// Goal: a command at work keeps its slot, for as many laps as it takes. Method: a call at a gate in each position of a small
/// lane, with hundreds of laps beside it; its answer is its own, and its slot is used again.
pub fn a_command_at_work_is_passed_over_for_many_laps(context: &Context) {
    let (mut bench, gate, _journal) = at_the_gate(context, 4);
    let _open = OpenAtEnd(&gate);
    for round in 0..8 {
        gate.close();
        let slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
        gate.wait_arrived(round + 1);
        let behind = bench.lane.submit(&call(BESIDE, GRAIN, 77));
        for number in 0..200 {
            assert_eq!(bench.lane.run(&echo(GRAIN + 1, number)).payload, [number; 7], "round {round}");
        }
        gate.open();
        let completion = bench.lane.wait(slow);
        assert_eq!((completion.status, completion.result_bytes, completion.payload), (Status::Ok, 0, [0; 7]));
        assert_eq!(bench.lane.wait(behind).payload[0], 77);
        // Another position in the next round.
        (0..=round as u64).for_each(|number| bench.lane.probe(number));
    }
}

/// Goal: back-pressure counts what is at work as well as what waits. Method: behind a gate the lane takes as many as it has
/// slots; the next is refused and changes nothing; all are answered when the gate opens.
pub fn a_lane_is_full_of_commands_at_work(context: &Context) {
    let (mut bench, gate, journal) = at_the_gate(context, 8);
    let _open = OpenAtEnd(&gate);
    for lap in 0..3 {
        gate.close();
        let slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
        gate.wait_arrived(lap + 1);
        let behind: Vec<_> = (0..7).map(|number| bench.lane.submit(&call(IN_RING, GRAIN, number))).collect();
        for grain in [GRAIN, GRAIN + 1] {
            assert_eq!(bench.lane.try_submit(&call(IN_RING, grain, 9), &[]), Err(SubmitError::Full));
        }
        assert_eq!(bench.lane.0.submitter.pending(), 8);
        gate.open();
        assert_eq!(bench.lane.wait(slow).status, Status::Ok);
        for (number, ticket) in (0..).zip(behind) {
            assert_eq!(bench.lane.wait(ticket).payload[0], number);
        }
    }
    assert!(journal.numbers().into_iter().eq((0..3).flat_map(|_| 0..7)), "a refused command ran");
}

/// Goal: giving up an answer is not cancelling. Method: a call at a gate and one behind it are given up; both slots stay with
/// the device for many laps, both calls run, and then the lane has all its slots again.
pub fn a_command_that_was_given_up_runs_and_frees_its_slot(context: &Context) {
    let (mut bench, gate, journal) = at_the_gate(context, 8);
    let _open = OpenAtEnd(&gate);
    let mut slow = bench.lane.submit(&call(AT_GATE, GRAIN, 0));
    gate.wait_arrived(1);
    let mut behind = bench.lane.submit(&call(IN_RING, GRAIN, 1));
    for ticket in [&mut slow, &mut behind] {
        bench.lane.0.completions.abandon(ticket);
        assert_eq!(bench.lane.look(ticket), Taken::Gone);
    }
    for number in 0..1000 {
        assert_eq!(bench.lane.run(&echo(GRAIN + 1, number)).payload, [number; 7]);
    }
    assert_eq!(bench.lane.0.submitter.pending(), 2);
    assert!(!bench.lane.is_complete(&slow) && !bench.lane.is_complete(&behind));
    gate.open();
    assert_eq!(bench.lane.run(&call(IN_RING, GRAIN, 2)).payload[0], 2);
    assert_eq!(journal.numbers(), [1, 2]);
    assert!(bench.lane.is_complete(&slow) && bench.lane.is_complete(&behind));
    assert_eq!(bench.lane.0.submitter.pending(), 0);
    let tickets: Vec<_> = (0..8).map(|number| bench.lane.submit(&echo(GRAIN, number))).collect();
    for (number, ticket) in (0..).zip(tickets) {
        assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
    }
}
