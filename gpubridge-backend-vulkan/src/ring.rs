//! A ring: its lanes, and its lifecycle.

use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::{Error, Lane, Ring, RingConfig};
use gpubridge_kernels::device::{Control, KernelCopy, KernelTable, LaneChunks, Phase, Rules};
use gpubridge_kernels::ring::layout::LaneLayout;
use gpubridge_kernels::ring::{DeviceLane, HostCompletions, HostLane, HostMemory, Wake};
use parking_lot::Mutex;

use crate::backend::Opened;
use crate::kernels::Code;
use crate::owner::{ServedLane, ServedRing};

/// How long dropping a ring waits for work that is under way.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

/// A ring on a device: its lanes lie in the host's memory, and the device's owner thread serves them.
#[derive(Debug)]
pub(crate) struct VulkanRing {
    opened: Arc<Opened>,
    config: RingConfig,
    lanes: Mutex<Vec<Option<Lane>>>,
    completions: Vec<HostCompletions<Arc<HostMemory>>>,
    control: Arc<Control>,
}

impl VulkanRing {
    /// Launches the ring, inactive. The configuration was checked.
    pub(crate) fn launch(
        opened: &Arc<Opened>,
        config: RingConfig,
        kernels: &Arc<KernelTable<Code>>,
    ) -> Result<Self, Error> {
        let layout = LaneLayout::new(config.slots, config.staging_bytes);
        let control = Arc::<Control>::default();
        let (mut lanes, mut completions, mut served) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..config.lanes {
            let memory = Arc::new(HostMemory::new(layout));
            let wake: Arc<dyn Wake> = Arc::<Control>::clone(&control);
            let host = HostLane::new(Arc::clone(&memory), layout, Some(wake));
            served.push(ServedLane {
                device: DeviceLane::new(memory, layout),
                completions: host.completions(),
                rules: Rules::new(LaneChunks::new(Arc::clone(&opened.chunks)), config.allocations),
            });
            completions.push(host.completions());
            let lane = Lane { completions: Arc::new(host.completions()), submitter: Box::new(host.into_submitter()) };
            lanes.push(Some(lane));
        }
        let kernels = KernelCopy::new(Arc::clone(kernels));
        let ring = ServedRing {
            control: Arc::clone(&control),
            lanes: served,
            kernels,
            phase: Phase::Inactive,
            first: 0,
            is_bounded: opened.owner.gpu().physical().is_processor(),
            outstanding: 0,
        };
        opened.owner.serve(ring, "vulkan.launch")?;
        Ok(Self { opened: Arc::clone(opened), config, lanes: Mutex::new(lanes), completions, control })
    }

    fn move_to(&self, phase: Phase, deadline: Duration, operation: &'static str) -> Result<(), Error> {
        let moved = Control::bring(std::iter::once(&*self.control), phase, deadline, operation, |_| {});
        if self.opened.owner.gpu().is_lost() { Err(self.opened.owner.why_lost(operation)) } else { moved }
    }
}

impl Ring for VulkanRing {
    fn config(&self) -> RingConfig {
        self.config
    }

    fn take_lane(&self, lane: u32) -> Option<Lane> {
        self.lanes.lock().get_mut(lane as usize)?.take()
    }

    fn activate(&self, deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Active, deadline, "ring.activate")
    }

    fn deactivate(&self, deadline: Duration) -> Result<(), Error> {
        self.move_to(Phase::Inactive, deadline, "ring.deactivate")
    }

    fn terminate(&self, deadline: Duration) -> Result<(), Error> {
        self.completions.iter().for_each(HostCompletions::refuse_submissions);
        self.move_to(Phase::Terminated, deadline, "ring.terminate")
    }
}

impl Drop for VulkanRing {
    fn drop(&mut self) {
        // What does not end in time is left to the owner thread, which has a limit for it.
        let _ = self.terminate(DROP_DEADLINE);
    }
}
