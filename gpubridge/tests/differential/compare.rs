//! Compares what two devices made of the workload: everything is equal, but for floats within their kernels' tolerance.

use gpubridge::kernels::library;
use ringkernel_tests::call::{Call, OUTPUT, Outcome};

use super::replay::{Answer, Record};
use super::workload::{Command, What, words};

/// Earlier commands on the same blocks that a difference names.
const NAMED_MAX: usize = 4;

/// The first difference between a device's record and the reference, and the command that it is in; `None` if they agree.
pub fn difference(commands: &[Command], reference: &Record, device: &Record) -> Option<String> {
    for (at, (want, got)) in reference.answers.iter().zip(&device.answers).enumerate() {
        if let Some(seen) = answer_difference(commands, at, want, got) {
            return Some(format!("{}: {seen}{}", named(commands, at), history(commands, at)));
        }
    }
    for (grain, (want, got)) in reference.order.iter().zip(&device.order).enumerate() {
        if let Some((want, got)) = want.iter().zip(got).find(|(want, got)| want != got) {
            return Some(format!(
                "order of grain {grain}: {} was answered before {}",
                named(commands, *got),
                named(commands, *want)
            ));
        }
    }
    for (grain, (want, got)) in reference.counts.iter().zip(&device.counts).enumerate() {
        if want != got {
            return Some(format!("counts of grain {grain}: {got:?}, the reference says {want:?}"));
        }
    }
    let [want, got] = [reference.left, device.left];
    (want != got).then(|| format!("left are (allocations, bytes, calls) {got:?}, the reference says {want:?}"))
}

/// A command as messages name it.
fn named(commands: &[Command], at: usize) -> String {
    format!("command {at} of {} ({})", commands.len(), commands[at])
}

/// The latest commands before this one on its blocks.
fn history(commands: &[Command], at: usize) -> String {
    let blocks = commands[at].what.blocks();
    let touches =
        |command: &Command| command.what.blocks().iter().flatten().any(|block| blocks.contains(&Some(*block)));
    let earlier = (0..at).rev().filter(|earlier| touches(&commands[*earlier])).take(NAMED_MAX);
    earlier.map(|earlier| format!("\n  after {}", named(commands, earlier))).collect()
}

fn answer_difference(commands: &[Command], at: usize, want: &Answer, got: &Answer) -> Option<String> {
    if want == got {
        return None;
    }
    match (&commands[at].what, want, got) {
        (
            What::Compute { call, .. },
            Answer::Computed { words: want, is_cache_hit },
            Answer::Computed { words: got, is_cache_hit: device_hit },
        ) if is_cache_hit == device_hit => {
            let [want, got] = [want, got].map(|words| Outcome { buffers: Default::default(), answer: words.clone() });
            outcome_difference(call, &want, &got)
        }
        (What::Read { rounded_by, .. }, Answer::Read { contents: want }, Answer::Read { contents: got }) => {
            read_difference(commands, *rounded_by, want, got)
        }
        _ => Some(format!("{got:?}, the reference says {want:?}")),
    }
}

fn read_difference(commands: &[Command], rounded_by: Option<usize>, want: &[u8], got: &[u8]) -> Option<String> {
    let differs = |(want, got): (&u8, &u8)| want != got;
    // The last bytes are no element.
    let whole = want.len() / 4 * 4;
    if let Some(at) = rounded_by
        && want[whole..] == got[whole..]
        && let What::Compute { call, .. } = &commands[at].what
        && let Some(home) = call.home(OUTPUT)
    {
        let [want, got] = [want, got].map(|bytes| {
            let mut buffers: [Vec<u32>; 3] = Default::default();
            buffers[home] = words(bytes);
            Outcome { buffers, answer: Vec::new() }
        });
        let seen = outcome_difference(call, &want, &got)?;
        return Some(format!("what {} left: {seen}", named(commands, at)));
    }
    let at = want.iter().zip(got).position(differs)?;
    Some(format!("byte {at} is {:#04x}, the reference says {:#04x}", got[at], want[at]))
}

fn outcome_difference(call: &Call, want: &Outcome, got: &Outcome) -> Option<String> {
    let library = library();
    let kernel = library.find(call.spec.id).expect("what was computed is the library's");
    want.difference(got, call, kernel)
}
