//! One call of a kernel, on the device under test and by its CPU twin on the host.

use std::cell::Cell;

use gpubridge_abstractions::{
    AllocationId, CallShape, ComputeMessage, Error, KernelSpec, PAYLOAD_WORDS, Parameters, RingConfig, Scalars, Status,
};
use gpubridge_kernels::{Answer, Element, Elements, Invocation, Kernel, KernelLibrary, library};
use gpubridge_runtime::{ResidentMemoryConfig, SessionId};

use super::terms::{agrees, terms};
use crate::Context;
use crate::rig::{MIB, Rig, config};

pub const INPUT: usize = 0;
pub const OPERAND: usize = 1;
pub const OUTPUT: usize = 2;

/// What an output holds before a call.
pub const CANARY: u32 = 0xfeed_beef;

/// Bytes of every buffer behind its last whole element: no kernel may touch them. They also make a buffer of no
/// elements an allocation that can be had.
const TAIL: [u8; 3] = [0xa5, 0x5a, 0xc3];

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
    pub spec: KernelSpec,
    buffers: [Buffer; 3],
    count: u32,
    scalars: Vec<u32>,
}

impl Call {
    pub fn new(spec: impl Into<KernelSpec>) -> Self {
        Self {
            spec: spec.into(),
            buffers: [const { Buffer::Unnamed }; 3],
            count: 0,
            scalars: Vec::with_capacity(Scalars::CAPACITY),
        }
    }

    pub fn buffer<T: Element>(mut self, which: usize, values: &[T]) -> Self {
        self.buffers[which] = Buffer::Bits(values.iter().map(|value| value.to_bits()).collect());
        self
    }

    pub fn input<T: Element>(self, values: &[T]) -> Self {
        self.buffer(INPUT, values)
    }

    pub fn operand<T: Element>(self, values: &[T]) -> Self {
        self.buffer(OPERAND, values)
    }

    /// An output of so many elements, which hold [`CANARY`].
    pub fn output(self, elements: usize) -> Self {
        self.buffer(OUTPUT, &vec![CANARY; elements])
    }

    /// Makes one buffer the same memory as another.
    pub fn same(mut self, which: usize, other: usize) -> Self {
        self.buffers[which] = Buffer::Same(other);
        self
    }

    /// Names no such buffer.
    pub fn without(mut self, which: usize) -> Self {
        self.buffers[which] = Buffer::Unnamed;
        self
    }

    pub fn count(mut self, count: usize) -> Self {
        self.count = u32::try_from(count).expect("a call's count is 32 bits");
        self
    }

    /// The next scalar.
    pub fn scalar<T: Element>(mut self, value: T) -> Self {
        self.scalars.push(value.to_bits());
        self
    }

    /// Where the bits of a buffer lie; `None` if it is not named.
    fn home(&self, which: usize) -> Option<usize> {
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
    pub answer: Vec<u32>,
}

/// A session on the device under test, and the library's twins.
pub struct Lab {
    pub rig: Rig,
    pub session: SessionId,
    library: KernelLibrary,
}

impl Lab {
    pub fn new(context: &Context) -> Self {
        let ring = RingConfig { lanes: 1, slots: 16, staging_bytes: 64 << 10, allocations: 64 };
        let config = ResidentMemoryConfig { ring, memory_budget_bytes: 64 * MIB, ..config() };
        let rig = Rig::new(context.device(), config);
        let session = rig.session(0);
        Self { rig, session, library: library() }
    }

    /// A kernel of the library.
    pub fn kernel(&self, spec: KernelSpec) -> &Kernel {
        self.library.find(spec.id).expect("the kernel is the library's")
    }

    pub fn kernels(&self) -> &[Kernel] {
        self.library.kernels()
    }

    /// Puts the buffers of a call into device memory.
    fn place(&self, call: &Call) -> [Option<AllocationId>; 3] {
        let mut placed = [None; 3];
        for which in [INPUT, OPERAND, OUTPUT].into_iter().filter(|which| call.home(*which) == Some(*which)) {
            let mut bytes = bytemuck::cast_slice(call.bits(which)).to_vec();
            bytes.extend(TAIL);
            let id = self.rig.allocate(self.session, bytes.len() as u64);
            self.rig.write(self.session, id, &bytes);
            placed[which] = Some(id);
        }
        placed
    }

