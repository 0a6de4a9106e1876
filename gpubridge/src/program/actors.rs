//! The actors: one resident grain per key, its window in device memory, its scores computed in the ring.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gpubridge::grains::storage::MemoryStorage;
use gpubridge::grains::{Computation, GrainBatch, GrainKey, GrainRef, Silo, SiloConfig, wait};
use gpubridge::kernels::id::WINDOW_ZSCORE;
use gpubridge::runtime::{Answered, Selection};
use gpubridge::{
    DeviceKind, Error, GpuMemoryHandle, KernelSpec, MemoryType, Parameters, ResidentMemoryMetrics, RingConfig,
};

use super::engine::{Identity, Metric, MetricValue, Scorer, Summary};
use super::error::EngineError;

/// Rows in flight: enough that neither the parser nor the ring thread waits for the other's time slice on a busy
/// machine. On a quiet one the queue stays short.
const DEPTH: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");
/// How long the actors may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Rows that are submitted together.
const TOGETHER: usize = 16;
/// Lanes on a GPU, where each is served by a multiprocessor of its own if there are 64 or more.
const GPU_LANES: u32 = 8;
/// Allocations of all lanes together.
const ALLOCATIONS: u32 = 1 << 24;
/// Bytes of a window's state before its values: how many there are, and where the next goes.
const HEADER_BYTES: u64 = 8;

/// Scores rows through a silo's grains. Nothing is stored: two runs are alike and leave nothing behind.
#[derive(Debug)]
pub struct Actors {
    silo: Silo,
    batch: GrainBatch,
    kernel: KernelSpec,
    state_bytes: u64,
    windows: Vec<(GrainRef, GpuMemoryHandle)>,
    /// Rows that are submitted together.
    gathered: Vec<Row>,
    identity: Identity,
}

impl Actors {
    /// Starts a silo on the selected device.
    pub fn start(selection: Selection, window: u32, max_keys: u32) -> Result<Self, EngineError> {
        let state_bytes = HEADER_BYTES + 4 * u64::from(window);
        let mut config = SiloConfig::default();
        config.max_grains = max_keys as usize;
        config.memory.ring = ring(selection.info.kind);
        config.save_on_deactivation = false;
        config.memory.memory_budget_bytes = budget_bytes(&selection, state_bytes, max_keys);
        let storage = Arc::new(MemoryStorage::new());
        let silo = wait(Silo::start(selection.open()?, storage, config))?;
        Ok(Self {
            batch: silo.batch(DEPTH),
            silo,
            kernel: KernelSpec::new(WINDOW_ZSCORE).with_constants([window, 0]),
            state_bytes,
            windows: Vec::new(),
            gathered: Vec::with_capacity(TOGETHER),
            identity: Identity {
                backend: selection.backend.name().to_owned(),
                device: selection.info.name,
                reason: selection.reason,
            },
        })
    }
}

/// One lane, as there is one submitter, unless more are served side by side; twice the depth, of which a batch takes half.
fn ring(kind: DeviceKind) -> RingConfig {
    let lanes = if kind == DeviceKind::Gpu { GPU_LANES } else { 1 };
    RingConfig { lanes, slots: 2 * DEPTH.get() as u32, staging_bytes: 64, allocations: ALLOCATIONS / lanes }
}

impl Scorer for Actors {
    fn add_key(&mut self, _: u32, text: &[u8]) -> Result<(), EngineError> {
        let grain = self.silo.grain(grain_key(text))?;
        let window = wait(grain.allocate(self.state_bytes, MemoryType::Default))?;
        self.windows.push((grain, window));
        Ok(())
    }

    #[inline]
    fn submit(&mut self, key: u32, value: f32, token: u64, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
        // The handle is looked up now: with many keys it is not in the cache, and comes while other rows are read.
        self.gathered.push(Row { key, window: self.windows[key as usize].1, value, token });
        if self.gathered.len() == TOGETHER { self.submit_gathered(done) } else { Ok(()) }
    }

    fn wait(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
        self.submit_gathered(done)?;
        self.batch.next().map_or(Ok(()), |answered| complete(answered, done))
    }

