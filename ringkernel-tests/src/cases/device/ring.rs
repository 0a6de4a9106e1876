//! Submitting to a lane: order, laps, back-pressure, bells.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{Command, DeviceSlot, MemoryType, Opcode, RingConfig, Status, SubmitError, Taken, Ticket};

use crate::lane::{Bench, Driver, GRAIN, SMALL, echo, transfer, write_word};
use crate::rig::{Joined, SOON, eventually, pattern};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("ring",
    Memory {
        every_slot_carries_every_payload_lap_after_lap => "Submitter::try_submit/whole",
        staged_bytes_arrive_with_their_command_lap_after_lap => "Submitter::try_submit/whole",
        an_untaken_answer_is_passed_over_for_many_laps => "Submitter::try_submit/passed-over",
        slots_freed_in_any_order_are_found => "Submitter::try_submit/passed-over",
        a_lane_is_full_at_its_slots_in_every_lap => "Submitter::try_submit/full",
        too_many_staged_bytes_are_refused => "Submitter::try_submit/too-large",
        a_run_is_submitted_in_its_order => "Submitter::try_submit_run/one-by-one",
        a_run_stops_at_the_first_that_finds_no_slot => "Submitter::try_submit_run/first-refused",
        one_bell_is_enough_for_many => "Submitter::doorbell/one-for-many",
        a_bell_is_heard_after_every_pause => "Submitter::doorbell/wakes",
        sequence_numbers_grow => "Submitter::next_sequence/grows",
        lanes_are_handed_out_once => "Ring::take_lane/once",
        lanes_have_tables_of_their_own => "Ring::take_lane/apart",
        a_full_lane_is_full_alone => "Ring::take_lane/apart",
        lanes_work_side_by_side => "Ring::take_lane/side-by-side",
    }
);

const COUNT: u64 = 5000;

/// Goal: nothing is lost or mixed when the lane wraps. Method: as many in flight as there are slots, payloads all different,
/// through thousands of laps of rings of several sizes; every answer is compared.
pub fn every_slot_carries_every_payload_lap_after_lap(context: &Context) {
    let device = context.device();
    for slots in [2, 4, 64] {
        let mut bench = Bench::new(device.clone(), RingConfig { slots, ..SMALL });
        let mut random = fastrand::Rng::with_seed(u64::from(slots));
        let mut waiting = VecDeque::new();
        for number in 0..COUNT {
            if waiting.len() == slots as usize {
                let (sent, ticket) = waiting.pop_front().expect("it is full");
                assert_eq!(bench.lane.wait(ticket).payload, sent, "before number {number} of {slots} slots");
            }
            // All ones and all zeros in turn beside the numbers: a bit that stays from the lap before shows.
            let turn = if number & u64::from(slots) == 0 { 0 } else { u64::MAX };
            let payload = [number, random.u64(..), turn, !number, turn, random.u64(..), turn];
            waiting.push_back((payload, bench.lane.submit(&Command::new(Opcode::Echo, number as u32, payload))));
        }
        for (sent, ticket) in waiting {
            assert_eq!(bench.lane.wait(ticket).payload, sent);
        }
    }
}

/// Goal: a staging area belongs to its slot. Method: writes and reads with different bytes in every slot at once, through
/// many laps; what is taken is compared to the byte.
pub fn staged_bytes_arrive_with_their_command_lap_after_lap(context: &Context) {
    const BLOCK: usize = 96;
    let mut bench = Bench::new(context.device(), SMALL);
    let half = SMALL.slots as usize / 2;
    let (_buffer, slot) = bench.bound(0, (half * BLOCK) as u64);
    for lap in 0..300 {
        let place = |i: usize| (i * BLOCK) as u64;
        let size = |i: usize| BLOCK - (lap + i) % 9;
        let writes: Vec<_> = (0..half)
            .map(|i| {
                let data = pattern((lap * half + i) as u64, size(i));
                let command = transfer(Opcode::Write, slot, place(i), data.len());
                bench.lane.try_submit(&command, &data).expect("there is a slot")
            })
            .collect();
        let reads: Vec<_> =
            (0..half).map(|i| bench.lane.submit(&transfer(Opcode::Read, slot, place(i), size(i)))).collect();
        for ticket in writes {
            assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
        }
        // From the last to the first.
        for (i, ticket) in reads.into_iter().enumerate().rev() {
            let mut bytes = vec![0; size(i)];
            assert_eq!(bench.lane.wait_into(ticket, &mut bytes).status, Status::Ok);
            assert!(bytes == pattern((lap * half + i) as u64, size(i)), "lap {lap}, slot {i}: {bytes:?}");
        }
    }
}

