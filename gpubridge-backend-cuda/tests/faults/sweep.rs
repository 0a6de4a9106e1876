//! Each call of the driver that a short job makes, failing in turn: an error of a kind or a success, and no leak after it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gpubridge_abstractions::{
    Backend, Command, Completion, Device, DeviceSlot, Error, ErrorKind, MemoryType, Opcode, RingConfig, Status,
    SubmitError, Ticket, Transfer,
};
use ringkernel_tests::lane::{Driver, GRAIN, bind, echo, transfer, write_word};

use crate::device::{MIB, RING, SOON, backend, calls, try_open};
use crate::program::{Case, End};

pub const CASES: &[Case] = &[
    Case {
        leaves_kernel: true,
        ..Case::new("sweep::each_call_fails", SETTINGS, |folder| sweep(folder, 304, usize::MAX))
    },
    Case {
        leaves_kernel: true,
        ..Case::new("sweep::each_call_loses_the_device", SETTINGS, |folder| sweep(folder, 719, 3))
    },
    Case::new("sweep::each_call_of_a_list_fails", SETTINGS, list),
];

const SETTINGS: &str = "memory=167772160,mapping=whole,orders={folder}/orders,trace={folder}/trace";
/// How many of a function's calls are tried one by one where time decides how many there are; beyond, fewer and fewer.
const ONE_BY_ONE: usize = 10;

