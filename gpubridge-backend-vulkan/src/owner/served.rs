//! The device's half of a ring, as its owner thread serves it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gpubridge_abstractions::{Command, Completion, Opcode, Status};
use gpubridge_kernels::device::{Control, KernelCopy, LaneChunks, Phase, Rules};
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostMemory};

use super::work::{Whose, Work};
use crate::heap::Chunk;
use crate::kernels::Code;

/// The most commands that are taken from a lane before the next lane has its turn.
const TURN: usize = 256;

/// One lane.
#[derive(Debug)]
pub(crate) struct ServedLane {
    pub(crate) device: DeviceLane<Arc<HostMemory>>,
    pub(crate) completions: HostCompletions<Arc<HostMemory>>,
    pub(crate) rules: Rules<LaneChunks<Chunk>>,
}

/// A ring.
#[derive(Debug)]
pub(crate) struct ServedRing {
    pub(crate) control: Arc<Control>,
    pub(crate) lanes: Vec<ServedLane>,
    pub(crate) kernels: KernelCopy<Code>,
    pub(crate) phase: Phase,
    /// The lane that has its turn first.
    pub(crate) first: usize,
    /// Whether the device bounds the turns of a thread's loops, as llvmpipe does.
    pub(crate) is_bounded: bool,
    /// Commands that were taken and are not answered.
    pub(crate) outstanding: usize,
}

impl ServedRing {
    /// Takes what has arrived, as long as `admit` has room: it is given each work with its lane, grain and staging area, and keeps
    /// it also when it has no more room. Returns whether there was anything.
    pub(crate) fn take(&mut self, ring: usize, mut admit: impl FnMut(Work, usize, u32, &[AtomicU64]) -> bool) -> bool {
        let mut any = false;
        let mut has_room = true;
        for turn in 0..self.lanes.len() {
            let lane = (self.first + turn) % self.lanes.len();
            if !self.lanes[lane].device.has_news() {
                continue;
            }
            let mut command = Command::new(Opcode::Skip, 0, [0; 7]);
            for _ in 0..TURN {
                let Self { lanes, kernels, is_bounded, .. } = self;
                let ServedLane { device, rules, .. } = &mut lanes[lane];
                let Some(reply) = device.poll(&mut command) else { break };
                // Behind the poll: the command may have come after a compilation.
                kernels.refresh();
                let staging = device.staging(&reply);
                let action = rules.look_up(&command, kernels, staging.len() * 8);
                let mut work = Work::of(&command, action, Whose::Command { ring, lane, reply });
                if *is_bounded {
                    work.refuse_unbounded();
                }
                self.outstanding += 1;
                any = true;
                has_room = admit(work, lane, command.grain, staging);
                if !has_room {
                    break;
                }
            }
            self.lanes[lane].device.publish_consumed();
            if !has_room {
                // The others come first next time.
                self.first = lane + 1;
                break;
            }
        }
        any
    }

    /// Answers everything that was not taken.
    pub(crate) fn cancel(&mut self) {
        let mut command = Command::new(Opcode::Skip, 0, [0; 7]);
        for lane in &mut self.lanes {
            while let Some(reply) = lane.device.poll(&mut command) {
                lane.device.complete(reply, &Completion::of(Status::Cancelled));
            }
            lane.device.publish_consumed();
        }
    }

    /// The end of the ring, after everything that was taken is answered.
    pub(crate) fn end(&mut self) {
        // Submissions have been refused for a while: this is for the ones that were under way then.
        self.cancel();
        self.lanes.iter().for_each(|lane| lane.completions.device_ended());
        self.control.reached(Phase::Terminated);
    }

    /// The device was lost: nothing more is answered.
    pub(crate) fn lose(&mut self) {
        self.lanes.iter().for_each(|lane| lane.completions.device_lost());
        self.control.reached(Phase::Terminated);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.lanes.iter().any(|lane| lane.device.has_news())
    }
}
