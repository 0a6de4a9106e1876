//! Kernels of users' own, which are compiled, linked and brought into the rings of a GPU while these run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gpubridge_abstractions::{
    Backend, BufferUse, CallShape, Device, DeviceIndex, DeviceSlot, ElementType, ErrorKind, KernelDeclaration,
    KernelId, KernelSpec, MemoryType, Placement, RingConfig, Scalars, Status, Tolerance,
};
use gpubridge_backend_cuda::CudaBackend;
use gpubridge_kernels::cuda::{CudaCode, CudaKernel};
use gpubridge_kernels::{Kernel, library};
use ringkernel_tests::lane::{Bench, Driver, call, compute};

use crate::device::{RING, SOON, calls, eventually, refused};
use crate::emulation;
use crate::program::{Case, End};
use crate::windows::{BLOCK_BYTES, CONFIG, Producer, SetAtEnd};

pub const CASES: &[Case] = &[
    Case::new("users::a_thousand_under_load", "trace={folder}/trace", a_thousand_under_load),
    Case::new("users::run_everywhere_alike", "trace={folder}/trace", run_everywhere_alike),
    Case::new("users::phases_disagree", "", phases_disagree),
    Case::new("users::see_their_specialization", "", see_their_specialization),
    Case::new("users::compiled_beforehand", "trace={folder}/trace", compiled_beforehand),
    Case::new("users::that_do_not_compile", "trace={folder}/trace", that_do_not_compile),
    Case::new("users::that_fail", "", that_fail),
    Case::new("users::the_driver_fails", "orders={folder}/orders", the_driver_fails),
];

const NONE: DeviceSlot = DeviceSlot::NONE;

/// Doubles its input into its output.
const DOUBLE: &str = r#"
#include "gpubridge.cuh"

struct Double : gb::UserKernel {
    GB_MEMBER static bool check(const gb::Call &call) {
        return call.count <= call.input.count && call.count <= call.output.count;
    }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &) {
        auto twice = [&](gb::u64 i) { return 2 * call.input.get<GPUBRIDGE_ELEMENT>(i); };
        gb::each(team, call.count, twice, [&](gb::u64 i, GPUBRIDGE_ELEMENT x) { call.output.set(i, x); });
    }
};
GPUBRIDGE_KERNEL(Double)
"#;

/// Answers the sum of its input's elements, for which its threads work together.
const TOTAL: &str = r#"
#include "gpubridge.cuh"

struct Total : gb::UserKernel {
    GB_MEMBER static bool check(const gb::Call &call) { return call.count <= call.input.count; }

    template <class Team>
    GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &answer) {
        gb::u32 sum = 0;
        for (gb::u64 i = team.rank(); i < call.count; i += team.size()) sum += call.input.get<gb::u32>(i);
        answer.push(team.reduce(sum, gb::Plus{}));
    }
};
GPUBRIDGE_KERNEL(Total)
"#;

/// Replaces each element by the sum of the others, and answers the sum of all that: what a grid does in three phases.
const OTHERS: &str = r#"
#include "gpubridge.cuh"

using gb::u32;

struct Others : gb::UserKernel {
    static constexpr u32 PHASES = 3;

    template <class Team>
    GB_MEMBER static void run(const Team &team, const gb::Call &call, gb::Answer &answer) {
        u32 total = team.reduce(sum(team, call), gb::Plus{});
        replace(team, call, total);
        team.sync();
        answer.push(team.reduce(sum(team, call), gb::Plus{}));
    }

    GB_MEMBER static void run_phase(u32 phase, const gb::Grid &grid, const gb::Call &call, gb::Answer &answer) {
        if (phase == 0) return grid.keep(7, sum(grid, call), gb::Plus{});
        u32 total = grid.joined(phase == 1 ? 7 : 0, grid.blocks(), u32(0), gb::Plus{});
        if (phase == 2) return answer.push(total);
        replace(grid, call, total);
        grid.keep(0, sum(grid, call), gb::Plus{});
    }

private:
    template <class Team>
    GB_MEMBER static u32 sum(const Team &team, const gb::Call &call) {
        u32 sum = 0;
        for (gb::u64 i = team.rank(); i < call.count; i += team.size()) sum += call.output.get<u32>(i);
        return sum;
    }

