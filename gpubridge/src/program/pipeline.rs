//! Rows in, scores out: keeps many rows in flight and uses their scores in input order.

use hdrhistogram::Histogram;

use super::engine::{Scorer, Summary};
use super::error::{EngineError, Error};
use super::keys::{Interned, Keys};
use super::output::ScoreFile;
use super::reference::Reference;
use super::reorder::{Reorder, Waiting};
use super::tally::{Scored, Tally};
use super::verify::Check;

/// A row with a key and a value, on its way to its actor.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Number of the data row.
    pub row: u64,
    /// Physical line where the row begins, for messages.
    pub line: u64,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: f32,
    /// Its value as it was read.
    pub text: &'a [u8],
}

/// What to do with the scores.
#[derive(Debug)]
pub struct Uses<'a> {
    /// Size from which a score is an anomaly.
    pub threshold: f64,
    /// Most distinct keys.
    pub max_keys: u32,
    /// Recomputes the scores, when they are to be verified.
    pub reference: Option<Reference>,
    /// Takes the scores, when they are to be written.
    pub output: Option<&'a mut ScoreFile>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    /// The keys that had a value.
    pub keys: Keys,
    /// Counts and the largest scores.
    pub tally: Tally,
    /// What the verification found, if there was one.
    pub check: Option<Check>,
    /// Sampled times from submission to completion.
    pub latency_ns: Histogram<u64>,
    /// The engine's own words.
    pub summary: Summary,
}

/// A run of rows through an engine.
pub struct Pipeline<'a, S> {
    scorer: S,
    keys: Keys,
    reorder: Reorder,
    tally: Tally,
    check: Option<Check>,
    output: Option<&'a mut ScoreFile>,
    reference: Option<Reference>,
    max_keys: u32,
}

impl<'a, S: Scorer> Pipeline<'a, S> {
    /// Nothing has been submitted yet.
    pub fn new(scorer: S, uses: Uses<'a>) -> Self {
        let check = uses.reference.as_ref().map(|_| Check::default());
        Pipeline {
            scorer,
            keys: Keys::default(),
            reorder: Reorder::new(uses.reference.is_some() || uses.output.is_some()),
            tally: Tally::new(uses.threshold),
            check,
            output: uses.output,
            reference: uses.reference,
            max_keys: uses.max_keys,
        }
    }

    /// Submits a row, after waiting for room if need be.
    pub fn submit(&mut self, event: Event<'_>) -> Result<(), Error> {
        let key = match self.keys.intern(event.key, self.max_keys) {
            Interned::Known(key) => key,
            Interned::New(key) => {
                self.scorer.add_key(key, event.key)?;
                key
            }
            Interned::Full => return Err(Error::TooManyKeys { line: event.line, limit: self.max_keys }),
        };
        let reference = self.reference.as_mut().map_or(0.0, |reference| reference.score(key, event.value));
        // The text is kept only where it will be written.
        let text = if self.output.is_some() { event.text } else { b"" };
        while !self.reorder.has_room(text.len()) {
            let before = self.reorder.completed();
            let reorder = &mut self.reorder;
            self.scorer.wait(&mut |token, score| reorder.complete(token, score))?;
            if self.reorder.completed() == before {
                // The engine has nothing in flight, yet the front of the queue has no score.
                return Err(EngineError::MissingScores { missing: self.reorder.len() }.into());
            }
            self.use_completed()?;
        }
        let token = self.reorder.push(Waiting { row: event.row, key, value: event.value }, reference, text);
        let reorder = &mut self.reorder;
        self.scorer.submit(key, event.value, token, &mut |token, score| reorder.complete(token, score))?;
        self.use_completed()
    }

    /// Waits for all scores; the engine is the caller's to stop.
    pub fn finish(mut self) -> Result<(Finished, S), Error> {
        let reorder = &mut self.reorder;
        let summary = self.scorer.finish(&mut |token, score| reorder.complete(token, score))?;
        self.use_completed()?;
        match self.reorder.len() {
            0 => {}
            missing => return Err(EngineError::MissingScores { missing }.into()),
        }
        let Pipeline { scorer, keys, tally, check, reorder, .. } = self;
        Ok((Finished { keys, tally, check, latency_ns: reorder.into_latency_ns(), summary }, scorer))
    }

