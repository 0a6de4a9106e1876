//! Compute commands and the kernel slots: what is refused, and what a fault costs. What kernels compute is told elsewhere.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use gpubridge_abstractions::{
    Command, DeviceBuffer, DeviceSlot, ElementType, ErrorKind, KernelDeclaration, KernelId, KernelSpec, RingConfig,
    Scalars, Status,
};
use gpubridge_kernels::id::{ADD, FILL, MATVEC, SCALE, SUM, TOP_K};

use crate::lane::{Bench, Driver, GRAIN, SMALL, call, compute, echo};
use crate::rig::{SOON, kind};
use crate::twins::{
    FAULTY, FAULTY_BESIDE, FAULTY_CHECK, FAULTY_WORK, FICKLE, NAMED, REACHING, TALKATIVE, all_faulty, fickle, named,
};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("compute",
    Memory {
        a_slot_without_a_kernel_is_unknown => "Compute/kernel",
        a_kernel_that_there_is_not_is_not_found => "Device::compile/unknown",
    }
    Compute {
        every_declared_kernel_compiles => "Device::kernels/compiles",
        a_type_that_the_kernel_has_not_is_refused_with_those_it_has => "Device::compile/no-variant",
        a_compilation_that_fails_leaves_the_slot => "Device::compile/unchanged",
        exactly_the_declared_buffers_are_named => "Compute/buffers",
        every_named_buffer_is_bound_and_the_grains_own => "Compute/named",
        a_buffer_is_named_once_unless_the_kernel_works_in_place => "Compute/aliased",
        counts_and_scalars_that_do_not_fit_are_refused => "Compute/shape",
        a_count_of_nothing_means_all => "Compute/whole",
        a_refused_call_changes_nothing => "Compute/refused-keeps",
    }
    Twins {
        the_next_command_runs_what_was_compiled => "Device::compile/next-command",
        other_rings_run_what_was_compiled => "Device::compile/next-command",
        a_kernel_that_does_not_build_says_why => "Device::compile/build-text",
        a_build_that_fails_leaves_the_slot => "Device::compile/unchanged",
        a_fault_is_its_commands_alone => "Compute/fault",
    }
);

const NONE: DeviceSlot = DeviceSlot::NONE;

/// A lane with `kernels`, and three blocks of 16 elements for [`GRAIN`], bound at 0, 1 and 2.
fn bench(context: &Context, kernels: &[KernelSpec]) -> (Bench, [DeviceSlot; 3], Vec<Box<dyn DeviceBuffer>>) {
    let mut bench = Bench::with_kernels(context.device(), SMALL, kernels);
    let blocks = [0, 1, 2].map(|index| bench.bound(index, 64));
    let slots = blocks.each_ref().map(|(_, slot)| *slot);
    (bench, slots, blocks.into_iter().map(|(buffer, _)| buffer).collect())
}

fn ints(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Goal: a call of nothing is answered so. Method: every kind of slot number before anything is compiled; then the lane goes
/// on.
pub fn a_slot_without_a_kernel_is_unknown(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    for kernel in [0, 1, 255, u16::MAX] {
        assert_eq!(bench.lane.status(&call(kernel, GRAIN, 0)), Status::UnknownKernel, "slot {kernel}");
        bench.lane.probe(u64::from(kernel));
    }
}

/// Goal: an id that is none is an error that names it. Method: an id of nobody, on any device; the slot stays empty.
pub fn a_kernel_that_there_is_not_is_not_found(context: &Context) {
    let mut bench = Bench::new(context.device(), SMALL);
    let error = bench.device.compile(&KernelSpec::new(KernelId(987_654)), 3).expect_err("there is no such kernel");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains("987654"), "does not say which: {error}");
    assert_eq!(bench.lane.status(&call(3, GRAIN, 0)), Status::UnknownKernel);
}

