//! One GPU for several: devices, rings, and those that come and go.

use std::path::Path;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, DeviceSlot, MemoryType, Opcode, RingConfig, Status};
use gpubridge_backend_cuda::CudaConfig;
use ringkernel_tests::lane::{Bench, GRAIN, transfer, write_word};

use crate::device::{MIB, RING, SOON, backend, calls, eventually, open};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case::new("shared::two_devices_of_one_gpu", "", two_devices),
    Case::new("shared::opened_while_the_last_one_closes", "", opened_while_closing),
    Case::new("shared::a_thousand_rings_leave_nothing", "trace={folder}/trace", a_thousand_rings),
    Case::new("shared::memory_is_not_kept_for_ever", "trace={folder}/trace", memory_is_not_kept_for_ever),
    Case::new("shared::memory_is_kept_for_a_while", "trace={folder}/trace", memory_is_kept_for_a_while),
    Case::new("shared::memory_comes_back", "trace={folder}/trace", memory_comes_back),
];

/// Goal: each goes on when the other is dropped, its rings and its memory too.
fn two_devices(_: &Path) -> End {
    let mut benches = [open(), open()].map(|device| Bench::new(device, RING));
    let mut buffers = Vec::new();
    for (number, bench) in (1..).zip(&mut benches) {
        let (buffer, slot) = bench.bound(0, MIB);
        assert_eq!(bench.lane.status(&write_word(slot, 0, number)), Status::Ok);
        buffers.push(buffer);
    }
    let [first, mut second] = benches;
    drop((first, buffers.remove(0)));
    let slot = DeviceSlot { index: 0, generation: 1 };
    assert_eq!(second.lane.run(&transfer(Opcode::ReadInline, slot, 0, 8)).payload[0], 2);
    let large = second.device.reserve(70 * MIB, MemoryType::Default).expect("there is memory");
    second.lane.probe(3);
    drop(large);
    let Bench { device, ring, mut lane } = second;
    drop(device);
    lane.probe(4);
    Bench::new(open(), RING).lane.probe(5);
    ring.terminate(SOON).expect("it ends");
    End::Passed
}

/// Goal: a device that is opened while the last one of its GPU closes has nothing to do with what that one still frees: on a
/// GPU it would wait for the new one's ring.
fn opened_while_closing(_: &Path) -> End {
    for _ in 0..8 {
        let device = open();
        let buffers: Vec<_> =
            (0..3).map(|_| device.reserve(70 * MIB, MemoryType::Default).expect("there is memory")).collect();
        thread::scope(|scope| {
            scope.spawn(move || drop((buffers, device)));
            // From then on nobody has it.
            eventually("the last one closes", || {
                let listed = &backend().devices().expect("devices are listed")[0];
                listed.available_memory_bytes == listed.total_memory_bytes
            });
            Bench::new(open(), RING).lane.probe(1);
        });
    }
    End::Passed
}

fn pieces(folder: &Path) -> i64 {
    let calls = calls(folder);
    let count = |names: [&str; 2]| {
        let of = calls.iter().filter(|(name, code)| *code == 0 && names.contains(&name.as_str()));
        of.count() as i64
    };
    count(["cuMemAlloc_v2", "cuMemHostAlloc"]) - count(["cuMemFree_v2", "cuMemFreeHost"])
}

fn cycle(device: &dyn Device, lanes: u32, commands: u64) {
    let ring = device.launch(RingConfig { lanes, ..RING }).expect("there is room");
    let mut lane = ringkernel_tests::lane::Driver::take(&*ring, 0);
    if commands > 0 {
        ring.activate(SOON).expect("it starts");
    }
    (0..commands).for_each(|number| lane.probe(number));
    // Some are dropped as they are.
    if commands < 2 {
        ring.terminate(SOON).expect("it ends");
    }
}

