//! One clock reading serves a call's latency, its deadline and its messages' timestamps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpubridge_abstractions::Envelope;

/// The monotonic clock, anchored to the system's when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: SystemTime,
    started_us: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let started_at = SystemTime::now();
        let since_epoch = started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at, started_us: since_epoch.as_micros() as u64 }
    }

    /// The system time it was made at.
    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Time since it was made.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// `now` as system time.
    pub(crate) fn system_time(&self, now: Instant) -> SystemTime {
        self.started_at + self.elapsed(now)
    }

    /// `now` in microseconds since the Unix epoch.
    pub(crate) fn timestamp_us(&self, now: Instant) -> u64 {
        let elapsed = self.elapsed(now);
        // Not `as_micros`, which divides 128-bit numbers.
        self.started_us + elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros())
    }

    /// The envelope of a message made at `now`.
    pub(crate) fn envelope(&self, now: Instant) -> Envelope {
        Envelope::at(self.timestamp_us(now))
    }
}
