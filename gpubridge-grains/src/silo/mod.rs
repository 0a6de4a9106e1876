//! The silo: grains by key, activated on their first call, deactivated when idle, saved by policy.
//!
//! A resident grain has no task of its own. Its operations go straight into a lane of its device's ring, and their order
//! there is the order of its turns; the silo only knows which session serves which key.

mod activation;
mod maintenance;
mod shutdown;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use gpubridge_abstractions::{
    Device, Error, ErrorKind, GpuMemoryHandle, GpuMemoryInfo, InitializeMessage, ResidentMemoryMetrics,
};
use gpubridge_runtime::{ResidentMemory, ResidentMemoryConfig, SessionId};

use crate::batch::GrainBatch;
use crate::grain::GrainRef;
use crate::key::GrainKey;
use crate::storage::{GrainStorage, VersionTag};
use maintenance::Maintenance;
pub use shutdown::ShutdownReport;

/// What becomes of saved contents when a grain's last state was not saved: its process was killed, or a shutdown's
/// deadline passed.
///
/// # Behavior
/// - **active-is-unsaved**: A grain that is active when its process ends counts as not saved, though nothing changed since
///   it was restored; after a clean stop nothing is lost.
/// - **later-handles**: Handles issued after the last save are lost under either policy: they are refused with
///   `ContentsLost` and never name another allocation. So are those of them that had been released, and all of a grain
///   that left no record, also after a clean stop: nothing is kept of it that would tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UncleanPolicy {
    /// Its handles come back without their contents.
    ///
    /// # Behavior
    /// - **marked**: They are refused with `ContentsLost`, never read as zeros or as an older state.
    /// - **whole-write**: So it stays, through saves and restarts, until an allocation is written as a whole.
    #[default]
    MarkLost,
    /// Its handles come back with the contents that were saved last.
    ///
    /// # Behavior
    /// - **last-save**: Contents are those of the last save, whatever was written since.
    RestoreLastSave,
}

/// How a silo keeps its grains.
///
/// # Behavior
/// - **idle-after**: A grain without a call for `idle_after` is deactivated, and comes back under the same handles.
/// - **in-use**: A grain in use is answered as ever, however short that time.
/// - **save-on-deactivation**: Without `save_on_deactivation` a grain's handles come back from a deactivation marked lost.
/// - **save-interval**: Active grains are saved every `save_interval`, and go on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiloConfig {
    /// The device memory beneath. Its epoch is taken from the storage.
    pub memory: ResidentMemoryConfig,
    /// The most bytes one grain may hold.
    pub grain_quota_bytes: u64,
    /// After how long without a call a grain is idle; `None` for never.
    pub idle_after: Option<Duration>,
    /// Whether a grain's contents are saved when it is deactivated.
    pub save_on_deactivation: bool,
    /// The time between two saves of a grain that is active; `None` for no such saves.
    pub save_interval: Option<Duration>,
    /// What an unclean stop leaves.
    pub unclean: UncleanPolicy,
    /// The most grains, active or known.
    pub max_grains: usize,
}

impl Default for SiloConfig {
    /// The default memory, 1 GiB per grain, no idle deactivation, saving on deactivation only, `MarkLost`, 16 Mi grains.
    fn default() -> Self {
        Self {
            memory: ResidentMemoryConfig::default(),
            grain_quota_bytes: InitializeMessage::DEFAULT_MAX_POOL_SIZE_BYTES,
            idle_after: None,
            save_on_deactivation: true,
            save_interval: None,
            unclean: UncleanPolicy::default(),
            max_grains: 16 << 20,
        }
    }
}

/// A local silo over one device. Cheap to clone.
///
/// Call [`Silo::shutdown`] to save what is active; dropping the last clone is an unclean stop.
///
/// # Behavior
/// - **one-activation**: Calls that race to a grain find one activation, whose record is read once.
/// - **restart**: A later silo over the same storage has the same grains, under the same handles.
/// - **damaged-record**: A grain whose record is damaged is not activated (`Corrupt`), and its record is left as it is.
/// - **drop**: Dropping the last clone does not wait for the storage.
#[derive(Clone, Debug)]
pub struct Silo {
    shared: Arc<Shared>,
    // Ends with the last clone of the silo; grain references keep the memory, not the upkeep.
    maintenance: Arc<Maintenance>,
}

