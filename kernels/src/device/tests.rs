//! The executor over a memory that lends bytes and nothing else, so that kernels run on copies.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use gpubridge_abstractions::{
    Bind, BufferUse, Command, Completion, Compute, DeviceSlot, ElementType, KernelDeclaration, KernelId, KernelSpec,
    Opcode, Status,
};

use super::{Block, DeviceMemory, Executor, Extent, KernelCopy, KernelTable, Task};
use crate::id::ADD;
use crate::{Kernel, library};

const GRAIN: u32 = 7;
const BUFFER: DeviceSlot = DeviceSlot { index: 0, generation: 1 };
const FAULTY: KernelId = KernelId::FIRST_USER;

#[derive(Clone, Debug)]
struct Bytes {
    of: Rc<RefCell<Vec<u8>>>,
    size_bytes: usize,
}

impl DeviceMemory for Bytes {
    type Block = Bytes;

    fn block(&mut self, address: u64, size_bytes: u64) -> Option<Bytes> {
        let size_bytes = size_bytes as usize;
        (address == 0 && size_bytes <= self.size_bytes).then(|| Bytes { size_bytes, ..self.clone() })
    }
}

impl Extent for Bytes {
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn cut(self, size_bytes: usize) -> Self {
        Self { size_bytes: self.size_bytes.min(size_bytes), ..self }
    }
}

impl Block for Bytes {
    fn lend(&self, offset_bytes: usize, size_bytes: usize, to: impl FnOnce(&mut [u8])) {
        to(&mut self.of.borrow_mut()[offset_bytes..offset_bytes + size_bytes]);
    }
}

/// An executor with a buffer of ones, and `ADD` and a kernel that writes, then panics, in slots 0 and 1.
fn bound(elements: usize) -> (Executor<Bytes>, KernelCopy, Bytes) {
    let mut kernels = library();
    let add = kernels.find(ADD).expect("it comes with the library").declaration.clone();
    let declaration = KernelDeclaration {
        id: FAULTY,
        name: "faulty",
        buffers: [BufferUse::None, BufferUse::None, BufferUse::Write],
        check: |_| Ok(()),
        ..add
    };
    let faulty = Kernel::from_compiler(declaration, |_| {
        Ok(Arc::new(|call, _| {
            call.output.set(0, 9_u32);
            panic!("this kernel fails on purpose")
        }))
    });
    kernels.register(faulty).expect("its id is free");
    let table = Arc::new(KernelTable::new(Arc::new(kernels)));
    let u32s = |id| KernelSpec::new(id).of(ElementType::U32);
    table.compile(&u32s(ADD), 0, "test").expect("it compiles");
    table.compile(&u32s(FAULTY), 1, "test").expect("it compiles");
    let mut copy = KernelCopy::new(table);
    copy.refresh();
    let ones = (0..elements).flat_map(|_| 1_u32.to_le_bytes()).collect();
    let bytes = Bytes { of: Rc::new(RefCell::new(ones)), size_bytes: elements * 4 };
    let mut executor = Executor::new(bytes.clone(), 1);
    let bind = Bind { slot: BUFFER, address: 0, size_bytes: elements as u64 * 4, zero_bytes: 0 };
    let (answer, _) = run(&mut executor, &copy, &Command::new(Opcode::Bind, GRAIN, bind.to_payload()));
    assert_eq!(answer.status, Status::Ok);
    (executor, copy, bytes)
}

/// Executes a command wherever it belongs; says whether that was beside the ring.
fn run(executor: &mut Executor<Bytes>, kernels: &KernelCopy, command: &Command) -> (Completion, bool) {
    let mut answer = Completion::of(Status::Cancelled);
    let task = executor.execute(command, kernels, &[], &mut answer, |_| {});
    let beside = task.as_deref().map(Task::run);
    (beside.unwrap_or(answer), beside.is_some())
}

fn call(kernel: u16, [input, operand, output]: [DeviceSlot; 3]) -> Command {
    let compute = Compute { input, operand, output, count: 0, scalars: [0; 3] };
    Command { kernel, ..Command::new(Opcode::Compute, GRAIN, compute.to_payload()) }
}

fn elements(bytes: &Bytes) -> Vec<u32> {
    bytes.of.borrow().as_chunks().0.iter().map(|element| u32::from_le_bytes(*element)).collect()
}

const IN_THE_RING: usize = 1000;
const BESIDE_IT: usize = 70_000;

#[test]
fn a_buffer_that_is_named_three_times_is_one() {
    for (count, beside) in [(IN_THE_RING, false), (BESIDE_IT, true)] {
        let (mut executor, kernels, bytes) = bound(count);
        for doubled in [2, 4, 8] {
            let (answer, was_beside) = run(&mut executor, &kernels, &call(0, [BUFFER; 3]));
            assert_eq!((answer.status, was_beside), (Status::Ok, beside));
            assert!(elements(&bytes).iter().all(|element| *element == doubled), "{count} elements");
        }
    }
}

#[test]
fn a_kernel_that_panics_leaves_its_buffer_and_the_executor_usable() {
    for (count, beside) in [(IN_THE_RING, false), (BESIDE_IT, true)] {
        let (mut executor, kernels, bytes) = bound(count);
        let (answer, was_beside) = run(&mut executor, &kernels, &call(1, [DeviceSlot::NONE, DeviceSlot::NONE, BUFFER]));
        assert_eq!((answer.status, was_beside), (Status::KernelFault, beside));
        assert_eq!(elements(&bytes), vec![1; count]);
        let (answer, _) = run(&mut executor, &kernels, &call(0, [BUFFER; 3]));
        assert_eq!(answer.status, Status::Ok);
        assert_eq!(elements(&bytes), vec![2; count]);
    }
}
