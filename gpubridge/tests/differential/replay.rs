//! Replays the workload on a device, with many commands of several grains in flight, and keeps what comes back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use gpubridge::runtime::{Call, Compute, Read, ResidentMemory, ResidentMemoryConfig, SessionId, Write};
use gpubridge::{
    AllocateMessage, AllocationId, Device, Error, ErrorKind, InitializeMessage, ReadMessage, ReleaseMessage,
    RingConfig, ShutdownMessage, StagedRange, WriteMessage,
};

use super::workload::{Command, GRAINS, What};

/// Commands of a grain whose answers wait to be taken.
const IN_FLIGHT: usize = 12;
/// Commands between two looks at all answers.
const COMMANDS_PER_LOOK: usize = 16;
/// A bound against hanging: a driver may compile for minutes when kernels are used first.
const DEADLINE: Duration = Duration::from_secs(600);
/// What a read finds in its buffer.
const UNREAD: u8 = 0xee;

/// What a device made of the workload.
#[derive(Clone, Debug)]
pub struct Record {
    /// The answer to each command.
    pub answers: Vec<Answer>,
    /// The commands of each grain that went through the ring, in the order in which their answers were seen.
    pub order: Vec<Vec<usize>>,
    /// What each grain counts in the end.
    pub counts: Vec<Counts>,
    /// Allocations, bytes and calls that are left when all sessions are closed.
    pub left: [u64; 3],
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Allocated,
    Written { bytes: u64 },
    Read { contents: Vec<u8> },
    Computed { words: Vec<u32>, is_cache_hit: bool },
    Released { bytes: u64 },
    Refused(ErrorKind),
}

/// A grain's own counts: calls and bytes of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub allocations: [u64; 2],
    pub writes: [u64; 2],
    pub reads: [u64; 2],
    pub releases: [u64; 2],
    pub computes: u64,
    pub cache_hits: u64,
}

/// Runs the commands on `device`.
pub fn replay(device: Arc<dyn Device>, commands: &[Command]) -> Record {
    let ring = RingConfig { lanes: 2, slots: 128, staging_bytes: 64 << 10, allocations: 1024 };
    let config = ResidentMemoryConfig { ring, call_deadline: DEADLINE, ..ResidentMemoryConfig::default() };
    let mut landings: Vec<Vec<u8>> = commands.iter().map(landing).collect();
    let memory = ResidentMemory::open(device, config).expect("the memory opens");
    let mut player = Player::new(&memory, commands.len());
    for (at, (command, landing)) in commands.iter().zip(&mut landings).enumerate() {
        player.start(at, command, landing);
        if at % COMMANDS_PER_LOOK == 0 {
            (0..GRAINS).for_each(|grain| player.look(grain));
        }
    }
    let (mut answers, order, sessions) = player.finish();
    let counts = sessions.iter().map(|session| counts(&memory, *session)).collect();
    for session in sessions {
        memory.shutdown(session, &ShutdownMessage::new(memory.envelope()), DEADLINE).expect("the session closes");
    }
    let metrics = memory.metrics();
    let left = [metrics.active_allocation_count, metrics.used_pool_size_bytes, metrics.pending_message_count];
    for (answer, landing) in answers.iter_mut().zip(landings) {
        if let Answer::Read { contents } = answer {
            *contents = landing;
        }
    }
    Record { answers, order, counts, left }
}

/// Where a read's bytes land.
fn landing(command: &Command) -> Vec<u8> {
    match command.what {
        What::Read { size_bytes, .. } => vec![UNREAD; size_bytes],
        _ => Vec::new(),
    }
}

fn counts(memory: &ResidentMemory, session: SessionId) -> Counts {
    let totals = memory.totals(session).expect("the session is open");
    Counts {
        allocations: [totals.allocations.count, totals.allocations.bytes],
        writes: [totals.writes.count, totals.writes.bytes],
        reads: [totals.reads.count, totals.reads.bytes],
        releases: [totals.releases.count, totals.releases.bytes],
        computes: totals.computes.count,
        cache_hits: totals.computes.cache_hit_count,
    }
}

/// A call whose answer was not taken yet.
enum Flying<'m> {
    Write(Call<'m, Write<'m>>),
    Read(Call<'m, Read<'m>>),
    Compute(Call<'m, Compute>),
}

impl Flying<'_> {
    fn poll(&mut self) -> Poll<Result<Answer, Error>> {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Self::Write(call) => {
                let response = Pin::new(call).poll(&mut context);
                response.map_ok(|response| Answer::Written { bytes: response.bytes_written })
            }
            // What was read stays lent until all calls are done.
            Self::Read(call) => Pin::new(call).poll(&mut context).map_ok(|_| Answer::Read { contents: Vec::new() }),
            Self::Compute(call) => Pin::new(call).poll(&mut context).map_ok(|response| {
                let len = response.result.len_bytes() / 4;
                let words = (0..len).map(|at| response.result.u32_at(at * 4).expect("it lies within")).collect();
                Answer::Computed { words, is_cache_hit: response.is_cache_hit }
            }),
        }
    }
}

