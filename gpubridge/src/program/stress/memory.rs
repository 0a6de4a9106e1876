//! Whether memory stayed flat.
//!
//! What a run holds swings from operation to operation, so not two moments are compared but two highest values: that of
//! the first quarter of the operations done, in which buffers, tables and pool grow to what the load needs, and that of
//! the last. Whatever is lost with each operation is lost three times as often after the first quarter as in it. The
//! limit leaves room for what a steady load still does: a rarer peak, a chunk more, pages touched late. A run that was
//! too short to settle in its first quarter is not judged, and its report says so.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

use super::super::engine::MetricValue;
use super::account::Check;

/// The last quarter's highest may exceed the first's by this part of it...
const LIMIT_SHARE: u64 = 16;
/// ...and by so much.
const LIMIT_BYTES: u64 = 4 << 20;
/// Looks at memory without which nothing is judged.
const MIN_SAMPLES: usize = 32;
/// Looks that are kept.
const MOST_SAMPLES: usize = 400;

/// Memory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Operations done.
    pub done: u64,
    /// Resident memory of this process; `None` where the system does not say.
    pub resident_bytes: Option<u64>,
    /// What the pool has reserved from the device.
    pub reserved_bytes: u64,
}

/// The looks at memory of one run: so many that they take no memory to speak of, however long it is.
pub struct Samples {
    probe: Probe,
    samples: Vec<Sample>,
    /// Operations between two that are kept.
    step: u64,
    next: u64,
}

impl Samples {
    /// None yet.
    pub fn new() -> Self {
        Self { probe: Probe::new(), samples: Vec::with_capacity(MOST_SAMPLES), step: 1, next: 0 }
    }

    /// Looks at memory after so many operations, unless the last look was just before.
    pub fn look(&mut self, done: u64, reserved_bytes: impl FnOnce() -> u64) {
        if done < self.next {
            return;
        }
        if self.samples.len() == MOST_SAMPLES {
            // Every other one goes, and from now on is not made.
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.step = (done / self.samples.len() as u64).max(1);
        }
        let resident_bytes = self.probe.resident_bytes();
        self.samples.push(Sample { done, resident_bytes, reserved_bytes: reserved_bytes() });
        self.next = done + self.step;
    }

    /// All of them, in the order of the operations.
    pub fn into_ordered(mut self) -> Vec<Sample> {
        self.samples.sort_by_key(|sample| sample.done);
        self.samples
    }
}

/// Looks at this process from outside.
struct Probe {
    /// `None` where the system does not say.
    own: Option<(System, Pid)>,
}

impl Probe {
    fn new() -> Self {
        Self { own: System::new().ok().zip(get_current_pid().ok()) }
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        let (system, own) = self.own.as_mut()?;
        let memory = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[*own]), false, memory);
        system.process(*own).map(|process| process.memory()).filter(|bytes| *bytes > 0)
    }
}

/// The highest values of one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Highest {
    /// In the first quarter, in bytes.
    pub first_bytes: u64,
    /// In the last quarter.
    pub last_bytes: u64,
}

impl Highest {
    /// The most that the last quarter may have.
    pub fn limit_bytes(self) -> u64 {
        self.first_bytes + self.first_bytes / LIMIT_SHARE + LIMIT_BYTES
    }

    /// The verdict.
    fn check(self, name: &str) -> Check {
        let (last_bytes, limit_bytes) = (self.last_bytes, self.limit_bytes());
        Check {
            name: name.to_owned(),
            expected: MetricValue::Text(format!("at most {limit_bytes}")),
            found: MetricValue::Count(last_bytes),
            holds: last_bytes <= limit_bytes,
        }
    }
}

/// What became of memory in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory of the process, if it was judged.
    pub resident: Option<Highest>,
    /// The pool's reserved bytes, if they were judged.
    pub reserved: Option<Highest>,
    /// Why something was not judged.
    pub not_judged: Option<String>,
}

