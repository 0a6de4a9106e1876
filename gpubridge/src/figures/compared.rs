//! The documents' rows "compared to CPU fallback": the same work by plain host code without a ring, in turn with ours.
//!
//! On a backend that is the CPU itself nothing can be won: the rows say what the way through the ring costs.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use gpubridge_grains::{GrainRef, wait};
use gpubridge_kernels::id::SAXPY;
use gpubridge_kernels::{Answer, CpuKernel, Elements, Invocation, library};

use super::Effort;
use super::kernel::{call, call_twin, check};
use super::line::{Draft, Table};
use super::measure::{GROUP, Quantiles, Rounds, in_turn, in_units};
use super::pace::{Pace, in_groups};
use super::subject::{Actor, Subject};
use super::transfers::{BLOCK, fill};
use crate::{GpuMemoryHandle, KernelSpec, MemoryType, PAYLOAD_WORDS, Parameters, Scalars};

/// Elements of the large computation.
const ELEMENTS: usize = 1 << 20;

/// A line of how many times as long ours takes.
fn ratio(figure: &str, ours: &Rounds, plain: &Rounds, how: &str) -> Draft {
    let (own, other) = (ours.middle().p50, plain.middle().p50);
    Draft::value(figure, ours.ratio_to(plain), "× plain", 2).under(format!(
        "ours {}, plain {}, medians; {} rounds in turn, median of their ratios; {how}",
        in_units(own),
        in_units(other),
        ours.0.len()
    ))
}

/// A line of how many times as long ours takes, where calls are timed in groups.
fn grouped_ratio(figure: &str, ours: &Rounds, plain: &Rounds, how: &str) -> Draft {
    ratio(figure, ours, plain, &format!("{how}; {GROUP} calls between two clock readings"))
}

/// What a call of a group costs.
fn grouped(groups: usize, call: impl FnMut(u64)) -> Quantiles {
    in_groups(Pace::closed(groups), GROUP, call).quantiles()
}

/// Allocate and release through the grain's public calls, and by the host's allocator.
pub fn allocation(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(21), effort.of(4_000));
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    let mut own = || {
        wait(async {
            let mut pace = Pace::closed(groups);
            for _ in pace.steps() {
                pace.begin();
                for _ in 0..GROUP {
                    let block = grain.allocate(BLOCK as u64, MemoryType::Default).await.expect("there is memory");
                    let released = grain.release(block, true).await.expect("it is released");
                    assert_eq!(released.bytes_freed, BLOCK as u64);
                }
                pace.end(GROUP);
            }
            pace.quantiles()
        })
    };
    let mut plain = || grouped(groups, |_| drop(black_box(vec![0_u8; black_box(BLOCK)])));
    let [ours, plain] = in_turn(rounds, [&mut own, &mut plain]).map(Rounds);
    let how = "4 KiB allocated and released: grain's allocate and release, the block not zeroed as its owner stays the \
               same; plain: a zeroed vector made and dropped, its allocations counted as all of this program are";
    table.add(grouped_ratio("allocation, ours / plain", &ours, &plain, how));
}

/// A 4 KiB write, posted and completed, and a copy of 4 KiB.
pub fn transfer(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(21), effort.of(400));
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    let target = wait(grain.allocate(BLOCK as u64, MemoryType::Default)).expect("there is memory");
    let mut data: [Vec<u64>; 3] = std::array::from_fn(|_| (0..BLOCK as u64 / 8).collect());
    let [posted_data, completed_data, copied] = &mut data;
    let mut held = vec![0_u64; BLOCK / 8];
    let mut posted = || {
        let quantiles = grouped(groups, |x| {
            fill(posted_data, x);
            drop(grain.write(target, posted_data, 0).post().expect("it is posted"));
        });
        read_back(&grain, target, posted_data);
        quantiles
    };
    let mut completed = || {
        let quantiles = grouped(groups, |x| {
            fill(completed_data, x);
            let response = grain.write(target, completed_data, 0).wait().expect("it is written");
            assert_eq!(response.bytes_written, BLOCK as u64);
        });
        read_back(&grain, target, completed_data);
        quantiles
    };
    let mut plain = || {
        grouped(groups, |x| {
            fill(copied, x);
            black_box(&mut held).copy_from_slice(black_box(copied));
        })
    };
    let [posted, completed, plain] = in_turn(rounds, [&mut posted, &mut completed, &mut plain]).map(Rounds);
    let how =
        |what: &str| format!("4 KiB with two new words each: grain's write, {what}; plain: a copy between two buffers");
    table.add(grouped_ratio(
        "4 KiB transfer posted, ours / plain",
        &posted,
        &plain,
        &how("posted one after the other"),
    ));
    table.add(grouped_ratio("4 KiB transfer completed, ours / plain", &completed, &plain, &how("waited for")));
}