    template <class Team>
    GB_MEMBER static void replace(const Team &team, const gb::Call &call, u32 total) {
        for (gb::u64 i = team.rank(); i < call.count; i += team.size()) call.output.set(i, total - call.output.get<u32>(i));
    }
};
GPUBRIDGE_KERNEL(Others)
"#;

/// Answers its constants.
const NAMED: &str = r#"
#include "gpubridge.cuh"

struct Named : gb::UserKernel {
    template <class Team>
    GB_MEMBER static void run(const Team &, const gb::Call &, gb::Answer &answer) {
        answer.push(GPUBRIDGE_CONSTANT_0);
        answer.push(GPUBRIDGE_CONSTANT_1);
    }
};
GPUBRIDGE_KERNEL(Named)
"#;

/// Fails: when its scalar says so, or by an answer that is too long.
const FAILING: &str = r#"
#include "gpubridge.cuh"

struct Failing : gb::UserKernel {
    GB_MEMBER static bool check(const gb::Call &call) { return call.scalars.bits(0) != 3; }
    GB_MEMBER static gb::u64 work(const gb::Call &call) { return call.scalars.bits(1); }

    template <class Team>
    GB_MEMBER static void run(const Team &, const gb::Call &call, gb::Answer &answer) {
        if (call.scalars.bits(0) == 1) answer.fail();
        for (int i = 0; i < (call.scalars.bits(0) == 2 ? 15 : 14); ++i) answer.push(gb::u32(i));
    }
};
GPUBRIDGE_KERNEL(Failing)
"#;

/// What a kernel of this name and number declares: an input, an output, both element types that the sources are for.
fn declared(number: u32, name: &'static str, buffers: [BufferUse; 3], placement: Placement) -> KernelDeclaration {
    KernelDeclaration {
        id: KernelId(KernelId::FIRST_USER.0 + number),
        name,
        summary: "a kernel of a user's",
        elements: &[ElementType::F32, ElementType::U32],
        buffers,
        scalars: &["a", "b"],
        constants: &["a", "b"],
        in_place: false,
        stateful: false,
        placement,
        check: |_: &CallShape| Ok(()),
        work: |shape| shape.count,
        tolerance: Tolerance::Exact,
        targets: &["cuda"],
    }
}

const NO_BUFFERS: [BufferUse; 3] = [BufferUse::None; 3];

fn open(kernels: impl IntoIterator<Item = Kernel>) -> Arc<dyn Device> {
    let mut library = library();
    kernels.into_iter().for_each(|kernel| library.register(kernel).expect("the kernels differ"));
    CudaBackend::new(library).open(DeviceIndex(0)).expect("the device opens")
}

fn spec(number: u32) -> KernelSpec {
    KernelSpec::new(KernelId(KernelId::FIRST_USER.0 + number)).of(ElementType::U32)
}

fn named() -> Kernel {
    Kernel::from_cuda(declared(0, "named", NO_BUFFERS, Placement::InRing), CudaKernel::from_source(NAMED))
}

/// Asserts that the kernel in this slot answers these constants.
#[track_caller]
fn answers(lane: &mut Driver, slot: u16, constants: [u32; 2]) {
    let answer = lane.run(&call(slot, 1, 0));
    assert_eq!(answer.status, Status::Ok);
    assert_eq!(answer.payload[0], u64::from(constants[0]) | u64::from(constants[1]) << 32);
}

/// Goal: a thousand kernels come into a ring and go, and its commands notice nothing: none is lost, doubled or reordered.
fn a_thousand_under_load(folder: &Path) -> End {
    const KERNELS: u32 = 1000;
    let device = open([named()]);
    let ring = device.launch(CONFIG).expect("there is room");
    let memory = device.reserve(2 * BLOCK_BYTES, MemoryType::Default).expect("there is memory");
    ring.activate(SOON).expect("it starts");
    let mut producer = Producer::new(Driver::take(&*ring, 0), memory.address(), false);
    let mut own = Driver::take(&*ring, 1);
    let done = AtomicBool::new(false);
    let executed = thread::scope(|scope| {
        let producer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(producer.turn(), "nobody stopped it");
                thread::yield_now();
            }
            producer.end()
        });
        let at_end = SetAtEnd(&done);
        for number in 0..KERNELS {
            // Three, two of which are there at a time: each has to be linked anew.
            let constants = [number % 3, 7];
            let slot = (number % 2) as u16;
            device.compile(&spec(0).with_constants(constants), slot).expect("it compiles");
            answers(&mut own, slot, constants);
            if number > 0 {
                answers(&mut own, 1 - slot, [(number - 1) % 3, 7]);
            }
        }
        drop(at_end);
        producer.join().expect("it saw no fault")
    });
    assert!(executed > u64::from(KERNELS), "{executed} commands were executed all the while");
    let count = |name: &str| calls(folder).iter().filter(|(call, code)| call == name && *code == 0).count();
    assert_eq!(count("cuLaunchCooperativeKernel"), 1 + KERNELS as usize, "the ring was parked for each");
    drop((ring, own, memory, device));
    assert_eq!(count("cuModuleUnload"), count("cuModuleLoadData"), "no module stays that is not used");
    End::Passed
}

