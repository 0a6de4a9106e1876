//! Kernels of a user's own that come into a running ring: what that takes, and how long the ring pauses for it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use gpubridge_abstractions::{
    BufferUse, Command, DeviceSlot, ElementType, Error, ErrorKind, KernelDeclaration, KernelId, KernelSpec, Opcode,
    PAYLOAD_WORDS, Placement, Status, Tolerance,
};
use gpubridge_backend_cuda::probe;
use gpubridge_kernels::cuda::{CudaCode, CudaKernel};
use gpubridge_kernels::{Kernel, library};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::lane::{Rig, compute};
use crate::{Done, tell};

/// In CUDA C++, and as `.ci/ptx` has compiled it.
const SOURCE: &str = include_str!("own.cu");
const PTX: &str = include_str!("own.ptx");
/// Its function in the PTX.
const FUNCTION: &str = "own_kernel";
const ID: KernelId = KernelId::FIRST_USER;
const GRAIN: u32 = 5;

fn kernel(from_source: bool) -> Kernel {
    let declaration = KernelDeclaration {
        id: ID,
        name: "own",
        summary: "counts its calls",
        elements: &[ElementType::U32],
        buffers: [BufferUse::None, BufferUse::None, BufferUse::ReadWrite],
        scalars: &[],
        constants: &["number"],
        in_place: false,
        stateful: true,
        placement: Placement::InRing,
        check: |_| Ok(()),
        work: |_| 1,
        tolerance: Tolerance::Exact,
        targets: &["cuda"],
    };
    let code = move |spec: &KernelSpec| {
        if from_source {
            return Ok(CudaCode::Source(SOURCE.into()));
        }
        // One after another, each of another name.
        let function = format!("{FUNCTION}_{}", spec.constants[0]);
        Ok(CudaCode::Ptx { text: PTX.replace(FUNCTION, &function).into(), function: function.into() })
    };
    Kernel::from_cuda(declaration, CudaKernel::from_compiler(code))
}

/// Adds so many, from PTX, and from source where there is a compiler.
pub fn run(count: u64) -> Done {
    let mut right = true;
    for (from, from_source) in [("PTX", false), ("source", true)] {
        match add(count, from, from_source) {
            Ok(done) => right &= done,
            Err(error) => {
                tell(&json!({"step": "kernels", "from": from, "not added": error.to_string()}));
                // Without a compiler there is nothing to measure.
                right &= from_source && error.kind() == ErrorKind::Unsupported;
            }
        }
    }
    Ok(right)
}

/// Compiles the kernel for a device of this compute capability, without one; `[MAJOR.MINOR, FILE]`.
pub fn compile(words: &[String]) -> Done {
    let [capability, file] = words else { return Err("a compute capability and a file are needed".into()) };
    let (major, minor) = capability.split_once('.').ok_or("a compute capability is MAJOR.MINOR")?;
    let spec = KernelSpec::new(ID).of(ElementType::U32);
    fs::write(file, probe::compile("own", SOURCE, (major.parse()?, minor.parse()?), &spec, FUNCTION)?)?;
    Ok(true)
}

fn add(count: u64, from: &str, from_source: bool) -> Result<bool, Error> {
    let mut kernels = library();
    kernels.register(kernel(from_source))?;
    let rig = Rig::with_library(2, kernels, &[])?;
    let (mut lane, mut other) = (rig.lane(0), rig.lane(1));
    let state = rig.bound(&mut lane, 0, GRAIN, 64)?;
    let (stop, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    // Up to a minute.
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
    let (mut takes, mut pauses) = (histogram(), histogram());
    let mut right = true;
    let (done, echoes) = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut echoes = 0;
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let echo = Command::new(Opcode::Echo, 1, [echoes; PAYLOAD_WORDS]);
                if other.call(&echo, &[], &mut []).payload != echo.payload {
                    return None;
                }
                longest.fetch_max(last.elapsed().as_nanos() as u64, Ordering::Relaxed);
                last = Instant::now();
                echoes += 1;
            }
            Some(echoes)
        });
        let mut add = || -> Result<(), Error> {
            for number in 0..count as u32 {
                longest.store(0, Ordering::Relaxed);
                let since = Instant::now();
                rig.device.compile(&KernelSpec::new(ID).of(ElementType::U32).with_constants([number, 0]), 0)?;
                let took = since.elapsed();
                takes.saturating_record(took.as_nanos() as u64);
                // At once: whatever cuts the step short leaves what was measured.
                tell(
                    &json!({"step": "kernels", "from": from, "number": number, "milliseconds": took.as_secs_f64() * 1e3}),
                );
                let answer = lane.call(&compute(0, GRAIN, DeviceSlot::NONE, state.slot, 0, 0.0), &[], &mut []);
                let constant = if from_source { number } else { 0 };
                right &= answer.status == Status::Ok
                    && answer.payload[0] == u64::from(number + 1) | u64::from(constant) << 32;
                pauses.saturating_record(longest.load(Ordering::Relaxed));
            }
            Ok(())
        };
        let done = add();
        stop.store(true, Ordering::Relaxed);
        (done, busy.join().expect("the other lane's thread ends"))
    });
    done?;
    let milliseconds = |histogram: &Histogram<u64>| {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        json!({"p50": at(0.5), "p99": at(0.99), "max": histogram.max() as f64 / 1e6})
    };
    tell(&json!({
        "step": "kernels", "from": from, "added": count, "milliseconds": milliseconds(&takes),
        "longest time between two answers, ms": milliseconds(&pauses), "echoes_meanwhile": echoes,
    }));
    Ok(right && echoes.is_some())
}