    fn finish(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError> {
        self.submit_gathered(done)?;
        while let Some(answered) = self.batch.next() {
            complete(answered, done)?;
        }
        Ok(Summary { metrics: metrics(&self.silo.metrics()) })
    }

    fn stop(self) -> Result<(), EngineError> {
        wait(self.silo.shutdown(STOP_DEADLINE)).into_result()?;
        Ok(())
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }
}

impl Actors {
    #[inline]
    fn submit_gathered(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
        let Self { batch, windows, gathered, kernel, .. } = self;
        let mut outcome = Ok(());
        let computations = gathered.drain(..).map(|Row { key, window, value, token }| {
            let grain = &windows[key as usize].0;
            let parameters = Parameters::new().with_f32(value);
            Computation { grain, kernel: *kernel, input: None, output: Some(window), parameters, token }
        });
        batch.submit(computations, |answered| {
            let completed = complete(answered, done);
            // The first failure is the one that says why.
            if outcome.is_ok() {
                outcome = completed;
            }
        });
        outcome
    }
}

/// A row on its way into the pipeline.
#[derive(Debug)]
struct Row {
    key: u32,
    window: GpuMemoryHandle,
    value: f32,
    token: u64,
}

fn complete((token, response): Answered, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
    let score = response?.result.f32_at(0).ok_or(EngineError::MissingScores { missing: 1 })?;
    done(token, score);
    Ok(())
}

/// Room for every key's window twice over, within what the device has free now.
fn budget_bytes(selection: &Selection, state_bytes: u64, max_keys: u32) -> u64 {
    const MIN_BYTES: u64 = 1 << 30;
    let wanted = (state_bytes * u64::from(max_keys)).saturating_mul(2).max(MIN_BYTES);
    wanted.min(selection.info.available_memory_bytes)
}

/// The grain of a key's text. Texts that a grain cannot be named by, being too long, are named by their hash.
fn grain_key(text: &[u8]) -> GrainKey {
    GrainKey::from(&*String::from_utf8_lossy(text))
}

/// All metrics under their names.
pub fn metrics(metrics: &ResidentMemoryMetrics) -> Vec<Metric> {
    use MetricValue::{Count, Number, Text};
    let now = SystemTime::now();
    let started = metrics.start_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let values = [
        ("total_pool_size_bytes", Count(metrics.total_pool_size_bytes)),
        ("used_pool_size_bytes", Count(metrics.used_pool_size_bytes)),
        ("pool_utilization", Number(metrics.pool_utilization)),
        ("pool_hit_count", Count(metrics.pool_hit_count)),
        ("pool_miss_count", Count(metrics.pool_miss_count)),
        ("pool_hit_rate", Number(metrics.pool_hit_rate)),
        ("total_messages_processed", Count(metrics.total_messages_processed)),
        ("messages_per_second", Number(metrics.messages_per_second)),
        ("average_message_latency_ns", Number(metrics.average_message_latency_ns)),
        ("pending_message_count", Count(metrics.pending_message_count)),
        ("active_allocation_count", Count(metrics.active_allocation_count)),
        ("total_allocated_bytes", Count(metrics.total_allocated_bytes)),
        ("kernel_cache_size", Count(metrics.kernel_cache_size)),
        ("kernel_cache_hit_rate", Number(metrics.kernel_cache_hit_rate)),
        ("device_type", Text(metrics.device_type.clone())),
        ("device_name", Text(metrics.device_name.clone())),
        ("start_time_unix_seconds", Number(started.as_secs_f64())),
        ("uptime_seconds", Number(metrics.uptime(now).as_secs_f64())),
        ("average_allocation_size_bytes", Number(metrics.average_allocation_size())),
        ("memory_efficiency", Number(metrics.memory_efficiency())),
        ("throughput_mmessages_per_sec", Number(metrics.throughput_mmessages_per_sec())),
        ("average_message_latency_us", Number(metrics.average_message_latency_us())),
        ("kernel_efficiency", Number(metrics.kernel_efficiency())),
        ("total_memory_mb", Number(metrics.total_memory_mb())),
        ("used_memory_mb", Number(metrics.used_memory_mb())),
    ];
    values.into_iter().map(|(name, value)| Metric { name: name.to_owned(), value }).collect()
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}
