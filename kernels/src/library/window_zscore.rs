//! `window_zscore`: how far x lies from the values before it, in standard deviations; then x joins them.
//!
//! Over the up to W values before x, with mean `m` and population standard deviation `σ`, the score is `(x - m) / σ`. It
//! is 0 when there are fewer than two of them, or when `σ ≤ 1e-6 · max(1, |m|)`: they do not vary.
//!
//! # Accuracy
//! The score is within 1e-3, absolute or relative, of one computed with real numbers. Plain sums of squares lose
//! everything at mean 1e5 and σ 1 already; the twin takes two passes over the differences `d` to the window's oldest
//! value: their mean, then the squares of their distances from it, all in f64, where differences of f32 neither
//! overflow nor underflow. The oldest value is one of the window, so `|mean(d)| ≤ √W · σ`: however far off it lies, no
//! sum is more than √W = 256 times as large as what is left of it, and that costs f64 8 of its 53 bits. That holds for
//! any value of the window: which one is the oldest cannot be told from the score.
//!
//! It costs f32 8 of 24, so a device without fast f64 keeps the bar as well, provided that it scales: it takes the
//! differences of the halved values, is done if none reaches 5e-7 (then σ is below 1e-6), multiplies them by the power
//! of two that brings the largest to about 1, and adds up as for any long sum. It may then take a window whose σ is
//! within 1e-4 of the limit for one that does not vary, or the other way round.
//!
//! # Call
//! - constants: `window` W, from 2 to 65,536
//! - scalars: `x`, finite
//! - answer: the score, f32
//! - output: the state, W + 2 elements: `count` u32, how many values the window holds; `next` u32, where the next one
//!   goes; the values, f32. Zeroed memory is an empty window. A state that was overwritten gives any score, no more.
//! - writes: `count`, `next` and one value; `count` of the call is not looked at

use std::cell::Cell;
use std::sync::Arc;

use gpubridge_abstractions::{
    BufferUse, CallShape, ElementType, KernelDeclaration, KernelId, KernelSpec, Placement, Tolerance,
};

use super::sums::sum;
use super::{OUTPUT_SHORT, TARGETS, require};
use crate::{CpuKernel, Kernel};

/// The score of a value against the window of those before it.
///
/// # Behavior
/// - **values**: The score is within 1e-3, absolute or relative, of the exact one.
/// - **state**: Output carries the window from call to call, laid out as the module says; equal calls leave equal
///   states, to the bit.
/// - **constants**: A window from 2 to 65,536 compiles; every other is `KernelBuild` with what it may be.
/// - **special-values**: An x that is not finite is refused and does not join the window. -0.0, denormals and the
///   largest numbers do; a score beyond f32, which takes `|x|` over 1e32, is an infinity.
pub const WINDOW_ZSCORE: KernelId = KernelId(15);

/// Elements of the state before the values: `count` and `next`.
const HEADER: usize = 2;

/// Elements of the state of a window of so many values: 66, or 264 bytes, for 64.
pub const fn state_elements(window: u32) -> u64 {
    HEADER as u64 + window as u64
}

pub(super) fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: WINDOW_ZSCORE,
        name: "window_zscore",
        summary: "answers how many standard deviations x lies from the last values in output, and adds it to them",
        elements: &[ElementType::F32],
        buffers: [BufferUse::None, BufferUse::None, BufferUse::ReadWrite],
        scalars: &["x"],
        constants: &["window"],
        in_place: false,
        stateful: true,
        placement: Placement::InRing,
        check,
        work: |shape| u64::from(shape.constants[0]),
        tolerance: Tolerance::Relative(1e-3),
        targets: TARGETS,
    };
    Kernel::from_compiler(declaration, compile)
}

fn check_window(window: u32) -> Result<(), &'static str> {
    require((2..=65_536).contains(&window), "window is not between 2 and 65536")
}

fn check(shape: &CallShape) -> Result<(), &'static str> {
    let ([window, _], [_, _, output]) = (shape.constants, shape.elements);
    check_window(window)?;
    require(state_elements(window) <= output, OUTPUT_SHORT)?;
    require(shape.scalars.f32(0).is_finite(), "x is not finite")
}

fn compile(spec: &KernelSpec) -> Result<CpuKernel, String> {
    let [window, _] = spec.constants;
    check_window(window).map_err(|why| format!("{why}: {window}"))?;
    let elements = state_elements(window) as usize;
    Ok(Arc::new(move |call, answer| {
        answer.push(window_zscore(call.output.first(elements).cells(), call.scalars.f32(0)));
    }))
}

fn window_zscore(state: &[Cell<u32>], x: f32) -> f32 {
    let (header, values) = state.split_at(HEADER);
    let [count, next] = [&header[0], &header[1]];
    // Both are in range but for a state that was overwritten.
    let held = (count.get() as usize).min(values.len());
    let at = if (next.get() as usize) < values.len() { next.get() as usize } else { 0 };
    let oldest = &values[if held == values.len() { at } else { 0 }];
    let score = if held < 2 { 0.0 } else { score(&values[..held], oldest, x) };
    values[at].set(x.to_bits());
    count.set((held + 1).min(values.len()) as u32);
    next.set(if at + 1 < values.len() { at + 1 } else { 0 } as u32);
    score
}

/// The score of `x` against at least two values, in any order, of which `oldest` is one.
#[inline]
fn score(values: &[Cell<u32>], oldest: &Cell<u32>, x: f32) -> f32 {
    let number = |bits| f64::from(f32::from_bits(bits));
    let origin = number(oldest.get());
    // Divided once, ahead of the sums: a division after each pass would only be waited for.
    let share = 1.0 / values.len() as f64;
    let mean = share * sum(values, |bits| number(bits) - origin);
    let variance = share
        * sum(values, |bits| {
            let distance = number(bits) - origin - mean;
            distance * distance
        });
    let deviation = variance.sqrt();
    if deviation <= 1e-6 * (origin + mean).abs().max(1.0) {
        return 0.0;
    }
    ((f64::from(x) - origin - mean) / deviation) as f32
}
