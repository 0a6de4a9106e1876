//! Many grains that wait for commands beside the ring at once: the order within each, told by its data.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{
    Command, Completion, Compute, DeviceBuffer, DeviceSlot, KernelSpec, MemoryType, Opcode, RingConfig, Scalars,
    Status, Ticket, Transfer,
};
use gpubridge_kernels::library::id::SAXPY;
use ringkernel_tests::lane::{Bench, Driver, bind, echo, transfer};

use crate::device::{Gate, SOON, eventually, open};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case::new("held::lanes_of_few_slots", "", few_slots),
    Case::new("held::hundreds_at_once", "gate=gpubridge_beside_grid:{folder}/gate", hundreds_at_once),
    Case::new("held::grains_take_turns", "", |_| turns(1, 24, 400)),
    Case::new("held::grains_of_several_blocks_take_turns", "sms=32", |_| turns(3, 24, 200)),
];

/// More elements than are worked on in the ring.
const BESIDE: u32 = 65_600;
const BLOCK_BYTES: u64 = BESIDE as u64 * 4;

/// A grain that computes `x = a · x + 1` again and again, in the ring and beside it: the result tells the order.
struct Counter {
    grain: u32,
    settled: u32,
    expected: u32,
    tickets: Vec<(Ticket, Option<u32>)>,
}

/// The counters stay below 2²³, so that floats hold them exactly.
const MOST: u32 = 1 << 23;

impl Counter {
    fn block(&self) -> DeviceSlot {
        DeviceSlot { index: 2 * self.grain, generation: 1 }
    }

    fn ones(&self) -> DeviceSlot {
        DeviceSlot { index: 2 * self.grain + 1, generation: 1 }
    }

    /// Binds the blocks of this grain, its own and the one of ones.
    fn begin(grain: u32, own: u64, ones: u64, lane: &mut Driver) -> Self {
        let mut counter = Self { grain, settled: 0, expected: 0, tickets: Vec::new() };
        // Beside the ring: what follows waits.
        counter.submit(lane, bind(grain, counter.block(), own, BLOCK_BYTES, BLOCK_BYTES), None);
        counter.submit(lane, bind(grain, counter.ones(), ones, BLOCK_BYTES, 0), None);
        counter
    }

    fn submit(&mut self, lane: &mut Driver, command: Command, value: Option<u32>) {
        self.tickets.push((lane.submit(&command), value));
    }

    /// One more step, over `count` elements.
    fn step(&mut self, lane: &mut Driver, a: u32, count: u32) {
        if self.expected * a + 1 >= MOST {
            return self.restart(lane);
        }
        self.expected = self.expected * a + 1;
        let call = Compute {
            input: self.block(),
            operand: self.ones(),
            output: self.block(),
            count,
            scalars: Scalars::default().with_bits(0, (a as f32).to_bits()).0,
        };
        let command = Command { kernel: 0, ..Command::new(Opcode::Compute, self.grain, call.to_payload()) };
        self.submit(lane, command, None);
    }

    /// From 0 again, by a write.
    fn restart(&mut self, lane: &mut Driver) {
        self.expected = 0;
        let payload = Transfer { slot: self.block(), offset_bytes: 0, size_bytes: 4 }.to_payload([0; 4]);
        self.submit(lane, Command::new(Opcode::WriteInline, self.grain, payload), None);
    }

    fn look(&mut self, lane: &mut Driver) {
        let command = Command { grain: self.grain, ..transfer(Opcode::ReadInline, self.block(), 0, 4) };
        self.submit(lane, command, Some(self.expected));
    }

    /// Takes all answers.
    fn settle(&mut self, lane: &Driver) {
        for (ticket, expected) in self.tickets.drain(..) {
            let Completion { status, payload, .. } = lane.wait(ticket);
            assert_eq!(status, Status::Ok, "grain {}", self.grain);
            if let Some(expected) = expected {
                let value = f32::from_bits(payload[0] as u32);
                assert_eq!(value, expected as f32, "grain {}: its commands were not executed in order", self.grain);
            }
            self.settled += 1;
        }
    }
}

/// An active ring, memory for so many counters per lane, and a block of ones.
fn start(lanes: u32, slots: u32, counters: u64) -> (Bench, Vec<Driver>, Box<dyn DeviceBuffer>, Box<dyn DeviceBuffer>) {
    let config = RingConfig { lanes, slots, staging_bytes: 1024, allocations: 4096 };
    let mut bench = Bench::with_kernels(open(), config, &[KernelSpec::new(SAXPY)]);
    let ones = bench.device.reserve(BLOCK_BYTES, MemoryType::Default).expect("there is memory");
    let slot = DeviceSlot { index: 4000, generation: 1 };
    assert_eq!(bench.lane.bind(ringkernel_tests::lane::GRAIN, slot, ones.address(), BLOCK_BYTES, 0), Status::Ok);
    bench.lane.write_all(slot, &1_f32.to_le_bytes().repeat(BESIDE as usize));
    let memory = bench.device.reserve(u64::from(lanes) * counters * BLOCK_BYTES, MemoryType::Default);
    let more = (1..lanes).map(|lane| Driver::take(&*bench.ring, lane)).collect();
    (bench, more, ones, memory.expect("there is memory"))
}