struct Player<'m> {
    memory: &'m ResidentMemory,
    sessions: Vec<SessionId>,
    /// The allocations by their blocks' numbers.
    allocations: Vec<AllocationId>,
    /// The calls in flight of each grain, oldest first, by their commands.
    flying: Vec<Vec<(usize, Flying<'m>)>>,
    answers: Vec<Option<Answer>>,
    order: Vec<Vec<usize>>,
}

impl<'m> Player<'m> {
    fn new(memory: &'m ResidentMemory, commands: usize) -> Self {
        let open = |grain| {
            let session = memory.session(grain as u64);
            memory.initialize(session, &InitializeMessage::new(memory.envelope())).expect("a new session opens");
            session
        };
        Self {
            memory,
            sessions: (0..GRAINS).map(open).collect(),
            allocations: Vec::new(),
            flying: (0..GRAINS).map(|_| Vec::new()).collect(),
            answers: vec![None; commands],
            order: vec![Vec::new(); GRAINS],
        }
    }

    /// Posts a command, or has the host do it.
    fn start(&mut self, at: usize, command: &'m Command, landing: &'m mut [u8]) {
        let (grain, session, envelope) = (command.grain, self.sessions[command.grain], self.memory.envelope());
        while self.flying[grain].len() >= IN_FLIGHT {
            self.look(grain);
            thread::yield_now();
        }
        let started = match &command.what {
            What::Allocate { size_bytes, .. } => {
                let message = AllocateMessage::new(envelope, *size_bytes as u64);
                let allocated = self.memory.allocate(session, &message);
                self.allocations.push(allocated.unwrap_or_else(|error| panic!("{command}: {error}")).handle.id);
                self.answers[at] = Some(Answer::Allocated);
                return;
            }
            What::Release { block } => {
                let message = ReleaseMessage::new(envelope, self.allocations[*block]);
                let answer = self.memory.release(session, &message);
                self.answers[at] =
                    Some(answered(answer.map(|response| Answer::Released { bytes: response.bytes_freed })));
                return;
            }
            What::Write { block, offset_bytes, bytes } => {
                let staged = staged(bytes.len());
                let message = WriteMessage::new(envelope, self.allocations[*block], *offset_bytes as u64, staged);
                self.memory.write(session, &message, bytes).post().map(Flying::Write)
            }
            What::Read { block, offset_bytes, size_bytes, .. } => {
                let staged = staged(*size_bytes);
                let message = ReadMessage::new(envelope, self.allocations[*block], *offset_bytes as u64, staged);
                self.memory.read(session, &message, landing).post().map(Flying::Read)
            }
            What::Compute { call, blocks, .. } => {
                let placed = blocks.map(|block| block.map(|block| self.allocations[block]));
                let message = call.message(envelope, placed);
                self.memory.compute(session, &message).or_error().post().map(Flying::Compute)
            }
        };
        match started {
            Ok(call) => self.flying[grain].push((at, call)),
            Err(error) => self.answers[at] = Some(Answer::Refused(error.kind())),
        }
    }

    /// Takes what answers there are of a grain. The newest call is looked at first: where it is answered before an older one, the
    /// older one's answer is not taken with it.
    fn look(&mut self, grain: usize) {
        let mut taken = Vec::new();
        for place in (0..self.flying[grain].len()).rev() {
            if let Poll::Ready(answer) = self.flying[grain][place].1.poll() {
                let (at, _) = self.flying[grain].remove(place);
                self.answers[at] = Some(answered(answer));
                taken.push(at);
            }
        }
        self.order[grain].extend(taken.into_iter().rev());
    }

    /// Takes all other answers: those, their order, and the sessions.
    fn finish(mut self) -> (Vec<Answer>, Vec<Vec<usize>>, Vec<SessionId>) {
        while self.flying.iter().any(|flying| !flying.is_empty()) {
            (0..GRAINS).for_each(|grain| self.look(grain));
            thread::yield_now();
        }
        let answers = self.answers.into_iter().map(|answer| answer.expect("each command was answered")).collect();
        (answers, self.order, self.sessions)
    }
}

fn answered(answer: Result<Answer, Error>) -> Answer {
    answer.unwrap_or_else(|error| Answer::Refused(error.kind()))
}

fn staged(size_bytes: usize) -> StagedRange {
    StagedRange { offset_bytes: 0, size_bytes: size_bytes as u64 }
}