    fn message(&self, call: &Call, placed: [Option<AllocationId>; 3]) -> ComputeMessage {
        let [input, operand, output] =
            [INPUT, OPERAND, OUTPUT].map(|which| call.home(which).and_then(|home| placed[home]));
        let parameters = Parameters::new().with_count(call.count);
        let mut parameters = call.scalars.iter().fold(parameters, |parameters, bits| parameters.with_u32(*bits));
        parameters.operand = operand;
        ComputeMessage { parameters, ..ComputeMessage::new(self.rig.memory.envelope(), call.spec, input, output) }
    }

    /// Reads the buffers back and gives their memory away.
    fn collect(&self, call: &Call, placed: [Option<AllocationId>; 3]) -> [Vec<u32>; 3] {
        [INPUT, OPERAND, OUTPUT].map(|which| {
            let Some(id) = placed[which] else { return Vec::new() };
            let len = call.bits(which).len() * 4;
            let bytes = self.rig.read(self.session, id, len + TAIL.len());
            self.rig.release(self.session, id);
            let (elements, tail) = bytes.split_at(len);
            assert_eq!(tail, TAIL, "{call}: bytes behind the elements of buffer {which} were touched");
            let (words, _) = elements.as_chunks::<4>();
            words.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect()
        })
    }

    /// Runs the call on the device, where it must succeed.
    pub fn on_device(&self, call: &Call) -> Outcome {
        let placed = self.place(call);
        let answer = self.rig.memory.compute(self.session, &self.message(call, placed)).or_error().wait();
        let response = answer.unwrap_or_else(|error| panic!("{call}: refused: {error}"));
        assert!(response.success && response.error.is_none(), "{call}: {response:?}");
        let len = response.result.len_bytes();
        assert!(len.is_multiple_of(4), "{call}: an answer of {len} bytes");
        let answer = (0..len / 4).map(|at| response.result.u32_at(at * 4).expect("it lies within")).collect();
        Outcome { buffers: self.collect(call, placed), answer }
    }

    /// Requires that device and twin leave the same behind: floats that were computed within the kernel's tolerance,
    /// everything else to the bit.
    #[track_caller]
    pub fn agree(&self, call: &Call) {
        let kernel = self.kernel(call.spec);
        let (want, got) = (call.on_host(kernel), self.on_device(call));
        if want == got {
            return;
        }
        let terms = terms(call, &want);
        let answers = !want.answer.is_empty();
        let buffer = |name, which: usize| {
            let is_result = !answers && call.home(OUTPUT) == Some(which);
            (name, &want.buffers[which], &got.buffers[which], is_result)
        };
        let lists = [
            buffer("input", INPUT),
            buffer("operand", OPERAND),
            buffer("output", OUTPUT),
            ("answer", &want.answer, &got.answer, answers),
        ];
        for (what, want, got, is_result) in lists {
            assert_eq!(got.len(), want.len(), "{call}: elements of the {what}");
            for (at, (want, got)) in want.iter().zip(got).enumerate().filter(|(_, (want, got))| want != got) {
                let terms = terms.get(at).filter(|_| is_result);
                let agrees = terms.is_some_and(|terms| agrees(*want, *got, terms, kernel.declaration.tolerance));
                let [want_f32, got_f32] = [*want, *got].map(f32::from_bits);
                assert!(
                    agrees,
                    "{call}: {what}[{at}] is {got:#010x} ({got_f32:e} as f32), its twin says {want:#010x} ({want_f32:e}); \
                     what enters it: {terms:?}"
                );
            }
        }
    }

    /// Requires that the call is refused and changes nothing. Returns the status of the response and the error that
    /// says what was wrong.
    #[track_caller]
    pub fn refused(&self, call: &Call) -> (Option<Status>, Error) {
        let placed = self.place(call);
        let message = self.message(call, placed);
        let response = self.rig.memory.compute(self.session, &message).wait();
        let status = response.ok().and_then(|response| {
            assert!(!response.success && response.result.len_bytes() == 0, "{call}: {response:?}");
            response.error
        });
        let refused = self.rig.memory.compute(self.session, &message).or_error().wait();
        let Err(error) = refused else { panic!("{call}: is not refused") };
        let left = self.collect(call, placed);
        for which in [INPUT, OPERAND, OUTPUT].into_iter().filter(|which| placed[*which].is_some()) {
            assert!(left[which] == call.bits(which), "{call}: was refused and changed buffer {which}");
        }
        (status, error)
    }
}