/// Goal: what is declared is there. Method: every declared kernel in every declared type, with constants that its own check
/// may want; ids and names compared.
pub fn every_declared_kernel_compiles(context: &Context) {
    let device = context.device();
    let declarations = device.kernels();
    assert!(!declarations.is_empty());
    for (index, declaration) in declarations.iter().enumerate() {
        assert!(!declaration.name.is_empty() && !declaration.elements.is_empty(), "{declaration:?}");
        let same = |other: &&KernelDeclaration| other.id == declaration.id || other.name == declaration.name;
        assert_eq!(declarations.iter().filter(same).count(), 1, "`{}` is there twice", declaration.name);
        for element in declaration.elements {
            let constants = if declaration.constants.is_empty() { [0; 2] } else { [16, 0] };
            let spec = KernelSpec::new(declaration.id).of(*element).with_constants(constants);
            device
                .compile(&spec, index as u16)
                .unwrap_or_else(|why| panic!("{} of {element}: {why}", declaration.name));
        }
    }
}

/// Goal: who asks for the wrong type learns the right ones. Method: `scale`, which comes in f32, in both integer types.
pub fn a_type_that_the_kernel_has_not_is_refused_with_those_it_has(context: &Context) {
    let device = context.device();
    for element in [ElementType::I32, ElementType::U32] {
        let error = device.compile(&KernelSpec::new(SCALE).of(element), 0).expect_err("there is no such variant");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let message = error.message();
        assert!(["scale", "f32", &element.to_string()].iter().all(|name| message.contains(name)), "{error}");
    }
}

/// Goal: a failed replacement replaces nothing. Method: compilations that fail over a slot with a kernel, which goes on
/// computing; and over an empty one, which stays empty.
pub fn a_compilation_that_fails_leaves_the_slot(context: &Context) {
    let (mut bench, [input, ..], _buffers) = bench(context, &[KernelSpec::new(SUM).of(ElementType::U32)]);
    bench.lane.write_all(input, &ints(0..16));
    for slot in [0, 1] {
        assert_eq!(
            kind(bench.device.compile(&KernelSpec::new(SCALE).of(ElementType::I32), slot)),
            ErrorKind::Unsupported
        );
        assert_eq!(kind(bench.device.compile(&KernelSpec::new(KernelId(987_654)), slot)), ErrorKind::NotFound);
    }
    let sum = compute(0, [input, NONE, NONE], 0, Scalars::default());
    assert_eq!(bench.lane.run(&sum).payload[0], (0..16).sum());
    assert_eq!(bench.lane.status(&Command { kernel: 1, ..sum }), Status::UnknownKernel);
}

/// Goal: a kernel never works on a buffer that is not there, nor is one passed over. Method: each of the three left out, and
/// each that is not declared named.
pub fn exactly_the_declared_buffers_are_named(context: &Context) {
    let kernels = [ADD, SUM, FILL].map(|id| KernelSpec::new(id).of(ElementType::U32));
    let (mut bench, [a, b, c], _buffers) = bench(context, &kernels);
    for (kernel, good, bad) in [
        (0, [a, b, c], vec![[NONE, b, c], [a, NONE, c], [a, b, NONE], [NONE; 3]]),
        (1, [a, NONE, NONE], vec![[NONE; 3], [a, b, NONE], [a, NONE, c], [a, b, c]]),
        (2, [NONE, NONE, c], vec![[NONE; 3], [a, NONE, c], [NONE, b, c], [a, NONE, NONE]]),
    ] {
        assert_eq!(bench.lane.status(&compute(kernel, good, 1, Scalars::default())), Status::Ok);
        for buffers in bad {
            let status = bench.lane.status(&compute(kernel, buffers, 1, Scalars::default()));
            assert_eq!(status, Status::InvalidArgument, "kernel {kernel} of {buffers:?}");
        }
    }
}

