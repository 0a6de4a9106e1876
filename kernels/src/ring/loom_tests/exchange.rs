//! Commands and answers cross whole, with their staged bytes.

use super::super::layout;
use super::*;

/// The host submits a command with a staged word; the device thread polls until it is there, checks both, leaves
/// another staged word and answers; the host takes until the answer is there and checks both.
fn exchange(fault: Fault) {
    let memory = memory(fault);
    let (mut host, mut device) = halves(&memory);
    let server = thread::spawn(move || {
        let polled = poll(&mut device);
        serve(&device, 0, polled);
    });
    let mut ticket = submit(&mut host, 0);
    take(&host.1, &mut ticket, 0);
    server.join().unwrap();
}

/// A command and its answer arrive whole, with staged bytes both ways.
#[test]
fn staged_bytes_come_with_their_words() {
    explore(3, || exchange(Fault::None));
}

/// Fault (a): a command published Relaxed reaches the device before its staged bytes.
#[test]
#[should_panic(expected = "the command came without its staged bytes")]
fn fault_relaxed_commands_lose_staged_bytes() {
    explore(3, || exchange(Fault::RelaxedCommands));
}

/// Fault (a), the way back: an answer published Relaxed reaches the host before its staged bytes.
#[test]
#[should_panic(expected = "the answer came without its staged bytes")]
fn fault_relaxed_answers_lose_staged_bytes() {
    explore(3, || exchange(Fault::RelaxedAnswers));
}

/// A command without staged bytes goes through a slot that holds one of the lap before, over a way that keeps no order
/// between words. The device takes it only whole, by the lap of each word, or, with the fault, by its header alone.
fn inline_command(fault: Fault) {
    let memory = memory(fault);
    let (mut host, mut device) = halves(&memory);
    go_round(&mut host, &mut device);
    let server = thread::spawn(move || {
        if fault == Fault::UncheckedWords {
            assert_eq!(poll_unchecked(&memory, 2), numbered(2), "the command is torn");
        }
        assert_eq!(poll(&mut device).0, numbered(2), "the command is torn");
    });
    host.0.try_submit(&numbered(2), &[]).unwrap();
    server.join().unwrap();
}

/// An answer without staged bytes goes through a slot that holds an earlier one, over a way that keeps no order.
fn inline_answer(fault: Fault) {
    let (mut host, mut device) = halves(&memory(fault));
    go_round(&mut host, &mut device);
    let mut ticket = submit(&mut host, 2);
    let (_, reply) = poll(&mut device);
    let server = thread::spawn(move || device.complete(reply, &answer(2)));
    let taken = loop {
        match host.1.take(&mut ticket, &mut []) {
            Taken::Pending => thread::yield_now(),
            taken => break taken,
        }
    };
    assert_eq!(taken, Taken::Ready(answer(2)), "the answer is torn");
    server.join().unwrap();
}

/// What a device does that trusts the header: takes the other words as they are.
fn poll_unchecked(memory: &Memory<LoomWord>, sequence: u64) -> Command {
    let layout = layout();
    let slot = &memory.words()[layout.command(layout.slot(sequence))..][..SLOT_WORDS];
    while !layout::tagged(slot[0].load(Ordering::Acquire), layout.lap(sequence)) {
        thread::yield_now();
    }
    let words = std::array::from_fn(|i| slot[i].load(Ordering::Relaxed));
    let mut command = Command::new(Opcode::Skip, 0, [0; PAYLOAD_WORDS]);
    layout::decode_command(&words, &mut command);
    command
}

/// With or without an order between words, commands and answers arrive whole: each word proves its lap.
#[test]
fn inline_words_need_no_order() {
    explore(2, || inline_command(Fault::None));
    explore(2, || inline_command(Fault::RelaxedCommands));
    explore(2, || inline_answer(Fault::None));
    explore(2, || inline_answer(Fault::RelaxedAnswers));
}

/// Fault (b): words taken without their lap check are those of another lap.
#[test]
#[should_panic(expected = "the command is torn")]
fn fault_unchecked_words_are_torn() {
    explore(2, || inline_command(Fault::UncheckedWords));
}