impl Silo {
    /// Starts a silo: takes a new durable epoch and launches a ring on `device`.
    ///
    /// # Errors
    /// Those of the storage and of [`ResidentMemory::open`].
    pub async fn start(
        device: Arc<dyn Device>,
        storage: Arc<dyn GrainStorage>,
        config: SiloConfig,
    ) -> Result<Self, Error> {
        let epoch = storage.begin_epoch().await?;
        let memory = Arc::new(ResidentMemory::open(device, ResidentMemoryConfig { epoch, ..config.memory })?);
        let shared = Arc::new(Shared {
            memory,
            storage,
            epoch,
            directory: DashMap::new(),
            tick: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            config,
        });
        let maintenance = Maintenance::start(&shared)?;
        Ok(Self { shared, maintenance: Arc::new(maintenance) })
    }

    /// The grain with this key.
    ///
    /// Blocking: never, but for a shard of the directory. Allocates: for a new key.
    ///
    /// # Behavior
    /// - **lazy**: The grain is activated by its first call, not by this.
    /// - **key**: A key that storages do not take is refused at once: `InvalidArgument`.
    /// - **bounded**: A silo that knows its most grains takes no other key (`Full`), and finds those that it knows.
    ///
    /// # Errors
    /// `InvalidArgument`; `Full`.
    pub fn grain(&self, key: impl Into<GrainKey>) -> Result<GrainRef, Error> {
        let key = key.into();
        if let Some(entry) = self.shared.directory.get(&key) {
            return Ok(GrainRef::new(Arc::clone(&self.shared), Arc::clone(&entry)));
        }
        key.check("silo.grain")?;
        if self.shared.directory.len() >= self.shared.config.max_grains {
            let why = format!("the silo knows {} grains, its limit: raise it", self.shared.config.max_grains);
            return Err(Error::new(ErrorKind::Full, "silo.grain", why));
        }
        let lane = self.shared.memory.lane_of(key.stable_hash());
        let entry = self.shared.directory.entry(key.clone()).or_insert_with(|| Arc::new(Entry::new(key, lane)));
        Ok(GrainRef::new(Arc::clone(&self.shared), Arc::clone(&entry)))
    }

    /// Keeps up to `depth` computations in flight from this thread, over any of the silo's grains. Blocking: never.
    /// Allocates: the pipeline.
    pub fn batch(&self, depth: NonZeroUsize) -> GrainBatch {
        GrainBatch::new(Arc::clone(&self.shared), depth)
    }

    /// The metrics of the device. Blocking: takes each lane's guard for a moment.
    ///
    /// # Behavior
    /// - **exact**: Each value is what happened: pool, messages, memory, device.
    pub fn metrics(&self) -> ResidentMemoryMetrics {
        self.shared.memory.metrics()
    }

    /// The state of the device's memory.
    pub fn memory_info(&self) -> GpuMemoryInfo {
        self.shared.memory.memory_info()
    }

    /// Grains that are active now.
    pub fn active_grains(&self) -> usize {
        self.shared.directory.iter().filter(|entry| entry.session().is_some()).count()
    }

    /// The epoch of this run.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The memory beneath the grains.
    pub fn memory(&self) -> &ResidentMemory {
        &self.shared.memory
    }

