//! When calls begin: a closed loop and open ones, for any operation.
//!
//! In a closed loop a caller that is held up also stops calling, and the calls that it did not make are missing from the
//! quantiles. In an open loop each call has a fixed time at which it is to begin, and its latency counts from then, whatever
//! became of the calls before. What prepares a call or checks its answer is no part of a latency, but takes the caller's
//! time: the peak includes it, and a call that it delays is late.

use std::hint::spin_loop;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::measure::{Latencies, Quantiles, Rounds, median};

/// Percent of the peak that open loops offer.
pub const SHARES: [u32; 2] = [50, 80];

/// One pass over an operation: says when its steps begin, and keeps their latencies.
///
/// A step is one call, or a group of them where reading the clock would be much of one.
pub struct Pace<C = fn() -> Instant> {
    now: C,
    steps: u64,
    /// Between two intended starts; `None` in a closed loop.
    interval_ns: Option<f64>,
    /// The start of the first step, and the latest reading of the clock.
    span: Option<(Instant, Instant)>,
    begun: u64,
    /// The intended and the actual start of the step that is running.
    running: Option<(Instant, Instant)>,
    latencies: Latencies,
}

impl Pace {
    /// Each step begins when its caller gets to it.
    pub fn closed(steps: usize) -> Self {
        Self::new(steps, None, Instant::now)
    }

    /// Each step is to begin so long after the one before.
    pub fn open(steps: usize, interval_ns: f64) -> Self {
        Self::new(steps, Some(interval_ns), Instant::now)
    }
}

impl<C: Fn() -> Instant> Pace<C> {
    fn new(steps: usize, interval_ns: Option<f64>, now: C) -> Self {
        let steps = steps as u64;
        Self { now, steps, interval_ns, span: None, begun: 0, running: None, latencies: Latencies::new() }
    }

    /// The steps of this pass.
    pub fn steps(&self) -> Range<u64> {
        0..self.steps
    }

    /// Reads the clock. The pass begins with its first reading.
    #[inline]
    fn read(&mut self) -> Instant {
        let now = (self.now)();
        self.span.get_or_insert((now, now)).1 = now;
        now
    }

    fn intended(&self, step: u64) -> Option<Instant> {
        let ((started, _), interval_ns) = (self.span?, self.interval_ns?);
        Some(started + Duration::from_nanos((step as f64 * interval_ns) as u64))
    }

    /// Begins the next step: now, or when it is due. Spins until then, as a wake-up would be late; does not yield.
    #[inline]
    pub fn begin(&mut self) {
        let mut now = self.read();
        let intended = self.intended(self.begun);
        while intended.is_some_and(|intended| now < intended) {
            spin_loop();
            now = self.read();
        }
        self.begun += 1;
        self.running = Some((intended.unwrap_or(now), now));
    }

    /// Ends the step that was begun, and records what each of its calls took. A step that is not ended is not recorded.
    ///
    /// A group is due as a whole: how late it began counts for each of its calls, and so does their mean.
    #[inline]
    pub fn end(&mut self, calls: usize) {
        let now = self.read();
        let (intended, started) = self.running.take().expect("a step has begun");
        let (late, taken) = (started - intended, now - started);
        self.latencies.record(late.as_nanos() as f64 + taken.as_nanos() as f64 / calls as f64);
    }

    /// For a caller with many calls in flight: how many are to have begun by now.
    pub fn due(&mut self) -> u64 {
        let now = self.read();
        let (Some((started, _)), Some(interval_ns)) = (self.span, self.interval_ns) else { return self.steps };
        self.steps.min(((now - started).as_nanos() as f64 / interval_ns) as u64 + 1)
    }

    /// For a caller with many calls in flight: the call number `step` was answered. In a closed loop, where all are due at
    /// once, nothing is recorded.
    pub fn answered(&mut self, step: u64) {
        let now = self.read();
        if let Some(intended) = self.intended(step) {
            self.latencies.record((now - intended).as_nanos() as f64);
        }
    }