fn read_back(grain: &GrainRef, target: GpuMemoryHandle, written: &[u64]) {
    let held: Vec<u64> = wait(grain.read(target, 0, written.len())).expect("it is read");
    assert_eq!(held, written, "what was written is read");
}

/// A kernel's call, and its twin called directly: a small one and a large one.
pub fn execution(subject: &Subject, effort: Effort, table: &mut Table) {
    small(subject, effort, table);
    large(subject, effort, table);
}

fn small(subject: &Subject, effort: Effort, table: &mut Table) {
    let (rounds, groups) = (effort.of(21), effort.of(600));
    let silo = subject.silo();
    let actor = Actor::new(&silo, 1);
    let state = [Cell::new(0), Cell::new(0)];
    let mut own = || grouped(groups, |x| _ = check(x, call(&actor, x).wait()));
    let mut plain = || grouped(groups, |x| _ = black_box(call_twin(Elements::new(black_box(&state)), x)));
    let [ours, plain] = in_turn(rounds, [&mut own, &mut plain]).map(Rounds);
    // Both went the same way from zeroed state, so both are in the same state.
    let held: Vec<u32> = wait(actor.grain.read(actor.state, 0, 2)).expect("it is read");
    assert_eq!(held, state.map(Cell::into_inner), "the states of both");
    let how = "24 bytes mixed into a grain's state, answers checked: grain's call waited for; plain: the kernel's twin \
               called directly";
    table.add(grouped_ratio("kernel execution, small, ours / plain", &ours, &plain, how));
}

fn large(subject: &Subject, effort: Effort, table: &mut Table) {
    let rounds = effort.of(21);
    let silo = subject.silo();
    let grain = silo.grain(1).expect("the key is good");
    let data: Vec<f32> = (0..ELEMENTS).map(|x| x as f32).collect();
    let [input, operand, output] = std::array::from_fn(|_| {
        let block = wait(grain.allocate(4 * ELEMENTS as u64, MemoryType::Default)).expect("there is memory");
        grain.write(block, &data, 0).wait().expect("it is written");
        block
    });
    let twin = twin(KernelSpec::new(SAXPY));
    let bits: Vec<Cell<u32>> = data.iter().map(|x| Cell::new(x.to_bits())).collect();
    let held = bits.clone();
    let mut by_grain = |a: f32| {
        let parameters = Parameters::new().with_operand(operand.id).with_f32(a);
        grain.compute(SAXPY, Some(input), Some(output), parameters).wait().expect("it runs");
    };
    let mut by_twin = |a: f32| {
        let all = Elements::new(black_box(&bits));
        let scalars = Scalars::default().with_bits(0, a.to_bits());
        let output = Elements::new(&held);
        let invocation = Invocation { input: all, operand: all, output, count: ELEMENTS, scalars };
        twin(&invocation, &mut Answer::new(&mut [0; PAYLOAD_WORDS]));
    };
    let [mut own_factor, mut plain_factor] = [0.0; 2];
    let [ours, plain] = in_turn(
        rounds,
        [&mut || with_factors(&mut own_factor, &mut by_grain), &mut || with_factors(&mut plain_factor, &mut by_twin)],
    )
    .map(Rounds);
    let own: Vec<f32> = wait(grain.read(output, 0, ELEMENTS)).expect("it is read");
    for (own, plain) in own.iter().zip(held.iter().map(|bits| f32::from_bits(bits.get()))) {
        // A device may contract product and sum; neither is negative here.
        assert!((own - plain).abs() <= 2.0 * f32::EPSILON * plain, "{own} is not {plain}");
    }
    let how = "saxpy over 1,048,576 elements that lie in place: grain's call waited for; plain: the kernel's twin called \
               directly on this thread";
    table.add(ratio("kernel execution, large, ours / plain", &ours, &plain, how));
}

/// What a call costs, of some with a new factor each.
fn with_factors(factor: &mut f32, call: &mut dyn FnMut(f32)) -> Quantiles {
    const CALLS: u32 = 4;
    let started = Instant::now();
    for _ in 0..CALLS {
        *factor += 1.0;
        call(*factor);
    }
    Quantiles::of_one(started.elapsed().as_nanos() as f64 / f64::from(CALLS))
}

/// The kernel of the library as host code.
fn twin(spec: KernelSpec) -> CpuKernel {
    let library = library();
    let kernel = library.find(spec.id).expect("the library has it");
    kernel.cpu.as_ref().expect("it has a twin")(&spec).expect("it compiles")
}
