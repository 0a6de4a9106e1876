//! Scores come back in any order; here they get back into the order of the rows.

use std::collections::VecDeque;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::error::EngineError;

/// Most rows that are in flight, or wait for an earlier row, at one time. A power of two.
pub const MAX_IN_FLIGHT: usize = 8_192;
/// Most bytes of value text that wait with them. One row's text always fits: it is shorter.
const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Every this many rows the time from submission to completion is taken.
pub const SAMPLE_EVERY: usize = 32;
/// The longest latency that is told apart from a longer one.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;
/// Stands where a score will; no score has bits above the 32nd.
const NO_SCORE: u64 = u64::MAX;

/// A row between submission and its turn to be used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// Number of the data row.
    pub row: u64,
    /// Number of its key.
    pub key: u32,
    /// Its value.
    pub value: f32,
}

/// What only some runs keep of a row.
#[derive(Debug, Clone, Copy, Default)]
struct Extra {
    reference: f64,
    text_len: usize,
}

/// A bounded queue: in at the back when submitted, out at the front in the same order once
/// completed. A row costs it a few nanoseconds: what most runs do not need lies apart.
#[derive(Debug)]
pub struct Reorder {
    /// Bits of each row's score, or [`NO_SCORE`].
    scores: Box<[u64; MAX_IN_FLIGHT]>,
    rows: Box<[Waiting; MAX_IN_FLIGHT]>,
    extras: Option<Box<[Extra; MAX_IN_FLIGHT]>>,
    /// Token of the row at the front, and of the next to be submitted.
    front: u64,
    back: u64,
    /// Value texts of the rows in the queue, one after the other.
    text: VecDeque<u8>,
    front_text: Vec<u8>,
    submitted_at: Box<[Instant]>,
    latency_ns: Histogram<u64>,
    completed: u64,
    stray: Option<u64>,
}

impl Reorder {
    /// An empty queue; one that does not keep extras keeps neither references nor texts.
    pub fn new(keeps_extras: bool) -> Self {
        let latency_ns = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("constant bounds that are valid");
        Reorder {
            scores: boxed(NO_SCORE),
            rows: boxed(Waiting::default()),
            extras: keeps_extras.then(|| boxed(Extra::default())),
            front: 0,
            back: 0,
            text: VecDeque::new(),
            front_text: Vec::new(),
            submitted_at: vec![Instant::now(); MAX_IN_FLIGHT / SAMPLE_EVERY].into(),
            latency_ns,
            completed: 0,
            stray: None,
        }
    }

    /// Whether a row with `text_len` bytes of text can enter now.
    #[inline]
    pub fn has_room(&self, text_len: usize) -> bool {
        self.len() < MAX_IN_FLIGHT as u64 && (self.text.is_empty() || self.text.len() + text_len <= MAX_TEXT_BYTES)
    }

    /// Takes a row in and returns the token to submit it with. There must be room.
    #[inline]
    pub fn push(&mut self, row: Waiting, reference: f64, text: &[u8]) -> u64 {
        assert!(self.len() < MAX_IN_FLIGHT as u64, "the caller makes room first");
        let token = self.back;
        self.back += 1;
        self.scores[slot(token)] = NO_SCORE;
        self.rows[slot(token)] = row;
        if let Some(extras) = &mut self.extras {
            extras[slot(token)] = Extra { reference, text_len: text.len() };
            self.text.extend(text);
        }
        if is_sampled(token) {
            self.submitted_at[slot(token) / SAMPLE_EVERY] = Instant::now();
        }
        token
    }

