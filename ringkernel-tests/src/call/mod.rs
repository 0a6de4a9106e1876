//! One call of a kernel, what its CPU twin makes of it on the host, and whether what a device makes of it agrees: for the cases,
//! and for what compares backends beside them.

pub mod draw;
mod terms;

use std::cell::Cell;

use gpubridge_abstractions::{
    AllocationId, CallShape, ComputeMessage, Envelope, KernelSpec, PAYLOAD_WORDS, Parameters, Scalars,
};
use gpubridge_kernels::{Answer, Element, Elements, Invocation, Kernel, library};

use terms::{agrees, terms};

/// The index of a call's input among its buffers.
pub const INPUT: usize = 0;
/// That of its operand.
pub const OPERAND: usize = 1;
/// That of its output.
pub const OUTPUT: usize = 2;

/// What an output holds before a call.
pub const CANARY: u32 = 0xfeed_beef;

/// What a call names as one of its buffers.
#[derive(Clone, Debug)]
enum Buffer {
    Unnamed,
    Bits(Vec<u32>),
    /// The same memory as another one.
    Same(usize),
}

/// One call of one kernel of the library.
#[derive(Clone, Debug)]
pub struct Call {
    /// The kernel.
    pub spec: KernelSpec,
    buffers: [Buffer; 3],
    count: u32,
    scalars: Vec<u32>,
}

impl Call {
    /// A call that names no buffers yet, of all elements.
    pub fn new(spec: impl Into<KernelSpec>) -> Self {
        Self {
            spec: spec.into(),
            buffers: [const { Buffer::Unnamed }; 3],
            count: 0,
            scalars: Vec::with_capacity(Scalars::CAPACITY),
        }
    }

    /// The same with a buffer of these elements.
    #[must_use]
    pub fn buffer<T: Element>(mut self, which: usize, values: &[T]) -> Self {
        self.buffers[which] = Buffer::Bits(values.iter().map(|value| value.to_bits()).collect());
        self
    }

    /// The same with this input.
    #[must_use]
    pub fn input<T: Element>(self, values: &[T]) -> Self {
        self.buffer(INPUT, values)
    }

    /// The same with this operand.
    #[must_use]
    pub fn operand<T: Element>(self, values: &[T]) -> Self {
        self.buffer(OPERAND, values)
    }

    /// The same with an output of so many elements, which hold [`CANARY`].
    #[must_use]
    pub fn output(self, elements: usize) -> Self {
        self.buffer(OUTPUT, &vec![CANARY; elements])
    }

    /// The same with one buffer in the memory of another.
    #[must_use]
    pub fn same(mut self, which: usize, other: usize) -> Self {
        self.buffers[which] = Buffer::Same(other);
        self
    }

    /// The same without this buffer.
    #[must_use]
    pub fn without(mut self, which: usize) -> Self {
        self.buffers[which] = Buffer::Unnamed;
        self
    }