    fn use_completed(&mut self) -> Result<(), Error> {
        self.reorder.check()?;
        while let Some((Waiting { row, key, value }, score)) = self.reorder.pop() {
            let scored = Scored { row, key, value, score };
            self.tally.observe(scored);
            let Some((reference, text)) = self.reorder.pop_extras() else { continue };
            if let Some(check) = &mut self.check {
                check.observe(scored, reference);
            }
            if let Some(output) = &mut self.output {
                output.write_row(row, self.keys.text(key), text, score)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Identity, MetricValue};
    use super::super::window::Windows;
    use super::*;
    use std::collections::VecDeque;

    /// Completes late and, across keys, in random order; can be told to misbehave.
    struct Late {
        windows: Windows,
        /// Tokens and scores of each key, in order.
        waiting: Vec<VecDeque<(u64, f32)>>,
        in_flight: usize,
        random: fastrand::Rng,
        capacity: usize,
        offset: f32,
        loses: Option<u64>,
    }

    impl Late {
        fn new(capacity: usize) -> Self {
            Late {
                windows: Windows::new(8),
                waiting: vec![VecDeque::new(); 64],
                in_flight: 0,
                random: fastrand::Rng::with_seed(5),
                capacity,
                offset: 0.0,
                loses: None,
            }
        }

        fn complete_one(&mut self, done: &mut impl FnMut(u64, f32)) {
            let key = (self.random.usize(..64)..).map(|key| key % 64).find(|&key| !self.waiting[key].is_empty());
            let (token, score) = self.waiting[key.unwrap()].pop_front().unwrap();
            self.in_flight -= 1;
            if self.loses != Some(token) {
                done(token, score + self.offset);
            }
        }
    }

    impl Scorer for Late {
        fn add_key(&mut self, _key: u32, _text: &[u8]) -> Result<(), EngineError> {
            Ok(())
        }

        fn submit(
            &mut self,
            key: u32,
            value: f32,
            token: u64,
            done: &mut impl FnMut(u64, f32),
        ) -> Result<(), EngineError> {
            let score = self.windows.score(key, value);
            self.waiting[key as usize].push_back((token, score));
            self.in_flight += 1;
            if self.in_flight > self.capacity {
                self.complete_one(done);
            }
            Ok(())
        }

        fn wait(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<(), EngineError> {
            if self.in_flight > 0 {
                self.complete_one(done);
            }
            Ok(())
        }

        fn finish(&mut self, done: &mut impl FnMut(u64, f32)) -> Result<Summary, EngineError> {
            while self.in_flight > 0 {
                self.complete_one(done);
            }
            Ok(Summary::default())
        }

        fn stop(self) -> Result<(), EngineError> {
            Ok(())
        }

        fn identity(&self) -> Identity {
            Identity { backend: "late".into(), device: "test".into(), reason: "test".into() }
        }
    }

    fn run(scorer: Late, rows: u64, max_keys: u32) -> Result<Finished, Error> {
        let uses = Uses { threshold: 2.0, max_keys, reference: Some(Reference::new(8)), output: None };
        let mut pipeline = Pipeline::new(scorer, uses);
        let mut random = fastrand::Rng::with_seed(9);
        for row in 1..=rows {
            let key = format!("k{}", random.u8(0..50));
            let value = random.f32();
            pipeline.submit(Event { row, line: row + 1, key: key.as_bytes(), value, text: b"" })?;
        }
        pipeline.finish().map(|(finished, _)| finished)
    }

    #[test]
    fn late_and_shuffled_scores_give_the_same_report_as_immediate_ones() {
        let at_once = run(Late::new(0), 20_000, 50).unwrap();
        let late = run(Late::new(300), 20_000, 50).unwrap();
        assert_eq!(late.tally.largest, at_once.tally.largest);
        assert_eq!((late.tally.scored, late.tally.anomalies), (20_000, at_once.tally.anomalies));
        assert!(late.check.unwrap().conclude(&late.keys).unwrap() < 1e-4);
        assert_eq!(late.keys.len(), 50);
    }

    #[test]
    fn a_full_queue_waits_for_its_front() {
        let finished = run(Late::new(usize::MAX), 40_000, 50).unwrap();
        assert_eq!(finished.tally.scored, 40_000);
    }

    #[test]
    fn wrong_and_missing_scores_are_found() {
        let off = run(Late { offset: 0.01, ..Late::new(10) }, 1_000, 50).unwrap();
        assert!(off.check.unwrap().conclude(&off.keys).is_err());
        let lost = run(Late { loses: Some(500), ..Late::new(10) }, 1_000, 50).unwrap_err();
        assert_eq!(lost.to_string(), "internal fault: the engine finished with 500 scores missing");
        assert_eq!(lost.exit_code(), 1);
        let stuck = run(Late { loses: Some(500), ..Late::new(10) }, 40_000, 50).unwrap_err();
        assert!(matches!(stuck, Error::Engine(EngineError::MissingScores { .. })), "{stuck}");
    }

    #[test]
    fn one_key_too_many_stops_the_run() {
        let error = run(Late::new(10), 1_000, 49).unwrap_err();
        assert!(matches!(error, Error::TooManyKeys { limit: 49, .. }), "{error}");
    }

    #[test]
    fn metric_values_show_as_themselves() {
        let shown = [MetricValue::Count(3), MetricValue::Number(0.5), MetricValue::Text("x".into())];
        assert_eq!(shown.map(|each| each.to_string()), ["3", "0.5", "x"]);
    }
}
