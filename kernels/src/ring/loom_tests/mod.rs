//! Models of the ring that loom runs through every interleaving, up to a bound, and every stale value a load may see.
//!
//! Each model takes a [`Fault`]. Without one it must hold; with one planted it must fail, and a test says with which
//! words. So a model that has gone blind fails the suite too.

mod ending;
mod exchange;
mod sleep;
mod slots;

use std::sync::atomic::Ordering;

use gpubridge_abstractions::{
    Command, Completion, Completions, Opcode, PAYLOAD_WORDS, Status, Submitter, Taken, Ticket,
};
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::layout::{LaneLayout, SLOT_WORDS};
use super::tests::Memory;
use super::{DeviceLane, HostCompletions, HostLane, HostSubmitter, Reply, Wake, Word, Words};

/// What may be broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Headers of commands are stored Relaxed: nothing orders a command's other words and staged bytes before it.
    RelaxedCommands,
    /// Headers of completions are stored Relaxed.
    RelaxedAnswers,
    /// Headers of commands are stored Relaxed, and the device takes the other words without a look at their lap.
    UncheckedWords,
    /// The device publishes a slot as consumed before it reads it.
    EarlyConsumed,
    /// The device goes to sleep without another look after it said so.
    NoSecondLook,
}

/// A word that loom watches. Release stores of a word that keeps no order are Relaxed.
#[derive(Debug)]
struct LoomWord {
    value: AtomicU64,
    keeps_order: bool,
}

impl Word for LoomWord {
    fn new(value: u64) -> Self {
        Self { value: AtomicU64::new(value), keeps_order: true }
    }

    fn load(&self, order: Ordering) -> u64 {
        self.value.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.value.store(value, if self.keeps_order { order } else { Ordering::Relaxed });
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.value.swap(value, order)
    }
}

const SLOTS: u32 = 2;
const STAGING_BYTES: u32 = 8;

fn layout() -> LaneLayout {
    LaneLayout::new(SLOTS, STAGING_BYTES)
}

/// Memory of a lane of two slots with a staging word each, with the headers that `fault` breaks.
fn memory(fault: Fault) -> Memory<LoomWord> {
    let layout = layout();
    Memory::new(layout, |index| {
        let is_header_from = |first: usize| (0..SLOTS as usize).any(|slot| index == first + slot * SLOT_WORDS);
        let keeps_order = match fault {
            Fault::RelaxedCommands | Fault::UncheckedWords => !is_header_from(layout.command(0)),
            Fault::RelaxedAnswers => !is_header_from(layout.completion(0)),
            _ => true,
        };
        LoomWord { value: AtomicU64::new(0), keeps_order }
    })
}

type Host = (HostSubmitter<Memory<LoomWord>>, HostCompletions<Memory<LoomWord>>);
type Device = DeviceLane<Memory<LoomWord>>;

/// Both halves over this memory.
fn halves(memory: &Memory<LoomWord>) -> (Host, Device) {
    let host = HostLane::new(memory.clone(), layout(), None);
    let completions = host.completions();
    ((host.into_submitter(), completions), DeviceLane::new(memory.clone(), layout()))
}

/// Runs `model` through every interleaving with at most this many preemptions.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// A command whose every word depends on `number`, with the top bits of the words all ways.
fn numbered(number: u64) -> Command {
    Command::new(Opcode::Compute, number as u32, spread(number + 1))
}

/// The answer to a numbered command.
fn answer(number: u64) -> Completion {
    Completion { status: Status::Ok, device_time_ns: number as u32, result_bytes: 56, payload: spread(!number) }
}

fn spread(number: u64) -> [u64; PAYLOAD_WORDS] {
    std::array::from_fn(|i| number.rotate_right(i as u32 + 1) ^ i as u64)
}

/// The bytes that are staged with a numbered command.
fn staged(number: u64) -> [u8; 8] {
    (number + 100).to_le_bytes()
}

/// The bytes that the device leaves for a numbered command.
fn staged_answer(number: u64) -> [u8; 8] {
    (number + 200).to_le_bytes()
}

fn submit(host: &mut Host, number: u64) -> Ticket {
    loop {
        match host.0.try_submit(&numbered(number), &staged(number)) {
            Ok(ticket) => return ticket,
            Err(_) => thread::yield_now(),
        }
    }
}

fn poll(device: &mut Device) -> (Command, Reply) {
    loop {
        match device.poll_command() {
            Some(polled) => return polled,
            None => thread::yield_now(),
        }
    }
}

/// Checks a numbered command that the device has read, with its staged bytes, and answers it.
fn serve(device: &Device, number: u64, (command, reply): (Command, Reply)) {
    assert_eq!(command, numbered(number), "the command is not the one submitted");
    let word = &device.staging(&reply)[0];
    let arrived = word.load(Ordering::Relaxed).to_le_bytes();
    assert_eq!(arrived, staged(number), "the command came without its staged bytes");
    word.store(u64::from_le_bytes(staged_answer(number)), Ordering::Relaxed);
    device.complete(reply, &answer(number));
}

/// Takes the answer to a numbered command, if it is there, and checks it with its staged bytes.
fn try_take(completions: &HostCompletions<Memory<LoomWord>>, ticket: &mut Ticket, number: u64) -> bool {
    let mut bytes = [0; 8];
    let taken = completions.take(ticket, &mut bytes);
    if taken == Taken::Pending {
        return false;
    }
    assert_eq!(taken, Taken::Ready(answer(number)), "the answer is not the command's own");
    assert_eq!(bytes, staged_answer(number), "the answer came without its staged bytes");
    true
}

/// Has the first commands submitted, answered and taken, one per slot, so that the next one begins a new lap.
fn go_round(host: &mut Host, device: &mut Device) {
    for number in 0..SLOTS.into() {
        let mut ticket = submit(host, number);
        let polled = poll(device);
        serve(device, number, polled);
        device.publish_consumed();
        assert!(try_take(&host.1, &mut ticket, number));
    }
}

fn take(completions: &HostCompletions<Memory<LoomWord>>, ticket: &mut Ticket, number: u64) {
    while !try_take(completions, ticket, number) {
        thread::yield_now();
    }
}
