//! Scores come back in any order; here they get back into the order of the rows.

use std::collections::VecDeque;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::error::EngineError;

/// Most rows that are in flight, or wait for an earlier row, at one time.
pub const MAX_IN_FLIGHT: usize = 16_384;
/// Most bytes of value text that wait with them. One row's text always fits: it is shorter.
const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Every this many rows the time from submission to completion is taken.
pub const SAMPLE_EVERY: usize = 16;
/// The longest latency that is told apart from a longer one.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

/// A row between submission and its turn to be used.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    /// Number of the data row.
    pub row: u64,
    /// Number of its key.
    pub key: u32,
    /// Its value.
    pub value: f32,
    /// Its score, once completed.
    pub score: f32,
    /// What the score should be; meaningless unless scores are verified.
    pub reference: f64,
    text_len: u32,
    is_completed: bool,
}

impl Pending {
    /// A row that waits for its score.
    pub fn new(row: u64, key: u32, value: f32, reference: f64) -> Self {
        Pending { row, key, value, score: f32::NAN, reference, text_len: 0, is_completed: false }
    }
}

/// A bounded queue: in at the back when submitted, out at the front in the same order once
/// completed.
#[derive(Debug)]
pub struct Reorder {
    slots: Box<[Pending]>,
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
    /// An empty queue.
    pub fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("constant bounds that are valid");
        Reorder {
            slots: vec![Pending::new(0, 0, 0.0, 0.0); MAX_IN_FLIGHT].into(),
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
    pub fn has_room(&self, text_len: usize) -> bool {
        ((self.back - self.front) as usize) < MAX_IN_FLIGHT
            && (self.text.is_empty() || self.text.len() + text_len <= MAX_TEXT_BYTES)
    }

    /// Takes a row in and returns the token to submit it with. There must be room.
    pub fn push(&mut self, row: Pending, text: &[u8]) -> u64 {
        assert!(self.has_room(text.len()), "the caller makes room first");
        let token = self.back;
        self.slots[slot(token)] = Pending { text_len: text.len() as u32, ..row };
        self.text.extend(text);
        if token.is_multiple_of(SAMPLE_EVERY as u64) {
            self.submitted_at[slot(token) / SAMPLE_EVERY] = Instant::now();
        }
        self.back += 1;
        token
    }

    /// A score has come back.
    pub fn complete(&mut self, token: u64, score: f32) {
        let pending = &mut self.slots[slot(token)];
        if token < self.front || token >= self.back || pending.is_completed {
            self.stray.get_or_insert(token);
            return;
        }
        pending.score = score;
        pending.is_completed = true;
        self.completed += 1;
        if token.is_multiple_of(SAMPLE_EVERY as u64) {
            let latency = self.submitted_at[slot(token) / SAMPLE_EVERY].elapsed();
            self.latency_ns.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// The row at the front with its text, if its score has come back.
    pub fn pop(&mut self) -> Result<Option<(Pending, &[u8])>, EngineError> {
        if let Some(token) = self.stray {
            return Err(EngineError::StrayCompletion { token });
        }
        let pending = self.slots[slot(self.front)];
        if self.front == self.back || !pending.is_completed {
            return Ok(None);
        }
        self.front += 1;
        self.front_text.clear();
        self.front_text.extend(self.text.drain(..pending.text_len as usize));
        Ok(Some((pending, &self.front_text)))
    }

    /// How many scores have come back so far.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// How many rows are in the queue.
    pub fn len(&self) -> u64 {
        self.back - self.front
    }

    /// The times from submission to completion, of every [`SAMPLE_EVERY`]th row.
    pub fn into_latency_ns(self) -> Histogram<u64> {
        self.latency_ns
    }
}

fn slot(token: u64) -> usize {
    (token % MAX_IN_FLIGHT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(reorder: &mut Reorder, out: &mut Vec<(u64, f32, Vec<u8>)>) {
        while let Some((row, text)) = reorder.pop().unwrap() {
            out.push((row.row, row.score, text.to_vec()));
        }
    }

    #[test]
    fn rows_leave_in_the_order_they_came_whatever_order_scores_come_in() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut reorder = Reorder::new();
        let (mut in_flight, mut out) = (Vec::new(), Vec::new());
        for row in 0..100_000_u64 {
            let text = row.to_string();
            while !reorder.has_room(text.len()) {
                let token: u64 = in_flight.swap_remove(random.usize(..in_flight.len()));
                reorder.complete(token, token as f32);
                drain(&mut reorder, &mut out);
            }
            in_flight.push(reorder.push(Pending::new(row, 0, 0.0, 0.0), text.as_bytes()));
        }
        assert!(in_flight.len() > 1, "the queue has been under pressure");
        random.shuffle(&mut in_flight);
        for token in in_flight {
            reorder.complete(token, token as f32);
            drain(&mut reorder, &mut out);
        }
        let expected = (0..100_000_u64).map(|row| (row, row as f32, row.to_string().into_bytes()));
        assert!(out.into_iter().eq(expected));
        assert_eq!(reorder.into_latency_ns().len(), 100_000 / SAMPLE_EVERY as u64);
    }

    #[test]
    fn a_score_for_no_row_or_a_second_one_is_reported() {
        for tokens in [&[1][..], &[0, 0]] {
            let mut reorder = Reorder::new();
            reorder.push(Pending::new(1, 0, 0.0, 0.0), b"");
            reorder.push(Pending::new(2, 0, 0.0, 0.0), b"");
            reorder.complete(1, 0.5);
            for &token in tokens {
                reorder.complete(token, 1.0);
            }
            assert!(matches!(reorder.pop(), Err(EngineError::StrayCompletion { .. })));
        }
        let mut reorder = Reorder::new();
        reorder.complete(0, 1.0);
        assert!(matches!(reorder.pop(), Err(EngineError::StrayCompletion { token: 0 })));
    }

    #[test]
    fn long_texts_fill_the_queue_early_but_one_always_fits() {
        let mut reorder = Reorder::new();
        let text = vec![b'1'; MAX_TEXT_BYTES];
        assert!(reorder.has_room(text.len()));
        reorder.push(Pending::new(1, 0, 0.0, 0.0), &text);
        assert!(!reorder.has_room(1) && reorder.has_room(0));
        assert_eq!(reorder.len(), 1);
    }
}