/// Goal: names mean for kernels what they mean for copies. Method: in each place a stale name, one of nothing, and for the
/// whole call another grain.
pub fn every_named_buffer_is_bound_and_the_grains_own(context: &Context) {
    let (mut bench, good, blocks) = bench(context, &[KernelSpec::new(ADD).of(ElementType::U32)]);
    for place in 0..3 {
        let DeviceSlot { index, generation } = good[place];
        for unknown in [
            DeviceSlot { index, generation: generation + 1 },
            DeviceSlot { index, generation: 0 },
            DeviceSlot { index: 900, generation },
            DeviceSlot { index: SMALL.allocations, generation },
        ] {
            let mut buffers = good;
            buffers[place] = unknown;
            let status = bench.lane.status(&compute(0, buffers, 1, Scalars::default()));
            assert_eq!(status, Status::UnknownAllocation, "{unknown:?} in place {place}");
        }
        // One block of another grain, in this place.
        let theirs = DeviceSlot { index: 5, generation: 1 };
        let address = blocks[place].address();
        assert_eq!(bench.lane.bind(GRAIN + 1, theirs, address, 64, 0), Status::Ok);
        let mut buffers = good;
        buffers[place] = theirs;
        assert_eq!(bench.lane.status(&compute(0, buffers, 1, Scalars::default())), Status::NotOwner, "place {place}");
    }
    let anothers = Command { grain: GRAIN + 1, ..compute(0, good, 1, Scalars::default()) };
    assert_eq!(bench.lane.status(&anothers), Status::NotOwner);
    assert_eq!(bench.lane.status(&compute(0, good, 1, Scalars::default())), Status::Ok);
}

/// Goal: a kernel that reads while it writes is not handed one block twice. Method: `matvec` with each pair of places the same;
/// `add`, which works in place, with all of them.
pub fn a_buffer_is_named_once_unless_the_kernel_works_in_place(context: &Context) {
    let kernels = [KernelSpec::new(MATVEC), KernelSpec::new(ADD).of(ElementType::U32)];
    let (mut bench, [a, b, c], _buffers) = bench(context, &kernels);
    let shape = Scalars::default().with_bits(0, 2).with_bits(1, 2);
    assert_eq!(bench.lane.status(&compute(0, [a, b, c], 0, shape)), Status::Ok);
    for buffers in [[a, a, c], [a, b, a], [a, b, b], [a, a, a]] {
        assert_eq!(bench.lane.status(&compute(0, buffers, 0, shape)), Status::InvalidArgument, "{buffers:?}");
    }
    bench.lane.write_all(a, &ints([1; 16]));
    for power in 1..5_u32 {
        assert_eq!(bench.lane.status(&compute(1, [a, a, a], 0, Scalars::default())), Status::Ok);
        assert_eq!(bench.lane.read_all(a, 64), ints([1 << power; 16]));
    }
}

/// Goal: a call is checked on the device too. Method: counts one beyond each buffer and the largest; scalars of 0, too large,
/// and such that their product wraps.
pub fn counts_and_scalars_that_do_not_fit_are_refused(context: &Context) {
    let kernels = [KernelSpec::new(ADD), KernelSpec::new(MATVEC), KernelSpec::new(TOP_K), KernelSpec::new(FILL)];
    let (mut bench, [a, b, c], buffers) = bench(context, &kernels);
    let short = DeviceSlot { index: 9, generation: 1 };
    assert_eq!(bench.lane.bind(GRAIN, short, buffers[2].address(), 62, 0), Status::Ok);
    let none = Scalars::default();
    let two = |first, second| none.with_bits(0, first).with_bits(1, second);
    for (command, status) in [
        (compute(0, [a, b, c], 16, none), Status::Ok),
        (compute(0, [a, b, c], 17, none), Status::InvalidArgument),
        (compute(0, [a, b, c], u32::MAX, none), Status::InvalidArgument),
        // 62 bytes are 15 elements.
        (compute(0, [a, b, short], 15, none), Status::Ok),
        (compute(0, [a, b, short], 16, none), Status::InvalidArgument),
        (compute(1, [a, b, c], 0, two(4, 4)), Status::Ok),
        (compute(1, [a, b, c], 0, two(4, 5)), Status::InvalidArgument),
        (compute(1, [a, b, c], 0, two(0, 4)), Status::InvalidArgument),
        (compute(1, [a, b, c], 0, two(4, 0)), Status::InvalidArgument),
        (compute(1, [a, b, c], 0, two(1 << 16, 1 << 16)), Status::InvalidArgument),
        (compute(2, [a, NONE, c], 0, two(8, 0)), Status::Ok),
        (compute(2, [a, NONE, c], 0, two(9, 0)), Status::InvalidArgument),
        (compute(2, [a, NONE, c], 0, two(0, 0)), Status::InvalidArgument),
        (compute(2, [a, NONE, c], 0, two(u32::MAX, 0)), Status::InvalidArgument),
        (compute(3, [NONE, NONE, c], 17, none), Status::InvalidArgument),
    ] {
        assert_eq!(bench.lane.status(&command), status, "{command:?}");
    }
}

