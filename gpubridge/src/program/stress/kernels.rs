//! Every kernel of the library in turn, in each of its element types, over and over; each answer and each element written
//! is compared with a model on the host.

use bytemuck::cast_slice;
use fastrand::Rng;
use gpubridge::kernels::{KernelLibrary, library};
use gpubridge::{
    ElementType, Error, GpuMemoryHandle, InlineResult, KernelDeclaration, KernelSpec, Parameters, Tolerance,
};

use super::super::reference::Reference;
use super::counted::Counted;
use super::models::{Exact, Model, Value, model_of, windows_of};
use super::{Drive, Driven};

/// Most elements of a buffer: one call in 64 works on more than 65,535, beside the ring.
pub const ELEMENTS: usize = 70_000;
const FEW_ELEMENTS: usize = 300;
const BESIDE_ONE_IN: u32 = 64;
/// Elements behind those that a kernel writes, and what must still be in them afterwards.
const GUARD: usize = 8;
const CANARY: u32 = 0xfeed_beef;

/// The buffers of a call.
pub const INPUT: usize = 0;
/// The second input.
pub const OPERAND: usize = 1;
/// What a kernel writes.
pub const OUTPUT: usize = 2;

/// One specialization and its model.
#[derive(Debug)]
struct Case {
    declaration: KernelDeclaration,
    spec: KernelSpec,
    model: Model,
    /// The kernel's state from call to call, if it has one.
    state: Option<State>,
}

/// A window that a kernel keeps in an allocation, and the same one on the host.
#[derive(Debug)]
pub struct State {
    /// The allocation.
    pub handle: GpuMemoryHandle,
    /// The model.
    pub reference: Reference,
}

/// What a model works with: one grain, its three buffers, and the call of the moment.
pub struct Bench {
    /// Everything random.
    pub random: Rng,
    calls: Counted,
    handles: [GpuMemoryHandle; 3],
    words: Vec<u32>,
    spec: KernelSpec,
    name: &'static str,
    tolerance: f64,
}

/// One operation is one call of a kernel, checked.
pub fn run(drive: &Drive<'_>) -> Result<Driven, Error> {
    let Drive { stage, monitor, seed } = drive;
    let mut calls = Counted::new(stage.silo.grain("kernels")?);
    let bytes = (ELEMENTS + GUARD) as u64 * 4;
    let handles = [calls.allocate(bytes)?, calls.allocate(bytes)?, calls.allocate(bytes)?];
    let library = library();
    let mut cases = cases(&library, &mut calls)?;
    let mut bench = Bench {
        random: Rng::with_seed(*seed),
        calls,
        handles,
        words: Vec::with_capacity(ELEMENTS + GUARD),
        spec: cases[0].spec,
        name: "",
        tolerance: 0.0,
    };
    let mut done = 0;
    while monitor.begin() {
        let place = done % cases.len();
        bench.run(&mut cases[place])?;
        done += 1;
        monitor.end();
    }
    let kernels = done.min(cases.len()) as u64;
    let mut driven = Driven { calls: vec![bench.calls], kernels, ..Driven::default() };
    driven.figure_count("kernels", library.kernels().len() as u64);
    driven.figure_count("specializations", cases.len() as u64);
    driven.figure_count("calls_of_each", (done / cases.len()) as u64);
    Ok(driven)
}

/// All specializations of all kernels. A kernel without a model is a fault that is named.
fn cases(library: &KernelLibrary, calls: &mut Counted) -> Result<Vec<Case>, Error> {
    let mut cases = Vec::new();
    for kernel in library.kernels() {
        let declaration = &kernel.declaration;
        for element in declaration.elements {
            let spec = KernelSpec::new(declaration.id).of(*element);
            let model = model_of(spec);
            calls.seen.answer(model.is_some(), || format!("kernel {} has no model for {element}", declaration.name));
            let Some(model) = model else { continue };
            let case = |spec, state| Case { declaration: declaration.clone(), spec, model, state };
            if !declaration.stateful {
                cases.push(case(spec, None));
            }
            for (window, elements) in windows_of(spec.id) {
                let state = State { handle: calls.allocate(elements * 4)?, reference: Reference::new(window) };
                cases.push(case(spec.with_constants([window, 0]), Some(state)));
            }
        }
    }
    Ok(cases)
}

impl Bench {
    fn run(&mut self, case: &mut Case) -> Result<(), Error> {
        self.spec = case.spec;
        self.name = case.declaration.name;
        self.tolerance = match case.declaration.tolerance {
            Tolerance::Exact => 0.0,
            Tolerance::Relative(part) => f64::from(part),
        };
        (case.model)(self, case.state.as_mut())
    }

    /// How many elements the call of the moment works on.
    pub fn count(&mut self) -> usize {
        let beside = self.random.u32(..BESIDE_ONE_IN) == 0;
        if beside { self.random.usize(65_530..=ELEMENTS) } else { self.random.usize(1..=FEW_ELEMENTS) }
    }

