//! The backend's threads: how they are shared, that they park, and that they end.

use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use gpubridge_abstractions::{Backend, KernelDeclaration, Placement, RingConfig, Status, SubmitError, Taken};
use gpubridge_backend_cpu::{CpuBackend, CpuConfig};
use gpubridge_kernels::{Answer, Invocation, KernelLibrary};
use ringkernel_tests::Suite;
use ringkernel_tests::lane::{Bench, GRAIN, SMALL, call, echo};

use crate::device::open;
use crate::kernels::{compile_all, declaration, kernel, library};

/// Threads that park at once, that serve several lanes, or one each, keep what the suite asks of any ring.
#[test]
fn every_use_of_the_processor_keeps_the_rings_promises() {
    for (ring_threads, spin) in [(1, Duration::ZERO), (2, Duration::ZERO), (4, Duration::from_micros(100))] {
        let mut config = CpuConfig::default();
        (config.ring_threads, config.spin) = (ring_threads, spin);
        let backend = move |library: KernelLibrary| -> Arc<dyn Backend> {
            Arc::new(CpuBackend::new(library).with_config(config))
        };
        let areas = ["ring", "order", "answers", "lifecycle"];
        let report = Suite::new(backend(gpubridge_kernels::library()))
            .running_twins(backend)
            .run(|case| areas.contains(&case.area));
        assert!(
            report.is_success() && areas.iter().all(|area| report.areas()[area].passed > 0),
            "{config:?}\n{report}"
        );
    }
}

/// Answers of short commands are written together, but not behind a long one.
#[test]
fn a_short_command_is_answered_before_a_long_one_behind_it() {
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let long = KernelDeclaration { work: |_| 1 << 20, ..declaration(0, "long", Placement::InRing) };
    let waits = move |_: &Invocation<'_>, _: &mut Answer| {
        // A gate that is gone is open: a test that fails shall end.
        let _ = gate.lock().unwrap().recv();
    };
    let mut bench = Bench::new(open(library([kernel(long, waits)])), RingConfig { slots: 64, ..SMALL });
    compile_all(&*bench.device);
    for round in 0..200 {
        // Mostly both are there when the ring thread looks.
        let commands = [echo(GRAIN, round), call(0, GRAIN + 1, 0)];
        let mut tickets = Vec::new();
        bench.lane.0.submitter.try_submit_run(&commands, &mut tickets).unwrap();
        bench.lane.0.submitter.doorbell();
        let mut long = tickets.pop().unwrap();
        assert_eq!(bench.lane.wait(tickets.pop().unwrap()).payload, [round; 7]);
        assert_eq!(bench.lane.look(&mut long), Taken::Pending);
        open_gate.send(()).unwrap();
        assert_eq!(bench.lane.wait(long).status, Status::Ok);
    }
}

#[test]
fn dropping_a_ring_ends_its_threads() {
    for _ in 0..50 {
        let token = Arc::new(());
        let (kept, watched): (_, Weak<()>) = (Arc::clone(&token), Arc::downgrade(&token));
        drop(token);
        let holds = move |_: &Invocation<'_>, _: &mut Answer| {
            assert_eq!(Arc::strong_count(&kept), 1);
        };
        let bench = Bench::new(open(library([kernel(declaration(0, "holds", Placement::Beside), holds)])), SMALL);
        compile_all(&*bench.device);
        let Bench { device, ring, mut lane } = bench;
        assert_eq!(lane.status(&call(0, GRAIN, 0)), Status::Ok);
        let queued = lane.submit(&call(0, GRAIN, 1));
        drop(ring);
        assert!(matches!(lane.wait(queued).status, Status::Ok | Status::Cancelled));
        assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
        drop(device);
        // The ring's threads held the last references to the kernel.
        assert!(watched.upgrade().is_none(), "a thread of the ring is still there");
    }
}