/// Goal: a kernel does the same in the ring and beside it, by a block and by a grid, in phases that are launched one by one or as a
/// graph.
fn run_everywhere_alike(folder: &Path) -> End {
    const IN_OUT: [BufferUse; 3] = [BufferUse::Read, BufferUse::None, BufferUse::Write];
    const IN: [BufferUse; 3] = [BufferUse::Read, BufferUse::None, BufferUse::None];
    const COUNT: u32 = 5000;
    let double = |number, name, placement| {
        Kernel::from_cuda(declared(number, name, IN_OUT, placement), CudaKernel::from_source(DOUBLE))
    };
    let total = |number, name, placement| {
        Kernel::from_cuda(declared(number, name, IN, placement), CudaKernel::from_source(TOTAL))
    };
    const OUT: [BufferUse; 3] = [BufferUse::None, BufferUse::None, BufferUse::ReadWrite];
    let source = DOUBLE.replacen('{', "{ static constexpr gb::u32 PHASES = 1;", 1);
    let declaration = declared(2, "double by a grid", IN_OUT, Placement::Beside);
    let by_grid = Kernel::from_cuda(declaration, CudaKernel::from_source(source).by_grid());
    let others = |number, name, placement| {
        Kernel::from_cuda(declared(number, name, OUT, placement), CudaKernel::from_source(OTHERS).by_grid_in_phases(3))
    };
    let device = open([
        others(5, "others in the ring", Placement::InRing),
        others(6, "others in phases", Placement::Beside),
        double(0, "double in the ring", Placement::InRing),
        double(1, "double by a block", Placement::Beside),
        by_grid,
        total(3, "total in the ring", Placement::InRing),
        total(4, "total by a block", Placement::InRingUpTo(u64::from(COUNT) - 1)),
    ]);
    let config = RingConfig { staging_bytes: 32 << 10, ..RING };
    let mut bench = Bench::with_kernels(device, config, &[0, 1, 2, 3, 4, 5, 6].map(spec));
    let (_input, input) = bench.bound(0, u64::from(COUNT) * 4);
    let (_output, output) = bench.bound(1, u64::from(COUNT) * 4);
    let numbers: Vec<u32> = (0..COUNT).map(|i| i * 7 + 1).collect();
    let bytes = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    bench.lane.write_all(input, &bytes(&numbers));
    let doubled: Vec<u32> = numbers.iter().map(|number| number * 2).collect();
    for slot in 0..3 {
        bench.lane.write_all(output, &vec![0; COUNT as usize * 4]);
        let answer = bench.lane.run(&compute(slot, [input, NONE, output], COUNT, Scalars::default()));
        assert_eq!(answer.status, Status::Ok, "slot {slot}");
        assert!(bench.lane.read_all(output, COUNT as usize * 4) == bytes(&doubled), "slot {slot}");
        let beyond = compute(slot, [input, NONE, output], COUNT + 1, Scalars::default());
        assert_eq!(bench.lane.status(&beyond), Status::InvalidArgument, "slot {slot}: its own check");
        let unnamed = compute(slot, [input, NONE, NONE], COUNT, Scalars::default());
        assert_eq!(bench.lane.status(&unnamed), Status::InvalidArgument, "slot {slot}: what it declares");
        let in_place = compute(slot, [input, NONE, input], COUNT, Scalars::default());
        assert_eq!(bench.lane.status(&in_place), Status::InvalidArgument, "slot {slot}: what it declares");
    }
    let sum: u32 = numbers.iter().sum();
    for slot in 3..5 {
        let answer = bench.lane.run(&compute(slot, [input, NONE, NONE], 0, Scalars::default()));
        assert_eq!((answer.status, answer.payload[0]), (Status::Ok, u64::from(sum)), "slot {slot}");
    }
    let others: Vec<u32> = numbers.iter().map(|number| sum - number).collect();
    let launched = || calls(folder).iter().filter(|(call, code)| call == "cuGraphLaunch" && *code == 0).count();
    for slot in 5..7 {
        let before = launched();
        // More than blocks at once: what one call keeps from phase to phase is not the next one's.
        for _ in 0..3 {
            bench.lane.write_all(output, &bytes(&numbers));
            let answer = bench.lane.run(&compute(slot, [NONE, NONE, output], COUNT, Scalars::default()));
            let expected = u64::from(others.iter().copied().fold(0, u32::wrapping_add));
            assert_eq!((answer.status, answer.payload[0]), (Status::Ok, expected), "slot {slot}");
            assert!(bench.lane.read_all(output, COUNT as usize * 4) == bytes(&others), "slot {slot}");
        }
        // A call may be noted after what it launched was seen.
        let graphs = if slot == 5 { 0 } else { 3 };
        eventually(&format!("slot {slot}: launched as a graph"), || launched() == before + graphs);
    }
    End::Passed
}

