//! The ring as the runtime sees it: lanes, each with one producer and completions that any thread may take.
//!
//! A backend builds these from `gpubridge-kernels::ring`, whose host half works on a [`SharedMemory`]; a backend that
//! answers at once ([`crate::NullBackend`]) implements them directly.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::{BulkStaging, Command, Completion, Error, ErrorKind, SubmitError, Taken, Ticket};

/// Memory that host and device both reach, as the ring's halves use it: 64-bit words, each written by one side only.
///
/// The device may be another processor behind a bus, so the words cross as atomics and nothing but plain loads and
/// stores is done to them.
pub trait SharedMemory: Send + Sync + fmt::Debug {
    /// The words, aligned to 64 bytes and zero at first.
    fn words(&self) -> &[AtomicU64];
}

/// How large a ring is. Every bound is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Lanes: each has one producer at a time, and grains are spread over them.
    pub lanes: u32,
    /// Slots of a lane, a power of two: the most commands in flight.
    pub slots: u32,
    /// Bytes of staging that belong to each slot, a multiple of 64: the most a single copy moves.
    pub staging_bytes: u32,
    /// Allocations that may be bound per lane.
    pub allocations: u32,
}

impl Default for RingConfig {
    /// 2 lanes of 1,024 slots with 4 KiB of staging each, and 2²⁰ allocations per lane.
    fn default() -> Self {
        Self { lanes: 2, slots: 1024, staging_bytes: 4096, allocations: 1 << 20 }
    }
}

impl RingConfig {
    /// The most lanes of a ring.
    pub const LANES_MAX: u32 = 64;
    /// The most slots of a lane.
    pub const SLOTS_MAX: u32 = 1 << 16;
    /// The most staging bytes of a slot.
    pub const STAGING_BYTES_MAX: u32 = 1 << 20;

    /// Refuses a configuration that no device can grant; `operation` is the caller's, for the error.
    ///
    /// # Behavior
    /// - **limits**: What lies on a limit is accepted, and what lies beyond it is refused with the value and the limit.
    ///
    /// # Errors
    /// `InvalidArgument` with the limit that is missed.
    pub fn check(&self, operation: &'static str) -> Result<(), Error> {
        let (lanes, slots, staging) = (self.lanes, self.slots, self.staging_bytes);
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, operation, why));
        if !(1..=Self::LANES_MAX).contains(&lanes) {
            return refuse(format!("{lanes} lanes were asked for; there may be 1 to {}", Self::LANES_MAX));
        }
        if !slots.is_power_of_two() || !(2..=Self::SLOTS_MAX).contains(&slots) {
            let most = Self::SLOTS_MAX;
            return refuse(format!("{slots} slots were asked for; a power of two from 2 to {most} is needed"));
        }
        if !staging.is_multiple_of(64) || !(64..=Self::STAGING_BYTES_MAX).contains(&staging) {
            let most = Self::STAGING_BYTES_MAX;
            return refuse(format!("{staging} staging bytes were asked for; a multiple of 64 up to {most} is needed"));
        }
        if self.allocations == 0 {
            return refuse("0 allocations were asked for; at least 1 is needed".to_owned());
        }
        Ok(())
    }
}

/// The producer half of a lane. There is one, so its order of calls is the lane's order.
pub trait Submitter: Send + fmt::Debug {
    /// Puts `command` into the lane, with `staged` in its staging area, and says under which ticket.
    ///
    /// # Behavior
    /// - **whole**: The command becomes visible to the device whole, with its staged bytes, or not at all: in every slot, lap
    ///   after lap.
    /// - **in-order**: Commands of one grain are executed in the order of their tickets and never overlap.
    /// - **independent**: A command that is executed beside the ring holds up its own grain only.
    /// - **passed-over**: A slot whose earlier command is not answered, or whose answer was not taken, is passed over, for
    ///   as many laps as it takes. A free slot beyond such ones is found once the device has read what was submitted before.
    /// - **full**: When every slot is so occupied the call returns [`SubmitError::Full`] and changes nothing. A lane of which
    ///   no slot is occupied takes as many commands as it has slots, no fewer.
    /// - **too-large**: More staged bytes than a slot's staging area holds are [`SubmitError::TooLarge`], and nothing is
    ///   changed.
    /// - **takes-no-memory**: Neither the command nor its answer allocates on the host, whoever serves the ring.
    ///
    /// Blocking: never. Allocates: no. Ordering: after every earlier call on this lane.
    fn try_submit(&mut self, command: &Command, staged: &[u8]) -> Result<Ticket, SubmitError>;