/// Goal: who does not take an answer holds one slot, for as long as it likes. Method: one answer is kept while hundreds of
/// laps pass beside it; it is still the right one, with its staged bytes.
pub fn an_untaken_answer_is_passed_over_for_many_laps(context: &Context) {
    for slots in [2, 8] {
        let mut bench = Bench::new(context.device(), RingConfig { slots, ..SMALL });
        let (_buffer, slot) = bench.bound(0, 100);
        bench.lane.write_all(slot, &pattern(9, 100));
        let kept = bench.lane.submit(&transfer(Opcode::Read, slot, 0, 100));
        for round in 0..200 {
            let tickets: Vec<_> =
                (1..slots).map(|i| (i, bench.lane.submit(&echo(GRAIN, round + u64::from(i))))).collect();
            assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[7; 100]), Err(SubmitError::Full), "{slots} slots");
            for (i, ticket) in tickets {
                assert_eq!(bench.lane.wait(ticket).payload, [round + u64::from(i); 7]);
            }
        }
        let mut bytes = [0; 100];
        assert_eq!(bench.lane.wait_into(kept, &mut bytes).status, Status::Ok);
        assert!(bytes[..] == pattern(9, 100), "{slots} slots: others' bytes in the staging area of a kept answer");
    }
}

/// Goal: a free slot is found wherever it lies. Method: a full lane; answers are taken at random, and each makes room for
/// exactly one command; all are compared.
pub fn slots_freed_in_any_order_are_found(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { slots: 16, ..SMALL });
    let mut random = fastrand::Rng::with_seed(5);
    let mut held: Vec<(u64, Ticket)> =
        (0..16).map(|number| (number, bench.lane.submit(&echo(GRAIN, number)))).collect();
    for number in 16..3000 {
        assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full), "number {number}");
        let (sent, ticket) = held.swap_remove(random.usize(..16));
        assert_eq!(bench.lane.wait(ticket).payload, [sent; 7], "number {number}");
        // At once, or when the device has read what was submitted before.
        eventually("the free slot is found", || match bench.lane.try_submit(&echo(GRAIN, number), &[]) {
            Ok(ticket) => {
                held.push((number, ticket));
                true
            }
            Err(why) => {
                assert_eq!(why, SubmitError::Full);
                false
            }
        });
    }
    for (sent, ticket) in held {
        assert_eq!(bench.lane.wait(ticket).payload, [sent; 7]);
    }
}

/// Goal: full is told from empty, and full means all slots. Method: at every position of the lane and for many laps it takes
/// exactly as many commands as it has slots; a refusal changes no number, and the lane's answers stay.
pub fn a_lane_is_full_at_its_slots_in_every_lap(context: &Context) {
    let device = context.device();
    for slots in [2, 8] {
        let mut bench = Bench::inactive(device.clone(), RingConfig { slots, ..SMALL });
        for lap in 0..40 {
            let mut tickets: Vec<_> =
                (0..u64::from(slots)).map(|i| bench.lane.submit(&echo(GRAIN, lap * 100 + i))).collect();
            let submitter = &mut bench.lane.0.submitter;
            let before = (submitter.next_sequence(), submitter.pending());
            for staged in [&[][..], &[1; 64]] {
                assert_eq!(submitter.try_submit(&echo(GRAIN, 9), staged), Err(SubmitError::Full), "lap {lap}");
            }
            assert_eq!((submitter.next_sequence(), submitter.pending()), before, "a refusal is no submission");
            assert_eq!(before.1, slots);
            assert!(tickets.iter_mut().all(|ticket| bench.lane.look(ticket) == Taken::Pending));
            bench.ring.activate(SOON).expect("the ring follows");
            for (i, ticket) in (0..).zip(tickets) {
                assert_eq!(bench.lane.wait(ticket).payload, [lap * 100 + i; 7]);
            }
            // One more moves the lap's start.
            bench.lane.probe(lap);
            bench.ring.deactivate(SOON).expect("the ring follows");
        }
    }
}

/// Goal: the bytes fit or nothing happens. Method: the staging area's size, one byte more, and far more, in an empty lane.
pub fn too_many_staged_bytes_are_refused(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let most = SMALL.staging_bytes as usize;
    for size in [most + 1, most + 64, 10 * most] {
        let before = bench.lane.0.submitter.next_sequence();
        let refused = bench.lane.try_submit(&echo(GRAIN, 1), &vec![1; size]);
        assert_eq!(refused, Err(SubmitError::TooLarge), "{size} of {most}");
        assert_eq!((bench.lane.0.submitter.next_sequence(), bench.lane.0.submitter.pending()), (before, 0));
    }
    let ticket = bench.lane.try_submit(&echo(GRAIN, 1), &vec![1; most]).expect("it fits");
    assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
}

