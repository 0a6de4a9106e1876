//! The ring by itself: submit a command, step the device half, take the answer.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gpubridge::kernels::ring::layout::LaneLayout;
use gpubridge::kernels::ring::{DeviceLane, HostLane};
use gpubridge::{Command, Completion, Completions, Opcode, SharedMemory, Status, Submitter, Taken};

use super::OPERATIONS;

const SLOTS: u32 = 256;
const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / 8;

/// A lane's memory.
#[derive(Debug)]
struct Memory {
    words: Vec<AtomicU64>,
    // Of the first aligned word.
    first: usize,
}

impl Memory {
    fn new(words: usize) -> Self {
        let words: Vec<_> = (0..words + LINE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let first = words.as_ptr().align_offset(LINE_BYTES);
        Self { words, first }
    }
}

impl SharedMemory for Memory {
    fn words(&self) -> &[AtomicU64] {
        &self.words[self.first..]
    }
}

/// Both halves of a lane in one hand. The host's is used as the runtime uses it.
#[derive(Debug)]
pub struct Stepped {
    submitter: Box<dyn Submitter>,
    completions: Arc<dyn Completions>,
    device: DeviceLane<Arc<Memory>>,
    command: Command,
    next: u64,
}

impl Stepped {
    pub fn new() -> Self {
        let layout = LaneLayout::new(SLOTS, LINE_BYTES as u32);
        let memory = Arc::new(Memory::new(layout.words()));
        let host = HostLane::new(Arc::clone(&memory), layout, None);
        let completions = Arc::new(host.completions());
        let mut warm = Self {
            submitter: Box::new(host.into_submitter()),
            completions,
            device: DeviceLane::new(memory, layout),
            command: Command::new(Opcode::Echo, 0, [0; 7]),
            next: 0,
        };
        (0..OPERATIONS).for_each(|_| warm.step());
        warm
    }

    #[inline]
    pub fn step(&mut self) {
        self.next += 1;
        let mut ticket = self.submitter.try_submit(&Command::new(Opcode::Echo, 1, [self.next; 7]), &[]).expect("room");
        self.submitter.doorbell();
        assert!(self.device.has_news());
        let reply = self.device.poll(&mut self.command).expect("it was submitted");
        self.device.publish_consumed();
        let mut answer = Completion::of(Status::Ok);
        answer.payload = self.command.payload;
        self.device.complete(reply, &answer);
        let Taken::Ready(completion) = self.completions.take(&mut ticket, &mut []) else { panic!("it was answered") };
        assert_eq!(completion.payload, [self.next; 7]);
    }
}