    pub fn quantiles(&self) -> Quantiles {
        self.latencies.quantiles()
    }

    /// What a step takes in all, with its preparation and its check.
    pub fn cycle_ns(&self) -> f64 {
        let (started, ended) = self.span.expect("a pass has steps");
        (ended - started).as_nanos() as f64 / self.steps as f64
    }

    fn outcome(&self) -> Pass {
        let interval_ns = self.interval_ns.unwrap_or_default();
        Pass { quantiles: self.quantiles(), recorded: self.latencies.len(), cycle_ns: self.cycle_ns(), interval_ns }
    }
}

/// What a pass came to.
#[derive(Clone, Copy)]
struct Pass {
    quantiles: Quantiles,
    recorded: u64,
    cycle_ns: f64,
    interval_ns: f64,
}

/// A pass of groups of calls.
pub fn in_groups(mut pace: Pace, group: usize, mut call: impl FnMut(u64)) -> Pace {
    for step in pace.steps() {
        pace.begin();
        (step * group as u64..(step + 1) * group as u64).for_each(&mut call);
        pace.end(group);
    }
    pace
}

/// What an open loop at one share of the peak came to: each number is the median over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Offered {
    /// Percent of the peak that were offered.
    pub share_percent: u32,
    /// Nanoseconds between two intended starts, of calls or of the groups that they are timed in.
    pub interval_ns: f64,
    /// Percent of the offered rate that the caller kept up with.
    pub achieved_percent: f64,
    /// Latencies from the intended start.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// The 99.9th percentile of the worst round, in nanoseconds.
    pub worst_p999_ns: f64,
}

/// One round: a pass in a closed loop, then one at each share of the peak that it reached. What other load leaves of the
/// machine changes between rounds, so each has its own peak.
pub struct Round {
    closed: Pass,
    open: [Pass; SHARES.len()],
}

impl Round {
    pub fn new(steps: usize, pass: &mut dyn FnMut(Pace) -> Pace) -> Self {
        let closed = pass(Pace::closed(steps)).outcome();
        let at = |share: u32| Pace::open(steps, closed.cycle_ns * 100.0 / f64::from(share));
        Self { closed, open: SHARES.map(|share| pass(at(share)).outcome()) }
    }
}

/// The rounds of an operation.
pub struct Loops(pub Vec<Round>);

impl Loops {
    /// One round, of what can be done so often only, or from the first call on.
    pub fn once(steps: usize, mut pass: impl FnMut(Pace) -> Pace) -> Self {
        Self(vec![Round::new(steps, &mut pass)])
    }

    /// So many rounds, after a pass that warms up.
    pub fn run(rounds: usize, steps: usize, mut pass: impl FnMut(Pace) -> Pace) -> Self {
        pass(Pace::closed(steps));
        Self((0..rounds).map(|_| Round::new(steps, &mut pass)).collect())
    }

    fn closed_passes(&self) -> impl Iterator<Item = Pass> {
        self.0.iter().map(|round| round.closed)
    }

    /// The closed loop.
    pub fn closed(&self) -> Rounds {
        Rounds(self.closed_passes().map(|pass| pass.quantiles).collect())
    }

    /// How many calls or groups of the closed loop were recorded, in all rounds.
    pub fn recorded(&self) -> u64 {
        self.closed_passes().map(|pass| pass.recorded).sum()
    }

    /// Nanoseconds of a step at the peak.
    pub fn peak_ns(&self) -> f64 {
        median(self.closed_passes().map(|pass| pass.cycle_ns))
    }

