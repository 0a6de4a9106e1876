//! Where the kernels of a user run: in the ring or beside it.

use std::thread::ThreadId;

use gpubridge_abstractions::{DeviceSlot, Placement, Scalars, Status};
use ringkernel_tests::lane::{Bench, SMALL, compute};

use crate::device::open;
use crate::kernels::{Journal, compile_all, library, noted};

#[test]
fn the_declaration_says_where_a_kernel_runs() {
    let journal = Journal::default();
    let up_to = Placement::InRingUpTo(10);
    let kernels = library([
        noted(0, "in the ring", Placement::InRing, &journal),
        noted(1, "beside", Placement::Beside, &journal),
        noted(2, "up to ten", up_to, &journal),
    ]);
    let mut bench = Bench::new(open(kernels), SMALL);
    compile_all(&*bench.device);
    let mut thread_of = |kernel: u16, count: u32| -> ThreadId {
        let command = compute(kernel, [DeviceSlot::NONE; 3], count, Scalars::default());
        assert_eq!(bench.lane.status(&command), Status::Ok);
        journal.lock().unwrap().pop().unwrap().0
    };
    let (ring, beside) = (thread_of(0, 1), thread_of(1, 1));
    assert_ne!(ring, beside);
    assert_eq!((thread_of(2, 10), thread_of(2, 11)), (ring, beside));
    assert!(ring != std::thread::current().id() && beside != std::thread::current().id());
}