/// Goal: a source or PTX and its declaration do not disagree about phases unnoticed.
fn phases_disagree(folder: &Path) -> End {
    const OUT: [BufferUse; 3] = [BufferUse::None, BufferUse::None, BufferUse::ReadWrite];
    let kernel = |number, name, cuda| Kernel::from_cuda(declared(number, name, OUT, Placement::Beside), cuda);
    let source = || CudaKernel::from_source(OTHERS);
    let device = open([
        kernel(0, "by a block", source()),
        kernel(1, "by a grid", source().by_grid()),
        kernel(2, "in two phases", source().by_grid_in_phases(2)),
    ]);
    for number in 0..3 {
        refused(
            device.compile(&spec(number), 0),
            ErrorKind::KernelBuild,
            &["PHASES", "is not what its CudaKernel was told"],
        );
    }

    let ptx = ptx_of(OTHERS, &["-DGPUBRIDGE_FUNCTION=others"], folder);
    let ptx = || CudaKernel::from_ptx(ptx.clone(), "others");
    const NAMES: [&str; 4] = ["none", "one", "two", "three"];
    let kernels = [ptx(), ptx().by_grid(), ptx().by_grid_in_phases(2), ptx().by_grid_in_phases(3)];
    let mut bench =
        Bench::new(open((0..).zip(kernels).map(|(number, cuda)| kernel(number, NAMES[number as usize], cuda))), RING);
    bench.compile(&[0, 1, 2, 3].map(spec));
    let (_block, block) = bench.bound(0, 8);
    for slot in 0..4 {
        bench.lane.write_all(block, &[1_u32, 2].map(u32::to_le_bytes).concat());
        let status = bench.lane.status(&compute(slot, [NONE, NONE, block], 2, Scalars::default()));
        let agrees = slot == 3;
        assert_eq!(status, if agrees { Status::Ok } else { Status::InvalidArgument }, "slot {slot}");
        assert_eq!(bench.lane.read_all(block, 4), if agrees { 2_u32 } else { 1 }.to_le_bytes(), "slot {slot}");
    }
    End::Passed
}

/// Goal: element type and constants reach the source, and specializations are kernels of their own.
fn see_their_specialization(_: &Path) -> End {
    const IN_OUT: [BufferUse; 3] = [BufferUse::Read, BufferUse::None, BufferUse::Write];
    let double = Kernel::from_cuda(declared(1, "double", IN_OUT, Placement::InRing), CudaKernel::from_source(DOUBLE));
    let device = open([named(), double]);
    let mut bench = Bench::new(device, RING);
    bench.compile(&[
        spec(0).with_constants([1, u32::MAX]),
        spec(0).with_constants([2, 0]),
        spec(1).of(ElementType::U32),
        spec(1).of(ElementType::F32),
    ]);
    answers(&mut bench.lane, 0, [1, u32::MAX]);
    answers(&mut bench.lane, 1, [2, 0]);
    let (_input, input) = bench.bound(0, 4);
    let (_output, output) = bench.bound(1, 4);
    bench.lane.write_all(input, &1.5_f32.to_le_bytes());
    for (slot, expected) in [(2, 1.5_f32.to_bits().wrapping_mul(2)), (3, 3.0_f32.to_bits())] {
        let command = compute(slot, [input, NONE, output], 1, Scalars::default());
        assert_eq!(bench.lane.status(&command), Status::Ok);
        assert_eq!(bench.lane.read_all(output, 4), expected.to_le_bytes(), "slot {slot}");
    }
    End::Passed
}