    /// [`Submitter::try_submit`] for several commands without staged bytes, up to the first that is refused; `tickets`
    /// gets one ticket for each that was submitted.
    ///
    /// # Behavior
    /// - **one-by-one**: The commands are submitted as if one by one, in their order.
    /// - **first-refused**: Those before the first that is refused are submitted and have their tickets; neither it nor
    ///   those behind it are.
    ///
    /// # Errors
    /// Why a command was refused; those before it are submitted.
    ///
    /// Blocking: never. Allocates: no, if `tickets` has room. Ordering: as [`Submitter::try_submit`].
    fn try_submit_run(&mut self, commands: &[Command], tickets: &mut Vec<Ticket>) -> Result<(), SubmitError> {
        commands.iter().try_for_each(|command| {
            tickets.push(self.try_submit(command, &[])?);
            Ok(())
        })
    }

    /// Makes sure that the device looks at what was submitted, waking it if it sleeps. Submissions may be batched
    /// before one call.
    ///
    /// # Behavior
    /// - **one-for-many**: One call covers every submission before it.
    /// - **wakes**: What it covers is executed however long the device had nothing to do.
    ///
    /// Blocking: never. Allocates: no. Ordering: covers every earlier submission.
    fn doorbell(&mut self);

    /// The least sequence number that the next submission may have.
    ///
    /// # Behavior
    /// - **grows**: It is above the number of every earlier ticket of the lane, and no later ticket has a lower one.
    fn next_sequence(&self) -> u64;

    /// A sequence number below which every command is answered, as high as is known without waiting.
    ///
    /// # Behavior
    /// - **oldest**: It is the sequence number of the oldest command that is not answered, and
    ///   [`Submitter::next_sequence`] when there is none.
    ///
    /// Blocking: never; looks at each command once in all. Allocates: no. Ordering: as [`Completions::take`].
    fn completed_below(&mut self) -> u64;

    /// Commands submitted and not answered. Looks at every slot.
    ///
    /// # Behavior
    /// - **exact**: It counts each command from its submission to its answer, also one that was given up, and no longer:
    ///   whether the answer was taken does not matter.
    fn pending(&self) -> u32;
}

/// The completion half of a lane, for any number of threads.
pub trait Completions: Send + Sync + fmt::Debug {
    /// Takes the answer to `ticket`, copying staged bytes of a read into `staged` (as many as it holds).
    ///
    /// # Behavior
    /// - **own**: A ticket gets the answer to its own command, in whatever order and by whatever thread answers are taken.
    /// - **once**: An answer is taken once; afterwards, and after [`Completions::abandon`], the ticket is [`Taken::Gone`].
    /// - **frees**: A taken answer frees its slot and staging area for the next command; one that is not taken stays as it
    ///   is.
    /// - **staged**: Of a read that succeeded `staged` gets the bytes, or the first of them if it is shorter. A read that
    ///   failed leaves it as it was.
    ///
    /// Blocking: never. Allocates: no. Ordering: what the device wrote before answering is visible.
    fn take(&self, ticket: &mut Ticket, staged: &mut [u8]) -> Taken;

    /// [`Completions::take`] for several commands without staged answers: takes the answers to `tickets` into `answers`,
    /// in order, up to the first that is not there, and returns how many it took.
    ///
    /// # Behavior
    /// - **up-to-first**: Tickets behind the first whose answer is not there keep theirs.
    ///
    /// Blocking: never. Allocates: no. Ordering: as [`Completions::take`].
    fn take_ready(&self, tickets: &mut [Ticket], answers: &mut [Completion]) -> usize {
        let mut taken = 0;
        for (ticket, answer) in tickets.iter_mut().zip(answers) {
            let Taken::Ready(completion) = self.take(ticket, &mut []) else { break };
            *answer = completion;
            taken += 1;
        }
        taken
    }

