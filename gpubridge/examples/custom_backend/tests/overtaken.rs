//! Calls that change a ring's phase at once.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use custom_backend::CustomBackend;
use gpubridge_abstractions::{
    Backend, BufferUse, DeviceIndex, ErrorKind, KernelDeclaration, KernelId, KernelSpec, Placement,
};
use gpubridge_kernels::{Answer, CpuKernel, Invocation, Kernel, library};
use ringkernel_tests::lane::{Bench, GRAIN, SMALL, call, echo};

/// A bound against hanging, no measure of anything.
const SOON: Duration = Duration::from_secs(60);

/// Goal: whoever is overtaken is told so, and not that the ring is terminated. Method: a deactivation that waits for a kernel
/// beside the ring, and activations until it returns.
#[test]
fn a_deactivation_that_is_taken_back_says_so() {
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let mut library = library();
    let declaration = KernelDeclaration {
        id: KernelId(1024),
        name: "gated",
        buffers: [BufferUse::None; 3],
        placement: Placement::Beside,
        check: |_| Ok(()),
        ..library.kernels()[0].declaration.clone()
    };
    let spec = KernelSpec::new(declaration.id).of(declaration.elements[0]);
    let gated = Kernel::from_compiler(declaration, move |_| {
        let gate = Arc::clone(&gate);
        let run = move |_: &Invocation<'_>, _: &mut Answer| {
            let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
        };
        Ok(Arc::new(run) as CpuKernel)
    });
    library.register(gated).expect("its id is free");
    let device = CustomBackend::new(library).open(DeviceIndex(0)).expect("there is a device");
    let mut bench = Bench::with_kernels(device, SMALL, &[spec]);
    let slow = bench.lane.submit(&call(0, GRAIN, 0));
    // It is answered when the device has read the one before.
    bench.lane.run(&echo(GRAIN + 1, 0));
    let error = thread::scope(|scope| {
        let deactivation = scope.spawn(|| bench.ring.deactivate(SOON));
        while !deactivation.is_finished() {
            bench.ring.activate(SOON).expect("the ring follows");
        }
        deactivation.join().expect("it does not panic").expect_err("the kernel is at work")
    });
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error}");
    assert!(error.message().contains("took this one back"), "{error}");
    drop(open);
    bench.lane.wait(slow);
}