/// Goal: 0 is a short way to say all. Method: a sum over all of its input, and a fill over all of its output.
pub fn a_count_of_nothing_means_all(context: &Context) {
    let kernels = [SUM, FILL].map(|id| KernelSpec::new(id).of(ElementType::U32));
    let (mut bench, [a, _, c], _buffers) = bench(context, &kernels);
    bench.lane.write_all(a, &ints(1..17));
    for (count, sum) in [(0, (1..17).sum()), (16, (1..17).sum()), (3, 6), (1, 1)] {
        let completion = bench.lane.run(&compute(0, [a, NONE, NONE], count, Scalars::default()));
        assert_eq!((completion.status, completion.result_bytes), (Status::Ok, 4));
        assert_eq!(completion.payload, [sum, 0, 0, 0, 0, 0, 0], "a sum of {count}");
    }
    assert_eq!(bench.lane.status(&compute(1, [NONE, NONE, c], 0, Scalars::default().with_bits(0, 9))), Status::Ok);
    assert_eq!(bench.lane.read_all(c, 64), ints([9; 16]));
}

/// Goal: a refusal is no half of a call. Method: calls that are refused for every reason there is; all blocks keep their bytes.
pub fn a_refused_call_changes_nothing(context: &Context) {
    let kernels = [ADD, FILL].map(|id| KernelSpec::new(id).of(ElementType::U32));
    let (mut bench, [a, b, c], _buffers) = bench(context, &kernels);
    for (seed, slot) in [(1, a), (2, b), (3, c)] {
        bench.lane.write_all(slot, &ints([seed; 16]));
    }
    let scalars = Scalars::default().with_bits(0, 99);
    let stale = DeviceSlot { generation: 9, ..c };
    let theirs = Command { grain: GRAIN + 1, ..compute(1, [NONE, NONE, c], 0, scalars) };
    for command in [
        compute(0, [a, b, c], 17, scalars),
        compute(0, [a, b, stale], 0, scalars),
        compute(0, [a, NONE, c], 0, scalars),
        compute(1, [NONE, NONE, c], 17, scalars),
        compute(1, [NONE, NONE, stale], 0, scalars),
        compute(1, [a, NONE, c], 0, scalars),
        compute(2, [NONE, NONE, c], 0, scalars),
        theirs,
    ] {
        let completion = bench.lane.run(&command);
        assert_ne!(completion.status, Status::Ok, "{command:?}");
        assert_eq!((completion.result_bytes, completion.payload), (0, [0; 7]));
        for (seed, slot) in [(1, a), (2, b), (3, c)] {
            assert_eq!(bench.lane.read_all(slot, 64), ints([seed; 16]), "{command:?}");
        }
    }
}

/// Goal: a compiled kernel is there at once. Method: one slot is compiled thousands of times, each time to a kernel that
/// answers something else, and the very next command runs it.
pub fn the_next_command_runs_what_was_compiled(context: &Context) {
    let device = context.device_with(&[named(&Arc::default())]);
    let mut bench = Bench::new(device, SMALL);
    for it in 0..1000_u32 {
        bench.device.compile(&NAMED.with_constants([it, it * 20]), 3).expect("it compiles");
        let answer = bench.lane.run(&call(3, GRAIN, 0));
        assert_eq!((answer.status, answer.payload[0]), (Status::Ok, u64::from(it) | u64::from(it * 20) << 32));
    }
}