/// Goal: what was compiled beforehand needs no compiler, and what is there already no window.
fn compiled_beforehand(folder: &Path) -> End {
    let definitions = ["-DGPUBRIDGE_FUNCTION=own_name", "-DGPUBRIDGE_CONSTANT_0=5u", "-DGPUBRIDGE_CONSTANT_1=6u"];
    let ptx = ptx_of(NAMED, &definitions, folder);
    let declaration = KernelDeclaration { constants: &[], ..declared(0, "named", NO_BUFFERS, Placement::InRing) };
    let elsewhere =
        KernelDeclaration { id: KernelId(KernelId::FIRST_USER.0 + 1), name: "nowhere", ..declaration.clone() };
    let odd = KernelDeclaration { id: KernelId(KernelId::FIRST_USER.0 + 2), name: "odd", ..declaration.clone() };
    let device = open([
        Kernel::from_cuda(declaration, CudaKernel::from_ptx(ptx.clone(), "own_name")),
        Kernel::from_cuda(elsewhere, CudaKernel::from_ptx(ptx.clone(), "another_name")),
        Kernel::from_cuda(odd, CudaKernel::from_ptx(ptx, "no name")),
    ]);
    let mut bench = Bench::new(device, RING);
    bench.compile(&[spec(0), spec(0).of(ElementType::F32)]);
    let launches = || calls(folder).iter().filter(|(name, _)| name == "cuLaunchCooperativeKernel").count();
    assert_eq!(launches(), 3, "once, and once for each");
    answers(&mut bench.lane, 0, [5, 6]);
    answers(&mut bench.lane, 1, [5, 6]);
    bench.device.compile(&spec(0), 2).expect("it is there");
    answers(&mut bench.lane, 2, [5, 6]);
    assert_eq!(launches(), 3);
    // The driver calls this an unknown error, as it does when a device is lost.
    refused(bench.device.compile(&spec(1), 3), ErrorKind::KernelBuild, &["Undefined reference", "another_name"]);
    refused(
        bench.device.compile(&spec(2), 3),
        ErrorKind::KernelBuild,
        &["odd", "\"no name\"", "no name of a function"],
    );
    assert_eq!(launches(), 3, "what cannot be linked parks nothing");
    answers(&mut bench.lane, 0, [5, 6]);
    End::Passed
}

/// Goal: the compiler's text comes with its line, and the ring goes on with what it has.
fn that_do_not_compile(folder: &Path) -> End {
    let bad = |number, name, source: &'static str| {
        Kernel::from_cuda(declared(number, name, NO_BUFFERS, Placement::InRing), CudaKernel::from_source(source))
    };
    let stubborn = CudaKernel::from_compiler(|_| Err("there is no such specialization".to_owned()));
    let zero = CudaKernel::from_compiler(|_| Ok(CudaCode::Source("\0".into())));
    let device = open([
        named(),
        bad(
            1,
            "misspelled",
            "#include \"gpubridge.cuh\"\n\nstruct Misspelled : gb::UserKernel { int x = UsreKernel; };\n",
        ),
        bad(2, "unfinished", "#include \"gpubridge.cuh\"\nstruct Unfinished : gb::UserKernel {};\n"),
        Kernel::from_cuda(declared(3, "stubborn", NO_BUFFERS, Placement::InRing), stubborn),
        Kernel::from_cuda(declared(4, "zero", NO_BUFFERS, Placement::InRing), zero),
    ]);
    let mut bench = Bench::new(device, RING);
    bench.compile(&[spec(0).with_constants([1, 2])]);
    let before = calls(folder).iter().filter(|(name, _)| name == "cuLaunchCooperativeKernel").count();
    let mut refuse = |number, words: &[&str]| {
        refused(bench.device.compile(&spec(number), 0), ErrorKind::KernelBuild, words);
        answers(&mut bench.lane, 0, [1, 2]);
    };
    refuse(1, &["misspelled.cu:3", "UsreKernel"]);
    // It compiles; what the ring would call is not there.
    refuse(2, &["Undefined reference"]);
    refuse(3, &["stubborn", "there is no such specialization"]);
    refuse(4, &["zero", "zero byte"]);
    let after = calls(folder).iter().filter(|(name, _)| name == "cuLaunchCooperativeKernel").count();
    assert_eq!(before, after, "what is not built parks nothing");
    End::Passed
}

