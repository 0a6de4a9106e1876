//! Calls a CPU twin over plain vectors, as a device would: check, compile, run.

use std::cell::Cell;
use std::sync::LazyLock;

use fastrand::Rng;
use gpubridge_abstractions::{CallShape, KernelSpec, PAYLOAD_WORDS, Scalars};
use gpubridge_kernels::{Answer, Element, Elements, Invocation, Kernel, KernelLibrary, library};

pub const INPUT: usize = 0;
pub const OPERAND: usize = 1;
pub const OUTPUT: usize = 2;

/// Sizes around the blocks of the twins and the loop bounds of devices.
pub const SIZES: [usize; 17] = [0, 1, 2, 3, 7, 8, 63, 64, 65, 255, 256, 257, 1_000, 65_535, 65_536, 65_537, 70_001];

/// What a buffer holds beyond what a kernel writes.
pub const CANARY: u32 = 0xfeed_beef;

/// The library, built once.
pub static LIBRARY: LazyLock<KernelLibrary> = LazyLock::new(library);

/// One call of one kernel.
#[derive(Clone, Debug)]
pub struct Call {
    kernel: Kernel,
    pub spec: KernelSpec,
    memory: Vec<Vec<Cell<u32>>>,
    /// For input, operand and output: which of `memory` it is.
    buffers: [Option<usize>; 3],
    count: u64,
    scalars: Scalars,
    scalars_given: usize,
}

impl Call {
    /// A call of a kernel of the library.
    pub fn new(spec: impl Into<KernelSpec>) -> Self {
        Self::of(&LIBRARY, spec)
    }

    pub fn of(library: &KernelLibrary, spec: impl Into<KernelSpec>) -> Self {
        let spec = spec.into();
        let kernel = library.find(spec.id).expect("registered").clone();
        let (memory, scalars) = (Vec::new(), Scalars::default());
        Self { kernel, spec, memory, buffers: [None; 3], count: 0, scalars, scalars_given: 0 }
    }

    pub fn buffer<T: Element>(mut self, which: usize, values: &[T]) -> Self {
        self.buffers[which] = Some(self.memory.len());
        self.memory.push(values.iter().map(|x| Cell::new(x.to_bits())).collect());
        self
    }

    pub fn input<T: Element>(self, values: &[T]) -> Self {
        self.buffer(INPUT, values)
    }

    pub fn operand<T: Element>(self, values: &[T]) -> Self {
        self.buffer(OPERAND, values)
    }

    /// An output of so many elements that hold anything.
    pub fn output(self, elements: usize) -> Self {
        self.buffer(OUTPUT, &vec![CANARY; elements])
    }

    /// Makes one buffer the same memory as another.
    pub fn same(mut self, which: usize, other: usize) -> Self {
        assert!(self.kernel.declaration.in_place, "declared");
        self.buffers[which] = self.buffers[other];
        self
    }

    pub fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// The next scalar.
    pub fn scalar<T: Element>(mut self, value: T) -> Self {
        self.scalars = self.scalars.with_bits(self.scalars_given, value.to_bits());
        self.scalars_given += 1;
        self
    }

    pub fn scalars(mut self, scalars: Scalars) -> Self {
        self.scalars = scalars;
        self
    }

    fn cells(&self, which: usize) -> &[Cell<u32>] {
        self.buffers[which].map_or(&[], |index| &self.memory[index])
    }

    /// The shape, with the count resolved as a device does.
    pub fn shape(&self) -> CallShape {
        let elements = [INPUT, OPERAND, OUTPUT].map(|which| self.cells(which).len() as u64);
        let whole = if self.buffers[INPUT].is_some() { elements[INPUT] } else { elements[OUTPUT] };
        let count = if self.count == 0 { whole } else { self.count };
        CallShape { elements, count, scalars: self.scalars, constants: self.spec.constants }
    }