/// Goal: kernel slots are the device's, not a ring's. Method: two rings of two lanes run what was compiled before and after
/// their launch.
pub fn other_rings_run_what_was_compiled(context: &Context) {
    let device = context.device_with(&[named(&Arc::default())]);
    device.compile(&NAMED.with_constants([5, 0]), 0).expect("it compiles");
    let rings = [(); 2].map(|()| device.launch(RingConfig { lanes: 2, ..SMALL }).expect("there is room"));
    let mut lanes = Vec::new();
    for ring in &rings {
        ring.activate(SOON).expect("the ring starts");
        lanes.extend((0..2).map(|lane| Driver::take(&**ring, lane)));
    }
    for it in 5..50 {
        device.compile(&NAMED.with_constants([it, 0]), 0).expect("it compiles");
        for lane in &mut lanes {
            let answer = lane.run(&call(0, GRAIN, 0));
            assert_eq!((answer.status, answer.payload[0]), (Status::Ok, u64::from(it)));
        }
    }
}

/// Goal: a person reads why a kernel does not build. Method: one that fails to build with a text of its own.
pub fn a_kernel_that_does_not_build_says_why(context: &Context) {
    let device = context.device_with(&[fickle(2, &Arc::default())]);
    for number in 0..2 {
        let error = device.compile(&FICKLE, 0).expect_err("it does not build yet");
        assert_eq!(error.kind(), ErrorKind::KernelBuild, "{error}");
        assert!(error.message().contains(&format!("try {number} fails")), "without the compiler's text: {error}");
    }
    device.compile(&FICKLE, 0).expect("it builds in the end");
}

/// Goal: a failed replacement replaces nothing. Method: a build that fails over a slot with a kernel, and over an empty one.
pub fn a_build_that_fails_leaves_the_slot(context: &Context) {
    let tries = Arc::new(AtomicU32::new(0));
    let device = context.device_with(&[named(&Arc::default()), fickle(2, &tries)]);
    let mut bench = Bench::with_kernels(device, SMALL, &[NAMED.with_constants([8, 0])]);
    for slot in [0, 1] {
        assert_eq!(kind(bench.device.compile(&FICKLE, slot)), ErrorKind::KernelBuild);
    }
    assert_eq!(bench.lane.run(&call(0, GRAIN, 0)).payload[0], 8);
    assert_eq!(bench.lane.status(&call(1, GRAIN, 0)), Status::UnknownKernel);
}

/// Goal: a kernel that fails costs its own call and nothing else. Method: kernels that panic in the ring, beside it, in their
/// check and in their work size, that reach beyond a buffer, and that answer too much, again and again with echoes of the
/// same grain between them; the block beside the one reached for keeps its bytes.
pub fn a_fault_is_its_commands_alone(context: &Context) {
    let kernels = [FAULTY, FAULTY_BESIDE, FAULTY_CHECK, FAULTY_WORK, TALKATIVE, REACHING];
    let mut bench = Bench::with_kernels(context.device_with(&all_faulty()), SMALL, &kernels);
    let (buffer, slot) = bench.bound(0, 128);
    let (own, beside) = (DeviceSlot { index: 1, ..slot }, DeviceSlot { index: 2, ..slot });
    assert_eq!(bench.lane.bind(GRAIN, own, buffer.address(), 64, 64), Status::Ok);
    assert_eq!(bench.lane.bind(GRAIN, beside, buffer.address() + 64, 64, 64), Status::Ok);
    for lap in 0..3 {
        for kernel in 0..6 {
            let output = if kernel == 5 { own } else { NONE };
            let completion = bench.lane.run(&compute(kernel, [NONE, NONE, output], 1, Scalars::default()));
            assert_eq!(completion.status, Status::KernelFault, "kernel {kernel}, lap {lap}");
            assert_eq!((completion.result_bytes, completion.payload), (0, [0; 7]), "kernel {kernel}, lap {lap}");
            assert_eq!(bench.lane.run(&echo(GRAIN, 5)).payload, [5; 7]);
        }
    }
    assert_eq!(bench.lane.read_all(beside, 64), [0; 64], "a kernel wrote beyond its buffer");
}