/// What a job may come to, beside success.
#[derive(Debug)]
#[expect(dead_code, reason = "what is in them is shown")]
enum Failed {
    Call(Error),
    Command(Status),
    Submission(SubmitError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// Opens, reserves, launches, executes in the ring and beside it, in and out of a window, and ends everything.
fn job() -> Result<(), Failed> {
    work(&try_open()?)
}

/// Opens and launches, and says what memory there is before.
fn short_job() -> Result<u64, Failed> {
    let device = try_open()?;
    let available_bytes = device.info().available_memory_bytes;
    let ring = device.launch(RING)?;
    ring.activate(SOON)?;
    Driver::take(&*ring, 0).probe(1);
    Ok(available_bytes)
}

fn work(device: &Arc<dyn Device>) -> Result<(), Failed> {
    let ring = device.launch(RingConfig { lanes: 2, slots: 16, staging_bytes: 256, allocations: 64 })?;
    let mut lane = Driver::take(&*ring, 0);
    let buffer = device.reserve(MIB, MemoryType::Default)?;
    let slot = DeviceSlot { index: 0, generation: 1 };
    ring.activate(SOON)?;
    run(&mut lane, |lane| lane.try_submit(&bind(GRAIN, slot, buffer.address(), MIB, MIB), &[]))?;
    run(&mut lane, |lane| lane.try_submit(&write_word(slot, 8, 77), &[]))?;
    let staging = ring.bulk_staging().expect("a ring on CUDA has bulk staging");
    let Some(mut chunk) = staging.take() else {
        // All are free: there are none once the device is lost, of which the ring knows.
        return Err(ring.activate(SOON).expect_err("nobody else takes chunks").into());
    };
    chunk.write(&[9; 64]);
    for opcode in [Opcode::WriteBulk, Opcode::ReadBulk] {
        let copy = Transfer { slot, offset_bytes: 512, size_bytes: 64 };
        let payload = copy.to_payload([u64::from(chunk.number()), 0, 0, 0]);
        run(&mut lane, |lane| lane.try_submit(&Command::new(opcode, GRAIN, payload), &[]))?;
    }
    // Does not fit beside what there is: the ring is parked for it.
    let large = device.reserve(65 * MIB, MemoryType::Pinned)?;
    run(&mut lane, |lane| lane.try_submit(&echo(GRAIN, 5), &[]))?;
    ring.deactivate(SOON)?;
    ring.activate(SOON)?;
    drop(large);
    let read = run(&mut lane, |lane| lane.try_submit(&transfer(Opcode::ReadInline, slot, 8, 8), &[]))?;
    assert_eq!(read.payload[0], 77, "what was written is read");
    ring.terminate(SOON)?;
    Ok(())
}

/// Runs a command; its status is the error if it is none of success.
fn run(
    lane: &mut Driver,
    submit: impl FnOnce(&mut Driver) -> Result<Ticket, SubmitError>,
) -> Result<Completion, Failed> {
    let ticket = submit(lane).map_err(Failed::Submission)?;
    let answer = lane.wait(ticket);
    if answer.status == Status::Ok { Ok(answer) } else { Err(Failed::Command(answer.status)) }
}

/// The functions that a job calls, in the order of their first calls, and how often.
fn functions(folder: &Path, from: usize) -> Vec<(String, usize)> {
    let mut functions: Vec<(String, usize)> = Vec::new();
    for (function, _) in calls(folder).drain(from..) {
        match functions.iter_mut().find(|(known, _)| *known == function) {
            Some((_, count)) => *count += 1,
            None => functions.push((function, 1)),
        }
    }
    functions
}

/// Which calls of a function that is called so often are tried: all of them, at most `most`.
fn tried(function: &str, count: usize, most: usize) -> Vec<usize> {
    // How often these are called is up to the ring's attendant.
    let by_time = ["cuStreamQuery", "cuCtxSetCurrent"].contains(&function);
    let steps = std::iter::successors(Some(1), |n| Some(if by_time && *n >= ONE_BY_ONE { n + n / 4 } else { n + 1 }));
    let all: Vec<usize> = steps.take_while(|n| *n <= count).collect();
    all.iter().copied().step_by(all.len().div_ceil(most)).collect()
}

/// Where the next process goes on: the functions with their calls, and how many of these are done.
fn plan(folder: &Path, most: usize) -> (Vec<(String, usize)>, usize) {
    let file = folder.join("plan");
    if let Ok(text) = fs::read_to_string(&file) {
        let plan = text.lines().map(|line| line.split_once(' ').expect("two words"));
        let plan = plan.map(|(function, n)| (function.to_owned(), n.parse().expect("a number")));
        let done = fs::read_to_string(folder.join("done")).map_or(0, |done| done.parse().expect("a number"));
        return (plan.collect(), done);
    }
    order(folder, "");
    let before = calls(folder).len();
    job().expect("nothing fails unasked");
    let plan: Vec<(String, usize)> = functions(folder, before)
        .into_iter()
        .flat_map(|(function, count)| tried(&function, count, most).into_iter().map(move |n| (function.clone(), n)))
        .collect();
    let lines: Vec<String> = plan.iter().map(|(function, n)| format!("{function} {n}\n")).collect();
    fs::write(file, lines.concat()).expect("the plan is written");
    (plan, 0)
}

fn order(folder: &Path, failure: &str) {
    fs::write(folder.join("orders"), failure).expect("the orders are written");
}

fn sweep(folder: &Path, code: u32, most: usize) -> End {
    let (plan, done) = plan(folder, most);
    order(folder, "");
    let available_bytes = short_job().expect("nothing fails unasked");
    for (at, (function, n)) in plan.iter().enumerate().skip(done) {
        fs::write(folder.join("done"), (at + 1).to_string()).expect("the progress is written");
        order(folder, &format!("{function}:{n}:{code}"));
        let before = calls(folder).len();
        let result = job();
        let hit = calls(folder)[before..].iter().any(|(called, with)| called == function && *with == code);
        let what = format!("call {n} of {function}: {result:?}");
        println!("{what}{}", if hit { "" } else { " (not reached)" });
        if let Err(Failed::Call(error)) = &result {
            assert!(!error.message().is_empty() && error.to_string().contains(": "), "{what}");
        }
        order(folder, "");
        match short_job() {
            Ok(bytes) => assert_eq!(bytes, available_bytes, "the memory is all there again after {what}"),
            // Only a new process has the device again.
            Err(Failed::Call(error)) if error.kind() == ErrorKind::DeviceLost => return End::GoOn,
            other => panic!("{other:?} after {what}"),
        }
    }
    End::Passed
}

/// Listing devices, which opens none.
fn list(folder: &Path) -> End {
    order(folder, "");
    let before = calls(folder).len();
    let listed = backend().devices().expect("nothing fails unasked");
    let uuid = listed[0].uuid.expect("the driver tells it");
    assert!(uuid.starts_with(b"emulated CUDA "), "{uuid:?}");
    for (function, count) in functions(folder, before) {
        for n in 1..=count {
            order(folder, &format!("{function}:{n}:304"));
            match backend().devices() {
                Ok(devices) => assert_eq!(devices.len(), listed.len(), "call {n} of {function}"),
                Err(error) => assert!(error.to_string().contains("(304)"), "call {n} of {function}: {error}"),
            }
            order(folder, "");
            assert_eq!(backend().devices().expect("nothing fails unasked"), listed, "after call {n} of {function}");
        }
    }
    End::Passed
}
