//! Every payload survives the lap bit, both ways.

use super::super::layout::SLOT_WORDS;
use super::*;

/// Words that a careless encoding would change: all bits, none, signs, NaNs, addresses of both halves of memory.
const WORDS: [u64; 12] = [
    0,
    u64::MAX,
    1 << 63,
    u64::MAX >> 1,
    0xaaaa_aaaa_aaaa_aaaa,
    0x5555_5555_5555_5555,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0001,
    0x7ff0_0000_0000_0001,
    0x0000_7f3a_1c00_0040,
    0xffff_8881_0000_0fc0,
    1,
];

/// A payload of these words that starts at `first`, with the top bits as the 7 bits of `tops` say.
fn payload(first: usize, tops: usize) -> [u64; PAYLOAD_WORDS] {
    std::array::from_fn(|i| WORDS[(first + i) % WORDS.len()] << 1 >> 1 | (tops as u64 >> i & 1) << 63)
}

/// Each payload goes through each slot of a small lane on each lap parity and with each answer bit, as a command and,
/// turned round, as a completion: 12 sets of words, all 128 ways of their top bits, 4 slots, 2 laps.
#[test]
fn payloads_survive_in_every_slot_and_lap() {
    const SLOTS: usize = 4;
    let mut rig = Rig::new(SLOTS as u32, 0);
    for first in 0..WORDS.len() {
        for tops in 0..128 {
            for place in 0..2 * SLOTS {
                let command = Command {
                    opcode: 1 + (tops as u8 + place as u8) % 127,
                    kernel: if place % 2 == 0 { u16::MAX } else { tops as u16 },
                    grain: if place % 3 == 0 { u32::MAX } else { first as u32 },
                    payload: payload(first, tops),
                };
                let completion = Completion {
                    status: [Status::Ok, Status::Unsupported][place % 2],
                    device_time_ns: [0, u32::MAX][place / 2 % 2],
                    result_bytes: [0, 56][place / 4],
                    payload: payload(first + 5, !tops),
                };
                exchange(&mut rig, &command, &completion);
            }
        }
    }
    assert_eq!(rig.submitter.next_sequence(), (WORDS.len() * 128 * 2 * SLOTS) as u64);
}

fn exchange(rig: &mut Rig, command: &Command, completion: &Completion) {
    let mut ticket = rig.submitter.try_submit(command, &[]).unwrap();
    assert_eq!(rig.completions.take(&mut ticket, &mut []), Taken::Pending);
    let (arrived, reply) = rig.device.poll_command().unwrap();
    rig.device.publish_consumed();
    assert_eq!(arrived, *command);
    assert!(rig.device.poll_command().is_none(), "the command arrived twice");
    rig.device.complete(reply, completion);
    assert_eq!(rig.completions.take(&mut ticket, &mut []), Taken::Ready(*completion));
}

/// A slot of which any one word is still that of the lap before does not arrive, and arrives whole once the word does.
/// Each of the eight words is put back by hand, on both sides, over zeros and over earlier laps.
#[test]
fn torn_slots_do_not_arrive() {
    const SLOTS: u64 = 2;
    for torn in 0..SLOT_WORDS {
        let mut rig = Rig::new(SLOTS as u32, 0);
        for number in 0..4 * SLOTS {
            let slot = rig.layout.slot(number);
            let memory = rig.memory.clone();

            let word = &memory.words()[rig.layout.command(slot) + torn];
            let stale = word.load(SeqCst);
            let mut ticket = rig.submit(number);
            let fresh = word.swap(stale, SeqCst);
            assert!(rig.device.poll_command().is_none(), "a torn command arrived");
            word.store(fresh, SeqCst);
            let reply = rig.poll(number);

            let word = &memory.words()[rig.layout.completion(slot) + torn];
            let stale = word.load(SeqCst);
            rig.device.complete(reply, &answer(number));
            let fresh = word.swap(stale, SeqCst);
            assert_eq!(rig.completions.take(&mut ticket, &mut []), Taken::Pending, "a torn answer arrived");
            assert!(!rig.completions.is_complete(number) && rig.submitter.pending() == 1);
            word.store(fresh, SeqCst);
            rig.take(&mut ticket, number);
        }
    }
}