    /// Fills a buffer with so many random values; what they are.
    pub fn draw<T: Value>(&mut self, buffer: usize, count: usize) -> Result<Vec<i64>, Error> {
        let values: Vec<T> = (0..count).map(|_| T::draw(&mut self.random)).collect();
        self.words.clear();
        self.words.extend(values.iter().map(|value| value.to_bits()));
        self.calls.write(self.handles[buffer], 0, &self.words)?;
        Ok(values.into_iter().map(T::whole).collect())
    }

    /// Runs the kernel of the moment over those of the three buffers that it uses.
    pub fn call(&mut self, uses: [bool; 3], parameters: Parameters) -> Result<InlineResult, Error> {
        let [input, operand, output] =
            [INPUT, OPERAND, OUTPUT].map(|buffer| uses[buffer].then(|| self.handles[buffer]));
        let parameters = operand.map_or(parameters, |handle| parameters.with_operand(handle.id));
        self.calls.compute(self.spec, input, output, parameters)
    }

    /// Runs the kernel of the moment over its state.
    pub fn call_on(&mut self, state: GpuMemoryHandle, parameters: Parameters) -> Result<InlineResult, Error> {
        self.calls.compute(self.spec, None, Some(state), parameters)
    }

    /// Puts a guard behind the first `count` elements of the output.
    pub fn guard(&mut self, count: usize) -> Result<(), Error> {
        self.calls.write(self.handles[OUTPUT], count, &[CANARY; GUARD])
    }

    /// Reads what the call has written: `count` elements. The guard behind them must be untouched.
    pub fn written(&mut self, count: usize) -> Result<Vec<u32>, Error> {
        let mut words = vec![0; count + GUARD];
        self.calls.read(self.handles[OUTPUT], 0, &mut words)?;
        let guard = words.split_off(count);
        let (seen, name) = (&mut self.calls.seen, self.name);
        seen.bytes(cast_slice(&guard), cast_slice(&[CANARY; GUARD]), || format!("behind the output of {name}"));
        Ok(words)
    }

    /// Compares elements with what they must be.
    pub fn expect<T: Value>(&mut self, found: &[u32], expected: &[Exact]) {
        let differs = |(bits, exact): (&u32, &Exact)| !is_close::<T>(*bits, *exact, self.tolerance);
        let fault = found.iter().zip(expected).position(differs);
        let fault = if found.len() == expected.len() { fault } else { Some(found.len().min(expected.len())) };
        let Self { spec, name, .. } = self;
        self.calls.seen.bytes += expected.len() as u64 * 4;
        self.calls.seen.answer(fault.is_none(), || {
            let at = fault.unwrap_or_default();
            let found = found.get(at).map(|bits| T::from_bits(*bits));
            let exact = expected.get(at).map(|exact| exact.value);
            format!("{name} of {}, element {at} of {}: {found:?} for {exact:?}", spec.element, expected.len())
        });
    }

    /// Compares the answer of a call, which must have as many elements as are expected.
    pub fn expect_answer<T: Value>(&mut self, answer: &InlineResult, expected: &[Exact]) {
        let found: Vec<u32> = (0..answer.len_bytes() / 4).filter_map(|at| answer.u32_at(at * 4)).collect();
        self.expect::<T>(&found, expected);
    }

    /// Takes a judgement of the model's own; `what` says what was found and what was expected.
    pub fn judge(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        let name = self.name;
        self.calls.seen.answer(is_right, || format!("{name}: {}", what()));
    }

    /// How far the kernel of the moment may be off, as a part of what enters a result.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

/// Integers wrap and are equal to the bit; floats may be off as the kernel declares, and by one rounding of the result.
fn is_close<T: Value>(bits: u32, exact: Exact, tolerance: f64) -> bool {
    if T::TYPE != ElementType::F32 {
        return bits == T::of(exact.value).to_bits();
    }
    let value = exact.value as f64;
    let allowed = tolerance * exact.terms as f64 + f64::from(f32::EPSILON) * value.abs();
    (f64::from(f32::from_bits(bits)) - value).abs() <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_the_library_has_a_model_in_every_type() {
        for kernel in library().kernels() {
            for element in kernel.declaration.elements {
                let spec = KernelSpec::new(kernel.declaration.id).of(*element);
                assert!(model_of(spec).is_some(), "{} for {element}", kernel.declaration.name);
                assert_eq!(kernel.declaration.stateful, windows_of(spec.id).next().is_some());
            }
        }
    }

    #[test]
    fn integers_are_equal_to_the_bit_and_floats_within_their_tolerance() {
        let exact = |value, terms| Exact { value, terms };
        assert!(is_close::<u32>(u32::MAX, exact(-1, 0), 0.1) && !is_close::<u32>(8, exact(7, 1000), 0.1));
        let close = |found: f32, tolerance| is_close::<f32>(found.to_bits(), exact(1000, 5000), tolerance);
        assert!(close(1000.0, 0.0) && close(1000.04, 1e-5) && !close(1000.06, 1e-5));
        assert!(!close(1001.0, 0.0) && !close(f32::NAN, 1.0));
        assert!(is_close::<f32>((-0.0_f32).to_bits(), exact(0, 0), 0.0));
    }
}