    /// Deactivates every grain, saving by policy, then stops the ring.
    ///
    /// # Behavior
    /// - **saves-all**: Every active grain is saved, however many there are.
    /// - **activation-under-way**: So is one whose activation is under way when the shutdown begins.
    /// - **deadline**: Grains that are not saved by `deadline` are listed, and marked in the storage so that their next
    ///   activation knows.
    /// - **hanging-upkeep**: A save in the background that hangs does not hold it up beyond its deadlines.
    /// - **hanging-kernel**: Nor does a kernel that does not end: its grain is listed, and the error says that the ring
    ///   goes on.
    /// - **refuses**: Calls made meanwhile and afterwards are refused with `InvalidState`, which says why.
    pub async fn shutdown(self, deadline: Duration) -> ShutdownReport {
        let now = Instant::now();
        let deadline = now.checked_add(deadline).unwrap_or(now + FAR);
        shutdown::shutdown(self.shared, self.maintenance, deadline).await
    }
}

/// What all references to a silo share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) memory: Arc<ResidentMemory>,
    storage: Arc<dyn GrainStorage>,
    pub(crate) config: SiloConfig,
    pub(crate) epoch: u64,
    directory: DashMap<GrainKey, Arc<Entry>>,
    // Advanced by the upkeep, so that a call notes its time without reading a clock.
    tick: AtomicU32,
    stopping: AtomicBool,
}

/// What the silo knows of one key.
#[derive(Debug)]
pub(crate) struct Entry {
    hot: Hot,
    key: GrainKey,
    // The handle of the whole-grain buffer.
    pub(crate) stored: parking_lot::Mutex<Option<GpuMemoryHandle>>,
    // Held while the grain is activated, saved or deactivated: one of these at a time.
    state: tokio::sync::Mutex<State>,
}

/// What every call of a grain looks at: within one line.
#[derive(Debug)]
#[repr(align(16))]
struct Hot {
    // Index and epoch of the session that serves the grain, or `NO_SESSION`.
    session: AtomicU64,
    last_used: AtomicU32,
    lane: u32,
}

/// What an activation knows of its record.
#[derive(Debug, Default)]
struct State {
    version: Option<VersionTag>,
    /// A change of the record was begun and its answer not seen.
    version_unknown: bool,
    /// The record may say that the grain was deactivated with it: it must be noted as unsaved before the grain goes on.
    may_be_closed: bool,
    /// The session while a save or deactivation has it, and after one that did not come to its end.
    taken: Option<SessionId>,
    /// The greatest generation known to the record that the activation began with.
    restored_up_to: u64,
}

const NO_SESSION: u64 = u64::MAX;
/// A deadline that the clock cannot tell is this far.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Entry {
    /// A session that refuses every request.
    pub(crate) const REFUSING: SessionId = SessionId { lane: 0, index: u32::MAX, epoch: u32::MAX };

    fn new(key: GrainKey, lane: u32) -> Self {
        Self {
            hot: Hot { session: AtomicU64::new(NO_SESSION), last_used: AtomicU32::new(0), lane },
            key,
            stored: parking_lot::Mutex::new(None),
            state: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn key(&self) -> &GrainKey {
        &self.key
    }

    /// The session that serves the grain, if it is active.
    #[inline]
    pub(crate) fn session(&self) -> Option<SessionId> {
        // Acquire: pairs with the Release store in `publish`; the session is open before it is named here.
        let packed = self.hot.session.load(Ordering::Acquire);
        (packed != NO_SESSION).then(|| self.unpack(packed))
    }

    /// The session that serves the grain, or one that refuses every request.
    #[inline]
    pub(crate) fn session_or_refusing(&self) -> SessionId {
        self.unpack(self.hot.session.load(Ordering::Acquire))
    }

    fn unpack(&self, packed: u64) -> SessionId {
        SessionId { lane: self.hot.lane, index: (packed >> 32) as u32, epoch: packed as u32 }
    }

    fn publish(&self, session: Option<SessionId>) {
        let packed = session.map_or(NO_SESSION, |id| u64::from(id.index) << 32 | u64::from(id.epoch));
        self.hot.session.store(packed, Ordering::Release);
    }

    /// Notes a call.
    #[inline]
    pub(crate) fn touch(&self, shared: &Shared) {
        // Relaxed: a tick more or less is a tick more or less of idle time.
        self.hot.last_used.store(shared.tick.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