fn a_thousand_rings(folder: &Path) -> End {
    let device = open();
    cycle(&*device, 2, 1);
    let (free_bytes, held) = (device.info().available_memory_bytes, pieces(folder));
    for round in 0..1000 {
        cycle(&*device, 1 + round % 2, u64::from(round % 4));
    }
    assert_eq!(device.info().available_memory_bytes, free_bytes);
    assert_eq!(pieces(folder), held, "pieces of the driver's memory");
    let streams = |name: &str| calls(folder).iter().filter(|(call, _)| call == name).count();
    drop(device);
    assert_eq!(pieces(folder), 0, "pieces of the driver's memory");
    let made = streams("cuStreamCreate") + streams("cuStreamCreateWithPriority");
    assert_eq!(made, streams("cuStreamDestroy_v2"));
    End::Passed
}

/// Goal: what was released and not given back is said, and is bounded. Method: of the emulated GiB an eighth may be kept; the ring
/// runs all the while, and parks for it when it gets to it.
fn memory_is_not_kept_for_ever(folder: &Path) -> End {
    const MOST: u64 = 128 * MIB;
    let mut config = CudaConfig::default();
    config.unused_memory_limit = Duration::ZERO;
    let device = backend().with_config(config).open(DeviceIndex(0)).expect("the device opens");
    let held = pieces(folder);
    let buffers = [0; 2].map(|_| device.reserve(100 * MIB, MemoryType::Default).expect("there is memory"));
    assert_eq!(pieces(folder), held + 2);
    // No ring has to be parked: releasing gives back.
    drop(buffers);
    assert_eq!(pieces(folder), held);

    let mut bench = Bench::new(device, RING);
    let deferred = |bench: &Bench| bench.device.info().deferred_memory_bytes;
    let held = pieces(folder);
    let reserve =
        |bench: &Bench, mebibytes, kind| bench.device.reserve(mebibytes * MIB, kind).expect("there is memory");
    for kind in [MemoryType::Default, MemoryType::Pinned] {
        let mut buffers: Vec<_> = (0..3).map(|_| reserve(&bench, 100, kind)).collect();
        assert_eq!((deferred(&bench), pieces(folder)), (0, held + 3));
        // Little enough to be kept.
        drop(buffers.remove(0));
        assert_eq!(pieces(folder), held + 3);
        if kind == MemoryType::Default {
            assert_eq!(deferred(&bench), 100 * MIB);
            assert_eq!(backend().devices().expect("devices are listed")[0].deferred_memory_bytes, 100 * MIB);
        }
        bench.lane.probe(1);
        drop(buffers);
        eventually("it is given back", || {
            drop(reserve(&bench, 1, kind));
            pieces(folder) <= held + 1
        });
        assert!(deferred(&bench) <= MOST);
        bench.lane.probe(2);
        // What is left of it, if the last piece was not too much by itself.
        drop(reserve(&bench, 400, kind));
        eventually("it is given back", || {
            drop(reserve(&bench, 1, kind));
            pieces(folder) == held
        });
    }
    End::Passed
}

/// Goal: what is released and soon wanted again is not given back meanwhile.
fn memory_is_kept_for_a_while(folder: &Path) -> End {
    let device = open();
    let held = pieces(folder);
    for _ in 0..3 {
        drop([0; 2].map(|_| device.reserve(100 * MIB, MemoryType::Default).expect("there is memory")));
        assert_eq!(pieces(folder), held + 2);
    }
    End::Passed
}

/// Goal: both kinds of memory come back to the driver once it is asked for more, also in a window of a running ring.
fn memory_comes_back(folder: &Path) -> End {
    let mut bench = Bench::new(open(), RING);
    let before = (bench.device.info().available_memory_bytes, pieces(folder));
    for round in 0..6 {
        for memory_type in [MemoryType::Default, MemoryType::Pinned] {
            let buffer = bench.device.reserve((65 + round) * MIB, memory_type).expect("there is memory");
            let slot = DeviceSlot { index: 0, generation: round as u32 + 1 };
            assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), MIB, 0), Status::Ok);
            assert_eq!(bench.lane.status(&write_word(slot, MIB - 8, 9)), Status::Ok);
            assert_eq!(bench.lane.bind(GRAIN, slot, 0, 0, 0), Status::Ok);
        }
    }
    let (free_bytes, held) = (bench.device.info().available_memory_bytes, pieces(folder));
    assert_eq!(free_bytes, before.0);
    assert!(held <= before.1 + 2, "{held} pieces, {} before", before.1);
    End::Passed
}