/// Goal: a run is its commands, one after the other. Method: runs of writes and reads of one word; each read sees the write
/// before it; the tickets are as many and in order.
pub fn a_run_is_submitted_in_its_order(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let (_buffer, slot) = bench.bound(0, 64);
    let mut tickets = Vec::new();
    for round in 0..500_u64 {
        let pairs = 1 + round % 4;
        let run: Vec<_> = (0..pairs)
            .flat_map(|i| [write_word(slot, 8, round * 10 + i), transfer(Opcode::ReadInline, slot, 8, 8)])
            .collect();
        bench.lane.0.submitter.try_submit_run(&run, &mut tickets).expect("the lane is empty");
        bench.lane.0.submitter.doorbell();
        assert_eq!(tickets.len(), run.len());
        assert!(tickets.windows(2).all(|pair| pair[0].sequence() < pair[1].sequence()), "{tickets:?}");
        for (i, ticket) in (0..).zip(tickets.drain(..)) {
            let completion = bench.lane.wait(ticket);
            assert_eq!(completion.status, Status::Ok);
            assert!(i % 2 == 0 || completion.payload[0] == round * 10 + i / 2, "round {round}, command {i}");
        }
    }
    bench.lane.0.submitter.try_submit_run(&[], &mut tickets).expect("nothing is no error");
    assert!(tickets.is_empty());
}

/// Goal: a run that does not fit is cut, not dropped. Method: runs longer than what is free; exactly the free slots are used,
/// those have tickets and answers, and the rest can be submitted later.
pub fn a_run_stops_at_the_first_that_finds_no_slot(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for occupied in 0..=SMALL.slots as usize {
        let held: Vec<_> = (0..occupied).map(|_| bench.lane.submit(&echo(GRAIN, 0))).collect();
        let run: Vec<_> = (0..12).map(|i| echo(GRAIN, 100 + i)).collect();
        let mut tickets = Vec::new();
        assert_eq!(bench.lane.0.submitter.try_submit_run(&run, &mut tickets), Err(SubmitError::Full));
        bench.lane.0.submitter.doorbell();
        assert_eq!(tickets.len(), SMALL.slots as usize - occupied);
        for (i, ticket) in (0..).zip(tickets) {
            assert_eq!(bench.lane.wait(ticket).payload, [100 + i; 7]);
        }
        held.into_iter().for_each(|ticket| assert_eq!(bench.lane.wait(ticket).status, Status::Ok));
    }
    bench.ring.terminate(SOON).expect("the ring ends");
    let mut tickets = Vec::new();
    assert_eq!(bench.lane.0.submitter.try_submit_run(&[echo(GRAIN, 0)], &mut tickets), Err(SubmitError::Stopped));
    assert!(tickets.is_empty());
}

/// Goal: a producer may ring once for all. Method: one to eight commands, one bell, many times.
pub fn one_bell_is_enough_for_many(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for round in 0..1000_u64 {
        let submit = |number| bench.lane.0.submitter.try_submit(&echo(GRAIN, number), &[]).expect("there is a slot");
        let tickets: Vec<_> = (0..1 + round % 8).map(submit).collect();
        bench.lane.0.submitter.doorbell();
        for (number, ticket) in (0..).zip(tickets) {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
        }
    }
}

/// Goal: no command is slept through. Method: thousands of commands with pauses of up to 300 µs between them, so that they come
/// before the device goes to rest, while it does, and after; some pauses are long enough for any device.
pub fn a_bell_is_heard_after_every_pause(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let mut random = fastrand::Rng::with_seed(6);
    for number in 0..6000 {
        // A step that shares no factor with a fault's period.
        let pause_us = if number % 101 == 0 { 2000 } else { random.u64(..300) };
        let until = Instant::now() + Duration::from_micros(pause_us);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        bench.lane.probe(number);
    }
}

/// Goal: numbers tell the order of a lane. Method: tickets and the announced next number; now and then an answer is kept, so
/// that its slot is passed over from then on.
pub fn sequence_numbers_grow(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let mut last = None;
    let mut kept = Vec::new();
    for number in 0..300 {
        let announced = bench.lane.0.submitter.next_sequence();
        let ticket = bench.lane.submit(&echo(GRAIN, number));
        let sequence = ticket.sequence();
        assert!(last < Some(sequence), "{sequence} after {last:?}");
        assert!(announced <= sequence && sequence < bench.lane.0.submitter.next_sequence(), "{sequence}, {announced}");
        last = Some(sequence);
        if number % 50 == 7 {
            kept.push((number, ticket));
        } else {
            assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
        }
    }
    for (number, ticket) in kept {
        assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
    }
}

