//! window_zscore.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use fastrand::Rng;
use gpubridge_abstractions::{KernelSpec, PAYLOAD_WORDS, Scalars};
use gpubridge_kernels::library::window_zscore::state_elements;
use gpubridge_kernels::{Answer, CpuKernel, Elements, Invocation, id, library};

use crate::call::{CANARY, Call, OUTPUT};

fn spec(window: usize) -> KernelSpec {
    KernelSpec::new(id::WINDOW_ZSCORE).with_constants([window as u32, 0])
}

/// A state that one value after the other is put through.
struct Stream {
    twin: CpuKernel,
    state: Vec<Cell<u32>>,
}

impl Stream {
    fn new(window: usize) -> Self {
        let twin =
            library().find(id::WINDOW_ZSCORE).expect("registered").cpu.as_ref().expect("a CPU variant")(&spec(window));
        let mut state = vec![Cell::new(0); window + 2];
        state.extend([Cell::new(CANARY), Cell::new(CANARY)]);
        Self { twin: twin.expect("compiles"), state }
    }

    fn score(&self, x: f32) -> f32 {
        let none = Elements::new(&[]);
        let mut words = [0; PAYLOAD_WORDS];
        let mut answer = Answer::new(&mut words);
        let scalars = Scalars::default().with_bits(0, x.to_bits());
        let call = Invocation { input: none, operand: none, output: Elements::new(&self.state), count: 0, scalars };
        (self.twin)(&call, &mut answer);
        assert_eq!(answer.len_bytes(), 4);
        f32::from_bits(words[0] as u32)
    }

    fn bits(&self) -> Vec<u32> {
        self.state.iter().map(Cell::get).collect()
    }
}

/// The state as it must be once these values have passed.
fn state_after(window: usize, values: &[f32]) -> Vec<u32> {
    let mut state = vec![0; window + 2];
    for (at, x) in values.iter().enumerate().skip(values.len().saturating_sub(window)) {
        state[2 + at % window] = x.to_bits();
    }
    state[0] = values.len().min(window) as u32;
    state[1] = (values.len() % window) as u32;
    state.extend([CANARY, CANARY]);
    state
}

/// The definition in plain f64 over the values themselves: no ring, no difference to the oldest.
fn reference(before: &[f32], window: usize, x: f32) -> f64 {
    let held = &before[before.len().saturating_sub(window)..];
    if held.len() < 2 {
        return 0.0;
    }
    let n = held.len() as f64;
    let mean = held.iter().copied().map(f64::from).sum::<f64>() / n;
    let deviation = (held.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    if deviation <= 1e-6 * mean.abs().max(1.0) { 0.0 } else { (f64::from(x) - mean) / deviation }
}

/// Far inside the bar of 1e-3: f64 on both sides, and one rounding to f32.
#[track_caller]
fn assert_close(got: f32, want: f64, of: &str) {
    assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs().max(1.0), "{of}: {got:e}, not {want:e}");
}

/// Puts values through a window and holds every score and state against the reference; counts the scores other than 0.
fn check_stream(window: usize, values: &[f32]) -> usize {
    let stream = Stream::new(window);
    let mut scored = 0;
    for (at, x) in values.iter().enumerate() {
        let got = stream.score(*x);
        let want = reference(&values[..at], window, *x);
        assert_close(got, want, &format!("value {at} of window {window}, {x:e}"));
        assert_eq!(stream.bits(), state_after(window, &values[..=at]), "after value {at}");
        scored += usize::from(got != 0.0);
    }
    scored
}

fn random(values: usize, mut draw: impl FnMut(&mut Rng, usize) -> f32) -> Vec<f32> {
    let mut rng = Rng::with_seed(7);
    (0..values).map(|at| draw(&mut rng, at)).collect()
}

#[test]
fn scores_match_the_reference_through_several_laps() {
    for window in [2, 3, 4, 7, 8, 9, 63, 64, 65, 100] {
        let values = random(4 * window + 5, |rng, _| 100.0 * rng.f32() - 20.0);
        assert_eq!(check_stream(window, &values), values.len() - 2, "all but the first two");
    }
}

