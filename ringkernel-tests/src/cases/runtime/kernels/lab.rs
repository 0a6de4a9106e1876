//! Calls on the device under test, held against the CPU twins on the host.

use gpubridge_abstractions::{AllocationId, Error, KernelSpec, RingConfig, Status};
use gpubridge_kernels::{Kernel, KernelLibrary, library};
use gpubridge_runtime::{ResidentMemoryConfig, SessionId};

use crate::Context;
use crate::call::{Call, INPUT, OPERAND, OUTPUT, Outcome};
use crate::rig::{MIB, Rig, config};

/// Bytes of every buffer behind its last whole element: no kernel may touch them. They also make a buffer of no
/// elements an allocation that can be had.
const TAIL: [u8; 3] = [0xa5, 0x5a, 0xc3];

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
        let answer =
            self.rig.memory.compute(self.session, &call.message(self.rig.memory.envelope(), placed)).or_error().wait();
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
        let difference = call.on_host(kernel).difference(&self.on_device(call), call, kernel);
        assert!(difference.is_none(), "{call}: {}", difference.unwrap_or_default());
    }

    /// Requires that the call is refused and changes nothing. Returns the status of the response and the error that
    /// says what was wrong.
    #[track_caller]
    pub fn refused(&self, call: &Call) -> (Option<Status>, Error) {
        let placed = self.place(call);
        let message = call.message(self.rig.memory.envelope(), placed);
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
