//! Windows in plain host memory, laid out as an actor's are on its device, and scored by the same kernel's CPU twin.

use std::cell::Cell;

use gpubridge::kernels::id::WINDOW_ZSCORE;
use gpubridge::kernels::{Answer, CpuKernel, Elements, Invocation, library};
use gpubridge::{KernelSpec, PAYLOAD_WORDS, Scalars};

/// 32-bit words before a window's values: how many there are, and where the next goes.
const HEADER_WORDS: usize = 2;
/// Windows are allocated in pieces of about this size, never moved.
const PIECE_BYTES: usize = 1 << 20;

/// One window per key, side by side.
pub struct Windows {
    words_per_window: usize,
    windows_per_piece: usize,
    pieces: Vec<Box<[Cell<u32>]>>,
    score: CpuKernel,
}

impl Windows {
    /// No windows yet; each will hold `window` values, from 2 to 65,536.
    pub fn new(window: u32) -> Self {
        let words_per_window = HEADER_WORDS + window as usize;
        let windows_per_piece = (PIECE_BYTES / 4 / words_per_window).max(1);
        let spec = KernelSpec::new(WINDOW_ZSCORE).with_constants([window, 0]);
        let library = library();
        let twin = library.find(spec.id).and_then(|kernel| kernel.cpu.as_ref()).expect("the library has the kernel");
        let score = twin(&spec).expect("the command line bounds the window");
        Windows { words_per_window, windows_per_piece, pieces: Vec::new(), score }
    }

    /// Scores `value` in the window of `key`, an empty one when the key is new.
    pub fn score(&mut self, key: u32, value: f32) -> f32 {
        let (piece, within) = (key as usize / self.windows_per_piece, key as usize % self.windows_per_piece);
        while piece >= self.pieces.len() {
            let words = self.words_per_window * self.windows_per_piece;
            self.pieces.push(vec![Cell::new(0); words].into());
        }
        let start = within * self.words_per_window;
        let state = Elements::new(&self.pieces[piece][start..start + self.words_per_window]);
        let none = Elements::new(&[]);
        let scalars = Scalars::default().with_bits(0, value.to_bits());
        let call = Invocation { input: none, operand: none, output: state, count: state.len(), scalars };
        let mut words = [0; PAYLOAD_WORDS];
        (self.score)(&call, &mut Answer::new(&mut words));
        f32::from_bits(words[0] as u32)
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