impl Memory {
    /// Compares the quarters of a run that did so many operations, and settles within the first `settles_after`.
    pub fn judge(samples: &[Sample], done: u64, settles_after: u64) -> Self {
        if samples.len() < MIN_SAMPLES || done / 4 < settles_after {
            let least = (4 * settles_after).max(MIN_SAMPLES as u64);
            let why = format!("{done} operations are too few; it takes {least} to tell growth from settling");
            return Self { not_judged: Some(why), ..Self::default() };
        }
        let highest = |value: &dyn Fn(&Sample) -> Option<u64>| {
            let of = |chosen: &dyn Fn(u64) -> bool| {
                samples.iter().filter(|sample| chosen(sample.done)).filter_map(value).max()
            };
            let (first_bytes, last_bytes) = (of(&|at| at <= done / 4)?, of(&|at| at > done - done / 4)?);
            Some(Highest { first_bytes, last_bytes })
        };
        let resident = highest(&|sample| sample.resident_bytes);
        let not_judged = resident.is_none().then(|| "this system does not tell what memory is resident".to_owned());
        Self { resident, reserved: highest(&|sample| Some(sample.reserved_bytes)), not_judged }
    }

    /// The verdicts.
    pub fn checks(&self) -> Vec<Check> {
        let resident = self.resident.map(|highest| highest.check("resident bytes of the process, last quarter"));
        let reserved = self.reserved.map(|highest| highest.check("reserved bytes of the pool, last quarter"));
        resident.into_iter().chain(reserved).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident_bytes: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample = |done| Sample { done, resident_bytes: Some(resident_bytes(done)), reserved_bytes: 1 << 20 };
        (1..=200).map(|index| sample(index * 1000)).collect()
    }

    fn faults(samples: &[Sample]) -> Vec<String> {
        let checks = Memory::judge(samples, 200_000, 50_000).checks();
        assert_eq!(checks.len(), 2, "both are judged");
        checks.into_iter().filter(|check| !check.holds).map(|check| check.to_string()).collect()
    }

    #[test]
    fn settling_and_swinging_are_flat() {
        assert_eq!(faults(&samples(|done| (64 << 20) + done.min(50_000) * 1000)), [] as [&str; 0]);
        assert_eq!(faults(&samples(|done| (64 << 20) + (done % 7000) * 1000)), [] as [&str; 0]);
    }

    #[test]
    fn a_hundred_bytes_lost_with_each_operation_are_growth() {
        // Of 200,000 operations 150,000 come after the first quarter: 15 MB.
        let [fault] = &faults(&samples(|done| (64 << 20) + done * 100))[..] else { panic!("one fault") };
        let limit = (64 << 20) + 5_000_000 + ((64 << 20) + 5_000_000) / 16 + (4 << 20);
        let last = (64 << 20) + 20_000_000;
        let name = "resident bytes of the process, last quarter";
        assert_eq!(*fault, format!("{name}: expected at most {limit}, found {last}"));
    }

    #[test]
    fn a_short_run_is_not_judged_and_says_so() {
        for (few, done) in [(&[][..], 0), (&samples(|_| 1)[..199], 199_999), (&samples(|_| 1)[..31], 200_000)] {
            let memory = Memory::judge(few, done, 50_000);
            assert!(memory.checks().is_empty() && memory.not_judged.is_some(), "{memory:?}");
        }
    }

    #[test]
    fn looks_are_few_and_cover_the_whole_run() {
        let mut samples = Samples::new();
        (1..=100_000).for_each(|done| samples.look(done, || done));
        let samples = samples.into_ordered();
        assert!((MOST_SAMPLES / 4..=MOST_SAMPLES).contains(&samples.len()), "{} samples", samples.len());
        let gaps = samples.windows(2).map(|pair| pair[1].done - pair[0].done);
        assert!(gaps.max().is_some_and(|gap| gap <= 2 * 100_000 / (MOST_SAMPLES as u64 / 4)));
        assert!(samples.last().is_some_and(|last| last.done > 99_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_probe_sees_memory_that_is_touched() {
        let mut probe = Probe::new();
        let held = std::hint::black_box(vec![1_u8; 256 << 20]);
        let seen = probe.resident_bytes().expect("this system tells");
        assert!(seen >= held.len() as u64, "{seen} bytes with {} in use", held.len());
        drop(held);
        // The other tests of this process hold far less.
        let seen = probe.resident_bytes().expect("this system tells");
        assert!(seen < 256 << 20, "{seen} bytes after they were given back");
    }
}