    pub fn check(&self) -> Result<(), &'static str> {
        (self.kernel.declaration.check)(&self.shape())
    }

    /// Runs the call if its check passes. Only output may change.
    pub fn try_run(&self) -> Result<Reply, String> {
        let twin = self.kernel.cpu.as_ref().expect("a CPU variant")(&self.spec)?;
        self.check()?;
        let before = [self.bits(INPUT), self.bits(OPERAND)];
        let [input, operand, output] = [INPUT, OPERAND, OUTPUT].map(|which| Elements::new(self.cells(which)));
        let mut words = [0; PAYLOAD_WORDS];
        let mut answer = Answer::new(&mut words);
        let count = self.shape().count as usize;
        twin(&Invocation { input, operand, output, count, scalars: self.scalars }, &mut answer);
        let answer_bytes = usize::from(answer.len_bytes());
        for (which, before) in [INPUT, OPERAND].into_iter().zip(before) {
            if self.buffers[which].is_none() || self.buffers[which] != self.buffers[OUTPUT] {
                assert_eq!(self.bits(which), before, "buffer {which} is only read");
            }
        }
        Ok(Reply { output: self.bits(OUTPUT), answer: words, answer_bytes })
    }

    pub fn run(&self) -> Reply {
        self.try_run().unwrap_or_else(|why| panic!("{} refused: {why}", self.kernel.declaration.name))
    }

    pub fn bits(&self, which: usize) -> Vec<u32> {
        self.cells(which).iter().map(Cell::get).collect()
    }
}

/// What a call left behind.
pub struct Reply {
    pub output: Vec<u32>,
    answer: [u64; PAYLOAD_WORDS],
    answer_bytes: usize,
}

impl Reply {
    pub fn output<T: Element>(&self) -> Vec<T> {
        self.output.iter().copied().map(T::from_bits).collect()
    }

    /// The answer, which must have this many elements.
    pub fn answer<T: Element, const N: usize>(&self) -> [T; N] {
        assert_eq!(self.answer_bytes, 4 * N);
        std::array::from_fn(|at| T::from_bits((self.answer[at / 2] >> (at % 2 * 32)) as u32))
    }
}

/// Random numbers of one element type: of all magnitudes, without and with what floats have besides.
pub trait Random: Element {
    fn random(rng: &mut Rng) -> Self;
    fn special(rng: &mut Rng) -> Self;
}

impl Random for f32 {
    fn random(rng: &mut Rng) -> f32 {
        let magnitude = 10f32.powf(rng.f32() * 8.0 - 4.0);
        if rng.bool() { magnitude } else { -magnitude }
    }

    fn special(rng: &mut Rng) -> f32 {
        const SPECIAL: [f32; 12] = [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            -f32::NAN,
            1e-45,
            -1e-45,
            1e-39,
            f32::MIN_POSITIVE,
            f32::MAX,
            f32::MIN,
        ];
        if rng.bool() { Self::random(rng) } else { SPECIAL[rng.usize(..SPECIAL.len())] }
    }
}

impl Random for i32 {
    fn random(rng: &mut Rng) -> i32 {
        rng.i32(..) >> rng.u32(..32)
    }

    fn special(rng: &mut Rng) -> i32 {
        [Self::random(rng), i32::MIN, i32::MAX, 0, -1][rng.usize(..5)]
    }
}

impl Random for u32 {
    fn random(rng: &mut Rng) -> u32 {
        rng.u32(..) >> rng.u32(..32)
    }

    fn special(rng: &mut Rng) -> u32 {
        [Self::random(rng), u32::MAX, 1 << 31, 0, 1][rng.usize(..5)]
    }
}

pub fn random<T: Random>(rng: &mut Rng, elements: usize) -> Vec<T> {
    (0..elements).map(|_| T::random(rng)).collect()
}

pub fn special<T: Random>(rng: &mut Rng, elements: usize) -> Vec<T> {
    (0..elements).map(|_| T::special(rng)).collect()
}

/// Equal to the bit, any NaN for any NaN.
#[track_caller]
pub fn assert_same(got: &[f32], want: impl IntoIterator<Item = f32>) {
    let want: Vec<f32> = want.into_iter().collect();
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "at {at}: {got:e}, not {want:e}");
    }
}

/// A sum that was carried in f64 and rounded once: `terms` is the sum of the absolute values of its terms.
#[track_caller]
pub fn assert_rounded_once(got: f32, want: f64, terms: f64) {
    let bound = f64::from(f32::EPSILON) * want.abs() + 1e-11 * terms + 1e-45;
    assert!((f64::from(got) - want).abs() <= bound, "{got:e}, not {want:e} (± {bound:e})");
}
