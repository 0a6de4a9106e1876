//! The test of the test: what the workload covers, and that a record that is wrong anywhere is told from the reference.

use std::collections::{BTreeMap, BTreeSet};

use gpubridge::kernels::id::{HISTOGRAM, INCLUSIVE_SCAN, SUM, TOP_K};
use gpubridge::kernels::library;
use gpubridge::{ElementType, ErrorKind, KernelId, Placement};
use ringkernel_tests::call::{Call, INPUT, OUTPUT};

use super::compare::difference;
use super::record::record;
use super::replay::{Answer, Record};
use super::workload::What;
use super::{COMMANDS, REFERENCE, SEED};

/// Every kernel in each of its types, in the ring and beside it, in place and over what others left; every kind of refusal; and the
/// same again from the same seed.
pub fn has_all() {
    let again = record(SEED);
    assert_eq!(format!("{again:?}"), format!("{:?}", *COMMANDS), "one seed gives one workload");
    let mut placed = BTreeMap::<_, [usize; 2]>::new();
    let computed = COMMANDS.iter().filter_map(|command| match &command.what {
        What::Compute { call, blocks, is_refused: false } => Some((call, blocks)),
        _ => None,
    });
    let (mut written, mut in_place, mut chained) = (BTreeSet::new(), 0, 0);
    let library = library();
    for (call, blocks) in computed {
        in_place += usize::from(call.home(OUTPUT) == Some(INPUT));
        chained += usize::from(blocks[INPUT].is_some_and(|block| written.contains(&block)));
        written.extend(blocks[OUTPUT]);
        let declaration = &library.find(call.spec.id).expect("it is the library's").declaration;
        let in_ring = declaration.placement.in_ring((declaration.work)(&call.shape()));
        placed.entry((call.spec.id, call.spec.element)).or_default()[usize::from(!in_ring)] += 1;
    }
    assert!(in_place > 0 && chained > 0, "{in_place} calls in place, {chained} over what others wrote");
    for declaration in library.kernels().iter().map(|kernel| &kernel.declaration) {
        for element in declaration.elements {
            let [in_ring, beside] = placed.remove(&(declaration.id, *element)).unwrap_or_default();
            let is_whole = in_ring >= 9 && (beside >= 1 || declaration.placement == Placement::InRing);
            assert!(is_whole, "`{}` in {element}: {in_ring} in the ring, {beside} beside it", declaration.name);
        }
    }
    for (at, (command, answer)) in COMMANDS.iter().zip(&REFERENCE.answers).enumerate() {
        let is_wrong = match &command.what {
            What::Compute { is_refused, .. } => *is_refused != matches!(answer, Answer::Refused(_)),
            _ => false,
        };
        assert!(!is_wrong, "command {at} ({command}) is answered {answer:?}");
    }
    let refusals = [ErrorKind::NotFound, ErrorKind::InvalidArgument, ErrorKind::Unsupported, ErrorKind::KernelBuild];
    for kind in refusals {
        assert!(REFERENCE.answers.contains(&Answer::Refused(kind)), "nothing is refused as {kind:?}");
    }
}

/// A wrong answer of each kind, planted into the reference.
pub fn is_found() {
    let reference = &*REFERENCE;
    assert_eq!(difference(&COMMANDS, reference, reference), None);
    let index = read_after(TOP_K, ElementType::F32);
    // Behind the value that is one whole element: its index.
    let k = u64::from(computed(index).shape().scalars.bits(0)) as usize;
    found(index, "the reference says", |record| flip(record, index, 4 * k));
    let count = read_after(HISTOGRAM, ElementType::I32);
    found(count, "the reference says", |record| flip(record, count, 0));
    let sum = read_after(INCLUSIVE_SCAN, ElementType::F32);
    found(sum, "its twin says", |record| scale(record, sum, 1.001));
    let mut near = reference.clone();
    scale(&mut near, sum, 1.000_001);
    assert_eq!(difference(&COMMANDS, reference, &near), None, "a rounding is no difference");

    let answer = position(|at, answer| {
        let is_sum = matches!(&COMMANDS[at].what, What::Compute { call, .. } if call.spec == SUM.into());
        is_sum && matches!(answer, Answer::Computed { .. })
    });
    found(answer, "its twin says", |record| {
        if let Answer::Computed { words, .. } = &mut record.answers[answer] {
            words[0] ^= 1 << 30;
        }
    });
    let refused = position(|_, answer| matches!(answer, Answer::Refused(_)));
    found(refused, "Timeout", |record| record.answers[refused] = Answer::Refused(ErrorKind::Timeout));
    let released = position(|_, answer| matches!(answer, Answer::Released { .. }));
    found(released, "bytes: 1", |record| record.answers[released] = Answer::Released { bytes: 1 });
    found(reference.order[1][8], "was answered before", |record| record.order[1].swap(7, 8));

    let mut miscounted = reference.clone();
    miscounted.counts[2].computes += 1;
    let seen = difference(&COMMANDS, reference, &miscounted).expect("a wrong count is found");
    assert!(seen.contains("counts of grain 2"), "{seen}");
}

/// Requires that what is planted at a command is found, and that the command is named.
fn found(at: usize, says: &str, plant: impl FnOnce(&mut Record)) {
    let mut record = REFERENCE.clone();
    plant(&mut record);
    let seen = difference(&COMMANDS, &REFERENCE, &record).unwrap_or_else(|| panic!("not found: {}", COMMANDS[at]));
    let names = format!("command {at} of {} ({})", COMMANDS.len(), COMMANDS[at]);
    assert!(seen.contains(&names) && seen.contains(says), "{seen}\ninstead of {names}");
}

fn position(mut wanted: impl FnMut(usize, &Answer) -> bool) -> usize {
    let mut answers = REFERENCE.answers.iter().enumerate();
    answers.find(|(at, answer)| wanted(*at, answer)).expect("the workload has one").0
}

/// A whole read right behind a call of this kernel, of what it wrote.
fn read_after(kernel: KernelId, element: ElementType) -> usize {
    let follows = |at: usize| match (&COMMANDS[at - 1].what, &COMMANDS[at].what) {
        (What::Compute { call, blocks, .. }, What::Read { block, offset_bytes: 0, .. }) => {
            let is_kernel = call.spec.id == kernel && call.spec.element == element;
            is_kernel && call.shape().count > 8 && blocks[OUTPUT] == Some(*block)
        }
        _ => false,
    };
    (1..COMMANDS.len()).find(|at| follows(*at)).expect("the workload has one")
}

/// The call before this read.
fn computed(read: usize) -> &'static Call {
    match &COMMANDS[read - 1].what {
        What::Compute { call, .. } => call,
        other => panic!("{other:?} is no call"),
    }
}

fn flip(record: &mut Record, read: usize, at: usize) {
    if let Answer::Read { contents } = &mut record.answers[read] {
        contents[at] ^= 1;
    }
}

/// Multiplies the first element of what was read.
fn scale(record: &mut Record, read: usize, factor: f32) {
    if let Answer::Read { contents } = &mut record.answers[read] {
        let first: &mut [u8; 4] = contents.first_chunk_mut().expect("it holds an element");
        *first = (f32::from_le_bytes(*first) * factor).to_le_bytes();
    }
}
