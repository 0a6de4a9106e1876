//! Kernels that a grid runs beside the ring phase by phase.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use gpubridge_abstractions::{
    Backend, Completion, Device, DeviceIndex, DeviceSlot, MemoryType, RingConfig, Scalars, Status,
};
use gpubridge_backend_cuda::CudaConfig;
use gpubridge_kernels::id::{DOT, HISTOGRAM, INCLUSIVE_SCAN, MEAN_VARIANCE, MIN_MAX, SUM, TOP_K};
use ringkernel_tests::lane::{Bench, GRAIN, compute};

use crate::device::{MIB, backend, calls, eventually};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case::new("phases::one_by_one_and_as_a_graph", "trace={folder}/trace", one_by_one_and_as_a_graph),
    Case::new(
        "phases::of_two_rings_at_once",
        "slow=cuLaunchKernel:200,slow=cuGraphExecKernelNodeSetParams_v2:100",
        of_two_rings_at_once,
    ),
];

const NONE: DeviceSlot = DeviceSlot::NONE;
const RING: RingConfig = RingConfig { staging_bytes: 64 << 10, ..crate::device::RING };
/// Beyond what runs in the ring.
const COUNT: u32 = 70_000;

fn open(graph_phases_min: u32) -> Arc<dyn Device> {
    let mut config = CudaConfig::default();
    config.graph_phases_min = graph_phases_min;
    backend().with_config(config).open(DeviceIndex(0)).expect("the device opens")
}

fn floats(answer: Completion) -> [f32; 2] {
    assert_eq!(answer.status, Status::Ok);
    let word = answer.payload[0];
    [word as u32, (word >> 32) as u32].map(f32::from_bits)
}

/// Goal: each kernel of the library that has phases answers the same however they are launched, and that is as the configuration
/// says. Method: the input is 1, 2, … 7, 1, 2, …, whose sums are exact.
fn one_by_one_and_as_a_graph(folder: &Path) -> End {
    let count = |name: &str| calls(folder).iter().filter(|(call, code)| call == name && *code == 0).count();
    let inputs: Vec<f32> = (0..COUNT).map(|i| (i % 7 + 1) as f32).collect();
    let bytes: Vec<u8> = inputs.iter().flat_map(|x| x.to_le_bytes()).collect();
    let exact = |value: fn(f64) -> f64| inputs.iter().map(|&x| value(f64::from(x))).sum::<f64>();
    let (sum, squares) = (exact(|x| x), exact(|x| x * x));
    let mean = sum / f64::from(COUNT);
    let variance = inputs.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / f64::from(COUNT);
    // With the phases that each of them has.
    let kernels =
        [(SUM, 2), (DOT, 2), (MIN_MAX, 2), (HISTOGRAM, 2), (MEAN_VARIANCE, 3), (TOP_K, 14), (INCLUSIVE_SCAN, 2)];
    for graph_phases_min in [2, 3, u32::MAX] {
        let device = open(graph_phases_min);
        let mut bench = Bench::with_kernels(device, RING, &kernels.map(|(kernel, _)| kernel.into()));
        let (_input, input) = bench.bound(0, 4 * u64::from(COUNT));
        let (_output, output) = bench.bound(1, 4 * u64::from(COUNT));
        bench.lane.write_all(input, &bytes);
        for (slot, (kernel, phases)) in (0..).zip(kernels) {
            let (operand, to) = match kernel {
                DOT => (input, NONE),
                HISTOGRAM | INCLUSIVE_SCAN | TOP_K => (NONE, output),
                _ => (NONE, NONE),
            };
            let launched = [count("cuLaunchKernel"), count("cuGraphLaunch")];
            // For the histogram: seven bins, a number in each.
            let scalars = if kernel == TOP_K { [9, 0, 0] } else { [0.5_f32.to_bits(), 7.5_f32.to_bits(), 7] };
            let scalars = scalars.into_iter().enumerate();
            let scalars = scalars.fold(Scalars::default(), |scalars, (i, bits)| scalars.with_bits(i, bits));
            let got = floats(bench.lane.run(&compute(slot, [input, operand, to], COUNT, scalars)));
            let expected = match kernel {
                SUM => [sum as f32, 0.0],
                DOT => [squares as f32, 0.0],
                MIN_MAX => [1.0, 7.0],
                MEAN_VARIANCE => [mean as f32, variance as f32],
                _ => [0.0, 0.0],
            };
            assert_eq!(got, expected, "slot {slot}, graphs from {graph_phases_min} phases on");
            if kernel == HISTOGRAM {
                let bins = bench.lane.read_all(output, 28);
                assert!(bins.as_chunks().0.iter().all(|bin| u32::from_le_bytes(*bin) == COUNT / 7));
            }
            if kernel == TOP_K {
                let found = bench.lane.read_all(output, 72);
                let found: Vec<u32> = found.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
                let indices = (6..).step_by(7).take(9);
                let expected: Vec<u32> = [7_f32.to_bits(); 9].into_iter().chain(indices).collect();
                assert_eq!(found, expected, "graphs from {graph_phases_min} phases on");
            }
            // One by one, the last launch is what tells the executor. A call may be noted after what it launched was seen.
            let [kernels, graphs] = if phases >= graph_phases_min { [0, 1] } else { [phases as usize + 1, 0] };
            eventually(&format!("slot {slot}, graphs from {graph_phases_min} phases on"), || {
                count("cuLaunchKernel") == launched[0] + kernels && count("cuGraphLaunch") == launched[1] + graphs
            });
        }
        let scanned = bench.lane.read_all(output, 4 * COUNT as usize);
        let mut so_far = 0.0;
        for (i, (x, bytes)) in inputs.iter().zip(scanned.as_chunks().0).enumerate() {
            so_far += x;
            assert_eq!(f32::from_le_bytes(*bytes), so_far, "element {i}, graphs from {graph_phases_min} phases on");
        }
    }
    End::Passed
}

/// Goal: what the blocks of one command keep from phase to phase no other command touches. Method: two rings, whose commands come
/// to the same streams, each sum over other numbers; a launch takes so long that there is mostly one of the other ring meanwhile.
fn of_two_rings_at_once(_: &Path) -> End {
    const ROUNDS: usize = 200;
    for graph_phases_min in [u32::MAX, 2] {
        let device = open(graph_phases_min);
        thread::scope(|scope| {
            for number in 1..3_u32 {
                let device = Arc::clone(&device);
                scope.spawn(move || {
                    let mut bench = Bench::with_kernels(device, RING, &[SUM.into()]);
                    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
                    let slot = DeviceSlot { index: 0, generation: 1 };
                    assert_eq!(bench.lane.bind(GRAIN, slot, buffer.address(), MIB, 0), Status::Ok);
                    let x = number as f32;
                    bench.lane.write_all(slot, &x.to_le_bytes().repeat(COUNT as usize));
                    for round in 0..ROUNDS {
                        let answer = bench.lane.run(&compute(0, [slot, NONE, NONE], COUNT, Scalars::default()));
                        assert_eq!(floats(answer)[0], (number * COUNT) as f32, "ring {number}, round {round}");
                    }
                });
            }
        });
    }
    End::Passed
}