    /// Whether the device has answered the command with this sequence number, taken or not.
    ///
    /// # Behavior
    /// - **stays**: It is false until the answer, and true from then on: when it is taken, given up, and laps later. Of a
    ///   number that was not submitted yet it is false.
    ///
    /// Blocking: never. Allocates: no. Ordering: as [`Completions::take`] when it returns true.
    fn is_complete(&self, sequence: u64) -> bool;

    /// Gives up the answer to `ticket`.
    ///
    /// # Behavior
    /// - **executed**: The command is executed all the same.
    /// - **slot-returns**: Its slot and staging area stay with the device until it has answered, and are then free. An
    ///   answer that is there already is dropped, and its slot free at once.
    ///
    /// Blocking: never. Allocates: no. Ordering: none.
    fn abandon(&self, ticket: &mut Ticket);
}

/// Both halves of one lane, as [`Ring::take_lane`] hands them out.
#[derive(Debug)]
pub struct Lane {
    /// The one producer.
    pub submitter: Box<dyn Submitter>,
    /// The completions.
    pub completions: Arc<dyn Completions>,
}

/// A running ring kernel: the device-side actor that owns dequeue → dispatch → complete.
///
/// It is launched inactive.
///
/// # Behavior
/// - **dropped**: Dropping it terminates it.
/// - **deadline-kept**: A change that does not come about by its deadline returns `Timeout`; any deadline may be given, up to
///   [`Duration::MAX`].
pub trait Ring: Send + Sync + fmt::Debug {
    /// What was granted: what [`crate::Device::launch`] was asked for.
    fn config(&self) -> RingConfig;

    /// Hands out lane `lane`; `None` when there is no such lane or it was handed out before.
    ///
    /// # Behavior
    /// - **once**: Each lane is handed out once, to whoever comes first.
    /// - **apart**: Each lane has slots, order and an allocation table of its own: the same grain and the same table index
    ///   mean something else in each.
    /// - **side-by-side**: Different threads may use different lanes at once.
    fn take_lane(&self, lane: u32) -> Option<Lane>;

    /// The ring's large chunks, for its lanes' [`crate::Opcode::WriteBulk`] and [`crate::Opcode::ReadBulk`]; `None` when it
    /// has none, and knows neither.
    fn bulk_staging(&self) -> Option<Arc<dyn BulkStaging>> {
        None
    }

    /// Starts consuming.
    ///
    /// # Behavior
    /// - **starts**: What was submitted before is executed, in its order, and what is submitted from now on.
    /// - **again**: Activating an active ring does nothing.
    /// - **final-end**: After termination it is `InvalidState`, and nothing is executed any more.
    ///
    /// # Errors
    /// `InvalidState` after termination; `Timeout` when the device does not follow in time.
    fn activate(&self, deadline: Duration) -> Result<(), Error>;

    /// Stops consuming once started commands are finished.
    ///
    /// # Behavior
    /// - **finishes-started**: Commands that were started are answered before it returns, and the others are not started.
    /// - **nothing-lost**: Producers may go on submitting until the lanes are full; what waits is executed after the next
    ///   activation, in its order.
    /// - **again**: Deactivating an inactive ring does nothing.
    /// - **taken-back**: After a `Timeout` the ring can be activated again, and goes on.
    /// - **final-end**: After termination it is `InvalidState`.
    ///
    /// # Errors
    /// `InvalidState` after termination; `Timeout` when the device does not follow in time.
    fn deactivate(&self, deadline: Duration) -> Result<(), Error>;

    /// Ends the device-side actor.
    ///
    /// # Behavior
    /// - **cancels**: Every command that was not started is answered [`crate::Status::Cancelled`], in all lanes, also when
    ///   another one does not end.
    /// - **finishes-started**: Commands that were started are finished and answered.
    /// - **keeps-answers**: Answers that were there before can be taken afterwards.
    /// - **refuses**: Later submissions are refused with [`SubmitError::Stopped`].
    /// - **any-state**: A ring can be terminated in any state, also one that was never activated.
    /// - **again**: Terminating twice does nothing; after a `Timeout` it waits anew.
    ///
    /// # Errors
    /// `Timeout` when the device does not follow in time.
    fn terminate(&self, deadline: Duration) -> Result<(), Error>;
}