/// Goal: a lane has one producer. Method: each lane is taken by the first of several threads, and by nobody afterwards.
pub fn lanes_are_handed_out_once(context: &Context) {
    let ring = context.device().launch(RingConfig { lanes: 3, ..SMALL }).expect("it is granted");
    for lane in 0..3 {
        let taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(ring.take_lane(lane).is_some()))).collect();
            threads.into_iter().map(|thread| thread.joined()).sum()
        });
        assert_eq!(taken, 1, "threads that have lane {lane}");
        assert!(ring.take_lane(lane).is_none());
    }
    assert!(ring.take_lane(3).is_none() && ring.take_lane(u32::MAX).is_none());
}

/// Goal: names are a lane's own. Method: the same grain binds the same name in three lanes to three blocks; contents tell.
pub fn lanes_have_tables_of_their_own(context: &Context) {
    let bench = Bench::new(context.device(), RingConfig { lanes: 4, ..SMALL });
    let buffer = bench.device.reserve(3 * 64, MemoryType::Default).expect("there is memory");
    let slot = DeviceSlot { index: 0, generation: 1 };
    let mut lanes: Vec<_> = (1..4).map(|lane| Driver::take(&*bench.ring, lane)).collect();
    for (seed, lane) in (0..).zip(&mut lanes) {
        assert_eq!(lane.status(&transfer(Opcode::Read, slot, 0, 8)), Status::UnknownAllocation);
        assert_eq!(lane.bind(GRAIN, slot, buffer.address() + seed * 64, 64, 64), Status::Ok);
        lane.write_all(slot, &pattern(seed, 64));
    }
    for (seed, lane) in (0..).zip(&mut lanes) {
        assert_eq!(lane.read_all(slot, 64), pattern(seed, 64));
        assert_eq!(lane.bind(GRAIN, slot, 0, 0, 0), Status::Ok);
    }
}

/// Goal: slots are a lane's own. Method: one lane is filled and left so; another one goes through many laps.
pub fn a_full_lane_is_full_alone(context: &Context) {
    let mut bench = Bench::new(context.device(), RingConfig { lanes: 2, ..SMALL });
    let mut other = Driver::take(&*bench.ring, 1);
    let kept: Vec<_> = (0..u64::from(SMALL.slots)).map(|number| bench.lane.submit(&echo(GRAIN, number))).collect();
    assert_eq!(bench.lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Full));
    for number in 0..200 {
        other.probe(number);
    }
    for (number, ticket) in (0..).zip(kept) {
        assert_eq!(bench.lane.wait(ticket).payload, [number; 7]);
    }
}

/// Writes and reads back through one lane, with several commands in flight.
fn traffic(mut lane: Driver, slot: DeviceSlot, address: u64, seed: u64) {
    assert_eq!(lane.bind(GRAIN, slot, address, 4096, 4096), Status::Ok);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut waiting = VecDeque::new();
    for _ in 0..2000 {
        let (number, offset) = (random.u64(..), random.u64(..4088));
        let written = lane.submit(&write_word(slot, offset, number));
        let read = lane.submit(&transfer(Opcode::Read, slot, offset, 8));
        waiting.push_back((number, written, read));
        if waiting.len() == 4 {
            let (number, written, read) = waiting.pop_front().expect("it is full");
            let mut bytes = [0; 8];
            assert_eq!(lane.wait(written).status, Status::Ok);
            assert_eq!(lane.wait_into(read, &mut bytes).status, Status::Ok);
            assert_eq!(u64::from_le_bytes(bytes), number, "lane {seed}");
        }
    }
}

/// Goal: lanes need no lock between them. Method: five lanes, a thread for each, all under load with random words.
pub fn lanes_work_side_by_side(context: &Context) {
    const LANES: u32 = 5;
    let device = context.device();
    let ring = device.launch(RingConfig { lanes: LANES, ..SMALL }).expect("it is granted");
    ring.activate(SOON).expect("the ring starts");
    let buffer = device.reserve(u64::from(LANES) * 4096, MemoryType::Default).expect("there is memory");
    thread::scope(|scope| {
        for index in 0..LANES {
            let lane = Driver::take(&*ring, index);
            let address = buffer.address() + u64::from(index) * 4096;
            scope.spawn(move || traffic(lane, DeviceSlot { index: 0, generation: 1 }, address, u64::from(index)));
        }
    });
}
