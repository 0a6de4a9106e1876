//! A ring without threads: everything happens within its callers' calls, on their threads.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{ErrorKind, Placement, Status, SubmitError, Taken, Ticket};
use gpubridge_backend_cpu::CpuConfig;
use gpubridge_kernels::Kernel;
use ringkernel_tests::lane::{Bench, Driver, GRAIN, SMALL, call, echo};

use crate::device::open_with;
use crate::kernels::{Journal, compile_all, declaration, kernel, library, noted};

/// How long what must happen is waited for.
const HANG: Duration = Duration::from_secs(60);

fn inactive(kernels: impl IntoIterator<Item = Kernel>) -> Bench {
    let mut config = CpuConfig::default();
    config.served_by_callers = true;
    let bench = Bench::inactive(open_with(library(kernels), config), SMALL);
    compile_all(&*bench.device);
    bench
}

fn active(kernels: impl IntoIterator<Item = Kernel>) -> Bench {
    let bench = inactive(kernels);
    bench.ring.activate(HANG).unwrap();
    bench
}

/// The status of the answer, which is there already or is none.
fn answered(lane: &Driver, mut ticket: Ticket) -> Option<Status> {
    match lane.look(&mut ticket) {
        Taken::Ready(completion) => Some(completion.status),
        _ => None,
    }
}

#[test]
fn the_answer_is_there_when_the_doorbell_returns() {
    let journal = Journal::default();
    let kernels = [("in_ring", Placement::InRing), ("beside", Placement::Beside)].into_iter().zip(0..);
    let mut bench = active(kernels.map(|((name, placement), number)| noted(number, name, placement, &journal)));
    for number in 0..100 {
        for kernel in [0, 1] {
            let ticket = bench.lane.submit(&call(kernel, GRAIN, number));
            assert_eq!(answered(&bench.lane, ticket), Some(Status::Ok), "call {number} of kernel {kernel}");
        }
    }
    let here = thread::current().id();
    let expected: Vec<_> = (0..100).flat_map(|number| [(here, number), (here, number)]).collect();
    assert_eq!(*journal.lock().unwrap(), expected, "all ran here, in order");
}

#[test]
fn what_waits_behind_work_beside_the_ring_is_done_with_it_in_order() {
    let journal = Journal::default();
    let mut bench =
        active([noted(0, "in_ring", Placement::InRing, &journal), noted(1, "beside", Placement::Beside, &journal)]);
    let submit = |number: u32| {
        let command = call((number % 2) as u16, GRAIN, number);
        bench.lane.0.submitter.try_submit(&command, &[]).unwrap()
    };
    let tickets: Vec<_> = (0..8).map(submit).collect();
    assert!(journal.lock().unwrap().is_empty(), "nobody rang");
    bench.lane.0.submitter.doorbell();
    for ticket in tickets {
        assert_eq!(answered(&bench.lane, ticket), Some(Status::Ok));
    }
    assert_eq!(journal.lock().unwrap().iter().map(|(_, number)| *number).collect::<Vec<_>>(), Vec::from_iter(0..8));
}

#[test]
fn a_kernel_that_panics_fails_its_own_command() {
    let faulty = |number, name, placement| {
        kernel(declaration(number, name, placement), |_, _| panic!("a kernel of the tests panics"))
    };
    let mut bench = active([faulty(0, "in_ring", Placement::InRing), faulty(1, "beside", Placement::Beside)]);
    for kernel in [0, 1, 0, 1] {
        let ticket = bench.lane.submit(&call(kernel, GRAIN, 0));
        assert_eq!(answered(&bench.lane, ticket), Some(Status::KernelFault));
    }
    assert_eq!(bench.lane.run(&echo(GRAIN, 5)).payload, [5; 7]);
}

#[test]
fn activation_serves_what_waited_and_an_inactive_ring_serves_nothing() {
    let mut bench = inactive([]);
    for round in 0..20 {
        let waiting = bench.lane.submit(&echo(GRAIN, round));
        assert!(!bench.lane.is_complete(&waiting));
        bench.ring.activate(HANG).unwrap();
        assert_eq!(answered(&bench.lane, waiting), Some(Status::Ok));
        bench.ring.activate(HANG).unwrap();
        let served = bench.lane.submit(&echo(GRAIN, round));
        assert_eq!(answered(&bench.lane, served), Some(Status::Ok));
        bench.ring.deactivate(HANG).unwrap();
    }
}

#[test]
fn a_kernel_that_does_not_end_keeps_its_caller_and_no_deadline() {
    let short = Duration::from_millis(1);
    let (arrived, arrivals) = mpsc::channel();
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let endless = kernel(declaration(0, "endless", Placement::Beside), move |_, _| {
        arrived.send(()).unwrap();
        // A gate that is gone is open: a test that fails shall end.
        let _ = gate.lock().unwrap().recv();
    });
    let Bench { ring, mut lane, .. } = active([endless]);
    thread::scope(|scope| {
        let lane = &mut lane;
        let caller = scope.spawn(move || {
            let endless = lane.submit(&call(0, GRAIN, 7));
            answered(lane, endless)
        });
        arrivals.recv().unwrap();
        assert_eq!(ring.deactivate(short).unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(ring.terminate(short).unwrap_err().kind(), ErrorKind::Timeout);
        open_gate.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), Some(Status::Ok));
    });
    ring.terminate(HANG).unwrap();
    assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
}

#[test]
fn a_dropped_ring_leaves_nothing_behind() {
    let held = Arc::new(());
    let watched = Arc::downgrade(&held);
    let holds = kernel(declaration(0, "holds", Placement::Beside), move |_, _| assert_eq!(Arc::strong_count(&held), 1));
    let Bench { device, ring, mut lane } = active([holds]);
    assert_eq!(lane.status(&call(0, GRAIN, 0)), Status::Ok);
    drop((ring, device));
    assert_eq!(lane.try_submit(&echo(GRAIN, 0), &[]), Err(SubmitError::Stopped));
    assert!(watched.upgrade().is_none(), "the lane's doorbell keeps the ring's kernels");
}
