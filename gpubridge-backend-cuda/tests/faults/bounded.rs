//! Rings whose kernels end by themselves after a few commands, as under a profiler: what holds of rings otherwise holds of them.

use std::path::Path;
use std::thread;
use std::time::Duration;

use gpubridge_abstractions::{Completion, DeviceSlot, ErrorKind, MemoryType, RingConfig, Status};
use ringkernel_tests::lane::{Bench, Driver, bind, echo};

use crate::device::{Gate, MIB, RING, SOON, calls, eventually, open, refused, try_open};
use crate::program::{Case, End};
use crate::{held, stops, windows};

/// After two commands; several are handed over at one look all the same.
const FEW: &[(&str, &str)] = &[("GPUBRIDGE_CUDA_MAX_COMMANDS", "2")];
/// And nothing else goes on while a kernel runs.
const ONE_AT_A_TIME: &[(&str, &str)] = &[("GPUBRIDGE_CUDA_MAX_COMMANDS", "40"), ("CUDA_LAUNCH_BLOCKING", "1")];
const GATED: &str = "gate=gpubridge_beside_grid:{folder}/gate";

const fn few(name: &'static str, settings: &'static str, run: fn(&Path) -> End) -> Case {
    Case { variables: FEW, ..Case::new(name, settings, run) }
}

const fn one_at_a_time(name: &'static str, run: fn(&Path) -> End) -> Case {
    Case { variables: ONE_AT_A_TIME, ..Case::new(name, "", run) }
}

pub const CASES: &[Case] = &[
    few("bounded::windows_under_load", "trace={folder}/trace", windows::under_load),
    few("bounded::windows_while_rings_end", "", windows::while_rings_end),
    few("bounded::grains_of_several_blocks_take_turns", "sms=32", |_| held::turns(3, 24, 200)),
    few("bounded::hundreds_at_once", GATED, held::hundreds_at_once),
    few("bounded::hold_with_a_full_lane", GATED, stops::hold_with_a_full_lane),
    few("bounded::park_with_a_full_lane_in_hold", GATED, stops::park_in_hold),
    few("bounded::terminate_with_a_full_lane", GATED, stops::terminate_with_a_full_lane),
    few("bounded::terminate_in_hold_with_a_chain", GATED, stops::terminate_in_hold),
    few("bounded::nothing_runs_behind_what_was_cancelled", "", stops::nothing_behind),
    few("bounded::ends_and_begins", "trace={folder}/trace", ends_and_begins),
    few("bounded::ends_with_work_beside", GATED, ends_with_work_beside),
    few("bounded::ends_in_a_stop", "trace={folder}/trace,gate=gpubridge_beside_grid:{folder}/gate", ends_in_a_stop),
    one_at_a_time("bounded::launches_block_and_grains_take_turns", |_| held::turns(2, 8, 60)),
    one_at_a_time("bounded::launches_block_and_two_rings_share", two_rings_share),
    Case { variables: &[("GPUBRIDGE_CUDA_MAX_COMMANDS", "0")], ..Case::new("bounded::by_no_number", "", by_no_number) },
];

fn launches(folder: &Path) -> usize {
    calls(folder).iter().filter(|(name, _)| name == "cuLaunchCooperativeKernel").count()
}

/// Goal: the kernel ends after so many commands, and is not launched again for nothing.
fn ends_and_begins(folder: &Path) -> End {
    const COMMANDS: usize = 60;
    let mut bench = Bench::new(open(), RING);
    let before = launches(folder);
    (0..COMMANDS as u64).for_each(|number| bench.lane.probe(number));
    let after = launches(folder);
    // Each probe is answered before the next one is submitted, so none takes more than one command.
    assert!(after - before >= COMMANDS / 2 - 1, "{} launches for {COMMANDS} commands", after - before);
    let mut last = after;
    eventually("it rests", || {
        thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, launches(folder)) == last
    });
    bench.lane.probe(0);
    assert!(launches(folder) > last, "it rested, so it was launched");
    End::Passed
}

/// Goal: a kernel that has ended while work is beside it takes over from itself: what waits is executed behind the work, and what
/// does not wait meanwhile.
fn ends_with_work_beside(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let mut bench = Bench::new(open(), RING);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let beside = bench.lane.submit(&bind(1, DeviceSlot { index: 0, generation: 1 }, buffer.address(), MIB, MIB));
    let behind: Vec<_> = (0..4).map(|number| bench.lane.submit(&echo(1, number))).collect();
    // Read behind them, by many kernels.
    (0..40).for_each(|number| bench.lane.probe(number));
    assert!(!bench.lane.is_complete(&beside) && !behind.iter().any(|ticket| bench.lane.is_complete(ticket)));
    gate.open();
    assert_eq!(bench.lane.wait(beside).status, Status::Ok);
    for (number, ticket) in (0..).zip(behind) {
        let Completion { status, payload, .. } = bench.lane.wait(ticket);
        assert_eq!((status, payload), (Status::Ok, [number; 7]));
    }
    End::Passed
}

/// Goal: it ends by itself, again and again, in a stop too that waits for work beside the ring.
fn ends_in_a_stop(folder: &Path) -> End {
    let gate = Gate::new(folder);
    let mut bench = Bench::new(open(), RING);
    let buffer = bench.device.reserve(MIB, MemoryType::Default).expect("there is memory");
    gate.close();
    let beside = bench.lane.submit(&bind(1, DeviceSlot { index: 0, generation: 1 }, buffer.address(), MIB, MIB));
    let behind = bench.lane.submit(&echo(1, 1));
    bench.lane.probe(1);
    refused(bench.ring.terminate(Duration::ZERO), ErrorKind::Timeout, &["still at work"]);
    assert_eq!(bench.lane.wait(behind).status, Status::Cancelled);
    let before = launches(folder);
    eventually("it is launched again", || launches(folder) > before + 2);
    gate.open();
    bench.ring.terminate(SOON).expect("it ends");
    assert_eq!(bench.lane.wait(beside).status, Status::Ok, "what was started is answered");
    End::Passed
}

/// Goal: rings take turns where only one kernel runs at a time, and memory is had meanwhile.
fn two_rings_share(_: &Path) -> End {
    let config = RingConfig { lanes: 2, ..RING };
    let mut first = Bench::new(open(), config);
    let mut other = Driver::take(&*first.ring, 1);
    let mut second = Bench::new(open(), RING);
    for number in 0..20 {
        if number % 5 == 0 {
            drop(first.device.reserve((70 + number) * MIB, MemoryType::Default).expect("there is memory"));
        }
        let tickets = [first.lane.submit(&echo(1, number)), first.lane.submit(&echo(2, number))];
        second.lane.probe(number);
        other.probe(number);
        for ticket in tickets {
            assert_eq!(first.lane.wait(ticket).payload, [number; 7]);
        }
    }
    End::Passed
}

fn by_no_number(_: &Path) -> End {
    refused(try_open(), ErrorKind::InvalidArgument, &["GPUBRIDGE_CUDA_MAX_COMMANDS", "\"0\""]);
    End::Passed
}
