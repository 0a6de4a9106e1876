//! A command that does not end, in the ring or beside it: the device counts as lost, and the error names kernel and grain.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Command, DeviceIndex, DeviceSlot, ErrorKind, KernelSpec, MemoryType, RingConfig, Scalars, Status, Ticket,
};
use gpubridge_backend_cuda::CudaConfig;
use gpubridge_kernels::library::id::{FILL, WINDOW_ZSCORE};
use ringkernel_tests::lane::{Bench, GRAIN, bind, compute, echo};

use crate::device::{Gate, MIB, RING, SOON, backend, eventually, refused, try_open};
use crate::program::{Case, End};

const GATED: &str = "gate=gpubridge_beside_grid:{folder}/gate";

pub const CASES: &[Case] = &[
    Case::new("stuck::in_the_ring", "stuck=16:{folder}/stuck", in_the_ring),
    Case::new("stuck::beside_the_ring", GATED, |folder| {
        beside(folder, |address| {
            let slot = DeviceSlot { index: 1, generation: 1 };
            let count = (MIB / 4) as u32;
            let fill = compute(0, [DeviceSlot::NONE, DeviceSlot::NONE, slot], count, Scalars::default());
            (vec![bind(GRAIN, slot, address, MIB, 0), fill], "kernel `fill` of grain")
        })
    }),
    Case::new("stuck::zeroing_beside_the_ring", GATED, |folder| {
        beside(folder, |address| {
            let slot = DeviceSlot { index: 1, generation: 1 };
            (vec![bind(GRAIN, slot, address, MIB, MIB)], "Bind of grain")
        })
    }),
    Case::new("stuck::not_when_there_is_nothing_to_do", "", nothing_to_do),
];

const LIMIT: Duration = Duration::from_millis(300);

/// A ring whose device counts as lost after a short time at one command, and for no other reason.
fn bench(config: RingConfig, kernels: &[KernelSpec]) -> Bench {
    let mut cuda = CudaConfig::default();
    (cuda.heartbeat_limit, cuda.command_limit) = (Duration::MAX, LIMIT);
    let device = backend().with_config(cuda).open(DeviceIndex(0)).expect("the device opens");
    Bench::with_kernels(device, config, kernels)
}

/// Goal: everybody is told, and the operator which kernel of whom it was.
fn is_lost(bench: Bench, pending: Vec<Ticket>, words: &[&str]) -> End {
    for ticket in pending {
        assert_eq!(bench.lane.wait(ticket).status, Status::DeviceLost);
    }
    let grain = format!("of grain {GRAIN} in lane 0 has been at work");
    let words: Vec<&str> = words.iter().copied().chain([&*grain, "limit", "restart the process"]).collect();
    // The answers come before the reason is noted.
    eventually("the ring is lost", || bench.ring.activate(SOON).is_err());
    refused(bench.ring.activate(SOON), ErrorKind::DeviceLost, &words);
    refused(try_open(), ErrorKind::DeviceLost, &["restart the process"]);
    End::Passed
}

fn in_the_ring(folder: &Path) -> End {
    let stuck = folder.join("stuck");
    File::create(&stuck).expect("the file can be made");
    // Several blocks, of which one is stuck.
    let config = RingConfig { lanes: 2, ..RING };
    let mut bench = bench(config, &[KernelSpec::new(WINDOW_ZSCORE).with_constants([2, 0])]);
    let (_buffer, slot) = bench.bound(0, 64);
    let value = |x: f32| {
        compute(0, [DeviceSlot::NONE, DeviceSlot::NONE, slot], 0, Scalars::default().with_bits(0, x.to_bits()))
    };
    for x in [0.0, 8.0] {
        let ticket = bench.lane.submit(&value(x));
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
    }
    // The variance of 0 and 8 is 16. One more waits behind it.
    let pending = [value(1.0), echo(GRAIN, 1)].map(|command| bench.lane.submit(&command)).into();
    let end = is_lost(bench, pending, &["kernel `window_zscore`", "in the ring"]);
    // So that the kernel ends.
    fs::remove_file(stuck).expect("the file is there");
    end
}

fn beside(folder: &Path, commands: fn(u64) -> (Vec<Command>, &'static str)) -> End {
    let gate = Gate::new(folder);
    let mut bench = bench(RING, &[KernelSpec::new(FILL)]);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let (mut commands, what) = commands(buffer.address());
    let last = commands.pop().expect("there is a command");
    for command in commands {
        let ticket = bench.lane.submit(&command);
        assert_eq!(bench.lane.wait(ticket).status, Status::Ok);
    }
    let pending = [last, echo(GRAIN, 1)].map(|command| bench.lane.submit(&command)).into();
    is_lost(bench, pending, &[what, "beside the ring"])
}

/// Goal: a ring that waits for commands, or holds, for longer than a command may take, stays.
fn nothing_to_do(_: &Path) -> End {
    let mut bench = bench(RING, &[]);
    let (_buffer, _) = bench.bound(0, MIB);
    for hold in [false, true] {
        bench.lane.probe(1);
        if hold {
            bench.ring.deactivate(SOON).expect("it holds");
        }
        let since = Instant::now();
        eventually("the time passes", || {
            thread::sleep(LIMIT / 10);
            since.elapsed() > 4 * LIMIT
        });
        bench.ring.activate(SOON).expect("it is there");
    }
    bench.lane.probe(2);
    End::Passed
}
