//! The fault drill: a kernel of a user's own writes where no memory is, which loses the device. Every call that is pending then is
//! to be answered, every later one refused, and the process is to end.

use std::time::Instant;

use gpubridge_abstractions::{
    BufferUse, Command, Compute, DeviceSlot, ElementType, Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec,
    MemoryType, Opcode, PAYLOAD_WORDS, Placement, Status, Tolerance,
};
use gpubridge_kernels::cuda::CudaKernel;
use gpubridge_kernels::{Kernel, library};
use serde_json::json;

use crate::lane::{DEADLINE, Rig};
use crate::{Done, tell};

/// As `.ci/ptx` has compiled it.
const PTX: &str = include_str!("astray.ptx");
const FUNCTION: &str = "astray_kernel";
const ID: KernelId = KernelId::FIRST_USER;
/// No memory of the device's lies in the first page.
const NOWHERE: u64 = 0x1000;
/// Calls of other grains that are pending meanwhile.
const PENDING: u64 = 64;

fn kernel() -> Kernel {
    let declaration = KernelDeclaration {
        id: ID,
        name: "astray",
        summary: "writes where its caller says",
        elements: &[ElementType::U32],
        buffers: [BufferUse::None; 3],
        scalars: &["address"],
        constants: &[],
        in_place: false,
        stateful: false,
        placement: Placement::InRing,
        check: |_| Ok(()),
        work: |_| 1,
        tolerance: Tolerance::Exact,
        targets: &["cuda"],
    };
    Kernel::from_cuda(declaration, CudaKernel::from_ptx(PTX, FUNCTION))
}

pub fn run() -> Done {
    let mut kernels = library();
    kernels.register(kernel())?;
    let rig = Rig::with_library(2, kernels, &[KernelSpec::new(ID).of(ElementType::U32)])?;
    let (mut lane, mut other) = (rig.lane(0), rig.lane(1));
    let echo = |number: u64| Command::new(Opcode::Echo, 100 + number as u32, [number; PAYLOAD_WORDS]);
    let mut right = lane.call(&echo(1), &[], &mut []).payload == [1; PAYLOAD_WORDS];
    let none = DeviceSlot::NONE;
    let call = Compute { input: none, operand: none, output: none, count: 1, scalars: [NOWHERE, 0, 0] };
    let since = Instant::now();
    let mut astray = lane.submit(&Command::new(Opcode::Compute, 1, call.to_payload()), &[]);
    let pending: Vec<_> = (0..PENDING).map(|number| other.lane.submitter.try_submit(&echo(number), &[])).collect();
    let status = lane.wait(&mut astray, &mut []).status;
    let lost_after = since.elapsed();
    right &= status == Status::DeviceLost;
    let mut answered = [0; 2];
    for (number, ticket) in (0..).zip(pending) {
        // Submissions may be refused already.
        let Ok(mut ticket) = ticket else { continue };
        let answer = other.wait(&mut ticket, &mut []);
        right &= answer.status == Status::DeviceLost || answer.payload == [number; PAYLOAD_WORDS];
        answered[usize::from(answer.status == Status::DeviceLost)] += 1;
    }
    let refused = [
        ("activating", rig.ring.activate(DEADLINE).err()),
        ("reserving", rig.device.reserve(1, MemoryType::Default).err()),
        ("opening again", Rig::new(1, &[]).err()),
    ];
    right &= refused.iter().all(|(_, error)| error.as_ref().is_some_and(|error| error.kind() == ErrorKind::DeviceLost));
    let texts = refused.map(|(what, error)| (what, error.as_ref().map_or("done".into(), Error::to_string)));
    tell(&json!({
        "step": "drill", "answered as": status.to_string(), "after ms": lost_after.as_secs_f64() * 1e3,
        "pending": {"executed": answered[0], "lost": answered[1]},
        "refused": texts.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }));
    Ok(right)
}
