//! Unit tests of the ring over the processor's own atomics, on one thread and on two.

mod ending;
mod layout;
mod model;
mod payloads;
mod posted;
mod slots;
mod staging;
mod threads;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use gpubridge_abstractions::{
    Command, Completion, Completions, Opcode, PAYLOAD_WORDS, Status, SubmitError, Submitter, Taken, Ticket,
};

use super::layout::LaneLayout;
use super::{DeviceLane, HostCompletions, HostLane, HostSubmitter, Reply, Word, Words};

/// A lane's memory as a shared vector of words.
#[derive(Debug)]
pub(super) struct Memory<W>(Arc<[W]>);

impl<W> Clone for Memory<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Word> Memory<W> {
    /// Memory for this layout, whose words `word` makes by their index.
    pub(super) fn new(layout: LaneLayout, word: impl FnMut(usize) -> W) -> Self {
        Self((0..layout.words()).map(word).collect())
    }
}

impl<W: Word> Words for Memory<W> {
    type Word = W;

    fn words(&self) -> &[W] {
        &self.0
    }
}

/// Both halves of one lane.
struct Rig {
    layout: LaneLayout,
    memory: Memory<AtomicU64>,
    submitter: HostSubmitter<Memory<AtomicU64>>,
    completions: HostCompletions<Memory<AtomicU64>>,
    device: DeviceLane<Memory<AtomicU64>>,
}

impl Rig {
    fn new(slots: u32, staging_bytes: u32) -> Self {
        let layout = LaneLayout::new(slots, staging_bytes);
        let memory = Memory::new(layout, |_| Word::new(0));
        let host = HostLane::new(memory.clone(), layout, None);
        let completions = host.completions();
        let device = DeviceLane::new(memory.clone(), layout);
        Self { layout, memory, submitter: host.into_submitter(), completions, device }
    }

    /// Submits a numbered command, which must be accepted.
    fn submit(&mut self, number: u64) -> Ticket {
        self.submitter.try_submit(&numbered(number), &[]).expect("the lane has room")
    }

    /// Lets the device read the next command, which must be there and be this one.
    fn poll(&mut self, number: u64) -> Reply {
        let (command, reply) = self.device.poll_command().expect("a command was submitted");
        self.device.publish_consumed();
        assert_eq!(command, numbered(number));
        reply
    }

    /// Submits a numbered command and has it answered, but not taken.
    fn answered(&mut self, number: u64) -> Ticket {
        let ticket = self.submit(number);
        assert!(!self.completions.is_complete(ticket.sequence()), "an old answer counts for a new command");
        let reply = self.poll(number);
        self.device.complete(reply, &answer(number));
        ticket
    }

    /// Takes the answer to a numbered command, which must be there.
    fn take(&self, ticket: &mut Ticket, number: u64) {
        assert_eq!(self.completions.take(ticket, &mut []), Taken::Ready(answer(number)));
    }
}

/// A command whose payload is made from `number`, with the top bits of the words all ways.
fn numbered(number: u64) -> Command {
    Command::new(Opcode::Compute, number as u32, spread(number))
}

/// The answer to a numbered command.
fn answer(number: u64) -> Completion {
    Completion { status: Status::Ok, device_time_ns: number as u32, result_bytes: 56, payload: spread(!number) }
}

/// Seven words that depend on all bits of `number`.
fn spread(number: u64) -> [u64; PAYLOAD_WORDS] {
    std::array::from_fn(|i| number.wrapping_add(i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