    /// A score has come back.
    #[inline]
    pub fn complete(&mut self, token: u64, score: f32) {
        let place = &mut self.scores[slot(token)];
        if token.wrapping_sub(self.front) >= self.back - self.front || *place != NO_SCORE {
            self.stray.get_or_insert(token);
            return;
        }
        *place = u64::from(score.to_bits());
        self.completed += 1;
        if is_sampled(token) {
            let latency = self.submitted_at[slot(token) / SAMPLE_EVERY].elapsed();
            self.latency_ns.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Takes the row at the front out, with its score, if that has come back. If extras are kept,
    /// they must be taken next, with [`pop_extras`](Self::pop_extras).
    #[inline]
    pub fn pop(&mut self) -> Option<(Waiting, f32)> {
        let score = self.scores[slot(self.front)];
        if self.front == self.back || score == NO_SCORE {
            return None;
        }
        let row = self.rows[slot(self.front)];
        self.front += 1;
        Some((row, f32::from_bits(score as u32)))
    }

    /// The reference and the text of the row taken out last.
    pub fn pop_extras(&mut self) -> Option<(f64, &[u8])> {
        let Extra { reference, text_len } = self.extras.as_ref()?[slot(self.front - 1)];
        self.front_text.clear();
        self.front_text.extend(self.text.drain(..text_len));
        Some((reference, &self.front_text))
    }

    /// Fails once a score has come back that no row waits for.
    #[inline]
    pub fn check(&self) -> Result<(), EngineError> {
        match self.stray {
            None => Ok(()),
            Some(token) => Err(EngineError::StrayCompletion { token }),
        }
    }

    /// How many scores have come back so far.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// How many rows are in the queue.
    #[inline]
    pub fn len(&self) -> u64 {
        self.back - self.front
    }

    /// The times from submission to completion, of every [`SAMPLE_EVERY`]th row.
    pub fn into_latency_ns(self) -> Histogram<u64> {
        self.latency_ns
    }
}

#[inline]
fn slot(token: u64) -> usize {
    token as usize % MAX_IN_FLIGHT
}

#[inline]
fn is_sampled(token: u64) -> bool {
    token.is_multiple_of(SAMPLE_EVERY as u64)
}

/// An array made on the heap: it is too large to pass through the stack.
fn boxed<T: Clone + std::fmt::Debug>(value: T) -> Box<[T; MAX_IN_FLIGHT]> {
    vec![value; MAX_IN_FLIGHT].try_into().expect("a vector of this very length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(row: u64) -> Waiting {
        Waiting { row, key: 0, value: 0.0 }
    }

    fn drain(reorder: &mut Reorder, out: &mut Vec<(u64, f32, f64, Vec<u8>)>) {
        while let Some((row, score)) = reorder.pop() {
            let (reference, text) = reorder.pop_extras().unwrap();
            out.push((row.row, score, reference, text.to_vec()));
        }
        reorder.check().unwrap();
    }

    #[test]
    fn rows_leave_in_the_order_they_came_whatever_order_scores_come_in() {
        const ROWS: u64 = 60_000;
        let mut random = fastrand::Rng::with_seed(11);
        let mut reorder = Reorder::new(true);
        let (mut in_flight, mut out) = (Vec::new(), Vec::new());
        for row in 0..ROWS {
            let text = row.to_string();
            while !reorder.has_room(text.len()) {
                let token: u64 = in_flight.swap_remove(random.usize(..in_flight.len()));
                reorder.complete(token, token as f32);
                drain(&mut reorder, &mut out);
            }
            in_flight.push(reorder.push(waiting(row), row as f64, text.as_bytes()));
        }
        assert!(in_flight.len() > 1, "the queue has been under pressure");
        random.shuffle(&mut in_flight);
        for token in in_flight {
            reorder.complete(token, token as f32);
            drain(&mut reorder, &mut out);
        }
        let expected = (0..ROWS).map(|row| (row, row as f32, row as f64, row.to_string().into_bytes()));
        assert!(out.into_iter().eq(expected));
        assert_eq!(reorder.into_latency_ns().len(), ROWS / SAMPLE_EVERY as u64);
    }

    #[test]
    fn any_f32_is_a_score() {
        let mut reorder = Reorder::new(false);
        for bits in [0, 1, f32::NAN.to_bits(), u32::MAX] {
            let token = reorder.push(waiting(1), 0.0, b"");
            assert_eq!(reorder.pop(), None);
            reorder.complete(token, f32::from_bits(bits));
            assert_eq!(reorder.pop().unwrap().1.to_bits(), bits);
            assert!(reorder.pop_extras().is_none());
        }
    }

    #[test]
    fn a_score_for_no_row_or_a_second_one_is_reported() {
        for tokens in [&[1][..], &[0, 0], &[2], &[u64::MAX], &[MAX_IN_FLIGHT as u64]] {
            let mut reorder = Reorder::new(false);
            reorder.push(waiting(1), 0.0, b"");
            reorder.push(waiting(2), 0.0, b"");
            reorder.complete(1, 0.5);
            reorder.check().unwrap();
            for &token in tokens {
                reorder.complete(token, 1.0);
            }
            assert!(reorder.check().is_err(), "{tokens:?}");
        }
        let mut reorder = Reorder::new(false);
        reorder.complete(0, 1.0);
        assert!(matches!(reorder.check(), Err(EngineError::StrayCompletion { token: 0 })));
    }

    #[test]
    fn long_texts_fill_the_queue_early_but_one_always_fits() {
        let mut reorder = Reorder::new(true);
        let text = vec![b'1'; MAX_TEXT_BYTES];
        assert!(reorder.has_room(text.len()));
        reorder.push(waiting(1), 0.0, &text);
        assert!(!reorder.has_room(1) && reorder.has_room(0));
        assert_eq!(reorder.len(), 1);
    }
}
