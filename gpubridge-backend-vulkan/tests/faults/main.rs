//! Every call of the driver's that a short job makes fails, each time that it is made: nothing hangs, nothing is left alive,
//! and whoever waits is told.
//!
//! Without a Vulkan driver all is ignored with that reason; `GPUBRIDGE_REQUIRE=vulkan` turns it into a failure.
#![expect(unsafe_code, reason = "the functions in between are given to the backend")]

mod interposed;

use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use ash::vk;
use gpubridge_abstractions::{
    Backend, Bind, Command, Completion, Compute, DeviceIndex, DeviceSlot, Error, ErrorKind, KernelSpec, Lane,
    MemoryType, Opcode, RingConfig, Status, Taken,
};
use gpubridge_backend_vulkan::{VulkanBackend, VulkanConfig};
use gpubridge_kernels::{id, library};
use libtest_mimic::{Arguments, Trial};
use ringkernel_tests::REQUIRE_VARIABLE;

const SOON: Duration = Duration::from_secs(30);
/// A job that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(180);
/// A function that is called again and again while something is waited for fails so often.
const POLLED_MAX: u32 = 3;
const BYTES: u64 = 4096;

/// How a job ends that does not do its work.
#[derive(Debug)]
enum Failure {
    Refused(Error),
    Answered(Status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

fn backend(validates: bool) -> Option<VulkanBackend> {
    let mut config = VulkanConfig::default();
    (config.validates, config.batch_limit) = (validates, Duration::from_secs(5));
    // SAFETY: it is the system's loader, with functions in between that do as the driver's do, or fail as those may.
    interposed::loader().map(|loader| unsafe { VulkanBackend::new(library()).with_config(config).with_loader(loader) })
}

/// Answers of a lane, one command at a time.
struct Caller(Lane);

impl Caller {
    fn call(&mut self, command: &Command) -> Result<Completion, Failure> {
        let mut ticket =
            self.0.submitter.try_submit(command, &[]).map_err(|_| Failure::Answered(Status::DeviceLost))?;
        self.0.submitter.doorbell();
        let since = Instant::now();
        loop {
            match self.0.completions.take(&mut ticket, &mut []) {
                Taken::Ready(answer) if answer.status == Status::Ok => return Ok(answer),
                Taken::Ready(answer) => return Err(Failure::Answered(answer.status)),
                _ => assert!(since.elapsed() < DEADLINE, "no answer"),
            }
            thread::yield_now();
        }
    }
}

/// Fills a buffer with sevens and adds them up, in a list and by a grid.
fn job(backend: &VulkanBackend) -> Result<(), Failure> {
    let device = backend.open(DeviceIndex(0))?;
    let buffer = device.reserve(1 << 20, MemoryType::Default)?;
    device.compile(&KernelSpec::new(id::FILL), 0)?;
    device.compile(&KernelSpec::new(id::SUM), 1)?;
    let ring = device.launch(RingConfig { lanes: 1, slots: 16, staging_bytes: 64, allocations: 4 })?;
    ring.activate(SOON)?;
    let mut caller = Caller(ring.take_lane(0).expect("it is there"));
    for (index, size_bytes) in [(0, BYTES), (1, 1 << 20)] {
        let slot = DeviceSlot { index, generation: 1 };
        let bind = Bind { slot, address: buffer.address(), size_bytes, zero_bytes: size_bytes };
        caller.call(&Command::new(Opcode::Bind, 1, bind.to_payload()))?;
        let none = DeviceSlot::NONE;
        let scalars = [u64::from(7.0_f32.to_bits()), 0, 0];
        let fill = Compute { input: none, operand: none, output: slot, count: 0, scalars };
        let sum = Compute { input: slot, operand: none, output: none, count: 0, scalars: [0; 3] };
        for (kernel, call) in [(0, fill), (1, sum)] {
            let answer = caller.call(&Command { kernel, ..Command::new(Opcode::Compute, 1, call.to_payload()) })?;
            if kernel == 1 {
                let sum = f32::from_bits(answer.payload[0] as u32);
                assert_eq!(sum, 7.0 * (size_bytes / 4) as f32, "a wrong sum");
            }
        }
    }
    ring.terminate(SOON)?;
    Ok(())
}

/// Runs a job on a thread of its own, so that one that hangs is given up.
fn watched(backend: &VulkanBackend) -> Result<(), Failure> {
    let (done, finished) = channel();
    let backend = backend.clone();
    let thread = thread::spawn(move || {
        let outcome = job(&backend);
        drop(backend);
        done.send(outcome).expect("it is waited for");
    });
    let outcome = finished.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("it hangs or has panicked: {error}"));
    thread.join().expect("it has ended");
    outcome
}

/// What functions may fail with, the worst last.
fn results(function: &str) -> &'static [vk::Result] {
    match function {
        "vkQueueSubmit" => &[vk::Result::ERROR_OUT_OF_HOST_MEMORY, vk::Result::ERROR_DEVICE_LOST],
        "vkGetSemaphoreCounterValue" | "vkWaitSemaphores" => &[vk::Result::ERROR_DEVICE_LOST],
        "vkCreateDevice" => &[vk::Result::ERROR_INITIALIZATION_FAILED],
        _ => &[vk::Result::ERROR_OUT_OF_DEVICE_MEMORY],
    }
}

fn every_call_fails_in_turn() {
    let validates = |backend: &VulkanBackend| backend.devices().is_ok();
    // The layer says what was left alive.
    let validated = backend(true).filter(validates).is_some();
    let job_of = |fails| {
        let backend = backend(validated).expect("there is a loader");
        interposed::plan(fails);
        let outcome = watched(&backend);
        let calls = interposed::calls();
        interposed::plan(None);
        let messages = backend.validation_messages();
        assert!(messages.is_empty(), "{fails:?}: {messages:#?}");
        (outcome, calls)
    };
    let (outcome, calls) = job_of(None);
    outcome.expect("nothing fails");
    assert!(calls.len() >= 15, "{calls:?}");
    let mut failed = 0;
    for (&function, &count) in &calls {
        let is_polled = matches!(function, "vkGetSemaphoreCounterValue" | "vkWaitSemaphores");
        for number in 1..=if is_polled { count.min(POLLED_MAX) } else { count } {
            for &result in results(function) {
                let (outcome, made) = job_of(Some((function, number, result)));
                // What is polled may be called less often in another run.
                if made.get(function).is_none_or(|&made| made < number) && is_polled {
                    continue;
                }
                let told = match &outcome {
                    Err(Failure::Refused(error)) => error.kind() != ErrorKind::InvalidState,
                    Err(Failure::Answered(status)) => *status == Status::DeviceLost,
                    Ok(()) => false,
                };
                assert!(told, "{function}, call {number}, {result:?}: {outcome:?}");
                failed += 1;
            }
        }
    }
    assert!(failed >= 40, "{failed} calls failed");
}

fn main() -> ExitCode {
    let names = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
    let is_required = names.split(',').any(|name| name.trim() == "vulkan");
    let has_device = backend(false).is_some_and(|backend| backend.devices().is_ok());
    let ignored = !has_device && !is_required;
    let trial = Trial::test("every_call_fails_in_turn", || {
        every_call_fails_in_turn();
        Ok(())
    });
    let kind = if ignored { "needs a Vulkan device" } else { "" };
    libtest_mimic::run(&Arguments::from_args(), vec![trial.with_kind(kind).with_ignored_flag(ignored)]).exit_code()
}