#[test]
fn scores_match_for_adversarial_values() {
    let sigma_1 = |rng: &mut Rng| (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0;
    for window in [2, 3, 64] {
        let values = 4 * window + 5;
        let magnitude = |rng: &mut Rng, low: f32, high: f32| {
            let x = 10f32.powf(low + (high - low) * rng.f32());
            if rng.bool() { x } else { -x }
        };
        let varying = [
            random(values, |rng, _| 1e5 + sigma_1(rng)),
            random(values, |rng, _| magnitude(rng, -3.0, 30.0)),
            random(values, |rng, at| if at % window == 0 { 1e30 } else { sigma_1(rng) }),
            random(values, |_, at| if at % 2 == 0 { 1e30 } else { -9.9e29 }),
            random(values, |_, at| if at % 2 == 0 { f32::MAX } else { f32::MIN }),
            random(values, |rng, at| if at % 2 == 0 { 1.0 } else { -1.0 } * (1.0 + rng.f32() * 1e-6)),
            random(values, |_, at| at as f32 * 1e28),
            random(values, |rng, _| sigma_1(rng) * 1e-5),
            random(values, |rng, at| if at == window { 1e30 } else { 1e-40 * rng.f32() }),
        ];
        for (kind, values) in varying.iter().enumerate() {
            assert!(check_stream(window, values) > 0, "kind {kind} varies");
        }
        // These do not vary in the sense of the definition, or some do and some do not.
        check_stream(window, &random(values, |rng, _| f32::from_bits(rng.u32(..0x80_0000) | rng.u32(..2) << 31)));
        check_stream(window, &random(values, |rng, at| 1e5 + (at / 7 * 2) as f32 * 0.007_812_5 * rng.f32()));
        check_stream(window, &random(values, |rng, _| 1.0 + rng.u32(..40) as f32 * 1.2e-7));
        assert_eq!(check_stream(window, &vec![-1e30; values]), 0);
    }
}

#[test]
fn a_window_that_does_not_vary_scores_zero() {
    // Two values have σ = half their distance: below, at and above 1e-6 · max(1, |mean|).
    let third = |a: f32, b: f32| {
        let stream = Stream::new(2);
        [a, b, 7.0].map(|x| stream.score(x))[2]
    };
    assert_eq!(third(0.0, 0.0), 0.0);
    assert_eq!(third(-1e-6, 1e-6), 0.0, "1e-6 as f32 is just below");
    assert_eq!(third(-1e-6f32.next_up(), 1e-6f32.next_up()), 7.0 / 1e-6f32.next_up());
    assert_eq!(third(99_999.91, 100_000.09), 0.0);
    assert_eq!(third(-99_999.91, -100_000.09), 0.0);
    assert!(third(99_999.9, 100_000.125) < -8e5);
    assert!(third(-99_999.9, -100_000.125) > 8e5, "the mean's absolute value counts");
    // The first two values have no score, however far apart, and a score may exceed f32.
    let stream = Stream::new(64);
    assert_eq!([0.0, 1e30].map(|x| stream.score(x)), [0.0, 0.0]);
    assert_eq!(third(-2e-6, 2e-6), 3.5e6);
    let stream = Stream::new(2);
    assert_eq!([-2e-6, 2e-6, f32::MAX].map(|x| stream.score(x))[2], f32::INFINITY);
}

#[test]
fn the_largest_window_goes_round() {
    let window = 65_536;
    let values = random(3 * window + 9, |rng, at| if at % 1_000 == 0 { 1e4 } else { rng.f32() } + 1e5);
    // A score costs two passes over the window: only at the turns of the laps and a few places more.
    let places = [
        0,
        1,
        2,
        3,
        40_000,
        window - 1,
        window,
        window + 1,
        2 * window - 1,
        2 * window,
        2 * window + 1,
        3 * window + 8,
    ];
    for at in places {
        let stream = Stream::new(window);
        for (cell, bits) in stream.state.iter().zip(state_after(window, &values[..at])) {
            cell.set(bits);
        }
        let got = stream.score(values[at]);
        assert_close(got, reference(&values[..at], window, values[at]), &format!("value {at}"));
        assert_eq!(stream.bits(), state_after(window, &values[..=at]), "after value {at}");
    }
}

#[test]
fn a_state_that_was_overwritten_does_no_harm() {
    for header in [[u32::MAX, u32::MAX], [65, 64], [64, 64], [3, 63], [0, 64], [1, u32::MAX]] {
        for value in [f32::NAN, f32::INFINITY, f32::MAX] {
            let stream = Stream::new(64);
            stream.state[..2].iter().zip(header).for_each(|(cell, bits)| cell.set(bits));
            stream.state[2..66].iter().for_each(|cell| cell.set(value.to_bits()));
            for _ in 0..200 {
                stream.score(1.0);
                assert!(stream.state[0].get() <= 64 && stream.state[1].get() < 64);
                assert_eq!(stream.bits()[66..], [CANARY; 2]);
            }
            stream.score(4.0);
            assert_eq!(stream.score(1.0), ((1.0 - (63.0 + 4.0) / 64.0) / (63f64 * 9.0 / 64.0 / 64.0).sqrt()) as f32);
        }
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    assert_eq!(state_elements(64) * 4, 264);
    let call =
        |window, elements, x: f32| Call::new(spec(window)).buffer(OUTPUT, &vec![0u32; elements]).scalar(x).try_run();
    assert!(call(64, 66, 1.0).is_ok() && call(65_536, 65_538, 1.0).is_ok() && call(2, 70, -1e30).is_ok());
    assert!(call(64, 65, 1.0).is_err() && call(65_536, 65_537, 1.0).is_err());
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(call(64, 66, x).err().as_deref(), Some("x is not finite"));
    }
    for window in [0, 1, 65_537, 1 << 31] {
        let why = call(window, 70_000, 1.0).err().expect("refused");
        assert_eq!(why, format!("window is not between 2 and 65536: {window}"));
        let check = library().find(id::WINDOW_ZSCORE).expect("registered").declaration.check;
        let shape = Call::new(spec(window)).buffer(OUTPUT, &[0u32; 70]).shape();
        assert_eq!(check(&shape), Err("window is not between 2 and 65536"));
    }
}

/// What the kernel's file says of devices without f64: halved differences, scaled to about 1, in f32 alone.
fn score_in_f32(window: &[f32], oldest: f32, x: f32) -> f32 {
    fn pairwise(terms: &[f32]) -> f32 {
        if terms.len() <= 64 {
            return terms.iter().sum();
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        pairwise(left) + pairwise(right)
    }
    let half = |x: f32| x / 2.0 - oldest / 2.0;
    let largest = window.iter().map(|v| half(*v).abs()).fold(0.0, f32::max);
    if largest < 0.5e-6 {
        return 0.0;
    }
    let scale = f32::from_bits((254 - (largest.to_bits() >> 23).min(253)) << 23);
    let n = window.len() as f32;
    let differences: Vec<f32> = window.iter().map(|v| half(*v) * scale).collect();
    let mean = pairwise(&differences) / n;
    let squares: Vec<f32> = differences.iter().map(|d| (d - mean) * (d - mean)).collect();
    let deviation = (pairwise(&squares) / n).sqrt();
    let limit = 1e-6 * (oldest / 2.0 + mean / scale).abs().max(0.5);
    if deviation / scale <= limit { 0.0 } else { (half(x) * scale - mean) / deviation }
}

#[test]
fn f32_alone_keeps_the_bar() {
    let mut rng = Rng::with_seed(8);
    for window in [2, 3, 64, 1_000, 65_536] {
        for kind in 0..if window > 1_000 { 6 } else { 600 } {
            let values = random(window + 1, |_, at| match kind % 6 {
                0 => 1e5 + rng.f32() * 4.0,
                1 if at == 0 => 1e30,
                1 | 2 => rng.f32() - 0.5,
                3 => 10f32.powf(60.0 * rng.f32() - 30.0),
                4 if at % 2 == 0 => -f32::MAX,
                4 => f32::MAX * rng.f32(),
                _ => 3e-5 * rng.f32() + if at == 0 { 1.0 } else { 0.0 },
            });
            let (x, held) = (values[window], &values[..window]);
            let (got, want) = (score_in_f32(held, held[0], x), reference(held, window, x));
            assert!((f64::from(got) - want).abs() <= 1e-3 * want.abs().max(1.0), "{kind}: {got:e}, not {want:e}");
        }
    }
}

/// `cargo test --release -p gpubridge-kernels --test library -- --ignored --nocapture cost_of_a_score`
#[test]
#[ignore = "a measurement"]
fn cost_of_a_score() {
    for window in [2, 3, 16, 63, 64, 65, 256, 1_024, 65_536] {
        let values = random(1_024, |rng, _| 100.0 * rng.f32());
        let stream = Stream::new(window);
        let score = |at: usize| {
            black_box(stream.score(black_box(values[at % 1_024])));
        };
        (0..window + 1_024).for_each(score);
        let calls = 2_000_000 / (window + 64);
        let best = (0..99)
            .map(|_| {
                let start = Instant::now();
                (0..calls).for_each(score);
                start.elapsed().as_secs_f64() * 1e9 / calls as f64
            })
            .fold(f64::INFINITY, f64::min);
        println!("window {window}: {best:.1} ns a score");
    }
}
