//! Windows in plain host memory, laid out as an actor's are on its device.

/// 32-bit words before a window's values: how many there are, and where the next goes.
const HEADER_WORDS: usize = 2;
/// Sums kept side by side, so that additions need not wait for each other.
const LANES: usize = 8;
/// Windows are allocated in pieces of about this size, never moved.
const PIECE_BYTES: usize = 1 << 20;

/// The score of `value` among the values in `window`; then `value` becomes one of them.
///
/// `window` is `[count, next, values…]`, the values as f32 bits. Sums are of differences to the
/// oldest value, in f64.
pub fn window_zscore(window: &mut [u32], value: f32) -> f32 {
    let (header, values) = window.split_at_mut(HEADER_WORDS);
    let (count, next) = (header[0] as usize, header[1] as usize);
    let score = score_among(&values[..count], if count == values.len() { next } else { 0 }, value);
    values[next] = value.to_bits();
    header[0] = (count + 1).min(values.len()) as u32;
    header[1] = if next + 1 == values.len() { 0 } else { next as u32 + 1 };
    score
}

fn score_among(values: &[u32], oldest_at: usize, value: f32) -> f32 {
    if values.len() < 2 {
        return 0.0;
    }
    let count = values.len() as f64;
    let oldest = f64::from(f32::from_bits(values[oldest_at]));
    let mean_difference = sum(values, |each| each - oldest) / count;
    let centre = oldest + mean_difference;
    let squares = sum(values, |each| {
        let difference = (each - oldest) - mean_difference;
        difference * difference
    });
    let sigma = (squares / count).sqrt();
    if sigma <= 1e-6 * centre.abs().max(1.0) {
        0.0
    } else {
        (((f64::from(value) - oldest) - mean_difference) / sigma) as f32
    }
}

fn sum(values: &[u32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let mut groups = values.chunks_exact(LANES);
    for group in &mut groups {
        for (lane, &bits) in lanes.iter_mut().zip(group) {
            *lane += term(f64::from(f32::from_bits(bits)));
        }
    }
    let rest: f64 = groups.remainder().iter().map(|&bits| term(f64::from(f32::from_bits(bits)))).sum();
    lanes.iter().sum::<f64>() + rest
}

/// One window per key, side by side.
#[derive(Debug)]
pub struct Windows {
    words_per_window: usize,
    windows_per_piece: usize,
    pieces: Vec<Box<[u32]>>,
}

impl Windows {
    /// No windows yet; each will hold `window` values.
    pub fn new(window: u32) -> Self {
        let words_per_window = HEADER_WORDS + window as usize;
        let windows_per_piece = (PIECE_BYTES / 4 / words_per_window).max(1);
        Windows { words_per_window, windows_per_piece, pieces: Vec::new() }
    }

    /// Scores `value` in the window of `key`, an empty one when the key is new.
    pub fn score(&mut self, key: u32, value: f32) -> f32 {
        let (piece, within) = (key as usize / self.windows_per_piece, key as usize % self.windows_per_piece);
        while piece >= self.pieces.len() {
            self.pieces.push(vec![0; self.words_per_window * self.windows_per_piece].into());
        }
        let start = within * self.words_per_window;
        window_zscore(&mut self.pieces[piece][start..start + self.words_per_window], value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Reference, compare};
    use super::*;

    #[test]
    fn scores_agree_with_the_reference_for_every_shape_of_window() {
        let mut random = fastrand::Rng::with_seed(7);
        for window in [2, 3, 8, 9, 64, 1000] {
            let (mut windows, mut reference) = (Windows::new(window), Reference::new(window));
            for _ in 0..5_000 {
                let key = random.u32(0..3);
                let value = 1e5 * key as f32 + random.f32() * 4.0;
                let (score, expected) = (windows.score(key, value), reference.score(key, value));
                assert!(compare(score, expected).1, "window {window}: {score} for {expected}");
            }
        }
    }

    #[test]
    fn windows_in_different_pieces_are_their_own() {
        let mut windows = Windows::new(65_536);
        for value in [1.0, 3.0] {
            for key in 0..9 {
                windows.score(key, value + key as f32);
            }
        }
        for key in 0..9 {
            assert_eq!(windows.score(key, 5.0 + key as f32), 3.0);
        }
    }
}