/// Goal: where the device looks at more commands at once than a lane has slots, what a slot held is not taken for the command a
/// lap ahead. Method: lanes that are filled at once, again and again.
fn few_slots(_: &Path) -> End {
    let device = open();
    for slots in [2, 4, 8, 16] {
        let config = RingConfig { lanes: 1, slots, staging_bytes: 64, allocations: 1 };
        let mut bench = Bench::new(Arc::clone(&device), config);
        for round in 0..1500 {
            let numbers = round * u64::from(slots)..(round + 1) * u64::from(slots);
            let commands: Vec<Command> = numbers.clone().map(|number| echo((number % 3) as u32, number)).collect();
            let mut tickets = Vec::with_capacity(commands.len());
            eventually("the lane takes as many as it has slots", || {
                let rest = &commands[tickets.len()..];
                bench.lane.0.submitter.try_submit_run(rest, &mut tickets).is_ok()
            });
            for (number, ticket) in numbers.zip(tickets) {
                let answer = bench.lane.wait(ticket);
                assert_eq!((answer.status, answer.payload), (Status::Ok, [number; 7]), "{slots} slots");
            }
        }
        bench.ring.terminate(SOON).expect("it ends");
    }
    End::Passed
}

/// Goal: hundreds of commands beside one lane, none of which ends, with followers behind each; then all end at once.
pub fn hundreds_at_once(folder: &Path) -> End {
    const GRAINS: u32 = 300;
    let gate = Gate::new(folder);
    // The blocks need not be apart: only element 0 of each counter is looked at, 256 bytes from the next one's.
    let (mut bench, _, ones, memory) = start(1, 4096, 80);
    gate.close();
    let apart = |grain: u32| memory.address() + u64::from(grain) * 256;
    let lane = &mut bench.lane;
    let mut counters: Vec<Counter> = (0..GRAINS)
        .map(|grain| {
            let mut counter = Counter { grain, settled: 0, expected: 0, tickets: Vec::new() };
            counter.submit(lane, bind(grain, counter.block(), apart(grain), BLOCK_BYTES, 0), None);
            counter.submit(lane, bind(grain, counter.ones(), ones.address(), BLOCK_BYTES, 0), None);
            counter
        })
        .collect();
    for round in 0..3 {
        for counter in &mut counters {
            // Beside the ring: the zeroing of bytes that nobody looks at.
            if round == 0 {
                let slot = DeviceSlot { index: 2000 + counter.grain, generation: 1 };
                let spare = memory.address() + 2 * BLOCK_BYTES + u64::from(counter.grain) * 66 * 1024;
                counter.submit(lane, bind(counter.grain, slot, spare, 64, 66 * 1024), None);
            }
            counter.step(lane, 2 + round, 1);
            counter.step(lane, 3, 1);
            counter.look(lane);
        }
    }
    bench.ring.deactivate(Duration::ZERO).expect_err("none of them ends");
    bench.ring.activate(SOON).expect("it goes on");
    for counter in &counters {
        let (first, rest) = (&counter.tickets[1], &counter.tickets[2..]);
        eventually("what is before the command beside the ring is answered", || lane.is_complete(&first.0));
        assert!(!rest.iter().any(|(ticket, _)| lane.is_complete(ticket)), "grain {} waits", counter.grain);
    }
    gate.open();
    bench.ring.deactivate(SOON).expect("it holds");
    bench.device.reserve(u64::MAX / 4, MemoryType::Default).expect_err("so much there is not, as a window shows");
    bench.ring.activate(SOON).expect("it goes on");
    counters.iter_mut().for_each(|counter| counter.settle(&bench.lane));
    End::Passed
}

/// Goal: drawn steps of drawn grains, in the ring and beside it, while the ring changes between run and hold.
pub fn turns(lanes: u32, grains: u32, steps: u32) -> End {
    let (bench, more, ones, memory) = start(lanes, 256, u64::from(grains));
    let Bench { ring, lane, .. } = bench;
    let mut random = fastrand::Rng::with_seed(0xca_5e);
    let mut drivers: Vec<Driver> = [lane].into_iter().chain(more).collect();
    let mut counters: Vec<Vec<Counter>> = Vec::new();
    for (number, lane) in (0..).zip(&mut drivers) {
        let block = |grain: u32| memory.address() + u64::from(number * grains + grain) * BLOCK_BYTES;
        counters.push((0..grains).map(|grain| Counter::begin(grain, block(grain), ones.address(), lane)).collect());
    }
    for step in 0..steps {
        for (lane, counters) in drivers.iter_mut().zip(&mut counters) {
            let counter = &mut counters[random.usize(..grains as usize)];
            if counter.tickets.len() >= 8 {
                ring.activate(SOON).expect("it goes on");
                counter.look(lane);
                counter.settle(lane);
            }
            counter.step(lane, random.u32(2..5), if random.u32(..4) == 0 { BESIDE } else { 1 });
        }
        match random.u32(..40) {
            0 => ring.deactivate(SOON).expect("it holds"),
            1 => drop(ring.deactivate(Duration::ZERO)),
            _ => {}
        }
        if step % 3 == 0 {
            ring.activate(SOON).expect("it goes on");
        }
    }
    ring.activate(SOON).expect("it goes on");
    for (lane, counters) in drivers.iter_mut().zip(&mut counters) {
        for counter in counters {
            counter.look(lane);
            counter.settle(lane);
            assert!(counter.settled > 2);
        }
    }
    End::Passed
}