    /// The open loops.
    pub fn open(&self) -> [Offered; SHARES.len()] {
        std::array::from_fn(|at| {
            let passes = || self.0.iter().map(|round| round.open[at]);
            let rounds = Rounds(passes().map(|pass| pass.quantiles).collect());
            Offered {
                share_percent: SHARES[at],
                interval_ns: median(passes().map(|pass| pass.interval_ns)),
                // The last step ends before the next would be due, so a few steps may come to more than all.
                achieved_percent: median(passes().map(|pass| 100.0 * pass.interval_ns / pass.cycle_ns)).min(100.0),
                quantiles: rounds.middle(),
                worst_p999_ns: rounds.0.iter().map(|round| round.p999).fold(0.0, f64::max),
            }
        })
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    use super::*;

    /// A pass in an open loop by a clock that is given, in nanoseconds.
    pub fn open_by<F: Fn() -> u64>(steps: usize, interval_ns: f64, now_ns: F) -> Pace<impl Fn() -> Instant> {
        let origin = Instant::now();
        Pace::new(steps, Some(interval_ns), move || origin + Duration::from_nanos(now_ns()))
    }

    /// Histograms keep three digits.
    pub fn is(ns: f64, expected_ns: f64) -> bool {
        (ns / expected_ns - 1.0).abs() < 1e-3
    }

    #[test]
    fn a_step_counts_from_its_intended_start_however_late_it_began() {
        let now_ns = Cell::new(0);
        // Each look at the clock takes a nanosecond, so that waiting ends.
        let mut pace = open_by(4, 1_000.0, || now_ns.replace(now_ns.get() + 1));
        let mut latencies = Vec::new();
        for (held_up_ns, takes_ns) in [(0, 100), (0, 5_000), (0, 10), (700, 10)] {
            now_ns.set(now_ns.get() + held_up_ns);
            pace.begin();
            now_ns.set(now_ns.get() + takes_ns);
            pace.latencies = Latencies::new();
            pace.end(1);
            latencies.push(pace.quantiles().p50);
        }
        // The second call is late for those that were due meanwhile; the pause before the fourth makes it later still.
        for (latency, expected_ns) in latencies.iter().zip([101.0, 5_001.0, 4_013.0, 3_725.0]) {
            assert!(is(*latency, expected_ns), "{latencies:?} has {latency} for {expected_ns}");
        }
    }

    #[test]
    fn a_step_of_a_closed_loop_counts_from_when_it_began() {
        let (origin, now_ns) = (Instant::now(), Cell::new(0));
        let mut pace = Pace::new(2, None, || origin + Duration::from_nanos(now_ns.get()));
        for _ in pace.steps() {
            now_ns.set(now_ns.get() + 9_000);
            pace.begin();
            now_ns.set(now_ns.get() + 100);
            pace.end(1);
        }
        assert_eq!((pace.quantiles().p50, pace.quantiles().p999), (100.0, 100.0));
        assert_eq!(pace.cycle_ns(), 9_200.0 / 2.0, "preparations count between the first start and the last end");
    }

    #[test]
    fn how_late_a_group_began_counts_whole_and_what_it_took_by_call() {
        let now_ns = Cell::new(0);
        let mut pace = open_by(2, 1_000.0, || now_ns.get());
        pace.begin();
        now_ns.set(3_000);
        pace.begin();
        now_ns.set(3_320);
        pace.end(32);
        assert!(is(pace.quantiles().p50, 2_010.0), "{:?}", pace.quantiles());
        assert_eq!(pace.latencies.len(), 1, "the step that was not ended is not recorded");
    }

    #[test]
    fn each_round_offers_its_shares_of_its_own_peak() {
        let loops = Loops::run(3, 4, |mut pace| {
            for _ in pace.steps() {
                pace.begin();
                pace.end(1);
            }
            pace
        });
        let [half, most] = loops.open();
        assert_eq!((half.share_percent, most.share_percent, loops.recorded()), (50, 80, 12));
        let peak_ns = loops.peak_ns();
        assert!(
            is(half.interval_ns, peak_ns * 2.0) && is(most.interval_ns, peak_ns * 1.25),
            "{peak_ns}: {half:?}, {most:?}"
        );
    }
}