/// Goal: a kernel that fails answers so, in the ring and beside it, and its grain goes on.
fn that_fail(_: &Path) -> End {
    let declaration = declared(0, "failing", NO_BUFFERS, Placement::InRingUpTo(0));
    let device = open([Kernel::from_cuda(declaration, CudaKernel::from_source(FAILING))]);
    let mut bench = Bench::with_kernels(device, RING, &[spec(0)]);
    for beside in [0, 1] {
        let mut run = |how: u32| {
            let scalars = Scalars::default().with_bits(0, how).with_bits(1, beside);
            bench.lane.run(&compute(0, [NONE; 3], 0, scalars))
        };
        let answer = run(0);
        assert_eq!(answer.status, Status::Ok);
        assert_eq!(answer.payload, [0, 1, 2, 3, 4, 5, 6].map(|word: u64| 2 * word + ((2 * word + 1) << 32)));
        assert_eq!(run(1).status, Status::KernelFault);
        assert_eq!(run(2).status, Status::KernelFault);
        assert_eq!(run(3).status, Status::InvalidArgument);
        assert_eq!(run(0).status, Status::Ok);
    }
    End::Passed
}

/// Goal: whatever the driver refuses on the way, the ring goes on with what it had, and the next try succeeds.
fn the_driver_fails(folder: &Path) -> End {
    let order = |text: &str| {
        fs::write(folder.join("orders"), text).expect("the orders can be written");
        // Taken by the next one that starts the driver.
        assert!(CudaBackend::new(library()).devices().is_ok());
    };
    let device = open([named()]);
    let mut bench = Bench::new(device, RING);
    bench.compile(&[spec(0).with_constants([1, 1])]);
    for (number, (call, kind)) in (2..).zip([
        ("cuLinkCreate:1:999", ErrorKind::KernelBuild),
        ("cuLinkAddData:1:218", ErrorKind::KernelBuild),
        ("cuLinkAddData:4:999", ErrorKind::KernelBuild),
        ("cuLinkComplete:1:999", ErrorKind::KernelBuild),
        ("cuModuleLoadData:1:2", ErrorKind::OutOfMemory),
        ("cuModuleGetFunction:3:500", ErrorKind::Io),
        ("cuOccupancyMaxActiveBlocksPerMultiprocessor:1:1", ErrorKind::InvalidArgument),
        ("cuLaunchKernel:2:701", ErrorKind::Io),
    ]) {
        let spec = spec(0).with_constants([number, 1]);
        order(call);
        refused(bench.device.compile(&spec, 0), kind, &[]);
        answers(&mut bench.lane, 0, [number - 1, 1]);
        order("");
        bench.device.compile(&spec, 0).expect("nothing fails any more");
        answers(&mut bench.lane, 0, [number, 1]);
    }
    End::Passed
}

/// A kernel's source as what the emulated driver takes for PTX, compiled as its compiler would.
///
/// # Panics
/// With the compiler's text if the source does not compile.
fn ptx_of(source: &str, definitions: &[&str], folder: &Path) -> String {
    let (compiler, _) = emulation::compiler().expect("the emulated driver was built by one");
    let driver = emulation::build().expect("it was built before").join("libcuda.so.1");
    let (from, to) = (folder.join("kernel.cpp"), folder.join("object"));
    fs::write(&from, source).expect("the kernel's source can be written");
    let mut command = Command::new(compiler);
    command.args(emulation::FLAGS).args(definitions).arg("-I").arg(emulation::emulation().join("user"));
    command.arg("-I").arg(emulation::emulation()).arg("-I").arg(emulation::kernels());
    let output = command.arg(from).arg(driver).arg("-o").arg(&to).output().expect("the C++ compiler runs");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    let object = fs::read(to).expect("the object is there");
    let digits: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(".version 7.0\n// emulated object: {digits}\n")
}