    /// The same on so many elements.
    ///
    /// # Panics
    /// With 2³² and more.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = u32::try_from(count).expect("a call's count is 32 bits");
        self
    }

    /// The same with one scalar more.
    #[must_use]
    pub fn scalar<T: Element>(mut self, value: T) -> Self {
        self.scalars.push(value.to_bits());
        self
    }

    /// Where the bits of a buffer lie; `None` if it is not named.
    pub fn home(&self, which: usize) -> Option<usize> {
        match self.buffers[which] {
            Buffer::Unnamed => None,
            Buffer::Bits(_) => Some(which),
            Buffer::Same(other) => self.home(other),
        }
    }

    /// The bits of a buffer's elements; none of one that is not named.
    pub fn bits(&self, which: usize) -> &[u32] {
        match self.home(which).map(|home| &self.buffers[home]) {
            Some(Buffer::Bits(bits)) => bits,
            _ => &[],
        }
    }

    fn scalars(&self) -> Scalars {
        (0..).zip(&self.scalars).fold(Scalars::default(), |scalars, (at, bits)| scalars.with_bits(at, *bits))
    }

    /// A buffer's elements as floats.
    pub fn floats(&self, which: usize) -> Vec<f32> {
        self.bits(which).iter().copied().map(f32::from_bits).collect()
    }

    /// What its check sees.
    pub fn shape(&self) -> CallShape {
        let elements = [INPUT, OPERAND, OUTPUT].map(|which| self.bits(which).len() as u64);
        let whole = if self.home(INPUT).is_some() { elements[INPUT] } else { elements[OUTPUT] };
        let count = if self.count == 0 { whole } else { u64::from(self.count) };
        CallShape { elements, count, scalars: self.scalars(), constants: self.spec.constants }
    }

    /// Asks for it, with its buffers placed in these allocations.
    pub fn message(&self, envelope: Envelope, placed: [Option<AllocationId>; 3]) -> ComputeMessage {
        let [input, operand, output] =
            [INPUT, OPERAND, OUTPUT].map(|which| self.home(which).and_then(|home| placed[home]));
        let parameters = Parameters::new().with_count(self.count);
        let mut parameters = self.scalars.iter().fold(parameters, |parameters, bits| parameters.with_u32(*bits));
        parameters.operand = operand;
        ComputeMessage { parameters, ..ComputeMessage::new(envelope, self.spec, input, output) }
    }

    /// What the CPU twin makes of it, on this thread.
    ///
    /// # Panics
    /// When the kernel's check refuses it.
    pub fn on_host(&self, kernel: &Kernel) -> Outcome {
        let twin = kernel.cpu.as_ref().expect("each has a twin")(&self.spec).expect("the twin compiles");
        let shape = self.shape();
        (kernel.declaration.check)(&shape).unwrap_or_else(|why| panic!("{self}: the check refuses it: {why}"));
        let memory: [Vec<Cell<u32>>; 3] = [INPUT, OPERAND, OUTPUT].map(|which| match &self.buffers[which] {
            Buffer::Bits(bits) => bits.iter().copied().map(Cell::new).collect(),
            Buffer::Unnamed | Buffer::Same(_) => Vec::new(),
        });
        let [input, operand, output] =
            [INPUT, OPERAND, OUTPUT].map(|which| Elements::new(self.home(which).map_or(&[], |home| &memory[home])));
        let mut words = [0; PAYLOAD_WORDS];
        let mut answer = Answer::new(&mut words);
        let invocation = Invocation { input, operand, output, count: shape.count as usize, scalars: shape.scalars };
        twin(&invocation, &mut answer);
        let len = usize::from(answer.len_bytes()) / 4;
        Outcome {
            buffers: memory.map(|cells| cells.iter().map(Cell::get).collect()),
            answer: (0..len).map(|at| (words[at / 2] >> (at % 2 * 32)) as u32).collect(),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [input, operand, output] = self.shape().elements;
        let Self { spec: KernelSpec { id, element, constants }, count, scalars, .. } = self;
        match library().find(*id) {
            Some(kernel) => write!(f, "`{}` in {element}", kernel.declaration.name)?,
            None => write!(f, "kernel {id} in {element}")?,
        }
        write!(f, " with {input}, {operand} and {output} elements, count {count}")?;
        write!(f, ", scalars {scalars:x?}, constants {constants:?}")
    }
}

/// What a call left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The buffers' elements; none where a buffer is unnamed or the same as another.
    pub buffers: [Vec<u32>; 3],
    /// The words of its answer.
    pub answer: Vec<u32>,
}

impl Outcome {
    /// Whether this twin's call left floats in a buffer that were computed, which another device may have rounded otherwise.
    pub fn is_rounded(&self, call: &Call) -> bool {
        self.answer.is_empty() && !terms(call, self).is_empty()
    }

    /// Where what a device left behind is not what this twin did, if anywhere: floats that were computed may differ within
    /// the kernel's tolerance, nothing else may.
    pub fn difference(&self, device: &Outcome, call: &Call, kernel: &Kernel) -> Option<String> {
        if self == device {
            return None;
        }
        let terms = terms(call, self);
        let answers = !self.answer.is_empty();
        let buffer = |name, which: usize| {
            let is_result = !answers && call.home(OUTPUT) == Some(which);
            (name, &self.buffers[which], &device.buffers[which], is_result)
        };
        let lists = [
            buffer("input", INPUT),
            buffer("operand", OPERAND),
            buffer("output", OUTPUT),
            ("answer", &self.answer, &device.answer, answers),
        ];
        for (what, want, got, is_result) in lists {
            if got.len() != want.len() {
                return Some(format!("the {what} has {} elements, its twin's {}", got.len(), want.len()));
            }
            for (at, (want, got)) in want.iter().zip(got).enumerate().filter(|(_, (want, got))| want != got) {
                let terms = terms.get(at).filter(|_| is_result);
                if !terms.is_some_and(|terms| agrees(*want, *got, terms, kernel.declaration.tolerance)) {
                    let [want_f32, got_f32] = [*want, *got].map(f32::from_bits);
                    return Some(format!(
                        "{what}[{at}] is {got:#010x} ({got_f32:e} as f32), its twin says {want:#010x} ({want_f32:e}); \
                         what enters it: {terms:?}"
                    ));
                }
            }
        }
        None
    }
}
